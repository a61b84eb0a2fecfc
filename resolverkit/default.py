"""The module-level functions, over one Resolver for each thread."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING, Any

import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.resolver

from resolverkit.resolver import Resolver

if TYPE_CHECKING:
    from dns._asyncbackend import Backend

    from resolverkit.answer import Answer
    from resolverkit.policy import StalePolicy

_threads = threading.local()
_inherited: list[Resolver] = []


def get_default_resolver() -> Resolver:
    """The Resolver behind the module's functions: one per thread, made on demand.

    It asks whom the environment names, by ``RESOLVERKIT_UPSTREAMS`` or in the file of
    ``RESOLVERKIT_CONFIG``, or else the system's servers.

    Raises:
        ConfigurationError: a variable, or the file, cannot be used.
        dns.resolver.NoResolverConfiguration: there are no servers.
    """
    found: Resolver | None = getattr(_threads, "resolver", None)
    if found is None:
        from resolverkit.settings import Settings  # noqa: PLC0415  on first use

        found = _threads.resolver = Settings.load().make(Resolver)
    return found


async def resolve(
    qname: dns.name.Name | str,
    rdtype: dns.rdatatype.RdataType | str = dns.rdatatype.A,
    rdclass: dns.rdataclass.RdataClass | str = dns.rdataclass.IN,
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
    """Find the answer to a question by the default Resolver; see `Resolver.resolve`."""
    return await get_default_resolver().resolve(
        qname, rdtype, rdclass, tcp, source, raise_on_no_answer, source_port,
        lifetime, search, backend, stale=stale, refresh=refresh,
    )  # fmt: skip


async def resolve_name(
    name: dns.name.Name | str, family: int = socket.AF_UNSPEC, **kwargs: Any
) -> dns.resolver.HostAnswers:
    """Look up the addresses of a name; see `Resolver.resolve_name`."""
    return await get_default_resolver().resolve_name(name, family, **kwargs)


async def resolve_address(
    ipaddr: str, *args: Any, **kwargs: Any
) -> dns.resolver.Answer:
    """Look up the name of an address; see `dns.asyncresolver.resolve_address`."""
    return await get_default_resolver().resolve_address(ipaddr, *args, **kwargs)


async def canonical_name(name: dns.name.Name | str) -> dns.name.Name:
    """The end of a name's CNAME chain; see `dns.asyncresolver.canonical_name`."""
    return await get_default_resolver().canonical_name(name)


def _begin_anew() -> None:
    """In a child whose parent has forked amid a loop: that is not the child's."""
    found: Resolver | None = getattr(_threads, "resolver", None)
    if found is None or found._stack is None or found._stack.loop.is_closed():
        return
    _inherited.append(found)  # to let go of it would close what the parent uses
    del _threads.resolver


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
