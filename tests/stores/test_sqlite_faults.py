"""The SQLite store when the disk, the file or the process fails in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import time
import zlib

import pytest

from resolverkit.errors import StoreError
from resolverkit.record import Denied, Record, Said
from resolverkit.stores import sqlite_open
from resolverkit.stores.sqlite import SQLiteStore
from resolverkit.stores.sqlite_file import File

NOW = 1.7e9
LIMIT = 2**28
BATCH = 25
KILLS, FULL, BROKEN, SPOILT = 60, 50, 50, 60
"""Rounds of each kind: more than 200."""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "dns.db"


def key(number: int) -> bytes:
    return b"\x07example\0\0\1\0\1\0%08d" % number


def record(number: int, turn: int = 0) -> Record:
    """One whose parts can be checked against each other."""
    body = b"%d of %d " % (turn, number) * (1 + number % 50)
    wire = zlib.crc32(key(number) + body).to_bytes(4) + body
    return Record(key(number), wire, 60, 0.0, None, Said(f"udp://{number}"))


def check(path) -> list[Record]:
    """The file opens, is sound, and holds only whole records; these."""
    with opened(path) as file:
        found, after = [], b""
        while after is not None:
            records, after = file.next(after, NOW)
            found += records
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            rows = connection.execute("SELECT count(*) FROM records").fetchone()[0]
        assert rows == len(found)
        file.write([record(99_999_999)], NOW)
    for one in found:
        number = int(one.key[-8:])
        assert one.said == Said(f"udp://{number}")
        assert one.wire[:4] == zlib.crc32(one.key + one.wire[4:]).to_bytes(4)
    assert not list(path.parent.glob("*.corrupt-*"))
    return found


@contextlib.contextmanager
def opened(path):
    file = File(path, LIMIT)
    try:
        file.open()
        yield file
    finally:
        file.close()


def write_for_ever(path, report: int) -> None:
    """Write batches, each with a turn's number, and say which are done."""
    file = File(path, LIMIT)
    file.open()
    for turn in range(1 << 16):
        start = turn % 40 * BATCH
        changes = [record(start + n, turn) for n in range(BATCH)]
        file.write([*changes, Denied(key(start), -1.0)], NOW + turn)
        file.remove([key(start + 1)])
        os.write(report, turn.to_bytes(4))


def turn_of(one: Record) -> int:
    return int(one.wire[4:].split()[0])


def forked(body) -> int:
    child = os.fork()
    if child:
        return child
    with contextlib.suppress(BaseException):
        body()
    os._exit(0)


# -- kill -9


def test_a_kill_at_any_moment_loses_only_what_was_not_written(path):
    chance = random.Random(1)
    for _ in range(KILLS):
        read, write = os.pipe()
        child = forked(lambda to=write: write_for_ever(path, to))
        os.close(write)
        os.read(read, 4)  # it is at work
        time.sleep(chance.random() / 40)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        done = b"\0\0\0\0"
        while part := os.read(read, 1 << 16):
            done += part
        os.close(read)
        last = int.from_bytes(done[-4:])
        batches = {}
        for one in check(path):
            batches.setdefault(turn_of(one), []).append(one)
        assert max(batches) in {last, last + 1}
        for turn in range(max(0, last - 38), last + 1):
            assert len(batches[turn]) == BATCH - 1, (
                "all of a batch but what was removed"
            )
            assert sum(one.denied is not None for one in batches[turn]) == 1
        path.unlink()


@pytest.mark.parametrize("seed", range(10))
def test_a_kill_while_the_file_is_made_leaves_one_that_can_be_made(path, seed):
    read, write = os.pipe()

    def begin():
        os.write(write, b".")
        write_for_ever(path, write)

    child = forked(begin)
    os.read(read, 1)
    time.sleep(random.Random(seed).random() / 200)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(read)
    os.close(write)
    check(path)


# -- a full disk


