"""The HTTP that a process speaks beside DNS: its page, and DNS over HTTPS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from resolverkit.errors import ConfigurationError
from resolverkit.server import addresses
from resolverkit.server.guard import check_reach, check_upstreams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolverkit.resolver import Resolver
    from resolverkit.server.addresses import Sockets
    from resolverkit.server.http import HttpFace
    from resolverkit.server.settings import Settings
    from resolverkit.server.stub import Server
    from resolverkit.server.watch import Watch

HTTP_PORT, HTTPS_PORT = 8053, 443
"""Default ports of the page, and of DNS over HTTPS (RFC 8484 section 8.1)."""


class Faces:
    """All that a Server's settings say of HTTP; aiohttp is loaded if that is something.

    Args:
        settings: where to listen, and the certificate.
        server: who answers; it has started.
        watch: the hook of its Resolvers, where there is to be a page.
        sockets: those for DNS over HTTPS, where they are bound already.
    """

    def __init__(
        self,
        settings: Settings,
        server: Server,
        watch: Watch | None,
        sockets: Sequence[Sockets] = (),
    ) -> None:
        self._settings = settings
        self._server = server
        self._watch = watch
        self._given = sockets
        self._page: HttpFace | None = None
        self._dns: list[HttpFace] = []

    @property
    def page(self) -> str | None:
        """The URL of the page."""
        return None if self._page is None else f"http://{self._page.address}"

    @property
    def https(self) -> list[str]:
        """Where it listens for DNS over HTTPS."""
        return [str(face.address) for face in self._dns]

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _start(self) -> None:
        settings = self._settings
        wanted: list[tuple[str, Sockets | None]]
        wanted = [(str(each.address), each) for each in self._given]
        if wanted and settings.tls_cert is None:
            raise ConfigurationError("a socket for https needs tls_cert (and tls_key)")
        wanted = wanted or [(listen, None) for listen in settings.listen_https]
        if settings.http is None and not wanted:
            return
        from resolverkit.server.http import HttpFace  # noqa: PLC0415 - needs aiohttp

        limit = settings.max_connections
        if settings.http is not None:
            self._page = HttpFace(self._server, self._watch, max_connections=limit)
            await self._page.start(settings.http)
        for listen, sockets in wanted:
            face = HttpFace(self._server, max_connections=limit)
            self._dns.append(face)
            await face.start(
                listen,
                tls_cert=settings.tls_cert,
                tls_key=settings.tls_key,
                sockets=sockets,
            )
        self.check_upstreams(self._server.resolver)

    async def aclose(self) -> None:
        """End every request, and let go of the sockets. Idempotent."""
        for face in (*self._dns, *([] if self._page is None else [self._page])):
            await face.aclose()

    def load_certificate(self) -> None:
        """Read the certificate again.

        Raises:
            ConfigurationError: it cannot be used.
        """
        for face in self._dns:
            face.load_certificate()

    def check_upstreams(self, resolver: Resolver) -> None:
        """Raise ConfigurationError where an upstream is one of these listeners."""
        own = [face.address for face in self._dns if face.address]
        own += [address for each in self._given for address in each.reached]
        check_upstreams(resolver, own)


def check(settings: Settings) -> None:
    """Raise ConfigurationError for what could not be listened at."""
    wanted = [addresses.parse(text, HTTPS_PORT) for text in settings.listen_https]
    if wanted and settings.tls_cert is None:
        raise ConfigurationError("listen_https needs tls_cert (and tls_key)")
    if settings.http is not None:
        wanted.append(addresses.parse(settings.http, HTTP_PORT))
        if settings.workers > 1:
            raise ConfigurationError(
                f"workers={settings.workers}: http allows 1, for what it shows is one "
                "process's"
            )
    check_reach(wanted, settings.allow)
