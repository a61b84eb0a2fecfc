"""A mini-internet on loopback: one authority, and fake public resolvers before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, cast

from resolverkit.errors import ConfigurationError
from resolverkit.testing.authority import Authority
from resolverkit.testing.certificates import Certificates
from resolverkit.testing.upstreams import LabUpstream, Transport

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType


class Lab:
    """Starts fake upstream resolvers in the running loop, and leaves nothing behind.

    ::

        async with Lab(authority, ["udp", LabUpstream("doh", operator="Beta")]) as lab:
            async with Resolver(lab.urls) as resolver:
                await resolver.resolve("www.example.com")
                authority.vanish()
                lab.upstreams[0].fault = Fault(silent=True)

    Args:
        authority: what they all ask.
        upstreams: the upstreams, or the names of their transports.

    Attributes:
        authority: what they all ask.
        upstreams: the upstreams.

    Raises:
        ConfigurationError: the authority is none, or there is no such transport.
    """

    def __init__(
        self, authority: Authority, upstreams: Sequence[str | LabUpstream] = ("udp",)
    ) -> None:
        if not isinstance(authority, Authority):
            raise ConfigurationError(
                f"authority {authority!r}: allowed is an Authority, such as "
                "Authority(['www.example.com. 60 IN A 192.0.2.1'])"
            )
        self.authority = authority
        self.upstreams: list[LabUpstream] = [
            LabUpstream(cast("Transport", upstream))
            if isinstance(upstream, str)
            else upstream
            for upstream in upstreams
        ]
        self._certificates: Certificates | None = None

    @property
    def urls(self) -> list[str]:
        """The URLs of all upstreams, in order."""
        return [upstream.url for upstream in self.upstreams]

    @property
    def ca(self) -> Path | None:
        """The PEM file to trust, where an upstream is encrypted."""
        return None if self._certificates is None else self._certificates.ca_path

    async def __aenter__(self) -> Self:
        try:
            if any(upstream.encrypted for upstream in self.upstreams):
                self._certificates = Certificates()
            for upstream in self.upstreams:
                certificates = self._certificates if upstream.encrypted else None
                await upstream._set_up(self.authority, certificates)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close everything. Idempotent.

        Nothing is awaited before all is closed, so a second Ctrl-C changes nothing.
        """
        for upstream in self.upstreams:
            upstream._break_off()
        certificates, self._certificates = self._certificates, None
        if certificates is not None:
            certificates.close()
        for upstream in self.upstreams:
            await upstream.stop()
