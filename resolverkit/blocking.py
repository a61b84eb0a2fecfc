"""The blocking face: `dns.resolver`'s functions and Resolver over resolverkit's.

All blocking Resolvers share one event loop in a background thread, so that any number
of threads share one cache, one flight per question and one set of connections::

    from resolverkit import blocking

    answer = blocking.resolve("www.example.com", "A")

It works in any thread, in a child after a fork, and inside a running event loop, which
then stands still meanwhile, as in every blocking call.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Any, Literal

import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.resolver

import resolverkit.resolver
from resolverkit import addrinfo, config
from resolverkit.background import background
from resolverkit.behind import Behind
from resolverkit.blockingview import BlockingContents, BlockingView
from resolverkit.errors import ConfigurationError
from resolverkit.memory import MAX_BYTES
from resolverkit.settings import Settings

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Coroutine,
        Mapping,
        Sequence,
    )
    from typing import TextIO, TypeVar

    from resolverkit.addrinfo import Found
    from resolverkit.answer import Answer
    from resolverkit.config import Spec, Strategy
    from resolverkit.hooks import Hook
    from resolverkit.policy import StalePolicy
    from resolverkit.stats import Stats
    from resolverkit.survey import Survey
    from resolverkit.upstream import Store, Upstream

    _T = TypeVar("_T")

__all__ = [
    "Resolver",
    "canonical_name",
    "get_default_resolver",
    "resolve",
    "resolve_address",
    "resolve_name",
]

_IN = dns.rdataclass.IN
_A = dns.rdatatype.A

_with_store: weakref.WeakSet[Resolver] = weakref.WeakSet()
_changing = threading.Lock()


class Resolver(dns.resolver.Resolver):
    """A blocking resolver over several upstreams that serves stale and reports paths.

    Takes the place of `dns.resolver.Resolver`, and of one Resolver for each thread: one
    for the whole program is best. Its options are those of `resolverkit.Resolver`, and
    it has all of dnspython's attributes, which may be set at any time. Close it with
    ``with`` or `close`, or leave it to the end of the program.

    Args:
        upstreams: who to ask; without it, the system's servers. A path or an open file
            is a resolv.conf, as in dnspython.
        configure: read resolv.conf (or the registry) for servers and search list.
        filename: which resolv.conf.
        strategy: ``"hedge"``, ``"race"``, ``"failover"`` or ``"quorum"``.
        stale: when expired data may be served; False for never.
        cache_size: bytes for answers; 0 switches caching off.
        store: where the last known good is kept beyond this process. A child after a
            fork opens a URL's anew; a `Store` object has to bear the fork itself.
        hook: is told of events, in the background thread.
        routes: subtrees and the upstreams that alone are asked for them.
        on_block: ``"accept"`` a block by a filtering upstream, or ask the ``"next"``.
        clock: seconds on a clock that never goes back; for tests.

    Raises:
        ConfigurationError: an option or upstream that cannot be used.
        dns.resolver.NoResolverConfiguration: no resolv.conf, and no upstreams.
    """

    # The asyncio Resolver that does the work. All other attributes are its own.
    _inner: resolverkit.resolver.Resolver
    _spec: str | Store | None
    _process: int

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
        inner = resolverkit.resolver.Resolver(
            upstreams, configure, filename=filename, strategy=strategy, stale=stale,
            cache_size=cache_size, store=store, hook=hook, routes=routes,
            on_block=on_block, clock=clock,
        )  # fmt: skip
        self._take(inner, store)

    @classmethod
    def over(cls, resolver: resolverkit.resolver.Resolver) -> Resolver:
        """The blocking face of an asyncio Resolver, which moves to the background loop.

        Raises:
            ConfigurationError: it is in use on another loop.
        """
        stack = resolver._stack
        if not (stack is None or stack.loop.is_closed() or background.owns(stack.loop)):
            raise ConfigurationError(
                "this Resolver is in use on another loop; give a "
                "resolverkit.blocking.Resolver, which all threads and loops can use"
            )
        blocking = cls.__new__(cls)
        behind = resolver._store.behind
        blocking._take(resolver, None if behind is None else behind.store)
        return blocking

    def _take(
        self, inner: resolverkit.resolver.Resolver, spec: str | Store | None
    ) -> None:
        own = {"_inner": inner, "_spec": spec, "_process": os.getpid()}
        self.__dict__.update(own)
        charge = inner._store.charge

        def charge_soon(answer: Answer, cost: int) -> None:
            # Answers are parsed by whoever reads them, and tables are the loop's.
            background.call_soon(charge, answer, cost)

        inner._store.parsed = charge_soon
        weakref.finalize(self, _let_go, inner).atexit = False
        if spec is not None:
            _with_store.add(self)

    # --- what dnspython lets one set -------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        inner = self.__dict__.get("_inner")
        if name not in getattr(inner, "__dict__", ()):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}"
            )
        return getattr(inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._call(setattr, self._inner, name, value)

    def reset(self) -> None:
        """Set all options to dnspython's defaults; caching is on."""
        self._call(self._inner.reset)

    @property
    def cache(self) -> dns.resolver.CacheBase | None:
        """The cache as dnspython shows one; None while caching is off."""
        view = self._call(lambda: self._inner.cache)
        return None if view is None else BlockingView(self, view)

    @property
    def store(self) -> BlockingContents:
        """What memory and store keep, to look at, flush, export and load."""
        return BlockingContents(self)

    def stats(self) -> Stats:
        """What was counted since the Resolver was made."""
        return self._call(self._inner.stats)

    # --- resolving -------------------------------------------------------------------

    def resolve(
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
        *,
        stale: StalePolicy | bool | None = None,
        refresh: bool = False,
    ) -> Answer:
        """Find the answer to a question, and wait for it.

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
            stale: another policy for this call; False for fresh data or an error.
            refresh: ask the upstreams even if there is a fresh answer.

        Raises:
            NXDOMAIN, NoAnswer, YXDOMAIN: upstreams said so.
            NoNameservers: all upstreams failed, and there was nothing to serve.
            LifetimeTimeout: the lifetime ended first.
            dns.resolver.NoMetaqueries: ANY, AXFR and the like.
        """
        if qname.__class__ is str and not (refresh or search) and rdclass == _IN:
            answer = _at_hand(self._inner, qname, rdtype)
            if answer is not None:
                return answer
        return self._run(
            self._inner.resolve(
                qname, rdtype, rdclass, tcp, source, raise_on_no_answer, source_port,
                lifetime, search, stale=stale, refresh=refresh,
            )
        )  # fmt: skip

    def resolve_name(
        self,
        name: dns.name.Name | str,
        family: int = socket.AF_UNSPEC,
        **kwargs: Any,
    ) -> dns.resolver.HostAnswers:
        """Look up the addresses of a name; see `resolverkit.Resolver.resolve_name`."""
        return self._run(self._inner.resolve_name(name, family, **kwargs))

    def survey(
        self,
        qname: dns.name.Name | str,
        rdtype: dns.rdatatype.RdataType | str = _A,
        rdclass: dns.rdataclass.RdataClass | str = _IN,
        *,
        lifetime: float | None = None,
    ) -> Survey:
        """Ask every vantage for itself; see `resolverkit.Resolver.survey`."""
        return self._run(self._inner.survey(qname, rdtype, rdclass, lifetime=lifetime))

    def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002  socket.getaddrinfo's name for it
        proto: int = 0,
        flags: int = 0,
    ) -> list[Found]:
        """Find addresses to connect to, as `socket.getaddrinfo`.

        See `resolverkit.Resolver.getaddrinfo`.
        """
        return self._find(host, port, family, type, proto, flags).entries

    def _find(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *rest: int,
        refresh: bool = False,
        timeout: float | None = None,
    ) -> addrinfo.Result:
        """The same, with the paths; TimeoutError if it takes longer than `timeout`."""
        known = addrinfo.numeric(host, port, *rest)
        if known is not None:
            return addrinfo.Result(known)
        work = addrinfo.find_by_name(self._inner, host, port, *rest, refresh=refresh)
        return self._run(work if timeout is None else asyncio.wait_for(work, timeout))

    async def _getaddrinfo(
        self, host: bytes | str | None, port: bytes | str | int | None, *rest: int
    ) -> list[Found]:
        """The same for a coroutine on any loop, which goes on meanwhile."""
        known = addrinfo.numeric(host, port, *rest)
        if known is not None:
            return known
        self._move_in()
        work = addrinfo.find_by_name(self._inner, host, port, *rest)
        return (await asyncio.wrap_future(background.submit(work))).entries

    # --- lifetime --------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Wait for work on the background loop."""
        self._move_in()
        return background.run(work)

    def _call(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call what may not run beside the loop's own work."""
        self._move_in()
        if self._inner._stack is None:  # nothing of it is on the loop
            return function(*args)
        return background.call(function, *args)

    def _move_in(self) -> None:
        """In a child process: leave all but the cache to the parent."""
        if self._process == os.getpid():
            return
        with _changing:
            if self._process == os.getpid():
                return
            inner = self._inner
            cache, behind = inner._store, inner._store.behind
            background.keep((inner._stack, cache._flights, behind))
            inner._stack = None
            if behind is not None and self._spec is not None:
                cache.behind = Behind(config.store_of(self._spec), inner._clock)
            self.__dict__["_process"] = os.getpid()

    def close(self) -> None:
        """Close connections and end flights; the cache stays. Idempotent."""
        if _is_open(self._inner):
            background.run(self._inner.aclose())

    def __enter__(self) -> Resolver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_open(inner: resolverkit.resolver.Resolver) -> bool:
    """Whether it has something on the loop of this process, and not of a parent's."""
    stack = inner._stack
    return stack is not None and background.owns(stack.loop)


def _let_go(inner: resolverkit.resolver.Resolver) -> None:
    """Nobody can use it any more: close what it has open."""
    if _is_open(inner):
        background.begin(inner.aclose())


def _at_hand(
    inner: resolverkit.resolver.Resolver, qname: Any, rdtype: Any
) -> Answer | None:
    """A fresh answer that the loop need not be asked for.

    The loop may change the tables meanwhile: each value is read once, and what was
    fresh a moment ago is fresh enough.
    """
    table = inner._hot.get(rdtype)
    if table is None:
        return None
    entry = table.get(qname) or table.get(qname.lower())
    if entry is None or inner._clock() >= entry.refresh_at:
        return None
    answer = entry.answer
    if answer is not None:
        inner._store.hits += 1
        entry.used = True
    return answer


async def _write_what_waits() -> None:
    """The program ends, and stores still work: they take the last answers."""
    await asyncio.gather(
        *(r._inner.aclose() for r in list(_with_store) if _is_open(r._inner)),
        return_exceptions=True,
    )


background.at_exit.append(_write_what_waits)

# --- the module's functions ----------------------------------------------------------

_default: Resolver | None = None


def get_default_resolver() -> Resolver:
    """The Resolver behind the module's functions: one for all threads, on demand.

    Who is asked can be said in the environment: see
    `resolverkit.get_default_resolver`.
    """
    global _default  # noqa: PLW0603  as in dns.resolver: it is the module's own
    if _default is None:
        with _changing:
            if _default is None:
                _default = Settings.load().make(Resolver)
    return _default


def resolve(
    qname: dns.name.Name | str,
    rdtype: dns.rdatatype.RdataType | str = _A,
    rdclass: dns.rdataclass.RdataClass | str = _IN,
    tcp: bool = False,
    source: str | None = None,
    raise_on_no_answer: bool = True,
    source_port: int = 0,
    lifetime: float | None = None,
    search: bool | None = None,
    *,
    stale: StalePolicy | bool | None = None,
    refresh: bool = False,
) -> Answer:
    """Find the answer to a question by the default Resolver; see `Resolver.resolve`."""
    return get_default_resolver().resolve(
        qname, rdtype, rdclass, tcp, source, raise_on_no_answer, source_port,
        lifetime, search, stale=stale, refresh=refresh,
    )  # fmt: skip


def resolve_name(
    name: dns.name.Name | str, family: int = socket.AF_UNSPEC, **kwargs: Any
) -> dns.resolver.HostAnswers:
    """Look up the addresses of a name; see `Resolver.resolve_name`."""
    return get_default_resolver().resolve_name(name, family, **kwargs)


def resolve_address(ipaddr: str, *args: Any, **kwargs: Any) -> dns.resolver.Answer:
    """Look up the name of an address; see `dns.resolver.resolve_address`."""
    return get_default_resolver().resolve_address(ipaddr, *args, **kwargs)


def canonical_name(name: dns.name.Name | str) -> dns.name.Name:
    """The end of a name's CNAME chain; see `dns.resolver.canonical_name`."""
    return get_default_resolver().canonical_name(name)
