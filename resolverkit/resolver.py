"""The Resolver: dnspython's face over the cache and the stack."""

from __future__ import annotations

import asyncio
import functools
import math
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import dns.asyncresolver
import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.resolver

from resolverkit import config, errors, special, wire
from resolverkit.answer import Answer, new_answer
from resolverkit.cache import Cache
from resolverkit.cacheview import CacheView
from resolverkit.entry import Entry
from resolverkit.errors import ConfigurationError, UpstreamError
from resolverkit.flight import Call, LifetimeOver, Served, serve
from resolverkit.hooks import Reporter
from resolverkit.memory import MAX_BYTES
from resolverkit.model import AnswerPath, Kind, Question, Source
from resolverkit.policy import NO_STALE, StalePolicy
from resolverkit.stack import ANY_WAY, Stack, View, Way
from resolverkit.system import System, no_servers, read_resolv_conf
from resolverkit.upstream import Store, Upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TextIO

    from dns._asyncbackend import Backend

    from resolverkit.addrinfo import Found
    from resolverkit.config import Spec, Strategy
    from resolverkit.contents import Contents
    from resolverkit.flight import AnyWaiter, Caller
    from resolverkit.hooks import Hook
    from resolverkit.model import Attempt
    from resolverkit.stats import Stats
    from resolverkit.survey import Survey

_IN = dns.rdataclass.IN
_A = dns.rdatatype.A
_ADDRESSES = frozenset({1, 28})
_DATA = Kind.DATA  # attributes of an enum are slow to look up on Python 3.11
_UPSTREAM, _CACHE = Source.UPSTREAM, Source.CACHE
_STALE, _HELD = Source.STALE, Source.HELD
_MAX_SPELLINGS = 256  # of types, in the table of hits
_MAX_CALLS = 256  # that are asked for in different ways
_NEVER = math.inf


