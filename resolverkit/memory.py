"""What is remembered of replies: positive entries, denials, failures.

No loop and no upstream here: `resolverkit.cache` fills it. Positive entries, denials
and failures have separate byte bounds, so that a flood of random names cannot push out
the last known good. Positive entries live in a dict with second chances (an entry that
was read since it was last passed over stays): a hit sets one flag. Denials and failures
live in LRUs. `resolverkit.entry` has what one of them takes.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

from resolverkit import policy, wire
from resolverkit.entry import ENTRY_COST, Entry, new_entry
from resolverkit.errors import UpstreamError
from resolverkit.model import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from resolverkit.answer import Answer
    from resolverkit.model import Attempt, PlainReply, Question, Reply
    from resolverkit.policy import StalePolicy
    from resolverkit.record import Record

MAX_BYTES = 64 * 1024 * 1024
"""Bytes for positive entries, by default."""
DENIAL_SHARE, FAILURE_SHARE = 8, 32
"""Denials get an eighth of that again, failures a thirty-second."""

PARSED_SHARE = 16
"""What was parsed of answers lately gets a sixteenth of the bytes, and is forgotten
first: to parse them again costs some µs, and to ask again far more."""

_FAILURE_COST = 600
_LRU_COST = 250  # of a place in an LRU of cachetools, beside what a dict takes
_MESSAGE_COST = 4000  # of dnspython's, beside four times its octets
_SAME = 1.0  # seconds: dates in stores are rounded, and their clocks differ a bit
_ADDRESSES = (1, 28)
_CNAME = 5
_ANY_TYPE = b"\0\0"
_DATA = Kind.DATA  # attributes of an enum are slow to look up on Python 3.11


class Failure:
    """A key for which every vantage that was asked failed."""

    __slots__ = ("attempts", "since", "stale", "text", "ttl", "until")

    def __init__(
        self, error: UpstreamError, now: float, ttl: float, *, stale: bool
    ) -> None:
        self.text: str = str(error)  # and not the error: its traceback holds frames
        self.attempts: tuple[Attempt, ...] = error.attempts
        self.stale: bool = stale  # there was something to serve in place of an answer
        self.since: float = now
        self.ttl: float = ttl
        self.until: float = now + ttl

    def again(self, now: float) -> UpstreamError:
        """The error for one more caller."""
        left = self.until - now
        text = f"{self.text} (not asked again for {left:.1f} s)"
        return UpstreamError(text, self.attempts)


class Memory:
    """Replies and failures, by question.

    Args:
        clock: seconds, counting suspend where the system can.
        stale: how long an entry counts as last known good.
        max_bytes: bound for positive entries; 0 keeps nothing.

    Attributes:
        hot: entries by type and name as callers write them, for hits; who forgets an
            entry takes it from there.
        parsed: called with an Answer that was read and the bytes which that took.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        stale: StalePolicy,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.clock = clock
        self.stale = stale
        self.evictions: int = 0
        # Of positive entries: what was read of them may be void.
        self.changes: int = 0
        self.hot: dict[Any, dict[Any, Entry]] = {}
        self.parsed: Callable[[Answer, int], None] = self.charge
        self._parsed: deque[tuple[Entry, int]] = deque()
        self._parsed_bytes = 0
        # Those with attempts that have failed since, the first of them first.
        self._told: OrderedDict[Entry, None] = OrderedDict()
        self._positive: dict[bytes, Entry] = {}
        self._bytes = 0
        self._other_types: dict[bytes, set[int]] = {}
        self._siblings: LRUCache[bytes, dict[bytes, float]] = LRUCache(1024)
        self._elsewhere: dict[bytes, float] = {}  # until when, by view
        self.resize(max_bytes)

    def resize(self, max_bytes: int) -> None:
        """Set the bounds; what does not fit any more is evicted."""
        self.max_bytes = max_bytes
        old = [*getattr(self, "_denials", {}).values()]
        # Whether there may be any: to ask the LRUs takes several calls.
        self._denies = self._has_failed = False
        self._denials: LRUCache[bytes, Entry] = LRUCache(
            max_bytes // DENIAL_SHARE, getsizeof=_size
        )
        self._failures: LRUCache[bytes, Failure] = LRUCache(
            max(max_bytes // FAILURE_SHARE, 64 * _FAILURE_COST),
            getsizeof=lambda _: _FAILURE_COST,
        )
        for entry in old:
            self._keep(entry, entry.question)
        self._forget_parsed(max_bytes // PARSED_SHARE)
        self._shrink()

    @property
    def size(self) -> int:
        """What the positive entries are charged with."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._positive) + len(self._denials)

    def entries(self) -> Iterator[Entry]:
        """Every entry, fresh or not."""
        yield from list(self._positive.values())
        yield from list(self._denials.values())

    def find(self, question: Question) -> Entry | None:
        """The entry for a question, fresh or not."""
        entry = self._positive.get(question.key)
        if entry is not None and entry.denied_at is None:
            entry.used = True
            return entry
        if not self._denies:
            return None
        denials = self._denials
        nodata = denials.get(question.key)
        nxdomain = denials.get(_nxdomain_key(question))
        if nodata is None or nxdomain is None:
            return nodata or nxdomain
        return nodata if nodata.learnt > nxdomain.learnt else nxdomain

    def failure(self, question: Question) -> Failure | None:
        """How a question has failed lately, if it has."""
        return self._failures.get(question.key) if self._has_failed else None

    def held(self, question: Question, now: float, stale: StalePolicy) -> Entry | None:
        """The entry that is denied now, and which `stale` says to hold on to."""
        entry = self._positive.get(question.key)
        if entry is None or not entry.held(now, stale):
            return None
        entry.used = True
        return entry

    def drop(self, entry: Entry) -> None:
        """Forget an entry."""
        key = entry.key
        if self._positive.get(key) is entry:
            self._remove(key, entry)
        for denied in (key, _nxdomain_key(entry.question)):
            if self._denials.get(denied) is entry:
                del self._denials[denied]

    def clear(self) -> None:
        """Forget every entry and every failure; flights go on."""
        for entry in self.entries():
            self.drop(entry)
        self._denies = False
        self._forget_parsed(0)
        self.forget_failures()

    def forget_failures(self) -> None:
        """The network or the upstreams changed: failures say nothing now."""
        self._failures.clear()
        self._has_failed = False
        self._siblings.clear()

    def recovered(self) -> None:
        """An upstream is back: names that nothing could be served for are tried again.

        Those with stale data keep to the failure recheck timer. An upstream that is
        silent about a dead zone goes up and down with every other name that it is
        asked for, and each time all names of that zone would be asked for again.
        """
        failures = self._failures
        for key in [key for key in failures if not failures[key].stale]:
            del failures[key]
        self._siblings.clear()

    def moved(self, views: Collection[bytes]) -> None:
        """Others are asked in these views, as on another network.

        What was learnt before is last known good, and fresh no more: names may mean
        something else to those who are asked now.
        """
        now = self.clock()
        self.changes += 1
        self._elsewhere |= dict.fromkeys(views, now)
        for entry in self.entries():
            if wire.view_of(entry.key) in views:
                size = entry.size
                entry.age(now)
                self._resized(entry, size)
        self.forget_failures()

    def charge(self, answer: Answer, cost: int) -> None:
        """An answer was read: count the bytes that this takes if hits share it."""
        entry = answer.entry
        if entry.answer is answer:
            self._note_parsed(entry, cost)

    def _note_parsed(self, entry: Entry, cost: int) -> None:
        self._parsed.append((entry, cost))
        self._parsed_bytes += cost
        self._bytes += cost
        self._forget_parsed(self.max_bytes // PARSED_SHARE)
        if self._bytes > self.max_bytes:
            self._shrink()

    def _forget_parsed(self, limit: int) -> None:
        """Have the next hits parse again what was parsed first; callers keep theirs."""
        while self._parsed_bytes > limit:
            entry, cost = self._parsed.popleft()
            entry.forget_parsed()
            self._parsed_bytes -= cost
            self._bytes -= cost

    def remember(self, entry: Entry, table: dict[Any, Entry], key: Any) -> None:
        """Have hits find an entry in a table of `hot`: by one text and one Name."""
        if self._positive.get(entry.key) is not entry:
            return
        size = entry.size
        if isinstance(key, str):
            if entry.text is not None and table.get(entry.text) is entry:
                return
            entry.text = key
        else:
            if entry.labels is not None and table.get(entry.labels) is entry:
                return
            entry.labels = key
        table[key] = entry
        self._bytes += entry.size - size

    def failed(
        self, entry: Entry, now: float | None, attempts: tuple[Attempt, ...]
    ) -> None:
        """A refresh of an entry failed; see `Entry.failed`."""
        size = entry.size
        entry.failed(now, attempts)
        self._resized(entry, size)
        self._note_told(entry)

    def _note_told(self, entry: Entry) -> None:
        """It has attempts to tell of that failed, which may be forgotten before it."""
        if self._positive.get(entry.key) is entry:
            self._told[entry] = None

    def _resized(self, entry: Entry, size: int) -> None:
        """An entry had that many bytes until now."""
        if self._positive.get(entry.key) is entry:
            self._bytes += entry.size - size

    def learn_plain(self, question: Question, reply: PlainReply, now: float) -> Entry:
        """`learn` for what nearly every reply is; it says nothing of other entries."""
        key = question.key
        if not reply.ttl:
            return self.learn(question, reply.reply(), now)
        if self._has_failed:
            self._forgive(question)
        if self._denies:
            self._denials.pop(key, None)
            self._denials.pop(_nxdomain_key(question), None)
        old = self._positive.get(key)
        if old is not None:
            self._remove(key, old)
        self._positive[key] = entry = new_entry(key, reply, now)
        self._bytes += ENTRY_COST + len(key) + len(entry.packed)  # its `size`
        if self._bytes > self.max_bytes:
            self._shrink()
        return entry

    def _forgive(self, question: Question) -> None:
        """It does not fail any more, nor do names beside it for all we know."""
        self._failures.pop(question.key, None)
        self._siblings.pop(wire.parent(question.wire_name), None)

    def learn(self, question: Question, reply: Reply, now: float) -> Entry:
        """Take in what a reply says, of its own question and of others.

        Returns:
            The entry for it, kept or not.
        """
        key, kind = question.key, reply.kind
        if self._has_failed:
            self._forgive(question)
        if kind is Kind.YXDOMAIN:  # neither data nor denial: RFC 8767 section 4
            return Entry(question, reply, now)
        entry = self._positive.get(key)
        if entry is None:
            entry = Entry(question, reply, now)
            if reply.ttl:  # TTL 0 is for this question only
                self._keep(entry, question)
        elif kind is _DATA and reply.ttl:
            self._remove(key, entry)
            entry = Entry(question, reply, now)
            self._keep(entry, question)
        elif kind is _DATA:
            # A vantage that counts its TTL down says 0 for a second: the answer is for
            # this question only, and the last known good is still the one before it.
            size = entry.size
            entry.forgive()
            self._resized(entry, size)
            entry = Entry(question, reply, now)
        else:
            self._retire(key, entry, reply, now)
            entry = Entry(question, reply, now)
            if reply.ttl:
                self._keep(entry, question)
        name = question.wire_name
        if kind is _DATA and reply.final == name and question.rdtype != _CNAME:
            return entry  # it says nothing of other entries
        if reply.soa or not reply.denial or is_chosen_block(reply):
            if reply.kind is Kind.DATA or reply.final != name:  # RFC 8767 section 7
                for owner in reply.aliases or (name,):
                    self._evict_direct(owner, question)
            if reply.kind is Kind.NXDOMAIN:
                for denied in self._keys_at(reply.final, question):
                    other = self._positive.get(denied)
                    if other is not None and denied != key:
                        self._retire(denied, other, reply, now)
        return entry

    def adopt(self, record: Record, reply: Reply, now: float) -> Entry | None:
        """Take in what a store had, unless memory knows better.

        Args:
            record: as it came from the store.
            reply: what it holds, checked.
            now: the time.

        Returns:
            The entry for it, or the newer one that was there; None where newer data
            of other types shows that it is void.
        """
        question = wire.question_of(record.key)
        there = self._positive.get(record.key)
        entry = Entry(question, reply, now - record.age)
        if there is not None and there.learnt + _SAME >= entry.learnt:
            return there
        if reply.final == question.wire_name and self._is_alias_since(entry):
            return None  # RFC 8767 section 7
        moved = self._elsewhere.get(wire.view_of(record.key))
        if moved is not None and entry.learnt < moved:
            entry.age(moved)
        denial = self.find(question) if there is None else None
        if record.denied is not None:
            entry.deny(now - record.denied)
        elif denial is not None and denial.reply.soa and denial.learnt > entry.learnt:
            entry.deny(denial.learnt)
        self._keep(entry, question)
        return entry

    def _is_alias_since(self, entry: Entry) -> bool:
        """Whether the name of `entry` has become an alias after it was learnt."""
        question = entry.question
        for key in self._keys_at(question.wire_name, question):
            other = self._positive.get(key)
            if (
                other is not None
                and other.learnt > entry.learnt
                and other.reply.aliases
            ):
                return True
        return False

    def note_failure(
        self,
        key: bytes,
        question: Question,
        error: UpstreamError,
        now: float,
        *,
        stale: bool,
    ) -> None:
        """Every vantage failed: the key is not to be asked for again for a while.

        Args:
            key: of the flight that failed.
            question: what it was for.
            error: what is told to those who ask meanwhile.
            now: the time.
            stale: there is something to serve meanwhile.
        """
        last = self._failures.get(key)
        previous = last.ttl if last and now < last.until + last.ttl else 0.0
        ttl = policy.failure_ttl(previous, stale=stale)
        self._has_failed = True
        self._failures[key] = Failure(error, now, ttl, stale=stale)
        self._note_sibling(question, now)

    def contradicts(self, question: Question, denial: Reply, now: float) -> bool:
        """Whether a positive entry says otherwise: NXDOMAIN speaks of every type."""
        if not question.cacheable:
            return False
        entries = map(self._positive.get, self.denied_keys(question, denial))
        return any(
            entry and entry.denied_at is None and entry.usable(now, self.stale)
            for entry in entries
        )

    def denied_keys(self, question: Question, denial: Reply) -> list[bytes]:
        """The keys of which a denial speaks, as far as they can be known."""
        keys = [question.key]
        if denial.kind is Kind.NXDOMAIN:
            keys += self._keys_at(denial.final, question)
        return keys

    def _keep(self, entry: Entry, question: Question) -> None:
        key = question.key
        if entry.kind is _DATA:
            if self._denies and entry.denied_at is None:
                self._denials.pop(key, None)
                self._denials.pop(_nxdomain_key(question), None)
            old = self._positive.setdefault(key, entry)
            if old is not entry:
                self._remove(key, old)
                self._positive[key] = entry
            if question.rdtype not in _ADDRESSES:
                name = _name_key(question)
                self._other_types.setdefault(name, set()).add(question.rdtype)
            self._count(entry)
            return
        self._note_message(entry)
        other, reply = _nxdomain_key(question), entry.reply
        if reply.kind is Kind.NXDOMAIN and reply.final == question.wire_name:
            key, other = other, key
        self._denials.pop(other, None)  # the newer word on the name
        if _size(entry) <= self._denials.maxsize:
            self._denies = True
            self._denials[key] = entry

    def _count(self, entry: Entry) -> None:
        """Count the bytes of a positive entry that has come."""
        self._note_message(entry)
        self._bytes += entry.size
        if self._bytes > self.max_bytes:
            self._shrink()

    def _note_message(self, entry: Entry) -> None:
        if entry.message is not None:
            self._note_parsed(entry, _MESSAGE_COST + 4 * len(entry.reply.wire))

    def _shrink(self) -> None:
        """Evict what was not read since it was last passed over, until it fits.

        A hundredth more goes than must, in one pass: to find the first key of a dict
        whose front was deleted costs as much as all that was deleted.
        """
        while self._bytes > self.max_bytes and self._told:
            # In an outage each answer gets some: they are worth less than one of them.
            told, _ = self._told.popitem(last=False)
            size = told.size
            told.forget_failures()
            self._bytes += told.size - size
        while self._bytes > self.max_bytes and self._positive:
            excess = self._bytes - self.max_bytes * 99 // 100
            victims, spared = [], []
            for key, entry in self._positive.items():
                if excess <= 0:
                    break
                if entry.used:  # a second chance, at the back of the queue
                    spared.append((key, entry))
                else:
                    victims.append((key, entry))
                    excess -= entry.size
            for key, entry in spared:
                entry.used = False
                del self._positive[key]
                self._positive[key] = entry
            for key, entry in victims:
                self._remove(key, entry)
            self.evictions += len(victims)

    def _remove(self, key: bytes, entry: Entry) -> None:
        del self._positive[key]
        self.changes += 1
        self._told.pop(entry, None)
        self._bytes -= entry.size
        entry.refresh_at = float("-inf")  # for who still has it at hand
        rdtype = entry.rdtype
        table = self.hot.get(rdtype, {})
        for known in (entry.text, entry.labels):
            if known is not None and table.get(known) is entry:
                del table[known]
        if rdtype not in _ADDRESSES:
            question = entry.question
            name = _name_key(question)
            types = self._other_types.get(name, set())
            types.discard(question.rdtype)
            if not types:
                self._other_types.pop(name, None)

    def _retire(self, key: bytes, entry: Entry, reply: Reply, now: float) -> None:
        """A positive entry is not true any more; those who hold on may need it."""
        gone = not reply.denial or is_chosen_block(reply)
        since = now if entry.denied_at is None else entry.denied_at
        if gone or now - since > policy.MAX_STALE_LIMIT:
            self._remove(key, entry)
        else:
            self.changes += 1
            size = entry.size
            entry.deny(now, reply.attempts)
            self._resized(entry, size)
            self._note_told(entry)

    def _evict_direct(self, name: bytes, question: Question) -> None:
        """Drop positive entries with direct data at `name`, which is an alias now."""
        for key in self._keys_at(name, question):
            entry = self._positive.get(key)
            if entry is None or entry.reply.final != name:
                continue
            if entry.rdtype != _CNAME:  # the CNAME itself
                self._remove(key, entry)

    def _keys_at(self, name: bytes, question: Question) -> list[bytes]:
        """The keys that positive entries at `name` may have, in that view."""
        rest = _rest_key(question)
        others = self._other_types.get(name + rest, ())
        return [
            name + rdtype.to_bytes(2, "big") + rest for rdtype in (*_ADDRESSES, *others)
        ]

    # --- siblings --------------------------------------------------------------------

    def _note_sibling(self, question: Question, now: float) -> None:
        name = question.wire_name
        parent = wire.parent(name)
        if len(parent) > 1 and len(wire.parent(parent)) > 1:  # at least two labels
            failed = self._siblings.setdefault(parent, {})
            failed.pop(name, None)  # the latest come last
            failed[name] = now
            if len(failed) > 4:  # two are enough
                del failed[next(iter(failed))]

    def _siblings_fail(self, question: Question, now: float) -> bool:
        name = question.wire_name
        failed = self._siblings.get(wire.parent(name), {})
        recent = [
            other
            for other, when in failed.items()
            if other != name and now - when < policy.SIBLING_WINDOW
        ]
        return len(recent) >= 2


def _size(denial: Entry) -> int:
    return denial.size + _LRU_COST


def _rest_key(question: Question) -> bytes:
    """Class, flags and view: the key without name and type."""
    return question.key[len(question.wire_name) + 2 :]


def _name_key(question: Question) -> bytes:
    return question.wire_name + _rest_key(question)


def _nxdomain_key(question: Question) -> bytes:
    """RFC 2308 section 5: NXDOMAIN goes by name and class, whatever the type."""
    return question.wire_name + _ANY_TYPE + _rest_key(question)


def is_chosen_block(reply: Reply) -> bool:
    """Whether it is a block that was chosen: groups let no other through."""
    return reply.winner is not None and policy.is_block(reply, reply.winner.endpoint)
