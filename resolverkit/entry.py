"""What memory keeps of an answer: as few objects and bytes as do.

Nearly all entries are alike: the data that one upstream gave at once. Of those an entry
keeps the message and, packed before it, when it was learnt and how long that took; the
reply is made again for who wants to look at it. Whatever an entry has beyond that
(aliases, other attempts, a denial, failed refreshes) stands in a `More` beside it.

A newer reply has an entry of its own: what an entry says never changes, but for what
becomes of it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from resolverkit import policy, wire
from resolverkit.model import Kind, Outcome, PlainReply, plain_reply

if TYPE_CHECKING:
    import dns.message

    from resolverkit.answer import Answer
    from resolverkit.model import Attempt, Endpoint, Question, Reply
    from resolverkit.policy import StalePolicy

ENTRY_COST = 270
"""Bytes of an entry beside its key and message, its place in a dict included."""
HIT_COST = 270
"""Bytes of the Answer that hits share, and of the place by which they find it."""

_MORE_COST, _ATTEMPT_COST, _ALIAS_COST, _LABELS_COST = 320, 200, 60, 350
_KEPT_ATTEMPTS = 8  # of those that failed since an entry was learnt

_head = struct.Struct("=dddiB")  # learnt, started, elapsed, TTL, octets of the name
_pack, _unpack, _HEAD = _head.pack, _head.unpack_from, _head.size
_learnt = struct.Struct("=d").unpack_from

_new = object.__new__
_DATA = Kind.DATA  # attributes of an enum are slow to look up on Python 3.11
_SAID_DATA = Outcome.DATA
_UNTIL_REFRESH = 1 - policy.REFRESH_AHEAD  # share of a TTL
_NEVER, _EVER = float("-inf"), float("inf")


class More:
    """What most entries do without."""

    __slots__ = ("aged_at", "denied_at", "failed_at", "labels", "reply", "since")

    def __init__(self, reply: Reply | None) -> None:
        self.reply: Reply | None = reply  # where it is more than an entry packs
        self.labels: tuple[bytes, ...] | None = None
        self.since: tuple[Attempt, ...] = ()
        self.failed_at: float | None = None
        self.denied_at: float | None = None
        self.aged_at: float = _EVER

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        size, reply = _MORE_COST + _ATTEMPT_COST * len(self.since), self.reply
        if self.labels is not None:
            size += _LABELS_COST
        if reply is not None:
            size += len(reply.wire) + _ATTEMPT_COST * len(reply.attempts)
            size += _ALIAS_COST * len(reply.aliases)
        return size


class Entry:
    """A reply and when it was learnt (on the cache's clock).

    Attributes:
        key: of its question.
        more: what most entries do without.
        packed: the message, with dates and numbers before it.
        answer: the Answer that its hits share, once there was one.
        refresh_at: when it is to be refreshed; in the past for what counts no more.
        text: what hits by a text find it by, once there was one.
        used: it was asked for since the memory last passed over it.
    """

    __slots__ = (
        "_who", "answer", "key", "more", "packed", "refresh_at", "text", "used",
    )  # fmt: skip

    def __init__(
        self, question: Question, reply: Reply | PlainReply, now: float
    ) -> None:
        self.key: bytes = question.key
        self.answer: Answer | None = None
        self.text: str | None = None
        self.used: bool = False
        self.more: More | None = None
        if isinstance(reply, PlainReply):
            reply = reply.reply()
        ttl = self._take(reply, now, question.end - 16)
        self.refresh_at: float = now + ttl * _UNTIL_REFRESH

    def _take(self, reply: Reply, now: float, size: int) -> int:
        """Keep what a reply of any kind says; gives its TTL."""
        ttl = int(reply.ttl)  # a user's own upstream may have made a float of it
        if reply.kind is not _DATA and reply.denial and not reply.soa:
            ttl = reply.ttl = int(policy.LAME_TTL)
        winner = reply.winner
        if winner is not None and _is_plain(reply, winner):
            self._who: Endpoint | None = winner.endpoint
            head = _pack(now, winner.started, winner.elapsed, ttl, size)
            self.packed: bytes = head + reply.wire
        else:
            self._who = None
            self.more = More(reply)
            self.packed = _pack(now, 0.0, 0.0, ttl, size)
        return ttl

    @property
    def question(self) -> Question:
        """What it answers; made anew, for it is asked for seldom."""
        return wire.question_of(self.key)

    @property
    def name_size(self) -> int:
        """Octets of that name."""
        return self.packed[_HEAD - 1]

    @property
    def name(self) -> bytes:
        """The lower-cased wire name of the question."""
        return self.key[: self.packed[_HEAD - 1]]

    @property
    def rdtype(self) -> int:
        """The type asked for."""
        at = self.packed[_HEAD - 1]
        return self.key[at] << 8 | self.key[at + 1]

    @property
    def kind(self) -> Kind:
        """What the reply says."""
        more = self.more
        return _DATA if more is None or more.reply is None else more.reply.kind

    @property
    def learnt(self) -> float:
        """When the reply came, on the cache's clock."""
        learnt: float = _learnt(self.packed)[0]
        return learnt

    @property
    def ttl(self) -> int:
        """Seconds it may be called fresh."""
        ttl: int = _unpack(self.packed)[3]
        return ttl

    @property
    def expires(self) -> float:
        """When it is fresh no more, on the cache's clock."""
        learnt, _, _, ttl, _ = _unpack(self.packed)
        expires: float = learnt + ttl
        return expires if self.more is None else min(expires, self.more.aged_at)

    @property
    def reply(self) -> Reply:
        """The reply; of what is packed, an equal one each time."""
        if self._who is None:
            assert self.more is not None
            assert self.more.reply is not None
            return self.more.reply
        _, started, elapsed, ttl, size = _unpack(self.packed)
        data = self.packed[_HEAD:]
        return plain_reply(data, ttl, size, self._who, started, elapsed).reply()

    @property
    def plain(self) -> bytes | None:
        """The message, where it is data at the name asked for; None for all others."""
        return None if self._who is None else self.packed[_HEAD:]

    @property
    def message(self) -> dns.message.QueryMessage | None:
        """The parse by dnspython, where one was needed to judge the reply."""
        reply = None if self.more is None else self.more.reply
        return None if reply is None else reply.message

    def forget_parsed(self) -> None:
        """Let go of what was parsed; who has an Answer keeps it."""
        self.answer = None
        if self.message is not None:
            self.reply.message = None

    @property
    def labels(self) -> tuple[bytes, ...] | None:
        """What hits by a Name find it by."""
        return None if self.more is None else self.more.labels

    @labels.setter
    def labels(self, labels: tuple[bytes, ...] | None) -> None:
        if self.more is None:
            self.more = More(None)
        self.more.labels = labels

    @property
    def size(self) -> int:
        """Bytes that it is charged with."""
        size = ENTRY_COST + len(self.key) + len(self.packed)
        if self.more is not None:
            size += self.more.size
        return size if self.text is None else size + HIT_COST

    # --- what becomes of it ----------------------------------------------------------

    @property
    def since(self) -> tuple[Attempt, ...]:
        """Attempts that have failed since it was learnt."""
        return () if self.more is None else self.more.since

    @property
    def failed_at(self) -> float | None:
        """When its last refresh failed, on the cache's clock."""
        return None if self.more is None else self.more.failed_at

    @property
    def denied_at(self) -> float | None:
        """Since when upstreams have denied it, on the cache's clock."""
        return None if self.more is None else self.more.denied_at

    def failed(self, now: float | None, attempts: tuple[Attempt, ...]) -> None:
        """A refresh failed; `now` is None where that was this machine's fault."""
        if self.more is None:
            self.more = More(None)
        more = self.more
        more.failed_at = more.failed_at if now is None else now
        more.since = (*more.since, *attempts)[-_KEPT_ATTEMPTS:]

    def deny(self, now: float, attempts: tuple[Attempt, ...] = ()) -> None:
        """Upstreams deny it: it counts no more, but for those who hold on to it."""
        self.failed(now, attempts)
        assert self.more is not None
        if self.more.denied_at is None:
            self.more.denied_at = now
        self.refresh_at = _NEVER

    def age(self, now: float) -> None:
        """It counts as expired from `now` on, if it did not before."""
        if self.more is None:
            self.more = More(None)
        self.more.aged_at = min(self.more.aged_at, now)
        self.refresh_at = _NEVER  # for who has it at hand

    def forget_failures(self) -> None:
        """Let go of attempts that have failed, and of all that was kept for them."""
        more = self.more
        if more is None:
            return
        more.since, more.failed_at = (), None
        others = (more.reply, more.labels, more.denied_at)
        if more.aged_at == _EVER and others == (None, None, None):
            self.more = None

    def forgive(self) -> None:
        """An upstream has said the same again: what failed since is over."""
        more = self.more
        if more is not None:
            more.since, more.failed_at, more.denied_at = (), None, None

    def held(self, now: float, stale: StalePolicy) -> bool:
        """Whether it may be served although upstreams deny it."""
        denied_at = self.denied_at
        return (
            denied_at is not None
            and stale.on_denial == "hold"
            and now < denied_at + stale.hold
            and self.usable(now, stale)
        )

    def usable(self, now: float, stale: StalePolicy) -> bool:
        """Whether it may be served, stale or fresh."""
        if self._who is None and self.reply.denial and not self.reply.soa:
            return now < self.expires
        return now < self.expires + stale.max_stale


def new_entry(key: bytes, reply: PlainReply, now: float) -> Entry:
    """The entry of a plain reply; as `Entry.__init__` makes it, and cheaper."""
    entry = _new(Entry)
    ttl = reply.ttl
    entry.key = key
    entry.answer = entry.text = entry.more = None
    entry.used = False
    entry._who = reply.endpoint
    head = _pack(now, reply.started, reply.elapsed, ttl, reply.name_size)
    entry.packed = head + reply.wire
    entry.refresh_at = now + ttl * _UNTIL_REFRESH
    return entry


def _is_plain(reply: Reply, winner: Attempt) -> bool:
    """Whether `Entry.reply` can make it again from its message and first attempt."""
    return (
        reply.plain
        and reply._attempts is None
        and not reply.disputed
        and winner.sends == 1
        and winner.rcode == 0
        and winner.outcome is _SAID_DATA
        and not winner.dropped
        and not winner.detail
        and not hasattr(reply, "_quorum")
    )
