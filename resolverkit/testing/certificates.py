"""Certificates made on the spot, for servers on loopback."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from resolverkit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = ("localhost", "127.0.0.1", "::1")
"""What the certificate is valid for."""


class Certificates:
    """A certificate authority, and one certificate by it for `NAMES`.

    Attributes:
        ca_path: PEM file of the authority, in a temporary directory.

    Raises:
        ConfigurationError: trustme is not installed.
    """

    def __init__(self) -> None:
        try:
            import trustme  # noqa: PLC0415  only who wants TLS needs it
        except ImportError:
            raise ConfigurationError(
                "fake servers with TLS need trustme: pip install 'resolverkit[testing]'"
            ) from None
        authority = trustme.CA()
        self._certificate = authority.issue_cert(*NAMES)
        self._directory = tempfile.TemporaryDirectory(prefix="resolverkit-")
        self.ca_path: Path = Path(self._directory.name, "ca.pem")
        authority.cert_pem.write_to_path(str(self.ca_path))

    def context(self, alpn: Sequence[str]) -> ssl.SSLContext:
        """A server's TLS context that offers these protocols."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._certificate.configure_cert(context)
        context.set_alpn_protocols(list(alpn))
        return context

    def close(self) -> None:
        """Remove the directory."""
        self._directory.cleanup()
