"""The Redis store against real servers: alone and in a cluster."""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from virtual import question

from resolverkit.errors import ConfigurationError, StoreError
from resolverkit.record import Denied, Record, Said
from resolverkit.stores import redis as module
from resolverkit.stores import redis_server as servers
from resolverkit.stores.packed import VERSION
from resolverkit.stores.redis import RedisStore
from resolverkit.testing.certificates import Certificates
from resolverkit.upstream import Store

SAID = Said("tls://192.0.2.1", "dot", "example", "192.0.2.1", 853, 0.012)
HOUR = 3600.0
SLACK = 60.0  # seconds: far more than a test takes, far less than what ages differ by
SLOW = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Where a test is not about that, a busy machine is waited for."""
    monkeypatch.setattr(module, "PATIENCE", 20.0)
    monkeypatch.setattr(servers, "CONNECT_TIMEOUT", 20.0)


def key(n=0):
    name = b"\1n" + bytes([len(str(n))]) + str(n).encode() + b"\7example\0"
    return name + b"\0\1\0\1\0"


def record(n=0, age=0.0, **more):
    return Record(key(n), b"wire %d" % n, 60, age, **more)


def about(found, wanted):
    """Whether two records are the same, but for what has passed meanwhile."""
    assert found._replace(age=0, denied=None) == wanted._replace(age=0, denied=None)
    assert wanted.age <= found.age + 0.001 < wanted.age + SLACK
    assert (found.denied is None) == (wanted.denied is None)
    if found.denied is not None:
        assert wanted.denied <= found.denied + 0.001 < wanted.denied + SLACK
    return True


@asynccontextmanager
async def opened(url, **options):
    store = RedisStore(url, **options)
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()


async def one(store, n=0):
    return (await store.fetch([key(n)])).get(key(n))


def start(redis_server, cluster):
    server = redis_server(*(["--cluster-enabled", "yes"] if cluster else []))
    if cluster:
        server.own()
    return server


def test_it_is_a_store():
    assert isinstance(RedisStore("redis://192.0.2.1"), Store)


# What it keeps.


def test_what_one_learns_another_reads_however_old(anywhere):
    news = record(1, 5.0, said=SAID, disputed=True)
    stale = record(2, 24 * HOUR, denied=HOUR)

    async def main():
        async with opened(anywhere.place) as a, opened(anywhere.place) as b:
            assert await b.fetch([key(1), key(2), key(3)]) == {}
            await a.write([news, stale])
            found = await b.fetch([key(1), key(2), key(3)])
            assert set(found) == {key(1), key(2)}
            assert about(found[key(1)], news)
            assert about(found[key(2)], stale)
            assert b.may_have(key(3))

    asyncio.run(main())


def test_nothing_is_asked_for_nothing(anywhere):
    async def main():
        async with opened(anywhere.place) as store:
            assert await store.fetch([]) == {}
            await store.write([])
            assert await store.remove([]) == 0

    asyncio.run(main())


def test_ages_are_the_servers_and_not_of_this_machines_calendar(anywhere, monkeypatch):
    async def main():
        async with opened(anywhere.place) as a:
            monkeypatch.setattr(time, "time", lambda: 0.0)
            await a.write([record(age=5.0)])
        async with opened(anywhere.place) as b:
            monkeypatch.setattr(time, "time", lambda: 4e9)
            assert about(await one(b), record(age=5.0))

    asyncio.run(main())


def shift(server, n, dates, seconds):
    """Move a stored date (0: learnt, 16: denied), as if its clock had jumped."""
    where = server.prefix + key(n)
    date = int(server.run("GETRANGE", where, dates, dates + 15))
    moved = b"%016d" % (date + round(seconds * 1e6))
    server.run("SETRANGE", where, dates, moved)


@pytest.fixture
def placed(anywhere):
    anywhere.prefix = RedisStore(anywhere.place)._url.prefix
    return anywhere


def test_what_is_dated_in_the_future_is_just_past_its_ttl(placed):
    async def main():
        async with opened(placed.place) as store:
            await store.write([record(denied=0.0)])
            shift(placed, 0, 0, HOUR)
            shift(placed, 0, 16, HOUR)
            found = await one(store)
            assert (found.age, found.denied) == (60.0, 0.0)

    asyncio.run(main())


def test_a_record_goes_when_its_ttl_and_max_stale_are_over(placed):
    async def main():
        async with opened(placed.place + "&max_stale=7200") as store:
            await store.write([record(age=HOUR), record(1, 2 * HOUR + 61)])
            assert await one(store, 1) is None
            left = placed.run("PTTL", placed.prefix + key(0)) / 1000
            assert HOUR + 60 - SLACK < left <= HOUR + 60
            await store.write([Denied(key(0), 1.0)])
            assert 0 < placed.run("PTTL", placed.prefix + key(0)) / 1000 <= left

    asyncio.run(main())


# What replaces what.


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([record(age=9), record(age=5)], record(age=5)),
        ([record(age=500), record(age=900, said=SAID)], record(age=500)),
        ([record(age=500), record(age=500, said=SAID)], record(age=500, said=SAID)),
        ([record(age=500), Denied(key(), 200)], record(age=500, denied=200)),
        ([record(age=200), Denied(key(), 500)], record(age=200)),
        (
            [record(age=900), Denied(key(), 700), Denied(key(), 500)],
            record(age=900, denied=700),
        ),
        (
            [record(age=900), Denied(key(), 500), record(age=700, said=SAID)],
            record(age=900, denied=500),
        ),
        ([record(age=900), Denied(key(), 700), record(age=500)], record(age=500)),
        ([Denied(key(), 0)], None),
        ([record(age=9, denied=99)], record(age=9, denied=99)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("together", [True, False])
def test_the_server_decides_what_is_newer(anywhere, changes, expected, together):
    async def main():
        async with opened(anywhere.place) as store:
            for batch in [changes] if together else [[each] for each in changes]:
                await store.write(batch)
            found = await one(store)
            assert found is expected is None or about(found, expected)

    asyncio.run(main())


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=12))
@SLOW
def test_any_changes_leave_what_the_protocol_says(anywhere, steps):
    """Against a model of three lines; ages are apart by more than a test takes."""
    learnt = denied = None
    for is_record, hundreds in steps:
        age = hundreds * 100
        if is_record and not any(d is not None and d < age for d in (learnt, denied)):
            learnt, denied = age, None
        elif not is_record and learnt is not None and learnt >= age and denied is None:
            denied = age
    ages = [(is_record, float(hundreds * 100)) for is_record, hundreds in steps]

    async def main():
        async with opened(anywhere.place) as store:
            await store.remove([key()])
            await store.write(
                [
                    record(age=a) if is_record else Denied(key(), a)
                    for is_record, a in ages
                ]
            )
            found = await one(store)
            expected = None
            if learnt is not None:
                expected = record(age=learnt, denied=denied)
            assert found is expected is None or about(found, expected)

    asyncio.run(main())


def test_a_date_in_the_future_is_not_later(placed):
    async def main():
        async with opened(placed.place) as store:
            await store.write([record(1), record(2), record(3, 99), Denied(key(3), 9)])
            for n, date in [(1, 0), (2, 0), (3, 16)]:
                shift(placed, n, date, HOUR)
            await store.write(
                [record(1, 500.0), Denied(key(2), 300), Denied(key(3), 7)]
            )
            assert about(await one(store, 1), record(1, 500.0))
            found = await store.fetch([key(2), key(3)])
            assert 300 <= found[key(2)].denied < 300 + SLACK
            assert 7 <= found[key(3)].denied < 7 + SLACK

    asyncio.run(main())


def test_what_waited_in_a_stopped_server_is_as_old_as_it_is(redis_server, monkeypatch):
    server = redis_server()

    async def main():
        async with opened(server.url()) as store:
            await store.write([record(9)])  # from now on it knows the script
            server.daemon.stop()
            monkeypatch.setattr(module, "PATIENCE", 0.2)
            sent = time.monotonic()
            with pytest.raises(StoreError, match=r"no reply within 0\.2 s"):
                await store.write([record()])
            stood = time.monotonic() - sent
            monkeypatch.setattr(module, "PATIENCE", 20.0)
            server.daemon.cont()
            found = await one(store)
            while found is None:
                found = await one(store)
            assert found.age >= stood

    asyncio.run(main())


# What others wrote.


@given(st.binary(max_size=200))
@example(b"x" * 32)
@example(b"1" * 31 + b"x")
@example(b"+" + b"1" * 40)
@SLOW
def test_bytes_that_nobody_packed_are_nothing_and_are_replaced(placed, value):
    assume(not value[:32].isdigit())  # dates by accident
    placed.run("SET", placed.prefix + key(), value)

    async def main():
        async with opened(placed.place) as store:
            found = await one(store)
            assert found is None
            assert [each async for each in store.records()] == []
            await store.write([Denied(key(), 0.0), record()])
            assert about(await one(store), record())
            await store.remove([key()])

    asyncio.run(main())


@pytest.mark.parametrize(
    "command",
    [
        ("SADD", "member"),
        ("RPUSH", "item"),
        ("HSET", "field", "value"),
        ("SET", ""),
        ("SET", b"0" * 70_001),
        ("SET", b"0" * 1_000_000),
    ],
)
def test_what_is_of_another_kind_is_nothing_and_is_replaced(placed, command):
    name, *arguments = command

    async def main():
        async with opened(placed.place) as store:
            placed.run("DEL", placed.prefix + key())
            placed.run(name, placed.prefix + key(), *arguments)
            await store.write([record(1)])
            assert set(await store.fetch([key(), key(1)])) == {key(1)}
            await store.write([Denied(key(), 0.0)])
            assert await one(store) is None
            await store.write([record()])
            assert about(await one(store), record())

    asyncio.run(main())


def test_a_value_of_another_version_is_nothing_but_its_date_counts(placed):
    async def main():
        async with opened(placed.place) as store:
            await store.write([record(age=100.0)])
            placed.run("SETRANGE", placed.prefix + key(), 32, bytes([VERSION + 1]))
            assert await one(store) is None
            await store.write([record(age=500.0)])
            assert await one(store) is None
            await store.write([record(age=50.0)])
            assert about(await one(store), record(age=50.0))

    asyncio.run(main())


# All of it.


def test_records_gives_all_under_the_prefix_and_remove_counts(placed, monkeypatch):
    for each in (module, servers):
        monkeypatch.setattr(each, "BATCH", 10)
    n = 105

    async def main():
        async with opened(placed.place) as store:
            for where in (key(), b"resolverkit:" + key(), placed.prefix + b"rubbish"):
                placed.run("SET", where, "x")
            await store.write([record(i) for i in range(n)])
            value = placed.run("GET", placed.prefix + key())
            placed.run("SET", placed.prefix + key().upper(), value)
            found = [each async for each in store.records()]
            assert {each.key for each in found} == {key(i) for i in range(n)}
            assert await store.remove([key(i) for i in range(50, n + 50)]) == n - 50
            assert len(await store.fetch([key(i) for i in range(n)])) == 50
            async for _ in store.records():
                break
            assert await one(store, 1) is not None

    asyncio.run(main())


def test_a_read_is_one_round_trip_whatever_is_asked(shared):
    server = shared["server"]

    def heard():
        stats = server.run("INFO", "stats")
        return stats["total_reads_processed"], stats["total_writes_processed"]

    async def main():
        async with opened(server.url("?prefix=trip:")) as store:
            changes = [record(i) for i in range(20)]
            await store.write(changes)
            await store.fetch([key(i) for i in range(20)])
            first = heard()
            second = heard()
            await store.fetch([key(i) for i in range(20)])
            third = heard()
            await store.write(changes)
            fourth = heard()
            own = second[0] - first[0]
            assert third[0] - second[0] == own + 1
            assert fourth[0] - third[0] == own + 1

    asyncio.run(main())


@pytest.mark.parametrize("cluster", [False, True])
def test_connections_are_few(redis_server, cluster):
    server = start(redis_server, cluster)

    async def main():
        async with opened(server.url("?cluster=1" * cluster)) as store:
            await asyncio.gather(*(store.fetch([key(i)]) for i in range(50)))
            clients = server.run("CLIENT LIST")
            own = 1 + cluster  # and the one that found out about the nodes
            assert len(clients) <= servers.CONNECTIONS + own

    asyncio.run(main())


# Trouble.


def test_a_cancelled_read_leaves_nothing_for_the_next(redis_server):
    server = redis_server()

    async def main():
        async with opened(server.url()) as store:
            await store.write([record(i) for i in range(100)])
            for _ in range(3):
                server.daemon.stop()
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await store.fetch([key(i) for i in range(50)])
                server.daemon.cont()
                assert about(await one(store, 99), record(99))

    asyncio.run(main())


def test_a_read_may_be_cancelled_at_any_turn_of_the_loop(anywhere):
    async def main():
        async with opened(anywhere.place) as store:
            await store.write([record(i) for i in range(10)])
            for turns in range(30):
                task = asyncio.ensure_future(store.fetch([key(i) for i in range(9)]))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                assert about(await one(store, 9), record(9))

    asyncio.run(main())


@pytest.mark.parametrize("cluster", [False, True])
def test_a_stopped_server_does_not_keep_what_it_did_not_take(
    redis_server, monkeypatch, cluster
):
    """Megabytes that stay in the loop's buffer go with their connection."""
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    server = start(redis_server, cluster)
    big = [record(i)._replace(wire=bytes(65_000)) for i in range(400)]

    async def main():
        async with opened(server.url("?cluster=1" * cluster)) as store:
            server.daemon.stop()
            with pytest.raises(StoreError, match="no reply within"):
                await store.write(big)

    asyncio.run(main())


