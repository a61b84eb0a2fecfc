"""One SQLite file, several processes: forks, races, locks, replaced files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import time

import pytest

from resolverkit.errors import StoreError
from resolverkit.record import Record
from resolverkit.stores import sqlite as sqlite_store
from resolverkit.stores.sqlite import SQLiteStore

PROCESSES = 8


@pytest.fixture
def path(tmp_path):
    return tmp_path / "dns.db"


def key(number: int) -> bytes:
    return b"\x07example\0\0\1\0\1\0%08d" % number


def record(number: int) -> Record:
    return Record(key(number), b"wire of %d" % number, 60, 0.0)


async def count(path) -> int:
    store = SQLiteStore(path)
    await store.open()
    found = [one async for one in store.records()]
    await store.aclose()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return len(found)


def forked(body) -> int:
    """A process that runs a coroutine function, and tells errors by its code."""
    child = os.fork()
    if child:
        return child
    try:
        asyncio.set_event_loop(None)
        with asyncio.Runner() as runner:
            runner.run(body())
    except BaseException as error:  # noqa: BLE001 - told by the code
        os.write(2, f"{error!r}\n".encode())
        os._exit(1)
    os._exit(0)


def joined(children) -> None:
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0] * len(children)


class Gate:
    """Lets processes start at once."""

    def __init__(self):
        self.read, self.write = os.pipe()

    def wait(self) -> None:
        os.close(self.write)
        os.read(self.read, 1)

    def open(self) -> None:
        os.close(self.write)
        os.close(self.read)


@pytest.mark.parametrize("before", [None, b"SQLite format 3\0" * 500, b""])
def test_eight_processes_begin_one_file_and_write_to_it(path, before):
    """Be it missing, empty or damaged: no lock is told, and nothing is lost."""
    if before is not None:
        path.write_bytes(before)
    gate = Gate()

    def worker(mine):
        async def main():
            gate.wait()
            store = SQLiteStore(path)
            await store.open()
            for turn in range(20):
                numbers = [mine * 1000 + turn * 10 + n for n in range(10)]
                await store.write([record(n) for n in numbers])
                assert len(await store.fetch([key(n) for n in numbers])) == 10
            await store.aclose()

        return main

    children = [forked(worker(mine)) for mine in range(PROCESSES)]
    gate.open()
    joined(children)
    assert asyncio.run(count(path)) == PROCESSES * 200
    aside = list(path.parent.glob("*.corrupt-*"))
    assert [p.read_bytes() for p in aside] == ([before] if before else [])


def test_a_file_that_another_process_replaced_is_opened_again(path):
    async def main():
        first, second = SQLiteStore(path), SQLiteStore(path)
        await first.open()
        await first.write([record(1)])
        await second.open()
        damaged = sqlite3.DatabaseError("of a sudden")
        with second._file._lock:
            second._file._disconnect()
            second._file._set_aside(damaged)
        await second.write([record(2)])
        with first._file._lock:
            first._file._disconnect()
            first._file._set_aside(damaged)  # it saw the damage as well, but too late
        await first.write([record(3)])
        while await second._run(second._file.chore, 0.0):
            pass
        assert len(await first.fetch([key(1), key(2), key(3)])) == 3
        await first.aclose()
        await second.aclose()

    asyncio.run(main())
    assert len([p for p in path.parent.iterdir() if p.name.endswith("corrupt-1")]) == 1
    assert not list(path.parent.glob("*.corrupt-2*"))
    assert asyncio.run(count(path)) == 3


def test_the_old_one_closed_last_harms_not_the_new(path):
    """SQLite deletes a WAL by its name, which is the new file's by then."""

    async def main():
        old, new = SQLiteStore(path), SQLiteStore(path)
        await old.open()
        await old.write([record(1)])
        await new.open()
        with new._file._lock:
            new._file._disconnect()
            new._file._set_aside(sqlite3.DatabaseError("of a sudden"))
        await new.write([record(2)])
        await old.aclose()
        assert (path.parent / "dns.db-wal").exists()
        await new.write([record(3)])
        await new.aclose()

    asyncio.run(main())
    assert asyncio.run(count(path)) >= 2


# -- locks


@contextlib.contextmanager
def locked(path):
    with contextlib.closing(
        sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    ) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def test_a_write_waits_for_a_lock_while_reads_go_on(path):
    async def main():
        store = SQLiteStore(path)
        await store.open()
        await store.write([record(1)])
        with locked(path) as lock:
            write = asyncio.ensure_future(store.write([record(2)]))
            for _ in range(3):
                assert await store.fetch([key(1)])
            assert not write.done()
            lock.execute("ROLLBACK")
            await write
        assert await store.fetch([key(2)])
        await store.aclose()

    asyncio.run(main())


def test_a_lock_that_stays_fails_the_write_and_says_so(path, monkeypatch):
    monkeypatch.setattr(sqlite_store, "PATIENCE", 0.3)

    async def main():
        store = SQLiteStore(path)
        await store.open()
        with locked(path):
            said = f"{path} is locked by another process for 0.3 s"
            with pytest.raises(StoreError, match=said):
                await store.write([record(1)])
        await store.write([record(1)])
        assert await store.fetch([key(1)])
        await store.aclose()

    asyncio.run(main())


# -- forks


def test_a_child_has_a_connection_of_its_own(path):
    async def main():
        store = SQLiteStore(path)
        await store.open()
        await store.write([record(1)])

        async def child():
            assert store._file._connection is None, "SQLite's locks cross no fork"
            assert store.may_have(key(1))
            assert await store.fetch([key(1)])
            await store.write([record(2)])
            await store.aclose()

        joined([forked_in_loop(child) for _ in range(4)])
        assert len(await store.fetch([key(1), key(2)])) == 2
        await store.write([record(3)])
        await store.aclose()

    asyncio.run(main())
    assert asyncio.run(count(path)) == 3


def forked_in_loop(body) -> int:
    """As `forked`, from within a running loop, which the child leaves behind."""
    child = os.fork()
    if child:
        return child
    asyncio._set_running_loop(None)
    try:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(body())
    except BaseException as error:  # noqa: BLE001 - told by the code
        os.write(2, f"{error!r}\n".encode())
        os._exit(1)
    os._exit(0)


def test_forks_in_the_middle_of_work_harm_neither(path):
    async def main():
        store = SQLiteStore(path)
        await store.open()
        children = []
        for turn in range(20):
            write = asyncio.ensure_future(
                store.write([record(turn * 100 + n) for n in range(100)])
            )
            await asyncio.sleep(0)

            async def child(turn=turn):
                await store.write([record(10_000 + turn)])
                await store.aclose()

            children.append(forked_in_loop(child))
            await write
        joined(children)
        await store.aclose()

    asyncio.run(main())
    assert asyncio.run(count(path)) == 2020


def test_a_stopped_process_that_holds_no_lock_is_in_nobodys_way(path):
    ready, tell = os.pipe()

    async def sleeper():
        store = SQLiteStore(path)
        await store.open()
        await store.write([record(1)])
        os.write(tell, b".")
        time.sleep(60)  # noqa: ASYNC251 - it is stopped, then killed

    child = forked(sleeper)
    os.read(ready, 1)
    os.kill(child, signal.SIGSTOP)

    async def main():
        store = SQLiteStore(path)
        await store.open()
        await store.write([record(2)])
        found = await store.fetch([key(1), key(2)])
        await store.aclose()
        return len(found)

    assert asyncio.run(main()) == 2
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(ready)
    os.close(tell)
