"""The certificate that a server shows, and TLS as RFC 7858 and RFC 9325 want it."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from resolverkit.errors import ConfigurationError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence


class Certificate:
    """Files of a certificate, and what handshakes use.

    Args:
        cert: PEM file of the certificate and those that lead to its authority.
        key: PEM file of its key; None where that is in `cert`.
        protocols: what is spoken there, as ALPN names it.

    Attributes:
        context: for handshakes that begin now.

    Raises:
        ConfigurationError: the files cannot be used.
    """

    context: ssl.SSLContext

    def __init__(
        self,
        cert: str | os.PathLike[str],
        key: str | os.PathLike[str] | None,
        protocols: Sequence[str],
    ) -> None:
        self._cert = cert
        self._key = key
        self._protocols = protocols
        self.load()

    def load(self) -> None:
        """Read the certificate, or the one that has taken its place.

        Connections that are open go on with the one before; all do if this raises. So
        it is read into a context of its own: one that took a certificate and not its
        key could shake no hand any more.

        Raises:
            ConfigurationError: the files cannot be used.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(list(self._protocols))
        try:
            context.load_cert_chain(self._cert, self._key)
        except (OSError, ssl.SSLError) as error:
            its_key = "" if self._key is None else f", tls_key={str(self._key)!r}"
            raise ConfigurationError(
                f"tls_cert={str(self._cert)!r}{its_key}: {error}; allowed are PEM files"
            ) from None
        self.context = context