@pytest.mark.parametrize("how", ["kill", "restart"])
def test_a_server_that_went_away_is_told_and_found_again(redis_server, how):
    server = redis_server()

    async def main():
        async with opened(server.url()) as store:
            await store.write([record()])
            if how == "kill":
                server.daemon.kill()
                with pytest.raises(
                    StoreError, match=f"^redis://127.0.0.1:{server.port}"
                ):
                    await one(store)
                with pytest.raises(StoreError, match=r": connection refused$"):
                    await store.open()
                server.daemon.start()
                await store.open()
            else:
                await asyncio.to_thread(server.daemon.restart)
            assert await one(store) is None  # and it has forgotten the scripts
            await store.write([record(), Denied(key(), 0.0)])
            assert about(await one(store), record(denied=0.0))

    asyncio.run(main())


def test_scripts_that_were_flushed_are_sent_again(anywhere):
    async def main():
        async with opened(anywhere.place) as store:
            for n in range(3):
                anywhere.run("SCRIPT FLUSH")
                await store.write([record(n), Denied(key(n), 0.0), record(n + 5)])
                anywhere.run("SCRIPT FLUSH")
                found = await store.fetch([key(n), key(n + 5)])
                assert about(found[key(n)], record(n, denied=0.0))
                assert about(found[key(n + 5)], record(n + 5))

    asyncio.run(main())