def suspend_clock() -> Callable[[], float]:
    """Seconds that go on while the machine sleeps, where the system can tell."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    return time.monotonic


class ClientCall(Call):
    """What clients of the stub server want that ask at about the same time.

    Attributes:
        stack: who is asked.
        started: loop time at which they began.
    """

    stack: Stack
    started: float


class _Call(Call):
    """What was asked for beside a name: one for all calls that ask for the same."""

    rdtype: dns.rdatatype.RdataType
    rdclass: dns.rdataclass.RdataClass
    mould: wire.Mould | None  # None where queries are built by dnspython
    way: Way


class Resolver(dns.asyncresolver.Resolver):
    """An asyncio resolver over several upstreams that serves stale and reports paths.

    Takes the place of `dns.asyncresolver.Resolver`. It belongs to the loop that it is
    first used on; when that loop is closed it moves to the next one with its cache.
    Close it with ``async with`` or `aclose`, or leave it to the end of the loop.

    Args:
        upstreams: who to ask: addresses, URLs, presets, ``"system"``, dnspython's
            name servers, or objects with `Upstream`'s methods; or one Upstream in place
            of the list. Without it, the system's servers. A path or an open file is
            a resolv.conf, as in dnspython.
        configure: read resolv.conf (or the registry) for servers and search list, and
            again when it changes.
        filename: which resolv.conf.
        strategy: ``"hedge"`` asks the next upstream when one is late, ``"race"`` asks
            all at once, ``"failover"`` asks the next when one has failed, ``"quorum"``
            asks until two operators agree.
        stale: when expired data may be served; False for never.
        cache_size: bytes for answers; 0 switches caching off.
        store: where the last known good is kept beyond this process, as a URL
            (``"sqlite:///path"``, ``"redis://host"``) or a `Store`; None for memory
            alone.
        hook: is told of flights, of stale and held answers, of upstreams that go down
            or come back, and of other servers of the system.
        routes: subtrees and the upstreams that alone are asked for them.
        on_block: ``"accept"`` a block by a filtering upstream, or ask the ``"next"``.
        clock: seconds on a clock that never goes back; for tests.

    Raises:
        ConfigurationError: an option or upstream that cannot be used.
        dns.resolver.NoResolverConfiguration: no resolv.conf, and no upstreams.
    """

    def __init__(
        self,
        upstreams: Sequence[Spec]
        | Upstream
        | str
        | os.PathLike[str]
        | TextIO
        | None = None,
        configure: bool = True,
        *,
        filename: str | os.PathLike[str] | TextIO = "/etc/resolv.conf",
        strategy: Strategy = "hedge",
        stale: StalePolicy | bool = True,
        cache_size: int = MAX_BYTES,
        store: str | Store | None = None,
        hook: Hook | None = None,
        routes: Mapping[str, Sequence[Spec]] | None = None,
        on_block: Literal["accept", "next"] = "accept",
        clock: Callable[[], float] | None = None,
    ) -> None:
        config.check_strategy(strategy)
        if on_block not in {"accept", "next"}:
            raise ConfigurationError(
                f"on_block={on_block!r}: allowed are 'accept', 'next'"
            )
        if not isinstance(cache_size, int) or cache_size < 0:
            raise ConfigurationError(
                f"cache_size={cache_size!r}: allowed are bytes >= 0"
            )
        self._clock = clock or suspend_clock()
        self._stale = _stale_policy(stale)
        self._cache_size = cache_size
        behind = None
        if store is not None:
            from resolverkit.behind import Behind

            behind = Behind(config.store_of(store), self._clock)
        self._store = Cache(self._clock, self._stale, cache_size, behind)
        self._reporter = self._store.observer = Reporter(hook, self._path)
        self._hot = self._store.hot  # by type, then by text, or labels
        self._calls: dict[tuple[Any, ...], _Call] = {}  # by what they ask for
        self._stack: Stack | None = None
        self._settings = (strategy, on_block, dict(routes or {}))
        self._look_at = _NEVER  # at what the system says of its servers
        self._check: Callable[[Resolver], object] = Stack.check
        self._is_own: Callable[[str, int], bool] = _never  # where a Server has it
        specs, filename = _sort_out(upstreams, filename)
        self._configure(specs, configure, filename)

    def _configure(
        self,
        specs: list[Spec] | None,
        configure: bool,
        filename: str | os.PathLike[str] | TextIO,
    ) -> None:
        self._system = System(filename)
        try:
            super().__init__(filename, configure)
        except dns.resolver.NoResolverConfiguration as error:
            if specs is None or config.SYSTEM in specs:
                told = f"{error}; name upstreams, or see to {filename}"
                raise no_servers(told) from None
        if configure:
            self._system.gave(self)
            self._look_at = self._system.look_at
        if specs is not None:
            self.nameservers = specs
        Stack.check(self)

    # --- what dnspython lets one set -------------------------------------------------

    def reset(self) -> None:
        """Set all options to dnspython's defaults; caching is on."""
        super().reset()
        self._store.resize(self._cache_size)

    def read_resolv_conf(self, f: Any) -> None:
        """Take over what a resolv.conf says, but for what cannot be used of it.

        Args:
            f: its path, or an open file.

        Raises:
            dns.resolver.NoResolverConfiguration: there is no such file, or it names no
                server that can be asked.
        """
        read_resolv_conf(self, f, super().read_resolv_conf)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in _HIT_OPTIONS:  # what the table of hits takes for granted
            self._hot = self._store.hot = {}
            self._calls = {}
        elif name == "lifetime":
            self._calls = {}

    @property
    def nameservers(self) -> Sequence[Any]:
        """The upstreams, as they were given."""
        return self._nameservers

    @nameservers.setter
    def nameservers(self, nameservers: Sequence[Any]) -> None:
        if not isinstance(nameservers, (list, tuple)):
            raise ConfigurationError(
                f"nameservers must be a list or tuple (not a {type(nameservers)})"
            )
        config.members(nameservers, system=self._system.servers or ["127.0.0.1"])
        self._nameservers = nameservers

    @property
    def cache(self) -> CacheView | None:
        """The cache as dnspython shows one; None while caching is off."""
        return CacheView(self._store) if self._store.max_bytes else None

    @cache.setter
    def cache(self, cache: dns.resolver.CacheBase | None) -> None:
        """Switch caching off with None; an `LRUCache` of dnspython's sets the size."""
        self._hot = self._store.hot = {}
        if cache is None:
            self._store.clear()
        self._store.resize(CacheView.size_of(cache, self._cache_size))

    @property
    def store(self) -> Contents:
        """What memory and store keep, to look at, flush, export and load."""
        from resolverkit.contents import Contents

        return Contents(self._store, self._bind)

    def stats(self) -> Stats:
        """What was counted since the Resolver was made."""
        from resolverkit.stats import Stats

        return Stats.of(self._store, self._stack)

    # --- resolving -------------------------------------------------------------------

    async def resolve(
        self,
        qname: dns.name.Name | str,
        rdtype: dns.rdatatype.RdataType | str = _A,
        rdclass: dns.rdataclass.RdataClass | str = _IN,
        tcp: bool = False,
        source: str | None = None,
        raise_on_no_answer: bool = True,
        source_port: int = 0,
        lifetime: float | None = None,
        search: bool | None = None,
        backend: Backend | None = None,
        *,
        stale: StalePolicy | bool | None = None,
        refresh: bool = False,
    ) -> Answer:
        """Find the answer to a question.

        Args:
            qname: the name.
            rdtype: the type.
            rdclass: the class.
            tcp: ask over TCP.
            source: address to send from.
            raise_on_no_answer: raise NoAnswer where the name has no such data.
            source_port: port to send from.
            lifetime: seconds the whole may take; None for the resolver's own.
            search: use the search list for relative names.
            backend: for dnspython's sake; None or an asyncio backend.
            stale: another policy for this call; False for fresh data or an error.
            refresh: ask the upstreams even if there is a fresh answer.

        Raises:
            NXDOMAIN, NoAnswer, YXDOMAIN: upstreams said so.
            NoNameservers: all upstreams failed, and there was nothing to serve.
            LifetimeTimeout: the lifetime ended first.
            dns.resolver.NoMetaqueries: ANY, AXFR and the like.
            TypeError: the name, type or class is none.
        """
        if not (refresh or search) and rdclass == _IN:
            table = self._hot.get(rdtype)
            if table is not None:
                if isinstance(qname, str):
                    entry = table.get(qname) or table.get(qname.lower())
                else:  # its own hash is a loop in Python
                    try:
                        entry = table.get(qname.labels)
                    except AttributeError:
                        raise _no_name(qname) from None
                if entry is not None and self._clock() < entry.refresh_at:
                    store = self._store
                    store.hits += 1
                    entry.used = True
                    answer: Answer | None = entry.answer
                    if answer is None:  # what others parsed has pushed it out
                        answer = entry.answer = Answer(entry, _CACHE, store)
                    return answer
        try:  # no name for the options: they would be kept while the call waits
            call = self._calls.get(
                (rdtype, rdclass, tcp, source, source_port, lifetime, stale, refresh)
            )
        except TypeError:  # one of them cannot be a key: which one, is told below
            call = None
        if call is None:
            call = self._call(
                (rdtype, rdclass, tcp, source, source_port, lifetime, stale, refresh)
            )
        stack = self._bind(backend)
        if search is None:
            search = self.use_search_by_default
        others: Sequence[bytes] = ()
        if isinstance(qname, str) and qname and not search:
            name, relative = wire.text_to_wire(qname), qname[-1] != "."
        else:
            (name, *others), relative = self._names(qname, search)
        store, time = self._store, stack.time
        now = started = time()
        denied: tuple[tuple[Question, Served], ...] = ()
        while True:
            view, mould = stack.view(name, relative), call.mould
            if mould is None:
                question = self._custom_question(name, view, call)
            else:
                question = mould.question(name, view.tag)
            served: Served | Caller | None = None
            try:
                group = view.group
                if group is None or call.way is not ANY_WAY:
                    served = self._ask(question, view, call, stack, started)
                else:
                    served = store.ask(question, group, call, started, now)
                if not isinstance(served, Served):
                    served = await served.future
            except UpstreamError as error:
                served = None  # it holds the error, whose traceback holds this frame
                # So does a flight that goes on; and on Python 3.13 who called, too.
                error.with_traceback(None)
                raise self._failure(question, error, call.lifetime) from error
            entry = served.entry
            if served.source is _UPSTREAM and entry.more is None:  # as nearly all
                return new_answer(entry, store)
            if entry.kind is Kind.NXDOMAIN:
                denied += ((question, served),)
                if not others:
                    raise self._nxdomain(denied)
                name, *others = others
                now = time()
                continue
            answer = self._conclude(question, served, call, raise_on_no_answer)
            if served.source is _CACHE and not search:
                self._remember(qname, rdtype, question, entry)
            return answer

    async def survey(
        self,
        qname: dns.name.Name | str,
        rdtype: dns.rdatatype.RdataType | str = _A,
        rdclass: dns.rdataclass.RdataClass | str = _IN,
        *,
        lifetime: float | None = None,
    ) -> Survey:
        """Ask every vantage for itself, past the cache, and compare what they say.

        Those who are asked are those whom `resolve` would ask for that name.

        Args:
            qname: the name, which the search list is not used for.
            rdtype: the type.
            rdclass: the class.
            lifetime: seconds the whole may take, half of them for asking once more;
                None for the resolver's own.

        Raises:
            NoNameservers: there is no upstream for that name.
            dns.resolver.NoMetaqueries: ANY, AXFR and the like.
        """
        from resolverkit.survey import local_survey
        from resolverkit.vantages import take_survey

        call = self._call((rdtype, rdclass, False, None, 0, lifetime, None, True))
        stack = self._bind(None)
        started = stack.loop.time()
        (name, *_), relative = self._names(qname, search=False)
        view = stack.view(name, relative)
        if call.mould is None:
            question = self._custom_question(name, view, call)
        else:
            question = call.mould.question(name, view.tag)
        if view.detail:
            return local_survey(question, view.detail)
        try:
            group = stack.group(view, call.way)
        except UpstreamError as error:
            raise self._failure(question, error, call.lifetime) from error
        return await take_survey(question, group, until=started + call.lifetime)

    def _client_call(self, patience: float) -> ClientCall:
        """What clients of the stub server want that ask now.

        They share it, until the loop has its next turn.

        Args:
            patience: seconds that the whole may take, if the lifetime is longer.
        """
        call = ClientCall()
        call.stack = stack = self._bind(None)
        call.stale = self._stale
        call.started = stack.time()
        call.lifetime = min(patience, self.lifetime)
        call.variant = b""
        return call

    def _serve(
        self,
        call: ClientCall,
        name: bytes,
        mould: wire.Mould,
        waiter: AnyWaiter,
        cached_only: bool = False,
    ) -> Served | AnyWaiter | None:
        """What a client of the stub server gets, whose names are complete.

        A single label may still be a host of the local network, in which no public
        upstream has a part; whoever asks for its addresses asks for a host.

        Args:
            call: made since the loop had its last turn.
            name: lower-cased wire name.
            mould: for questions of its type; the class is IN.
            waiter: who is told what is not there yet, and is given then.
            cached_only: nobody is to be asked: None where nothing fresh is known.

        Raises:
            UpstreamError: as `Cache.ask`.
        """
        view = call.stack.view(name, mould.rdtype in _ADDRESSES)
        question = mould.question(name, view.tag)
        if cached_only and not view.detail:
            return self._store.fresh(question)
        group = view.group
        if group is None:
            if view.detail:
                return self._local(question, view)
            group = call.stack.group(view, ANY_WAY)
        now = call.started
        return self._store.ask(question, group, call, now, now, waiter)

    def _call(self, options: tuple[Any, ...]) -> _Call:
        """What a call asks for; kept, for most calls of a program ask for the same."""
        rdtype, rdclass, tcp, source, source_port, lifetime, stale, refresh = options
        call = _Call()
        call.rdtype, call.rdclass = _check_types(rdtype, rdclass)
        call.mould = self._mould(call.rdtype, call.rdclass)
        call.lifetime = self.lifetime if lifetime is None else lifetime
        config.check_timeout("lifetime", call.lifetime)
        config.check_source(source)
        config.check_port("source_port", source_port, 0)
        own_way = bool(tcp or source or source_port)
        call.way = (tcp, source, source_port) if own_way else ANY_WAY
        call.variant = repr(call.way).encode() if own_way else b""
        call.stale = self._stale if stale is None else _stale_policy(stale)
        call.refresh = bool(refresh)
        if len(self._calls) >= _MAX_CALLS:
            self._calls.clear()  # of lifetimes, each of which is used once
        self._calls[options] = call
        return call

    def _mould(
        self, rdtype: dns.rdatatype.RdataType, rdclass: dns.rdataclass.RdataClass
    ) -> wire.Mould | None:
        """The mould of such questions, where we build the query."""
        flags = dns.flags.Flag(dns.flags.RD if self.flags is None else self.flags)
        if (
            flags & ~(dns.flags.RD | dns.flags.CD)
            or dns.flags.RD not in flags
            or self.keyring is not None
            or self.ednsoptions
        ):
            return None
        dnssec_ok = self.edns >= 0 and bool(self.ednsflags & dns.flags.DO)
        return wire.mould(rdtype, rdclass, dnssec_ok, dns.flags.CD in flags)

    def _conclude(
        self, question: Question, served: Served, call: _Call, raise_on_no_answer: bool
    ) -> Answer:
        """The answer for a name that exists."""
        kind = served.entry.kind
        if kind is Kind.YXDOMAIN:
            raise errors.YXDOMAIN(self._path(served))
        answer = self._answer(question, served, call.stale)
        if raise_on_no_answer and kind is not _DATA:
            raise errors.NoAnswer(answer.path, response=answer.response)
        return answer

    def _ask(
        self,
        question: Question,
        view: View,
        call: _Call,
        stack: Stack,
        started: float,
    ) -> Served | Caller:
        group = view.group if call.way is ANY_WAY else None
        if group is None:
            if view.detail:
                return self._local(question, view)
            group = stack.group(view, call.way)
        return self._store.ask(question, group, call, started, stack.time())

    def _local(self, question: Question, view: View) -> Served:
        """What is answered here."""
        entry = Entry(question, special.local_reply(question), self._clock())
        return serve(entry, Source.LOCAL, view.detail)

    def _names(
        self, qname: dns.name.Name | str, search: bool | None
    ) -> tuple[Sequence[bytes], bool]:
        """The wire names to try, and whether the caller wrote a relative one."""
        if isinstance(qname, str):
            qname = dns.name.from_text(qname, None)
        elif not isinstance(qname, dns.name.Name):
            raise _no_name(qname)
        names = self._get_qnames_to_try(qname, search)
        return [wire.name_to_wire(name) for name in names], not qname.is_absolute()

    def _custom_question(self, name: bytes, view: View, call: _Call) -> Question:
        """The question for a name, built by dnspython for what we do not build."""
        flags = dns.flags.RD if self.flags is None else self.flags
        query = dns.message.make_query(
            dns.name.from_wire(name, 0)[0], call.rdtype, call.rdclass, flags=flags
        )
        if self.keyring is not None:
            query.use_tsig(self.keyring, self.keyname, algorithm=self.keyalgorithm)
        query.use_edns(
            max(self.edns, 0),
            self.ednsflags,
            min(self.payload or wire.UDP_PAYLOAD, wire.MAX_UDP_PAYLOAD),
            options=self.ednsoptions,
        )
        return wire.custom_question(query, view.tag)

    # --- answers and errors ----------------------------------------------------------

    def _answer(self, question: Question, served: Served, stale: StalePolicy) -> Answer:
        entry, source = served.entry, served.source
        cached = source is _CACHE
        if cached and entry.answer is not None:
            return entry.answer
        if source is _UPSTREAM:
            return Answer(entry, source, self._store)
        old = source is _STALE or source is _HELD
        if old:
            self._reporter.served(question, served)
        ttl = stale.ttl if old else 0
        answer = Answer(entry, source, self._store, stale_ttl=ttl, detail=served.detail)
        if cached and entry.key == question.key:
            entry.answer = answer
        return answer

    def _remember(
        self,
        qname: dns.name.Name | str,
        rdtype: dns.rdatatype.RdataType | str,
        question: Question,
        entry: Entry,
    ) -> None:
        """Put a cached answer where `resolve` finds it by its name as written."""
        if question.rdclass != _IN or entry.kind is not _DATA:
            return
        if self.use_search_by_default:
            return
        key: Any = _as_key(qname) if isinstance(qname, str) else qname.labels
        if not isinstance(qname, str) and not qname.is_absolute():
            return
        spelling: Any = rdtype
        if spelling not in self._hot:
            if len(self._hot) >= _MAX_SPELLINGS:
                return
            self._hot[spelling] = self._hot.setdefault(question.rdtype, {})
        self._store.remember(entry, self._hot[spelling], key)

    def _path(self, served: Served) -> AnswerPath:
        entry, reply = served.entry, served.entry.reply
        return AnswerPath(
            served.source,
            reply.winner,
            reply.attempts + entry.since,
            reply.ttl,
            entry.learnt,
            reply.disputed,
            served.detail,
            self._clock,
            *reply.quorum,
        )

    def _nxdomain(self, denied: Sequence[tuple[Question, Served]]) -> errors.NXDOMAIN:
        """All candidates were denied."""
        responses = {}
        for question, served in denied:
            reply = served.entry.reply  # signed ones are parsed where the key is known
            message = reply.message or dns.message.from_wire(reply.wire)
            responses[question.name] = message
        path = self._path(denied[-1][1])
        return errors.NXDOMAIN(path, qnames=list(responses), responses=responses)

    def _failure(
        self, question: Question, error: UpstreamError, lifetime: float
    ) -> errors.NoNameservers | errors.LifetimeTimeout:
        detail = str(error)
        path = AnswerPath(Source.UPSTREAM, None, error.attempts, detail=detail)
        told = [_error_tuple(attempt) for attempt in error.attempts]
        if isinstance(error, LifetimeOver):
            return errors.LifetimeTimeout(path, timeout=lifetime, errors=told)
        request = dns.message.make_query(
            question.name,
            dns.rdatatype.RdataType.make(question.rdtype),
            dns.rdataclass.RdataClass.make(question.rdclass),
        )
        return errors.NoNameservers(path, request=request, errors=told)

    # --- conveniences ----------------------------------------------------------------

    async def resolve_name(
        self,
        name: dns.name.Name | str,
        family: int = socket.AF_UNSPEC,
        **kwargs: Any,
    ) -> dns.resolver.HostAnswers:
        """Look up the addresses of a name, both families at once.

        Args:
            name: the name.
            family: AF_INET or AF_INET6 for one of them.
            **kwargs: as `resolve` takes them, but for type and class.

        Raises:
            NoAnswer: the name has no address.
            Exception: what `resolve` raises, where neither family gave an answer.
        """
        if family != socket.AF_UNSPEC:
            return await super().resolve_name(name, family, **kwargs)
        kwargs.pop("rdtype", None)
        kwargs["rdclass"] = _IN
        strict = kwargs.pop("raise_on_no_answer", True)
        v6, v4 = await asyncio.gather(
            self.resolve(name, dns.rdatatype.AAAA, raise_on_no_answer=False, **kwargs),
            self.resolve(name, dns.rdatatype.A, raise_on_no_answer=False, **kwargs),
            return_exceptions=True,
        )
        if isinstance(v6, BaseException) and isinstance(v4, BaseException):
            raise v6
        # One family may fail: a set with a dead family is still a set.
        alone = v4 if isinstance(v6, BaseException) else v6
        for failed in (v6, v4):
            if isinstance(failed, BaseException) and not len(alone):  # type: ignore[arg-type]
                raise failed
        answers = dns.resolver.HostAnswers.make(
            v6=None if isinstance(v6, BaseException) else v6,
            v4=None if isinstance(v4, BaseException) else v4,
            add_empty=not strict,
        )
        if not answers:
            assert isinstance(alone, Answer)
            raise errors.NoAnswer(alone.path, response=alone.response)
        return answers

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002  socket.getaddrinfo's name for it
        proto: int = 0,
        flags: int = 0,
    ) -> list[Found]:
        """Find addresses to connect to, as `socket.getaddrinfo` and a loop's do.

        The hosts file comes first, then the upstreams, A and AAAA at once, with the
        search list; the order is that of RFC 6724.

        Args:
            host: a name, an address, or None for this machine.
            port: a number, the name of a service, or None.
            family: AF_INET or AF_INET6; 0 for both.
            type: SOCK_STREAM, …; 0 for all.
            proto: a protocol's number; 0 for all.
            flags: constants of socket, ``AI_…``.

        Returns:
            Tuples of family, type, protocol, canonical name and socket address.

        Raises:
            socket.gaierror: as the system's; its cause is what `resolve` raised.
        """
        from resolverkit import addrinfo

        return await addrinfo.getaddrinfo(self, host, port, family, type, proto, flags)

    # --- lifetime --------------------------------------------------------------------

    def _bind(self, backend: Backend | None) -> Stack:
        """The stack for the running loop and the options as they are now."""
        if self._look_at is not _NEVER and self._clock() >= self._look_at:
            self._look()
        if backend is not None and backend.name() != "asyncio":
            raise ConfigurationError(
                f"backend={backend.name()!r}: allowed is asyncio (or uvloop) only"
            )
        stack = self._stack
        if (
            stack is not None
            and stack.loop is asyncio._get_running_loop()
            and stack.options
            == (self._nameservers, self.nameserver_ports, self.port, self.timeout)
        ):
            return stack
        return self._bind_anew(stack)

    def _bind_anew(self, stack: Stack | None) -> Stack:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "resolverkit runs on asyncio (or uvloop) only, and no such loop runs"
            ) from None
        if stack is not None and stack.loop is not loop and not stack.loop.is_closed():
            raise RuntimeError(
                "this Resolver is in use on another loop that is still open; make one "
                "Resolver for each loop, or a resolverkit.blocking.Resolver for all "
                "threads"
            )
        if stack is not None and stack.loop is loop:
            stack.retire()
        self._stack = stack = Stack(self, loop, self._store, *self._settings)
        return stack

    def _serve_at(
        self, is_own: Callable[[str, int], bool], check: Callable[[Resolver], object]
    ) -> None:
        """A Server answers for it there, which is no upstream of its own.

        Args:
            is_own: whether it is at an address and port.
            check: raises ConfigurationError where an upstream is that Server, as one
                that the system names later may be.
        """
        self._is_own, self._check = is_own, check
        stack, self._stack = self._stack, None
        if stack is not None:
            stack.retire()

    def _look(self) -> None:
        """Take over what the system says now of its servers, if it says otherwise."""
        system = self._system
        told = system.again(self._clock())
        self._look_at = system.look_at
        if told is None:
            return
        servers, uplinks = system.servers, system.uplinks
        before = {view.tag: view.members for view in Stack.check(self)}
        if not system.take(self, told, lambda: self._check(self)):
            return
        after = {view.tag: view.members for view in Stack.check(self)}
        moved = {tag for tag in before if before[tag] != after.get(tag)}
        if uplinks != system.uplinks:  # the same address, and others answer there
            moved |= {tag for tag in before if _name(before[tag], servers)}
        self._store.moved(moved)
        stack = self._stack
        if stack is not None and stack.loop is asyncio._get_running_loop():
            stack.retire()
            self._stack = Stack(self, stack.loop, self._store, *self._settings)
            self._store.redirect(self._stack.in_place)
        if (servers, uplinks) != (system.servers, system.uplinks):
            now = system.uplinks or system.servers
            self._reporter.moved(now, uplinks or servers)

    def _inherit(self, other: Resolver) -> None:
        """Go on with the cache and the store of a Resolver that had other options.

        Its flights end where they began; it is not to be used any more.
        """
        for stack in (self._stack, other._stack):
            if stack is not None:
                stack.retire()
        self._stack = other._stack = None
        self._store = cache = other._store
        self._hot = cache.hot = {}  # options may be others
        cache.observer = self._reporter
        cache.stale = self._stale
        self._bind(None)  # whose end is the store's, even if nobody asks any more

    async def aclose(self) -> None:
        """Close connections and end flights; the cache stays. Idempotent."""
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()  # and the store

    async def __aenter__(self) -> Resolver:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


