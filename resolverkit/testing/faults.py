"""What can be wrong with a fake upstream, at any time and in any combination."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from resolverkit.errors import ConfigurationError

if TYPE_CHECKING:
    from resolverkit.testing.records import EdeLike

Send: TypeAlias = Callable[[bytes], None]
"""Sends one message back to whoever asked; does nothing once the connection is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong with a `LabUpstream`; ``Fault()`` is nothing.

    Attributes:
        silent: questions arrive and nothing comes back.
        delay: seconds by which every reply is late.
        loss: share of the replies, 0 to 1, that are lost, by the upstream's own seed.
        rcode: reply with this code and no records.
        ede: extended DNS error that goes with `rcode`: a code, or ``(code, text)``.
        soa: the SOA record of the zone goes with `rcode`, as with a real denial.
        names: names that `rcode` is for; all if there are none.
        cut_off: it cannot reach the authority, and has nothing but its cache.
        lame: denials come without SOA; data is denied too.
        garbage: random octets come before each reply, and over DoH in its place.
        wrong_id: a forged reply with another id comes before each reply, likewise.
        truncated: over UDP nothing but TC, so that TCP has to be used.
        no_edns: FORMERR without OPT to every query with EDNS.
        close_after: connections are closed after this many replies; 0: on a question.
        status: DoH replies have this HTTP status.
        headers: DoH replies have these headers, over or beside the right ones.
        refuse_post: DoH answers 400 to POST, as some Knot Resolvers do.

    Raises:
        ConfigurationError: a value that cannot be played.
    """

    silent: bool = False
    delay: float = 0.0
    loss: float = 0.0
    rcode: int | None = None
    ede: EdeLike = None
    soa: bool = False
    names: Collection[str] = ()
    cut_off: bool = False
    lame: bool = False
    garbage: bool = False
    wrong_id: bool = False
    truncated: bool = False
    no_edns: bool = False
    close_after: int | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    refuse_post: bool = False

    def __post_init__(self) -> None:
        """Tell what is wrong here: it would be lost in the server's callbacks."""
        if self.rcode is not None and self.rcode not in range(4096):
            raise ConfigurationError(f"rcode={self.rcode!r}: allowed are 0 to 4095")
        for name, most in (("delay", math.inf), ("loss", 1)):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value <= most:
                raise ConfigurationError(f"{name}={value!r}: allowed are 0 to {most}")
        if isinstance(self.names, str):
            raise ConfigurationError(
                f"names={self.names!r}: allowed is a list of names"
            )


class Responder(Protocol):
    """What a server needs from its `LabUpstream`."""

    fault: Fault

    def receive(self, data: bytes, send: Send, *, datagram: bool = False) -> None:
        """Take a query, and send what there is to send: nothing, or soon, or later."""
        ...

    def connected(self) -> None:
        """Count a connection."""
        ...


def exhausted(fault: Fault, replies: int) -> bool:
    """Whether a connection that has carried `replies` replies has to be closed."""
    return fault.close_after is not None and replies >= fault.close_after
