"""What can go wrong, grouped by what a caller can do about it.

::

    ResolverKitError
    ├── ConfigurationError (ValueError)   the program asked for something impossible
    ├── StoreError                        a store cannot be used; memory goes on
    └── UpstreamError                     one question, one upstream, no usable reply
        ├── QueryTimeout                  nothing valid arrived in time
        ├── NetworkError                  no route, refused, reset, TLS or HTTP failure
        ├── BadReply                      bytes that are not a reply to the question
        └── ServerFailure                 a reply that says so: SERVFAIL, REFUSED, …

``resolve()`` raises dnspython's exceptions, so that existing ``except`` clauses work;
each is a subclass of its namesake with a ``path`` that lists all that was tried:
`NXDOMAIN`, `NoAnswer`, `YXDOMAIN`, `NoNameservers`, `LifetimeTimeout`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dns.rcode
import dns.resolver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolverkit.model import AnswerPath, Attempt, Ede


class ResolverKitError(Exception):
    """The root of resolverkit's own errors."""


class ConfigurationError(ResolverKitError, ValueError):
    """An option, URL or file that cannot be used; the message says what is allowed."""


class StoreError(ResolverKitError):
    """A store cannot be used now; the message names it and says why."""


class UpstreamError(ResolverKitError):
    """One upstream gave no usable reply to one question.

    Attributes:
        attempts: all that was tried, in the order of asking.
    """

    def __init__(self, message: str, attempts: Sequence[Attempt] = ()) -> None:
        super().__init__(message)
        self.attempts: tuple[Attempt, ...] = tuple(attempts)


class QueryTimeout(UpstreamError):
    """No valid reply arrived in time."""


class NetworkError(UpstreamError):
    """The question could not be carried: network, TLS or HTTP failed.

    Attributes:
        local: True when the fault is on this machine (no route, no socket, no
            descriptor left), which is never cached as a failure of the name.
    """

    def __init__(
        self, message: str, attempts: Sequence[Attempt] = (), *, local: bool = False
    ) -> None:
        super().__init__(message, attempts)
        self.local = local


class BadReply(UpstreamError):
    """Bytes that are no valid reply to the question (RFC 5452 section 9.1)."""


class ServerFailure(UpstreamError):
    """A valid reply that concludes nothing: SERVFAIL, REFUSED, NOTIMP.

    Attributes:
        rcode: the (extended) response code.
        ede: extended DNS errors (RFC 8914) as ``(code, text)`` pairs.
    """

    def __init__(
        self,
        rcode: int,
        ede: tuple[Ede, ...] = (),
        attempts: Sequence[Attempt] = (),
        message: str | None = None,
    ) -> None:
        super().__init__(message or dns.rcode.to_text(dns.rcode.Rcode(rcode)), attempts)
        self.rcode = rcode
        self.ede = ede

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.rcode, self.ede, self.attempts, str(self))


class _WithPath:
    """What resolverkit adds to dnspython's exceptions."""

    path: AnswerPath

    def __init__(self, path: AnswerPath, **kwargs: Any) -> None:
        self.path = path
        super().__init__(**kwargs)  # which makes the text


class NXDOMAIN(_WithPath, dns.resolver.NXDOMAIN):
    """The name does not exist; `path` says who said so."""


class NoAnswer(_WithPath, dns.resolver.NoAnswer):
    """The name has no data of this type; `path` says who said so."""


class YXDOMAIN(_WithPath, dns.resolver.YXDOMAIN):
    """The DNS query name is too long after DNAME substitution."""


class NoNameservers(_WithPath, dns.resolver.NoNameservers):
    """Every upstream failed; `path` lists what each of them did."""

    def _fmt_kwargs(self, **kwargs: Any) -> dict[str, Any]:
        text: dict[str, Any] = super()._fmt_kwargs(**kwargs)  # type: ignore[no-untyped-call]
        if not kwargs["errors"]:  # nobody was asked: dnspython would say nothing
            text["errors"] = self.path.detail
        return text


class LifetimeTimeout(_WithPath, dns.resolver.LifetimeTimeout):
    """The lifetime ended first; `path` lists what had been tried by then."""