_HIT_OPTIONS = frozenset({
    "use_search_by_default", "flags", "edns", "ednsflags", "ednsoptions", "keyring",
    "_nameservers",
})  # fmt: skip


def _as_key(text: str) -> str:
    """A name in lower case; itself where it is: no copy to keep, or to compare."""
    lowered = text.lower()
    return text if type(text) is str and text == lowered else lowered


@functools.lru_cache(maxsize=_MAX_SPELLINGS)
def _check_types(
    rdtype: dns.rdatatype.RdataType | str, rdclass: dns.rdataclass.RdataClass | str
) -> tuple[dns.rdatatype.RdataType, dns.rdataclass.RdataClass]:
    for option, value in (("rdtype", rdtype), ("rdclass", rdclass)):
        if not isinstance(value, str | int):
            raise TypeError(f"{option}={value!r}: allowed are a str and an int")
    rdtype = dns.rdatatype.RdataType.make(rdtype)
    rdclass = dns.rdataclass.RdataClass.make(rdclass)
    if dns.rdatatype.is_metatype(rdtype) or dns.rdataclass.is_metaclass(rdclass):
        raise dns.resolver.NoMetaqueries
    return rdtype, rdclass


def _no_name(qname: object) -> TypeError:
    return TypeError(f"qname={qname!r}: allowed are a str and a dns.name.Name")


