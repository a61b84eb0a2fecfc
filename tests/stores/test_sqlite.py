"""The SQLite store: what it keeps, which of two is later, and how it is opened."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from resolverkit.errors import ConfigurationError, StoreError
from resolverkit.record import Denied, Record, Said
from resolverkit.stores import sqlite_open, sqlite_rows
from resolverkit.stores.keys import BITS, SMALLEST, Keys
from resolverkit.stores.sqlite import MIN_SIZE, SQLiteStore
from resolverkit.stores.sqlite_file import File
from resolverkit.upstream import Store

SAID = Said("tls://192.0.2.1", "dot", "example", "192.0.2.1", 853, 0.012)
HOUR, YEARS = 3600.0, 10 * 365 * 86_400.0
NOW = 1.7e9


class Wall:
    """A clock on the wall."""

    now = NOW

    def __call__(self) -> float:
        return self.now


def key(number: int = 0) -> bytes:
    return b"\x03www\x07example\0\0\1\0\1\0%d" % number


def record(number: int = 0, **changes) -> Record:
    wire = b"the wire of %d" % number
    return Record(key(number), wire, 60, 5.0, None, SAID)._replace(**changes)


@contextlib.asynccontextmanager
async def opened(path, **options):
    store = SQLiteStore(path, **options)
    try:
        await store.open()
        yield store
    finally:
        await store.aclose()


async def looked(store) -> None:
    """Have it look at what others wrote, and finish its chores."""
    while await store._run(store._file.chore, store._wall()):
        pass


@pytest.fixture
def path(tmp_path):
    return tmp_path / "dns.db"


def run(test, path, **options):
    async def main():
        async with opened(path, **options) as store:
            return await test(store)

    return asyncio.run(main())


def test_it_is_a_store(path):
    store = SQLiteStore(path)
    assert isinstance(store, Store)
    assert store.name == f"sqlite://{path}"
    assert store.budget == 2.0


def test_a_record_comes_back_as_it_was_and_older(path):
    wall = Wall()

    async def learn(store):
        await store.write([record(), record(1, denied=2.0, disputed=True, said=Said())])

    async def read(store):
        wall.now += 100.5
        return await store.fetch([key(), key(1), key(2)])

    run(learn, path, wall=wall)
    assert run(read, path, wall=wall) == {
        key(): record(age=105.5),
        key(1): record(1, age=105.5, denied=102.5, disputed=True, said=Said()),
    }


def test_all_records_are_told_once_in_slices(path):
    async def test(store):
        await store.write([record(number) for number in range(1234)])
        return [one.key async for one in store.records()]

    keys = run(test, path)
    assert len(keys) == 1234
    assert set(keys) == {key(number) for number in range(1234)}


def test_remove_tells_how_many_there_were(path):
    async def test(store):
        await store.write([record(), record(1)])
        assert await store.remove([key(), key(7)]) == 1
        assert await store.remove([]) == 0
        return set(await store.fetch([key(), key(1)]))

    assert run(test, path) == {key(1)}


# -- which is later


def after(path, *batches):
    """What is under the key in the end; each batch is (clock, changes)."""
    wall = Wall()

    async def test(store):
        for now, changes in batches:
            wall.now = now
            await store.write(changes)
        found = await store.fetch([key()])
        return found.get(key())

    return run(test, path, wall=wall)


def test_what_was_learnt_later_stays(path):
    old, new = record(age=50.0, wire=b"old"), record(age=10.0, wire=b"new")
    assert after(path, (NOW, [new]), (NOW, [old])).wire == b"new"
    assert after(path, (NOW + 1, [old, new])).wire == b"new"


def test_what_was_denied_later_stays(path):
    old = record(age=50.0)
    denied = record(age=100.0, denied=20.0, wire=b"held")
    assert after(path, (NOW, [denied]), (NOW, [old])).wire == b"held"
    assert after(path, (NOW, [record(age=1.0)])).denied is None


def test_changes_count_in_their_order(path):
    assert after(path, (NOW, [record(age=0.0), Denied(key(), 0.0)])).denied == 0.0
    assert after(path, (NOW, [Denied(key(), 0.0), record(age=0.0)])).denied is None


def test_a_denial_marks_what_was_learnt_before_and_not_yet_marked(path):
    assert after(path, (NOW, [record(age=5.0), Denied(key(), 9.0)])).denied is None
    marks = [Denied(key(), 4.0), Denied(key(), 1.0)]
    assert after(path, (NOW, [record(age=5.0), *marks])).denied == 4.0
    assert after(path, (NOW, [Denied(key(3), 1.0)])) is not None


@pytest.mark.parametrize("jump", [-YEARS, -HOUR, HOUR, YEARS])
def test_what_comes_after_a_jump_of_the_clock_is_later(path, jump):
    before, then = record(age=1.0, wire=b"before"), record(age=1.0, wire=b"after")
    assert after(path, (NOW, [before]), (NOW + jump, [then])).wire == b"after"
    assert after(path, (NOW + jump, [before]), (NOW, [then])).wire == b"after"
    assert (
        after(path, (NOW, [before]), (NOW + jump, [Denied(key(), 0.5)])).denied == 0.5
    )


@pytest.mark.parametrize("jump", [-YEARS, -HOUR])
def test_a_date_in_the_future_is_stale_and_no_age_is_negative(path, jump):
    held = record(age=1.0, denied=0.5)
    got = after(path, (NOW, [held]), (NOW + jump, []))
    assert (got.age, got.denied) == (60.0, 0.0)
    again = after(path, (NOW + jump, [Denied(key(), 0.25)]), (NOW + jump + 7, []))
    assert again.denied == 7.25, "a mark from the future would hold it until then"


# -- which keys there are


def test_keys_are_known_without_asking_and_others_are_not(path):
    async def write(store):
        await store.write([record(number) for number in range(2000)])

    async def read(store):
        await looked(store)
        assert all(store.may_have(key(number)) for number in range(2000))
        absent = sum(store.may_have(key(number)) for number in range(2000, 4000))
        assert absent < 2000 / 8
        await store.write([record(5555)])
        assert store.may_have(key(5555))

    assert SQLiteStore(path).may_have(key()), "nothing is known yet"
    run(write, path)
    run(read, path)


def test_keys_of_other_processes_are_noticed(path):
    async def test(store):
        await looked(store)
        absent = [n for n in range(100) if not store.may_have(key(n))]
        assert absent
        async with opened(path) as other:
            await other.write([record(number) for number in absent])
        await looked(store)
        assert all(store.may_have(key(number)) for number in absent)

    run(test, path)


def test_a_miss_has_it_look_once_a_second(path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("resolverkit.stores.sqlite._now", lambda: now[0])

    async def test(store):
        await looked(store)
        looks = []
        monkeypatch.setattr(
            "resolverkit.stores.sqlite._look", lambda *_: looks.append(now[0])
        )
        for now[0] in (0.5, 0.9, 1.1, 1.2, 2.0, 2.2, 2.3):
            store.may_have(key())
        return looks

    assert run(test, path) == [1.1, 2.2]


def test_a_table_grows_and_is_renewed_when_most_of_its_keys_are_gone(path):
    async def test(store):
        await looked(store)
        await store.write([record(number) for number in range(3 * SMALLEST)])
        await looked(store)
        assert store._file.known.rows == 4 * SMALLEST
        for start in range(1, 4):
            numbers = range(3 * start * SMALLEST, 3 * (start + 1) * SMALLEST)
            await store.remove([key(number - 3 * SMALLEST) for number in numbers])
            await store.write([record(number) for number in numbers])
            await looked(store)
        assert store._file.known.rows == 4 * SMALLEST
        assert all(store.may_have(key(number)) for number in numbers)

    run(test, path)


def test_a_million_keys_take_two_megabytes():
    assert len(Keys(1_000_000).table) == 2 * 2**20
    assert len(Keys(0).table) == SMALLEST * BITS // 8


def test_a_table_that_was_filled_takes_a_quarter_more():
    keys = Keys(0)
    number = 0
    while not keys.crowded:
        keys.update([key(number := number + 1)])
    keys.settle()
    held = number
    while not keys.crowded:
        keys.update([key(number := number + 1)])
    assert number - held > held / 5


def test_the_first_fetch_waits_for_no_more_than_a_slice(path, monkeypatch):
    """A start loads lazily: chores go to the end of the queue after each slice."""
    filled(path, 5000)
    jobs = []
    for name in ("chore", "fetch"):
        job = getattr(File, name)

        def noted(file, *arguments, job=job):
            jobs.append(job.__name__)
            return job(file, *arguments)

        monkeypatch.setattr(File, name, noted)

    async def read(store):
        gate = threading.Event()
        store._worker.submit(gate.wait, 5)
        store._look()
        fetch = asyncio.ensure_future(store.fetch([key(4999)]))
        await asyncio.sleep(0)
        jobs.clear()
        gate.set()
        assert await fetch
        await looked(store)
        return jobs

    assert "fetch" in run(read, path)[:4]
    assert jobs.count("chore") > 8


# -- the size


def test_a_full_file_loses_what_was_learnt_the_longest_ago(path):
    wall = Wall()
    big = b"x" * 1000

    async def test(store):
        for start in range(0, 4000, 100):
            wall.now -= YEARS / 10  # dates say the opposite of the order
            await store.write([record(n, wire=big) for n in range(start, start + 100)])
            await store.write([record(0, wire=big)])  # learnt again each time
        return [one.key async for one in store.records()]

    keys = run(test, path, max_size=MIN_SIZE, wall=wall)
    kept = sorted(int(one.rpartition(b"\0")[2]) for one in keys)
    assert path.stat().st_size <= MIN_SIZE
    assert kept[0] == 0
    assert kept[1:] == list(range(kept[1], 4000))
    assert len(kept) > 500


def test_a_bound_that_was_lowered_is_reached_by_and_by(path):
    async def fill(store):
        await store.write([record(n, wire=b"x" * 1000) for n in range(4000)])

    async def shrink(store):
        for number in range(20):
            await store.write([record(number)])
        return len(await store.fetch([key(number) for number in range(20)]))

    run(fill, path)
    assert path.stat().st_size > 4 * MIN_SIZE
    assert run(shrink, path, max_size=MIN_SIZE) == 20
    assert path.stat().st_size <= MIN_SIZE


def test_a_jump_of_the_clock_deletes_nothing(path):
    wall = Wall()

    async def test(store):
        for jump in (YEARS, -YEARS, HOUR, -HOUR, 0):
            wall.now = NOW + jump
            await store.write([record(int(jump))])
        return len([one async for one in store.records()])

    assert run(test, path, wall=wall) == 5


# -- opening and closing


@pytest.mark.parametrize("given", ["", ":memory:", "a\0b", "~nobody-of-that-name/x"])
def test_what_is_no_path_is_refused(given):
    with pytest.raises(ConfigurationError):
        SQLiteStore(given)


def test_a_bound_under_a_megabyte_is_refused(path):
    with pytest.raises(ConfigurationError, match="max_size is 1000"):
        SQLiteStore(path, max_size=1000)


def test_the_home_directory_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert SQLiteStore("~/dns.db").name == f"sqlite://{tmp_path}/dns.db"


def test_the_directory_must_exist_and_is_not_made(tmp_path):
    missing = tmp_path / "no" / "dns.db"
    with pytest.raises(StoreError, match=f"{missing.parent} is no directory"):
        run(None, missing)
    assert not missing.parent.exists()


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_files_are_for_their_owner_only(path, umask):
    async def test(store):
        await store.write([record()])
        return {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}

    before = os.umask(umask)
    try:
        modes = run(test, path)
    finally:
        os.umask(before)
    assert modes == {"dns.db": 0o600, "dns.db-wal": 0o600, "dns.db-shm": 0o600}


def test_closing_leaves_one_file_and_no_thread(path):
    async def test(store):
        await store.write([record()])
        await store.aclose()
        await store.aclose()
        with pytest.raises(StoreError, match="is not open"):
            await store.fetch([key()])

    run(test, path)
    assert [p.name for p in path.parent.iterdir()] == ["dns.db"]
    for thread in threading.enumerate():
        if thread.name.startswith("resolverkit-sqlite"):
            thread.join(5)
            assert not thread.is_alive()


def test_it_opens_again_on_another_loop(path):
    store = SQLiteStore(path)

    async def learn():
        await store.open()
        await store.open()
        await store.write([record()])

    async def read():
        await store.open()
        try:
            return await store.fetch([key()])
        finally:
            await store.aclose()

    asyncio.run(learn())
    assert asyncio.run(read())
    assert asyncio.run(read())


def test_closing_finishes_what_was_begun(path):
    async def test(store):
        writes = [asyncio.ensure_future(store.write([record(n)])) for n in range(20)]
        await asyncio.sleep(0)
        await store.aclose()
        await asyncio.gather(*writes)

    async def count(store):
        return len([one async for one in store.records()])

    run(test, path)
    assert run(count, path) == 20


def test_a_cancelled_call_leaves_the_store_usable(path):
    async def test(store):
        write = asyncio.ensure_future(store.write([record()]))
        await asyncio.sleep(0)
        write.cancel()
        await asyncio.gather(write, return_exceptions=True)
        await store.write([record(1)])
        return await store.fetch([key(1)])

    assert run(test, path)


def test_a_file_that_vanishes_is_begun_anew(path):
    async def test(store):
        await store.write([record()])
        for file in path.parent.iterdir():
            file.unlink()
        assert await store.fetch([key()]) == {}
        await store.write([record(1)])
        return await store.fetch([key(1)])

    assert run(test, path)
    assert path.exists()


@pytest.mark.parametrize("name", ["directory", "pipe"])
def test_what_is_no_file_is_left_alone(tmp_path, name):
    place = tmp_path / name
    place.mkdir() if name == "directory" else os.mkfifo(place)
    with pytest.raises(StoreError, match="is not a file"):
        run(None, place)


UNCLOSED = """
import asyncio, sys
from resolverkit.stores.sqlite import SQLiteStore
from resolverkit.record import Record

