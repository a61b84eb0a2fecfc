"""DNS over HTTPS (RFC 8484): HTTP/2 where the server offers it, else HTTP/1.1.

What HTTP means for DNS is said here, for both: when a question goes by GET, and what
becomes of a response (`response` has which are DNS replies, and how old). `http2.Http2`
and `http1.Http1` carry it.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from resolverkit import wire
from resolverkit.errors import BadReply, ConfigurationError, NetworkError
from resolverkit.transports.connected import Connected
from resolverkit.transports.http1 import Http1
from resolverkit.transports.http2 import Http2
from resolverkit.transports.response import MAX_BODY
from resolverkit.transports.tls import TlsOptions, make_context

if TYPE_CHECKING:
    from resolverkit.model import Endpoint, Question
    from resolverkit.transports.asked import Asked, Channel
    from resolverkit.transports.response import Head

_REFUSE_POST = frozenset((400, 405, 415, 501))  # Knot Resolver 5.6 says 400


class Doh(Connected):
    """One server asked over HTTPS.

    Args:
        endpoint: who is asked.
        url: the URI template, ``https://host[:port]/path[{?dns}]``; by default the
            endpoint's name.
        tls: whom to trust; by default the certificate must be for the URL's host.
        options: as `Connected` takes them.

    Attributes:
        alpn: what the last handshake agreed on: ``"h2"``, ``"http/1.1"`` or None.
        by_get: the server refused POST and answered to GET.

    Raises:
        ConfigurationError: the URL, the CA file or a pin cannot be used.
    """

    authority: str
    target: str

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        url: str | None = None,
        tls: TlsOptions | None = None,
        **options: Any,
    ) -> None:
        super().__init__(endpoint, **options)
        self.authority, self.target, hostname = _read_url(url or endpoint.name)
        self.tls: TlsOptions = tls or TlsOptions(hostname)
        self._context = make_context(self.tls, ("h2", "http/1.1"))
        self.alpn: str | None = None
        self.by_get: bool = False
        self._http1 = False  # until a connection fails

    async def _connect(self) -> None:
        if not self._http1:
            link = Http2(self)
            await self._open(lambda: link, self._context, self.tls.hostname)
            self.alpn = link.alpn
            self._http1 = link.alpn != "h2"
        if self._http1:
            # Its own connections offer no more than aiohttp can speak.
            context = make_context(self.tls, ("http/1.1",))
            address = await self._locate_server()
            self.connected(Http1(self, context, address))

    def retire(self, channel: Channel, *, closing: bool = False) -> None:
        """`channel` takes no more questions; who comes next may speak HTTP/2."""
        if channel is self._channel:
            self._http1 = False
        super().retire(channel, closing=closing)

    def get_target(self, question: Question) -> str:
        """Path and query of a GET: base64url without padding (RFC 8484 section 6)."""
        text = base64.urlsafe_b64encode(wire.padded(question)).rstrip(b"=").decode()
        return f"{self.target}{'&' if '?' in self.target else '?'}dns={text}"

    def retry_by_get(self, asked: Asked, status: int) -> bool:
        """Whether a refused POST is worth one GET; if so it is marked."""
        if asked.by_get or status not in _REFUSE_POST:
            return False
        asked.by_get = True
        return True

    def finish(self, asked: Asked, head: Head, body: bytes, now: float) -> None:
        """End a question with the response to it."""
        if asked.by_get:
            if head.status in _REFUSE_POST:
                self.by_get = False
            elif not head.refusal:
                self.by_get = True
        if head.refusal:
            asked.fail(NetworkError(head.refusal))
        elif len(body) > MAX_BODY:
            asked.fail(BadReply(f"a body of more than {MAX_BODY} octets"))
        elif body[:2].strip(b"\0"):
            asked.fail(BadReply("another id"))
        elif not asked.conclude(body, now, head.age):
            asked.fail(BadReply(wire.mismatch(asked.question, body)))


def _read_url(url: str) -> tuple[str, str, str]:
    """Authority, path with query, and host name."""
    text = url.removesuffix("{?dns}")
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme != "https" or not parts.hostname or "{" in text:
        raise ConfigurationError(
            f"{url}: allowed is https://host[:port]/path, "
            "with or without {?dns} at its end"
        )
    authority = parts.netloc.rpartition("@")[2].removesuffix(":443")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return authority, target, parts.hostname