def _stale_policy(stale: StalePolicy | bool) -> StalePolicy:
    if isinstance(stale, StalePolicy):
        return stale
    if isinstance(stale, bool):
        return StalePolicy() if stale else NO_STALE
    raise ConfigurationError(
        f"stale={stale!r}: allowed are True, False and a StalePolicy"
    )


def _sort_out(
    upstreams: Any, filename: str | os.PathLike[str] | TextIO
) -> tuple[list[Spec] | None, str | os.PathLike[str] | TextIO]:
    """Tell upstreams from the resolv.conf that dnspython takes in first place."""
    if upstreams is None:
        return None, filename
    if isinstance(upstreams, (list, tuple)):
        return list(upstreams), filename
    if isinstance(upstreams, os.PathLike) or hasattr(upstreams, "read"):
        return None, upstreams
    if isinstance(upstreams, str):
        if "://" not in upstreams and (os.sep in upstreams or Path(upstreams).exists()):
            return None, upstreams
        return [upstreams], filename
    if isinstance(upstreams, Upstream):
        return [upstreams], filename
    raise ConfigurationError(
        f"upstreams={upstreams!r}: allowed are a list, one Upstream, or a resolv.conf"
    )


def _name(members: Iterable[Any], servers: Sequence[str]) -> bool:
    """Whether one of the members is one of the system's servers."""
    return any(getattr(member, "address", None) in servers for member in members)


def _never(_host: str, _port: int) -> bool:
    """Nobody serves it."""
    return False


def _error_tuple(attempt: Attempt) -> tuple[str, bool, int, str, None]:
    """An attempt as dnspython lists errors."""
    where = attempt.endpoint
    what = attempt.detail or str(attempt.outcome)
    return (where.name, where.transport != "udp", where.port, what, None)
