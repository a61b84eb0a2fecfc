"""Puts transports and groups together for one loop and one set of options."""

from __future__ import annotations

import copy
import logging
from contextvars import Context
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeGuard

import dns.exception
import dns.message
import dns.nameserver

from resolverkit import config, policy, special, wire
from resolverkit.deadlines import clock_of
from resolverkit.errors import ConfigurationError, NetworkError, UpstreamError
from resolverkit.model import Endpoint, Kind
from resolverkit.transports.url import UpstreamURL, build, check

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    from resolverkit.cache import Cache
    from resolverkit.config import Member, Spec, Strategy
    from resolverkit.groups.group import Group
    from resolverkit.groups.hedge import Hedge
    from resolverkit.groups.quorum import Quorum
    from resolverkit.model import Question, Reply
    from resolverkit.resolver import Resolver
    from resolverkit.upstream import Upstream

_log = logging.getLogger("resolverkit.resolver")

_DELAYS: Mapping[Strategy, float | Literal["auto"] | None] = {
    "hedge": "auto",
    "race": 0.0,
    "failover": None,
    "quorum": "auto",
}
Way: TypeAlias = tuple[bool, str | None, int]
"""How a caller wants to be asked for: over TCP, source address, source port."""
ANY_WAY: Way = (False, None, 0)


class View:
    """Who is asked for a part of the name space."""

    __slots__ = ("detail", "group", "members", "tag")

    def __init__(self, tag: bytes, members: Sequence[Member], detail: str = "") -> None:
        self.tag: bytes = tag
        self.members: Sequence[Member] = members
        self.detail: str = detail  # why it is answered here, where it is
        # Who is asked any way, once they have been.
        self.group: Group | None = None