@pytest.mark.parametrize("cluster", [False, True])
def test_a_full_server_refuses_writes_and_goes_on_giving(redis_server, cluster):
    server = start(redis_server, cluster)
    big = [record(i)._replace(wire=bytes(60_000)) for i in range(9, 99)]

    async def main():
        async with opened(server.url("?cluster=1" * cluster)) as store:
            await store.write([record()])
            used = server.run("INFO", "memory")["used_memory"]
            server.run("CONFIG SET", "maxmemory", used + 1_000_000)
            with pytest.raises(StoreError, match="OOM command not allowed"):
                await store.write(big)
            server.run("CONFIG SET", "maxmemory", "1mb")
            server.run("SCRIPT FLUSH")
            assert about(await one(store), record())
            with pytest.raises(StoreError, match="OOM command not allowed"):
                await store.write([record(1)])
            await store.remove([each.key for each in big])
            server.run("CONFIG SET", "maxmemory", "0")
            await store.write([record(2)])

    asyncio.run(main())


def test_a_replica_refuses_writes_and_goes_on_giving(redis_server):
    server = redis_server("--replica-serve-stale-data", "yes")

    async def main():
        async with opened(server.url()) as store:
            await store.write([record()])
            server.run("REPLICAOF", "127.0.0.1", 1)
            assert about(await one(store), record())
            with pytest.raises(StoreError, match="READONLY You can't write against"):
                await store.write([record(1)])
            server.run("CONFIG SET", "replica-serve-stale-data", "no")
            with pytest.raises(StoreError, match="MASTERDOWN Link with MASTER is down"):
                await one(store)

    asyncio.run(main())


