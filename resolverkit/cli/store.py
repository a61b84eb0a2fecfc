"""``resolverkit store``: look into a store, flush it, carry its records elsewhere."""

from __future__ import annotations

import json
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import dns.exception

from resolverkit import config, contents, wire
from resolverkit.cli.warnings import tell
from resolverkit.errors import BadReply, ConfigurationError, StoreError
from resolverkit.record import reply_of
from resolverkit.record_text import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from resolverkit.record import Record
    from resolverkit.upstream import Store

DONE, USAGE, UNREACHABLE = 0, 2, 3
"""Exit statuses."""
BATCH = 500
"""Records that are written at once."""


async def run(work: Callable[[], Awaitable[None]]) -> int:
    """Do one of the jobs below; gives the exit status."""
    tell("resolverkit store", "resolverkit.sqlite")  # a damaged file was set aside
    try:
        await work()
    except (ConfigurationError, dns.exception.DNSException) as error:
        print(f"resolverkit store: {error}", file=sys.stderr)
        return USAGE
    except StoreError as error:
        print(f"resolverkit store: {error}", file=sys.stderr)
        return UNREACHABLE
    return DONE


def _check_exists(store: Store) -> None:
    scheme, _, path = store.name.partition("://")
    if scheme != "sqlite":
        return
    try:
        Path(path).stat()
    except FileNotFoundError:
        raise StoreError(f"{path} does not exist") from None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from None


@asynccontextmanager
async def _opened(url: str, *, new: bool = False) -> AsyncIterator[Store]:
    """The store of a URL; where it may not be `new` no file is made."""
    store = config.store_of(url)
    if not new:
        _check_exists(store)
    try:
        await store.open()
        yield store
    finally:
        await store.aclose()


def _zone(name: str | None) -> bytes:
    try:
        return wire.text_to_wire(name or ".")
    except (dns.exception.DNSException, ValueError) as error:
        raise ConfigurationError(f"{name!r} is not a name: {error}") from None


async def show(url: str, under: str | None) -> None:
    """Print a line for each record: name, type, state, age, and who gave it."""
    zone = _zone(under)
    count = stale = denied = 0
    async with _opened(url) as store:
        async for record in store.records():
            if not wire.is_below(wire.question_of(record.key).wire_name, zone):
                continue
            count += 1
            stale += record.age >= record.ttl
            denied += record.denied is not None
            print(_line(record))
    told = f"{count} answers, {stale} past their TTL, {denied} denied by now"
    print(f"; {told}", file=sys.stderr)


def _line(record: Record) -> str:
    told = to_json(record, 0.0)
    state = "fresh" if record.age < record.ttl else "stale"
    if record.denied is not None:
        state = "denied"
    said = f"{record.said.upstream or '-'} {record.said.operator}".rstrip()
    columns = (
        f"{told['name']:<40}",
        f"{told['type']:<6}",
        f"{state:<6}",
        f"{record.age:>8.0f} s old",
        f"TTL {record.ttl:<6}",
        said,
    )
    return " ".join(columns)


async def flush(url: str, name: str | None, *, subtree: bool) -> None:
    """Delete the records for a name, for it and all below it, or all."""
    zone = _zone(name)
    async with _opened(url) as store:
        keys = await contents.keys_at(store, zone, below=subtree or name is None)
        print(f"{await store.remove(list(keys))} answers deleted")


async def export(url: str) -> None:
    """Print every record as a line of JSON."""
    async with _opened(url) as store:
        async for record in store.records():
            print(json.dumps(to_json(record, time.time())))


async def load(url: str, lines: Iterable[str]) -> None:
    """Take in lines that `export` has printed; newer records stay."""
    count = 0
    batch: list[Record] = []
    async with _opened(url, new=True) as store:
        for number, line in enumerate(lines, 1):
            try:
                record = from_json(json.loads(line), time.time())
                reply_of(record)
            except (BadReply, ValueError, RecursionError) as error:
                raise ConfigurationError(f"line {number}: {error}") from None
            batch.append(record)
            if len(batch) == BATCH:
                await store.write(batch)
                count, batch = count + len(batch), []
        await store.write(batch)
        print(f"{count + len(batch)} answers read")