class Stack:
    """Groups and transports for one loop.

    Attributes:
        loop: the loop that they belong to.
        time: its time, seconds.
        options: what they were made from; others take another stack.
    """

    def __init__(
        self,
        options: Resolver,
        loop: asyncio.AbstractEventLoop,
        cache: Cache,
        strategy: Strategy,
        on_block: Literal["accept", "next"],
        routes: Mapping[str, Sequence[Spec]],
    ) -> None:
        self.loop = loop
        self.time: Callable[[], float] = clock_of(loop)
        self._cache = cache
        cache.bind(loop)
        self.options: tuple[object, ...] = (
            copy.copy(options._nameservers),  # may change in place
            dict(options.nameserver_ports),
            options.port,
            options.timeout,
        )
        self._timeout = options.timeout
        self._report = options._reporter.changed
        self._strategy: Strategy = strategy
        self._on_block = on_block
        self._groups: dict[tuple[bytes, Way], Group] = {}
        self._transports: dict[tuple[int, Way], Upstream] = {}
        self._made: list[Upstream] = []  # in contrast to a user's own objects
        self._located: dict[str, str] = {}
        self._plan(options, routes)
        self._lifeline = self._live()
        self._retired = False
        self._closing: asyncio.Task[None] | None = None
        _advance(self._lifeline)

    @staticmethod
    def check(options: Resolver) -> list[View]:
        """The views of the stack that would be made from these options.

        Raises:
            ConfigurationError: none can be made from them.
        """
        stack = Stack.__new__(Stack)
        stack._strategy = options._settings[0]
        stack._plan(options, options._settings[2])
        for view in stack._views:
            for member in view.members:
                if isinstance(member, UpstreamURL):
                    check(member)
                    if not member.address:
                        stack._helpers(member)
        return stack._views

    # --- who is asked for what -------------------------------------------------------

    def _plan(self, options: Resolver, routes: Mapping[str, Sequence[Spec]]) -> None:
        def understand(specs: Sequence[Spec]) -> list[Member]:
            return config.members(
                specs,
                system=options._system.servers,
                port=options.port,
                ports=options.nameserver_ports,
            )

        config.check_timeout("timeout", options.timeout)
        everybody = understand(options._nameservers)
        self._check_operators(everybody)
        private = [member for member in everybody if _is_private(member)]
        self._default = View(b"", everybody)
        everybody_is_private = len(private) == len(everybody)
        if not private and options._system.servers:
            private = [
                m
                for m in understand([config.SYSTEM])
                if not (
                    isinstance(m, UpstreamURL) and options._is_own(m.address, m.port)
                )
            ]
        if everybody_is_private:
            self._private = self._default
        elif private:
            self._private = View(b"private", private)
        else:
            self._private = View(b"", (), "no private upstream is configured")
        self._here = View(b"", (), "this name never leaves the machine")
        self._suffixes = [wire.name_to_wire(name) for name in options._system.suffixes]
        self._routes = []
        for zone, specs in routes.items():
            if not specs:
                raise ConfigurationError(
                    f"routes[{zone!r}] needs at least one upstream"
                )
            try:
                name = wire.text_to_wire(zone)
            except (dns.exception.DNSException, ValueError) as error:
                raise ConfigurationError(
                    f"routes[{zone!r}]: allowed are names such as corp.example: {error}"
                ) from None
            members = understand(specs)
            self._check_operators(members)
            self._routes.append((name, View(b"route" + name, members)))
        self._routes.sort(key=lambda route: -len(route[0]))
        zones = [zone for zone, _ in self._routes]
        self._ends = (*special.LAST_LABELS, *self._suffixes, *zones)

    @property
    def _views(self) -> list[View]:
        """Whoever may be asked for a part of the name space."""
        return [self._default, self._private, *(view for _, view in self._routes)]

    def _check_operators(self, members: Sequence[Member]) -> None:
        """Raise where a list that the user wrote has too few for a quorum."""
        if self._strategy == "quorum" and members and not _is_group(members):
            from resolverkit.groups.quorum import OPERATORS, check_operators

            check_operators(OPERATORS, map(_operator, members))

    def view(self, name: bytes, relative: bool) -> View:
        """Who is asked for a name, before any packet leaves.

        Args:
            name: lower-cased wire name.
            relative: the caller wrote it without the final dot.
        """
        # Several labels, and no end that has to be looked at.
        if name[0] + 2 < len(name) and not name.endswith(self._ends):
            return self._default
        for zone, view in self._routes:
            if wire.is_below(name, zone):
                return view
        realm = special.realm(name, relative=relative)
        if realm is special.Realm.HERE:
            return self._here
        if realm is special.Realm.PRIVATE:
            return self._private
        if self._private is not self._default:
            for suffix in self._suffixes:
                if wire.is_below(name, suffix):
                    return self._private
        return self._default

    # --- groups and transports -------------------------------------------------------

    @property
    def groups(self) -> list[Group]:
        """Those that were asked so far."""
        return list(self._groups.values())

    def in_place(self, question: Question) -> Group | None:
        """Who is asked now for a question of the stack before."""
        tag = wire.view_of(question.key)
        view = next((v for v in self._views if v.tag == tag and v.members), None)
        return None if view is None else self.group(view, ANY_WAY)

    def group(self, view: View, way: Way) -> Group:
        """The group that answers for a view, by the way that a caller asks for."""
        group = self._groups.get((view.tag, way))
        if group is None:
            if not view.members:
                raise NetworkError("no upstream is configured", local=True)
            members = [self._transport(member, way) for member in view.members]
            if _is_group(members):
                group = members[0]  # of the user's own
                group.on_change(self._changed)
            else:
                group = self._kind(view)(
                    members,
                    delay=_DELAYS[self._strategy],
                    on_block=self._on_block,
                    on_change=self._changed,
                )
            self._groups[view.tag, way] = group
        if way is ANY_WAY:
            view.group = group
        return group

    def _kind(self, view: View) -> type[Hedge | Quorum]:
        """The kind of group for a view."""
        from resolverkit.groups.hedge import Hedge

        if self._strategy != "quorum":
            return Hedge
        from resolverkit.groups.quorum import OPERATORS, Quorum

        # Private upstreams may be of one operator: no quorum is possible.
        several = len(set(map(_operator, view.members))) >= OPERATORS
        return Quorum if several else Hedge

    def _changed(self, upstream: str, up: bool) -> None:
        """An upstream went down, or came back."""
        if up:
            self._cache.recovered()
        self._report(upstream, up)

    def _transport(self, member: Member, way: Way) -> Upstream:
        key = (id(member), way)
        transport = self._transports.get(key)
        if transport is None:
            transport = self._transports[key] = self._make(member, way)
        return transport

    def _make(self, member: Member, way: Way) -> Upstream:
        tcp, source, source_port = way
        if isinstance(member, dns.nameserver.Nameserver):
            from resolverkit.transports.nameserver import ForeignNameserver

            return ForeignNameserver(member, self._timeout, *way)
        if not isinstance(member, UpstreamURL):
            return member
        if tcp and member.scheme == "udp":
            member = member._replace(scheme="tcp")
        made = build(
            member,
            timeout=self._timeout,
            source=source,
            source_port=source_port,
            locate=self._locator(member),
        )
        self._made.append(made)
        return made

    def _locator(self, member: UpstreamURL) -> Callable[[], Awaitable[str]] | None:
        """How to find the address of an upstream that is given by name."""
        if member.address:
            return None
        from resolverkit.groups.hedge import Hedge

        group = Hedge([self._transport(m, ANY_WAY) for m in self._helpers(member)])
        return lambda: self._locate(group, member.host)

    def _helpers(self, member: UpstreamURL) -> list[Member]:
        """Upstreams that can be asked where `member` is: those with an address."""
        helpers = [
            m
            for m in self._default.members
            if not isinstance(m, UpstreamURL) or m.address
        ]
        if not helpers:
            raise ConfigurationError(
                f"upstream {member.text!r}: no other upstream can resolve "
                f"{member.host}; add ?address=IP to it"
            )
        return helpers

    async def _locate(self, group: Hedge, host: str) -> str:
        """The address of an upstream's host, by way of the others.

        Its last good address is kept, so that an outage of its zone costs nothing.
        """
        name = wire.text_to_wire(host)
        problem: UpstreamError | None = None
        for rdtype in (1, 28):
            try:
                reply = await group.query(wire.make_question(name, rdtype))
            except UpstreamError as error:
                problem = error
                continue
            if reply.kind is Kind.DATA:
                self._located[host] = address = _first_address(reply)
                return address
        if host in self._located:
            return self._located[host]
        raise NetworkError(
            f"the address of {host} is not known: {problem or 'no data'}"
        )

    # --- lifetime --------------------------------------------------------------------

    def retire(self) -> None:
        """Close once the flights that are under way have ended.

        A stack with new options takes over meanwhile.
        """
        self._retired = True
        self._cache.forget_failures()
        delay, empty = policy.RESOLUTION_DEADLINE, Context()
        self.loop.call_later(delay, self._close_retired, context=empty)

    def _close_retired(self) -> None:
        self._closing = self.loop.create_task(self.aclose())

    async def aclose(self) -> None:
        """Close every connection, and end the flights. Idempotent."""
        await self._lifeline.aclose()

    async def _live(self) -> AsyncGenerator[None, None]:
        """Ends with the loop: `asyncio.run` finishes generators before it closes it."""
        try:
            yield
        finally:
            if self._retired:  # a user's own objects may serve the next stack
                for transport in self._made:
                    await transport.aclose()
            else:
                self._cache.abandon()
                for group in self._groups.values():
                    await group.aclose()
                if self._cache.behind is not None:
                    await self._cache.behind.aclose()