def test_a_server_that_cannot_save_refuses_writes(redis_server):
    server = redis_server()

    async def main():
        async with opened(server.url()) as store:
            await store.write([record()])
            (server.daemon.directory / "dump.rdb").mkdir()
            server.run("CONFIG SET", "save", "3600 1")
            server.run("BGSAVE")
            server.wait(lambda: server.run("INFO")["rdb_last_bgsave_status"] == "err")
            with pytest.raises(StoreError, match="MISCONF Redis is configured to save"):
                await store.write([record(1)])
            assert about(await one(store), record())

    asyncio.run(main())
    server.daemon.kill()  # it would not go before it has saved


def test_a_server_that_is_loading_its_file_says_so(redis_server):
    server = redis_server()

    async def main():
        async with opened(server.url()) as store:
            await store.write([record(i) for i in range(2000)])
            server.run("SAVE")
            server.daemon.command += ["--key-load-delay", "2000"]
            server.daemon.command += ["--loading-process-events-interval-bytes", "1024"]
            await asyncio.to_thread(server.daemon.restart)
            for ask in (one(store), store.write([record()]), store.open()):
                with pytest.raises(StoreError, match="LOADING Redis is loading"):
                    await ask

    asyncio.run(main())


@pytest.mark.parametrize("cluster", [False, True])
@pytest.mark.parametrize(
    ("login", "why"),
    [
        ("", "NOAUTH|Authentication required"),
        (":wr%2Fong@", "WRONGPASS invalid username-password|invalid username"),
        ("somebody:wr%2Fong@", "WRONGPASS invalid username-password|invalid username"),
    ],
)
def test_who_may_not_come_in_is_told_without_the_password(
    redis_server, login, why, cluster
):
    server = redis_server(
        "--requirepass", "right", *(["--cluster-enabled", "yes"] if cluster else [])
    )
    where = f"127.0.0.1:{server.port}" + "?cluster=1" * cluster
    store = RedisStore(f"redis://{login}{where}")

    async def main():
        with pytest.raises(StoreError, match=why) as told:
            await store.open()
        assert "wr" not in str(told.value).replace("wrong number", "")
        assert "%2F" not in str(told.value) + repr(store) + repr(store._url)
        with pytest.raises(StoreError, match="not open"):
            await one(store)
        if not cluster:
            for good in (":right@", "default:right@"):
                async with opened(f"redis://{good}{where}") as inside:
                    await inside.write([record()])
                    assert about(await one(inside), record())

    asyncio.run(main())


