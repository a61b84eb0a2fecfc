"""Records as text, for people: JSON, checked when it is read.

Pure. Apart from `record`, which loads with the package: only those who keep a store
need JSON.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import dns.rdataclass
import dns.rdatatype

from resolverkit import wire
from resolverkit.record import Record, Said, aged, check_key

_FOREVER = 2**53  # seconds: what a float tells apart


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
            _said(who) if who else Said(),
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


def _said(who: Any) -> Said:
    *told, elapsed = [who[field] for field in Said._fields]
    return Said(*who_from(told), _number(elapsed, float))


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
