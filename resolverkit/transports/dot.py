"""DNS over TLS (RFC 7858), authenticated strictly (RFC 8310)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resolverkit import wire
from resolverkit.transports.stream import Stream
from resolverkit.transports.tls import TlsOptions, make_context

if TYPE_CHECKING:
    from resolverkit.model import Endpoint, Question


class Dot(Stream):
    """One server asked over TLS; clear text is never tried.

    Args:
        endpoint: who is asked.
        tls: whom to trust; without it the certificate must be for the address.
        options: as `Connected` takes them.

    Raises:
        ConfigurationError: the CA file or a pin cannot be used.
    """

    @staticmethod
    def encode(question: Question) -> bytes:
        """The query, padded to a multiple of 128 octets (RFC 8467 section 4.1)."""
        return wire.padded(question)

    def __init__(
        self, endpoint: Endpoint, *, tls: TlsOptions | None = None, **options: Any
    ) -> None:
        super().__init__(endpoint, **options)
        tls = tls or TlsOptions(endpoint.address)
        self._context = make_context(tls, ("dot",))
        self._hostname = tls.hostname