def test_a_database_that_there_is_not_is_told(shared):
    async def main():
        async with opened(shared["server"].url("/3?prefix=x:")) as store:
            await store.write([record()])
            assert shared["server"].run("EXISTS", b"x:" + key(), db=3)
        with pytest.raises(StoreError, match="DB index is out of range"):
            await RedisStore(shared["server"].url("/99")).open()

    asyncio.run(main())


@pytest.mark.parametrize(
    "says",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b":1\r\n", b"*1\r\n$-1\r\n", b"", b"$9\r\nx",
     b"*2\r\n$1\r\nx\r\n$1\r\ny\r\n", b"*-1\r\n", b"+OK\r\n"],
)  # fmt: skip
def test_what_is_no_redis_server_is_told(says, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.2)

    served = []

    async def serve(reader, writer):
        served.append(asyncio.current_task())
        with suppress(ConnectionError):
            while await reader.read(4096) and says:
                writer.write(says)
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        store = RedisStore(f"redis://127.0.0.1:{port}")
        with pytest.raises(StoreError, match=f"^redis://127.0.0.1:{port}: "):
            await store.open()
        server.close()
        await asyncio.gather(*served)
        await server.wait_closed()

    asyncio.run(main())


def test_a_reply_of_another_shape_is_no_reply(anywhere, monkeypatch):
    async def main():
        async with opened(anywhere.place) as store:
            for text in (
                "return 1",
                "return {1}",
                "return {'a', 'b', 'c'}",
                "return {}",
            ):
                monkeypatch.setattr(module, "FETCH", module.Script(text, "0" * 40))
                with pytest.raises(StoreError, match="not the reply of a Redis server"):
                    await one(store)

    asyncio.run(main())


