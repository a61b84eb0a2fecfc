"""What a store keeps of an answer, outside the process: the last known good.

Pure. A store deals in ages, not in dates, so that each can keep time by its own clock
(the system's, a server's). What comes out of a store is checked like bytes from the
network: `reply_of` scans the message again, and `from_json` refuses what is no record.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import dns.rdataclass
import dns.rdatatype

from resolverkit import wire
from resolverkit.model import Attempt, Endpoint, Kind, Outcome

if TYPE_CHECKING:
    from resolverkit.model import Reply

MAX_KEY = 1024
"""Bytes that a key may have: a name, ten more, and a view (which has a name in it)."""


_FOREVER = 2**53  # seconds: what a float tells apart


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


def reply_of(record: Record) -> Reply:
    """The reply in a record, scanned as if it came from the network.

    Raises:
        BadReply: it is not one, or not to this question, or no data.
        ValueError: the key is none.
    """
    check_key(record.key)
    reply = wire.read_reply(wire.question_of(record.key), record.wire)
    if reply.kind is not Kind.DATA:
        raise ValueError(f"a record of {reply.kind.name}, not of data")
    reply.ttl = min(reply.ttl, max(record.ttl, 0))
    reply.disputed = record.disputed
    said = record.said
    if said.upstream:
        endpoint = Endpoint(*said[:5])
        reply.winner = Attempt(
            endpoint, 0.0, said.elapsed, Outcome.DATA, reply.rcode, reply.ede
        )
    return reply


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


def to_json(record: Record, now: float) -> dict[str, Any]:
    """A record as JSON-ready values: what a person wants to read, then the bytes.

    Args:
        record: as of now.
        now: wall time (seconds), for dates that mean something to who reads it later.
    """
    question = wire.question_of(record.key)
    rdclass = dns.rdataclass.RdataClass.make(question.rdclass)
    return {
        "name": str(question.name),
        "type": dns.rdatatype.to_text(dns.rdatatype.RdataType.make(question.rdtype)),
        "class": dns.rdataclass.to_text(rdclass),
        "ttl": record.ttl,
        "learnt": round(now - record.age, 3),
        "denied": None if record.denied is None else round(now - record.denied, 3),
        "disputed": record.disputed,
        "said": record.said._asdict(),
        "key": base64.b64encode(record.key).decode(),
        "wire": base64.b64encode(record.wire).decode(),
    }


def from_json(value: Any, now: float) -> Record:
    """The inverse of `to_json`; `key` and `wire` are what counts.

    Args:
        value: what was read.
        now: wall time (seconds).

    Raises:
        ValueError: it is no record; the message says why.
    """
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one error for all faults
    try:
        key = base64.b64decode(value["key"], validate=True)
        data = base64.b64decode(value["wire"], validate=True)
        denied = value.get("denied")
        who = value.get("said", {})
        ttl = _number(value["ttl"], int)
        record = Record(
            key,
            data,
            ttl,
            aged(_number(value["learnt"], float), ttl, now),
            None if denied is None else max(0.0, now - _number(denied, float)),
            _said([who[field] for field in Said._fields]) if who else Said(),
            bool(value.get("disputed")),
        )
    except KeyError as error:
        raise ValueError(f"{error.args[0]!r} is missing") from None
    except (TypeError, AttributeError, binascii.Error) as error:
        raise ValueError(str(error)) from None
    check_key(key)
    return record


def _number(value: Any, kind: type[Any]) -> Any:
    allowed = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed):
        raise ValueError(f"{value!r} is not a number of seconds")  # noqa: TRY004
    if not 0 <= value < _FOREVER:  # nan, too
        raise ValueError(f"{value!r} is not a number of seconds")
    return kind(value)


def _said(values: Any) -> Said:
    if not isinstance(values, list) or len(values) != len(Said._fields):
        raise ValueError(f"{values!r} does not say who gave the answer")
    return Said(*who_from(values[:5]), _number(values[5], float))


def who_from(values: Any) -> tuple[str, str, str, str, int]:
    """All of a `Said` but the time, from JSON.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(values, list) or len(values) != len(Said._fields) - 1:
        raise ValueError(f"{values!r} does not say who gave the answer")
    upstream, transport, operator, address, port = values
    if not all(isinstance(text, str) for text in values[:4]):
        raise ValueError(f"{values!r} does not say who gave the answer")
    if _number(port, int) > 65535:
        raise ValueError(f"{port!r} is no port")
    return upstream, transport, operator, address, port