@pytest.fixture
def small_disk(tmp_path, in_ci):
    """A directory on a disk of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)]
    if not shutil.which("mount") or subprocess.run(command, check=False).returncode:
        told = "NOT TESTED: a really full disk; mounting a tmpfs needs root"
        if in_ci:
            pytest.fail(told, pytrace=False)
        pytest.skip(told)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_fails_the_write_and_harms_nothing(small_disk):
    """A filler leaves a different number of pages each time."""
    path, filler = small_disk / "dns.db", small_disk / "filler"
    with opened(path) as file:
        file.write([record(number) for number in range(300)], NOW)
    failed = 0
    for round_ in range(FULL):
        filler.unlink(missing_ok=True)
        with opened(path) as file:
            free = shutil.disk_usage(small_disk).free
            filler.write_bytes(b"x" * max(free - round_ * 4096, 0))
            before = file.fetch([key(n) for n in range(300)], NOW)
            try:
                for turn in range(4):
                    new = [record(300 + turn * 50 + n, round_) for n in range(50)]
                    file.write(new, NOW)
            except StoreError as error:
                failed += 1
                assert str(path) in str(error)  # noqa: PT017 - it may not be raised
            after = file.fetch([key(n) for n in range(300)], NOW)
            assert after == before
            assert len(after) == 300
        filler.unlink(missing_ok=True)
        check(path)
        with opened(path) as file:
            file.remove([key(n) for n in range(300, 1000)])
    assert failed > FULL / 2


def test_a_disk_that_is_full_from_the_start_says_so(small_disk):
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * shutil.disk_usage(small_disk).free)
    path = small_disk / "dns.db"
    with pytest.raises(StoreError, match=str(path)), opened(path):
        pass
    filler.unlink()
    assert check(path) == []


# -- a disk that fails


def test_a_write_that_fails_at_any_byte_harms_nothing(path):
    """RLIMIT_FSIZE makes the system refuse what is beyond: SQLite sees an I/O error."""
    with opened(path) as file:
        file.write([record(number) for number in range(300)], NOW)
    size = path.stat().st_size

    def fail(limit: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        file = File(path, LIMIT)
        with contextlib.suppress(StoreError):
            file.open()
            for turn in range(10):
                file.write([record(turn * 60 + n, turn + 1) for n in range(60)], NOW)
        file.open()
        assert file.fetch([key(n) for n in range(600, 900)], NOW) == {}
        file.close()
        os._exit(7)

    for round_ in range(BROKEN):
        limit = round_ * size // BROKEN + round_ * 7
        child = forked(lambda limit=limit: fail(limit))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) in {0, 7}
        assert len(check(path)) >= 300


class Failing(sqlite3.Connection):
    """Fails at one statement of all, with one of SQLite's codes."""

    countdown = -1
    code = sqlite3.SQLITE_IOERR_WRITE

    def execute(self, *arguments):
        Failing.countdown -= 1
        if Failing.countdown == 0:
            error = sqlite3.OperationalError("injected")
            error.sqlite_errorcode = Failing.code
            raise error
        return super().execute(*arguments)

    def executemany(self, statement, rows):
        for row in rows:  # in the midst of them, too
            self.execute(statement, row)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (sqlite3.SQLITE_IOERR_WRITE, "cannot be used"),
        (sqlite3.SQLITE_FULL, "the disk is full"),
        (sqlite3.SQLITE_READONLY_DBMOVED, "it is read-only"),
        (sqlite3.SQLITE_CANTOPEN, "cannot be opened"),
        (sqlite3.SQLITE_NOMEM, "cannot be used"),
    ],
)
def test_a_fault_at_any_statement_is_told_and_passes(path, monkeypatch, code, said):
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite_open.sqlite3,
        "connect",
        lambda *given, **options: connect(*given, **options, factory=Failing),
    )
    failed = 0
    for at in range(1, 60):
        Failing.countdown, Failing.code = at, code
        file = File(path, LIMIT)
        try:
            file.open()
            file.write([record(n) for n in range(10)], NOW)
            file.fetch([key(n) for n in range(5)], NOW)
            file.remove([key(n) for n in range(3)])
        except StoreError as error:
            failed += 1
            assert said in str(error)  # noqa: PT017 - it may not be raised
            assert str(path) in str(error)  # noqa: PT017
        Failing.countdown = -1
        file.open()
        file.write([record(n) for n in range(10)], NOW)
        assert len(file.fetch([key(n) for n in range(10)], NOW)) == 10
        file.close()
        check(path)
    assert failed > 20


def test_a_trigger_that_fails_rolls_the_batch_back(path):
    with opened(path) as file:
        file.write([record(1)], NOW)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute(
                "CREATE TRIGGER no BEFORE INSERT ON records"
                f" WHEN NEW.key = x'{key(3).hex()}'"
                " BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
        with pytest.raises(StoreError, match="no"):
            file.write([record(2), record(3), record(4)], NOW)
        assert set(file.fetch([key(n) for n in range(5)], NOW)) == {key(1)}


# -- bits that flip


@pytest.mark.parametrize("seed", range(SPOILT))
def test_random_damage_yields_whole_records_or_none(path, seed):
    chance = random.Random(seed)
    with opened(path) as file:
        file.write([record(number) for number in range(600)], NOW)
    spoilt = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 10, 300])):
        at = chance.randrange(len(spoilt))
        if chance.random() < 0.3:
            at %= 4096  # the header and the table of tables
        spoilt[at] = chance.randrange(256)
    if chance.random() < 0.2:
        del spoilt[chance.randrange(len(spoilt)) :]
    path.write_bytes(spoilt)
    whole = {key(number): record(number) for number in range(600)}

    async def main():
        store = SQLiteStore(path, wall=lambda: NOW)
        try:
            await store.open()
        except StoreError as error:
            # Whose it is, or of which format, was hit.
            said = str(error)
            assert "left alone" in said or "unsupported file format" in said
            assert path.read_bytes() == spoilt
            return
        await store.write([record(1000 + number) for number in range(50)])
        while await store._run(store._file.chore, NOW):
            pass
        found = await store.fetch([*whole, *(key(1000 + n) for n in range(50))])
        told = [one async for one in store.records()]
        for one in [*found.values(), *told]:
            number = int(one.key[-8:])
            assert (one.key, one.wire) == record(number)[:2]
        await store.write([record(5000)])
        assert await store.fetch([key(5000)])
        assert store.may_have(key(5000))
        await store.aclose()

    asyncio.run(main())