store = SQLiteStore(sys.argv[1])

async def main():
    await store.open()
    await store.write([Record(b"k", b"w", 1, 0.0)])

asyncio.run(main())
if sys.argv[2] == "global":
    ring = [store]
    ring.append(ring)
    del ring
else:
    del store
"""


@pytest.mark.parametrize("how", ["global", "dropped"])
def test_nobody_need_close_it(path, how):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", UNCLOSED, str(path), how],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [p.name for p in path.parent.iterdir()] == ["dns.db"]


# -- files that are not ours


def altered(path, statement) -> bytes:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()
    return path.read_bytes()


async def nothing(store):
    """Open and close."""


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("PRAGMA user_version = 1", "schema 1, of another version"),
        ("PRAGMA user_version = 3", "schema 3, of another version"),
        ("PRAGMA application_id = 7", "another program's"),
    ],
)
def test_a_newer_or_foreign_file_is_left_alone(path, statement, said):
    run(nothing, path)
    before = altered(path, statement)
    with pytest.raises(StoreError, match=said) as caught:
        run(nothing, path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["dns.db"]


def test_a_table_without_a_name_of_whose_it_is_is_left_alone(path):
    before = altered(path, "CREATE TABLE theirs (x)")
    with pytest.raises(StoreError, match="another program's"):
        run(nothing, path)
    assert path.read_bytes() == before


def test_an_empty_file_becomes_ours(path):
    path.touch()

    async def test(store):
        await store.write([record()])
        return await store.fetch([key()])

    assert run(test, path)


# -- damaged files


def aside(path):
    return sorted(p.name for p in path.parent.iterdir() if "corrupt" in p.name)


@pytest.mark.parametrize(
    "content",
    [
        b"SQLite format 3\0",
        b"SQLite format 3\0" + b"\xff" * 4000,
        b"\xff" * 68 + b"rkit" + b"\xff" * 4000,
        b"\0" * 50,
    ],
    ids=["cut off", "garbage", "garbage but for whose it is", "zeros"],
)
def test_what_may_be_ours_and_damaged_is_set_aside_with_a_warning(
    path, content, caplog
):
    path.write_bytes(content)

    async def test(store):
        await store.write([record()])
        await looked(store)
        return await store.fetch([key()])

    for _ in range(2):
        assert run(test, path)
        assert aside(path) == ["dns.db.corrupt-1"]
        (warning,) = caplog.records
        assert str(path) in warning.message
        assert f"{path}.corrupt-1" in warning.message
    assert (path.parent / "dns.db.corrupt-1").read_bytes() == content
    path.write_bytes(content)
    assert run(test, path)
    assert aside(path) == ["dns.db.corrupt-1", "dns.db.corrupt-2"]


@pytest.mark.parametrize("content", [b"127.0.0.1 localhost\n" * 40, b"short"])
def test_a_file_that_is_no_database_is_left_alone(path, content):
    """Its path was mistaken for a store's: it may be another program's settings."""
    path.write_bytes(content)

    async def test():
        store = SQLiteStore(path)
        for job in (store.open, store.open, lambda: store.write([record()])):
            with pytest.raises(StoreError, match=r"no database, and is left alone$"):
                await job()
        await store.aclose()

    asyncio.run(test())
    assert path.read_bytes() == content
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_table_that_was_changed_is_set_aside(path):
    run(nothing, path)
    altered(path, "ALTER TABLE records RENAME COLUMN body TO rest")
    run(nothing, path)
    assert aside(path) == ["dns.db.corrupt-1"]


def filled(path, count=3000):
    async def write(store):
        await store.write([record(number) for number in range(count)])

    run(write, path)
    return path.stat().st_size


def test_a_truncated_file_is_set_aside_and_what_is_left_of_it_saved(path):
    size = filled(path)
    os.truncate(path, size // 2)

    async def test(store):
        await store.write([record(9999)])
        await looked(store)
        return [one async for one in store.records()]

    found = run(test, path)
    assert aside(path)[0] == "dns.db.corrupt-1"
    assert {one.key for one in found} >= {key(9999)}
    assert {one._replace(age=5.0) for one in found} <= {
        record(number) for number in range(10_000)
    }


def test_damage_in_the_middle_costs_only_what_cannot_be_read(path):
    filled(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        page = connection.execute("PRAGMA page_size").fetchone()[0]
        leaf = connection.execute(
            "SELECT pageno FROM dbstat WHERE name = 'records' AND pagetype = 'leaf'"
            " ORDER BY path LIMIT 1 OFFSET 40"
        ).fetchone()[0]
    with path.open("r+b") as file:
        file.seek(page * (leaf - 1))
        file.write(b"\xff" * page)

    async def test(store):
        assert len([one async for one in store.records()]) < 3000  # comes upon it
        await looked(store)
        found = await store.fetch([key(number) for number in range(3000)])
        assert all(store.may_have(one) for one in found)
        return len(found)

    assert 2900 < run(test, path) < 3000
    assert "dns.db.corrupt-1" in aside(path)


@pytest.mark.parametrize("statement", ["KEYS", "NEXT"])
def test_a_tree_that_goes_in_circles_is_damaged(path, monkeypatch, statement):
    """Each slice is the first one again; it was seen in files with random damage."""
    filled(path)
    circle = getattr(sqlite_rows, statement).replace("> ?", "> ? AND 0 OR 1")
    monkeypatch.setattr(sqlite_rows, statement, circle)

    async def test(store):
        after = b""
        for _ in range(6):
            await store._run(store._file.chore, NOW)
            _, after = await store._run(store._file.next, after or b"", NOW)

    run(test, path)
    assert aside(path)


@pytest.mark.parametrize(
    "change",
    [
        "body = 'text'",
        "body = x'00'",
        "body = x''",
        "body = body || x'00'",
        "body = (SELECT body FROM records WHERE id = 1)",
        "learnt = 'then'",
        "learnt = 9e999",
        "denied = 'then'",
        "denied = -9e999",
        "crc = 0",
        "key = 'text'",
    ],
)
def test_a_row_that_was_changed_is_skipped(path, change):
    filled(path, 3)
    altered(path, f"UPDATE records SET {change} WHERE id = 2")  # noqa: S608

    async def test(store):
        await looked(store)
        found = await store.fetch([key(number) for number in range(3)])
        assert set(found) == {one.key async for one in store.records()}
        return set(found)

    assert run(test, path) == {key(0), key(2)}
    assert aside(path) == []


# -- read-only files


@pytest.fixture
def read_only(monkeypatch):
    """A system that denies all writing below a directory, even to root."""

    def deny(directory):
        access = os.access
        monkeypatch.setattr(
            sqlite_open.os,
            "access",
            lambda path, mode: (
                access(path, mode)
                and not (mode == os.W_OK and Path(path).is_relative_to(directory))
            ),
        )

    return deny


def test_a_read_only_file_is_read_and_says_so_when_written(path, read_only):
    filled(path, 10)
    before = path.read_bytes()
    read_only(path.parent)

    async def test(store):
        for change in (store.write([record()]), store.remove([key()])):
            with pytest.raises(StoreError, match=f"{path} is read-only"):
                await change
        await looked(store)
        assert store.may_have(key(3))
        return await store.fetch([key(3)])

    assert run(test, path)
    assert path.read_bytes() == before


def test_a_file_that_was_read_only_is_tried_again(path, read_only, monkeypatch):
    filled(path, 10)
    read_only(path.parent)

    async def test(store):
        with pytest.raises(StoreError):
            await store.write([record(10)])
        monkeypatch.undo()
        await store.open()
        await store.write([record(10)])

    run(test, path)


def test_a_read_only_file_that_is_damaged_stays_where_it_is(path, read_only):
    path.write_bytes(b"SQLite format 3\0" * 100)
    read_only(path.parent)
    with pytest.raises(StoreError, match="it is damaged"):
        run(nothing, path)
    assert aside(path) == []
