"""What a store keeps of an answer, outside the process: the last known good.

Pure. A store deals in ages, not in dates, so that each can keep time by its own clock
(the system's, a server's). What comes out of a store is checked like bytes from the
network: `reply_of` scans the message again, `record_text` refuses what is no record.
"""

from __future__ import annotations

import functools
from math import inf
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from resolverkit import wire
from resolverkit.model import Attempt, Endpoint, Kind, Outcome

if TYPE_CHECKING:
    from resolverkit.entry import Entry
    from resolverkit.model import Reply

MAX_KEY = 1024
"""Bytes that a key may have: a name, ten more, and a view (which has a name in it)."""


class Said(NamedTuple):
    """Who gave an answer, for its path.

    Attributes:
        upstream: its URL.
        transport: ``"udp"``, ``"tcp"``, ``"dot"``, ``"doh"`` or ``""``.
        operator: who runs it.
        address: where it was.
        port: its port.
        elapsed: seconds that it took.
    """

    upstream: str = ""
    transport: str = ""
    operator: str = ""
    address: str = ""
    port: int = 0
    elapsed: float = 0.0


class Record(NamedTuple):
    """A positive answer, as a store keeps it.

    Attributes:
        key: of its question, see `Question`.
        wire: the reply as received.
        ttl: seconds it may be called fresh.
        age: seconds since it was learnt; never negative.
        denied: seconds since upstreams began to deny it, None where they do not.
        said: who gave it.
        disputed: vantages disagreed on it.
    """

    key: bytes
    wire: bytes
    ttl: int
    age: float
    denied: float | None = None
    said: Said = Said()
    disputed: bool = False


class Denied(NamedTuple):
    """Upstreams now deny what is stored under a key.

    Attributes:
        key: of the question.
        age: seconds since they began to.
    """

    key: bytes
    age: float


Change: TypeAlias = Record | Denied
"""What is written to a store."""


def aged(learnt: float, ttl: int, now: float) -> float:
    """The age of a record on a clock that may have jumped, in seconds.

    A date in the future says nothing of the age; it counts as just past its TTL, so
    that the record is stale and never fresh.
    """
    return now - learnt if learnt <= now else float(ttl)


def record_of(entry: Entry, now: float) -> Record:
    """An entry, as a store keeps it.

    Args:
        entry: of positive data.
        now: the time on the cache's clock, seconds.
    """
    reply, denied, age = entry.reply, entry.denied_at, now - entry.learnt
    return Record(
        entry.key,
        reply.wire,
        reply.ttl,
        max(0.0, age),
        None if denied is None else max(0.0, now - denied),
        said_by(reply.winner),
        reply.disputed,
    )


def reply_of(record: Record) -> Reply:
    """The reply in a record, scanned as if it came from the network.

    Raises:
        BadReply: it is not one, or not to this question, or no data.
        ValueError: the key or another field is none.
    """
    check_key(record.key)
    if not _is_whole(record):
        raise ValueError("a record with fields that are none")
    reply = wire.read_reply(wire.question_of(record.key), record.wire)
    if reply.kind is not Kind.DATA:
        raise ValueError(f"a record of {reply.kind.name}, not of data")
    reply.ttl = min(reply.ttl, max(record.ttl, 0))
    reply.disputed = record.disputed
    said = record.said
    if said.upstream:
        endpoint = _endpoint(*said[:5])
        reply.winner = Attempt(
            endpoint, 0.0, said.elapsed, Outcome.DATA, reply.rcode, reply.ede
        )
    return reply


def _is_whole(record: Record) -> bool:
    """Whether all fields but the key are what they may be, as of a user's own store."""
    _, data, ttl, age, denied, said, _ = record
    return (
        isinstance(data, bytes)
        and isinstance(ttl, int)
        and _is_age(age)
        and (denied is None or _is_age(denied))
        and isinstance(said, Said)
        and all(isinstance(text, str) for text in said[:4])
        and isinstance(said.port, int)
        and _is_age(said.elapsed)
    )


def _is_age(seconds: object) -> bool:
    return isinstance(seconds, int | float) and 0 <= seconds < inf  # nan is not


@functools.lru_cache(maxsize=64)
def _endpoint(name: str, transport: str, operator: str, at: str, port: int) -> Endpoint:
    """One for all answers of a server, of which a store may give thousands."""
    return Endpoint(name, transport, operator, at, port)


def said_by(winner: Attempt | None) -> Said:
    """Who gave a reply, as a record keeps it."""
    if winner is None:
        return Said()
    who = winner.endpoint
    return Said(
        who.name, who.transport, who.operator, who.address, who.port, winner.elapsed
    )


def check_key(key: bytes) -> None:
    """Raise ValueError for bytes that are no question's key."""
    end = 0
    while end < len(key) and key[end]:
        if key[end] > 63:
            raise ValueError("a key with a label over 63 octets")
        end += 1 + key[end]
    if end > 254 or not end + 6 <= len(key) <= MAX_KEY or key[end + 5] > 3:
        raise ValueError("a key that is no question's")
    if key[: end + 1] != key[: end + 1].lower():
        raise ValueError("a key that is not in lower case")