def _advance(generator: AsyncGenerator[None, None]) -> None:
    """Run an async generator to its yield, which registers it with the loop."""
    try:
        generator.asend(None).send(None)
    except StopIteration:
        return


def _first_address(reply: Reply) -> str:
    message = dns.message.from_wire(reply.wire)
    assert isinstance(message, dns.message.QueryMessage)
    answer = message.resolve_chaining().answer
    assert answer is not None
    return str(answer[0].address)


def _is_group(members: Sequence[object]) -> TypeGuard[tuple[Group]]:
    """Whether they are one group, which the user has made."""
    from resolverkit.groups.group import Group

    return len(members) == 1 and isinstance(members[0], Group)


def _operator(member: Member) -> str:
    """Whose vantage a member is, as groups see it."""
    if isinstance(member, dns.nameserver.Nameserver):
        return str(member)
    if isinstance(member, UpstreamURL):
        endpoint: Endpoint = member.endpoint
    else:
        endpoint = getattr(member, "endpoint", None) or Endpoint(member.name)
    return endpoint.operator or endpoint.name


def _is_private(member: Member) -> bool:
    if isinstance(member, UpstreamURL):
        return member.private
    if isinstance(member, dns.nameserver.Nameserver):
        return False
    endpoint = getattr(member, "endpoint", None)
    return bool(endpoint is not None and endpoint.private)