def test_what_is_closed_stays_closed(redis_server):
    """Whoever was connecting, waiting or reading is told, and leaves no connection."""
    server = redis_server()

    async def main():
        for turns in range(20):
            store = RedisStore(server.url())
            await store.open()
            asked = [asyncio.ensure_future(store.fetch([key()])) for _ in range(9)]
            for _ in range(turns):
                await asyncio.sleep(0)
            await store.aclose()
            done = await asyncio.gather(*asked, return_exceptions=True)
            assert all(each == {} or isinstance(each, StoreError) for each in done)
        alone = lambda: len(server.run("CLIENT LIST")) == 1  # noqa: E731 - one line
        await asyncio.to_thread(server.wait, alone)

    asyncio.run(main())


def test_a_script_that_alone_was_forgotten_does_not_change_the_order(redis_server):
    server = redis_server()

    async def main():
        async with opened(server.url()) as store:
            await store.write([Denied(key(), 0.0)])  # knows how to deny, not to learn
            await store.write([record(age=9.0), Denied(key(), 5.0), record(1)])
            assert about(await one(store), record(age=9.0, denied=5.0))
            assert about(await one(store, 1), record(1))

    asyncio.run(main())


# Where it is.


def test_it_is_used_on_one_loop_after_another(anywhere):
    store = RedisStore(anywhere.place)

    async def main(n):
        await store.open()
        await store.open()
        await store.write([record(n)])
        assert len([each async for each in store.records()]) == n + 1
        await store.aclose()
        await store.aclose()
        for use in (
            store.fetch([key()]),
            store.write([record()]),
            store.remove([key()]),
        ):
            with pytest.raises(StoreError, match="not open"):
                await use

    for n in range(3):
        asyncio.run(main(n))


def test_a_loop_may_be_closed_as_soon_as_the_store_is(anywhere):
    loop = asyncio.new_event_loop()
    store = RedisStore(anywhere.place)
    loop.run_until_complete(store.open())
    loop.run_until_complete(store.aclose())
    loop.close()
    del loop, store
    gc.collect()  # tells of sockets that were left open


