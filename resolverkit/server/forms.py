"""Plain queries and plain replies, by slices.

Pure. Nearly all queries differ in id and name alone: what else is in them (flags, type,
EDNS) is one of a few forms. The first query of a form is read in full, as all others
are by `query.read_query`; for the next of the same, a look into a dict tells what that
would say. Nearly all replies to those are addresses at the name asked for and nothing
else: of their messages id, flags, question and OPT are made anew, and the records are
sent as they came. What is told is what `reply.fresh` would say, or nothing.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from resolverkit import wire
from resolverkit.server.query import ANY, Over, opt
from resolverkit.wire import MAX_TTL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolverkit.server.query import Query

MAX_FORMS = 1024
"""Forms that are remembered; one more, and all are forgotten."""

_OPT_SIZE = 11
_SIZES = {1: 4, 28: 16}  # octets of an address, by type


class Form:
    """What plain queries have in common that differ in id and name alone.

    Attributes:
        mould: of the questions that they ask.
    """

    __slots__ = (
        "_counts",
        "_first",
        "_heads",
        "_limit",
        "_step",
        "_tail",
        "_ttls",
        "mould",
    )

    def __init__(self, query: Query) -> None:
        self._first = query
        self.mould: wire.Mould = wire.mould(query.rdtype, 1, query.do, query.cd)
        flags = 0x80 | query.cd << 4
        self._heads = tuple(
            [
                bytes((0x81, flags | (ad and query.wants_ad) << 5, 0, 1))
                for ad in (False, True)
            ]
        )
        self._counts = bytes((0, 0, 0, query.edns))
        self._tail = opt(0, do=query.do, options=b"") if query.edns else b""
        self._limit = query.limit(Over.UDP)
        size = _SIZES.get(query.rdtype, 0)
        self._step = 12 + size
        self._ttls: Callable[[bytes], Iterator[tuple[int]]] = struct.Struct(
            f"!6xI{2 + size}x"
        ).iter_unpack

    def query(self, data: bytes, end: int) -> Query:
        """What a query of this form says.

        Args:
            data: the message.
            end: where its question section ends.
        """
        return self._first._replace(data=data, end=end, name=data[12 : end - 4].lower())

    def reply(self, data: bytes, end: int, message: bytes, ttl: int) -> bytes | None:
        """The reply from an upstream's message that has just come.

        Args:
            data: the query.
            end: where its question section ends.
            message: an `Entry.plain` for its question.
            ttl: seconds that it may be called fresh.

        Returns:
            What `reply.fresh` would say; None where that has to: TTLs are to be set, or
            it may be too long.
        """
        count = message[7]
        last = end + self._step * count
        if count == 1:
            if message[end + 6 : end + 10] != ttl.to_bytes(4, "big"):
                return None
        else:
            ttls = [told for (told,) in self._ttls(message[end:last])]
            if min(ttls) != ttl or max(ttls) > MAX_TTL:
                return None
        reply = b"".join((
            data[:2],
            self._heads[message[3] >> 5 & 1],
            message[6:8],
            self._counts,
            data[12:end],
            message[end:last],
            self._tail,
        ))  # fmt: skip
        return reply if len(reply) <= self._limit else None


def find(forms: dict[bytes, Form], data: bytes) -> tuple[Form, int] | None:
    """The form of a message, if it is known, and where its question section ends.

    Args:
        forms: by what is not name or id.
        data: the message.
    """
    end = 12
    try:  # as `query._skip_name`, without the call
        while length := data[end]:
            if length > 63:
                return None
            end += 1 + length
    except IndexError:
        return None
    form = forms.get(data[2:12] + data[end + 1 :])
    return None if form is None or end > 266 else (form, end + 5)


def learn(forms: dict[bytes, Form], query: Query) -> None:
    """Remember the form of a query that was read, if others may have the same.

    Args:
        forms: by what is not name or id.
        query: what was read.
    """
    tail = query.data[query.end :]
    if not query.plain or not query.rd or query.rdtype == ANY:
        return
    if query.edns and (len(tail) != _OPT_SIZE or tail[0]):
        return  # the root by a pointer, which depends on the name
    if len(forms) >= MAX_FORMS:
        forms.clear()
    forms[query.data[2:12] + query.data[query.end - 4 :]] = Form(query)