def test_a_unix_socket(redis_server, tmp_path):
    path = tmp_path / "redis.sock"
    redis_server("--unixsocket", path, "--requirepass", "right")

    async def main():
        async with opened(f"unix://:right@{path}?db=2") as store:
            await store.write([record()])
            assert about(await one(store), record())
            assert store.name == f"unix://{path}?db=2"
        with pytest.raises(StoreError, match=r": no such file or directory$"):
            await RedisStore(f"unix://{path}.not").open()

    asyncio.run(main())


@pytest.fixture
def certificates(tmp_path):
    made = Certificates()
    pair = tmp_path / "pair.pem"
    pair.write_bytes(made._certificate.private_key_and_cert_chain_pem.bytes())
    yield made.ca_path, pair
    made.close()


@pytest.mark.parametrize("cluster", [False, True])
def test_tls_is_verified(redis_server, certificates, cluster):
    ca, pair = certificates
    server = redis_server(
        "--tls-cert-file", pair, "--tls-key-file", pair, "--tls-ca-cert-file", ca,
        "--tls-auth-clients", "no",
        *(["--cluster-enabled", "yes", "--tls-cluster", "yes"] if cluster else []),
        tls=True,
    )  # fmt: skip
    if cluster:
        tls = {"ssl": True, "ssl_cert_reqs": "none", "ssl_check_hostname": False}
        server.run("CLUSTER ADDSLOTSRANGE", 0, 16_383, **tls)
        server.wait(lambda: server.run("CLUSTER INFO", **tls)["cluster_state"] == "ok")
    scheme = "rediss+cluster" if cluster else "rediss"
    url = f"{scheme}://127.0.0.1:{server.port}"

    async def main():
        async with opened(f"{url}?ca={ca}") as store:
            await store.write([record()])
            assert about(await one(store), record())
        with pytest.raises(StoreError, match="certificate verify failed"):
            await RedisStore(url).open()

    asyncio.run(main())


def test_a_key_that_moved_is_followed(redis_server):
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", 500)
    first, second = (redis_server(*options) for _ in range(2))
    first.run("CLUSTER ADDSLOTSRANGE", 0, 16_382)
    second.run("CLUSTER ADDSLOTS", 16_383)
    first.run("CLUSTER MEET", "127.0.0.1", second.port, second.bus)
    for node in (first, second):
        node.wait(lambda node=node: _agreed(node))

    async def main():
        url = f"redis+cluster://127.0.0.1:{first.port},127.0.0.1:{second.port}"
        async with opened(url) as store:
            await store.write([record(1)])
            slot = first.run("CLUSTER KEYSLOT", b"resolverkit:" + key())
            there, here = (node.run("CLUSTER MYID") for node in (second, first))
            second.run("CLUSTER SETSLOT", slot, "IMPORTING", here)
            first.run("CLUSTER SETSLOT", slot, "MIGRATING", there)
            await store.write([record(age=9.0)])  # asks the first, is sent on
            for node in (second, first):
                node.run("CLUSTER SETSLOT", slot, "NODE", there)
            await store.write([record(), Denied(key(), 0.0)])  # knows no better yet
            found = await store.fetch([key(), key(1)])
            assert about(found[key()], record(denied=0.0))
            assert about(found[key(1)], record(1))
            assert second.run("DBSIZE") == 1
            await store.open()
            assert len([each async for each in store.records()]) == 2
            second.daemon.kill()
            with pytest.raises(StoreError, match="redis\\+cluster://127"):
                await one(store)

    asyncio.run(main())


def _agreed(node):
    info = node.run("CLUSTER INFO")
    return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "2"


def test_without_redis_py_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "redis.exceptions", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'resolverkit\[redis\]'"):
        RedisStore("redis://192.0.2.1")


def test_the_key_of_a_question_is_a_key_here(anywhere):
    asked = question().key

    async def main():
        async with opened(anywhere.place) as store:
            await store.write([record()._replace(key=asked)])
            assert [each.key async for each in store.records()] == [asked]

    asyncio.run(main())
