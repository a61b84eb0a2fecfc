"""Who is trusted to be the server: CA certificates and pinned keys (RFC 8310).

Authentication is strict. With pins and no CA file, the pin stands in for the chain and
the name (RFC 7858 section 4.2); with both, both must hold. Pins are checked at the end
of the handshake, before a byte of a question is sent, whoever runs the connection.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ssl
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from resolverkit.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """How a server shows that it is the one that was meant.

    Attributes:
        hostname: the name, or IP address, that its certificate must be for.
        ca: a PEM file of CA certificates to trust in place of the system's.
        pins: ``sha256/BASE64`` of public keys (SPKI), one of which it must have.
    """

    hostname: str
    ca: str | None = None
    pins: tuple[str, ...] = ()


def make_context(options: TlsOptions, alpn: tuple[str, ...]) -> ssl.SSLContext:
    """The context for connections with these options; equal ones share it.

    Args:
        options: whom to trust.
        alpn: the protocols to offer, best first (RFC 7301).

    Returns:
        A context for TLS 1.2 and above.

    Raises:
        ConfigurationError: the CA file or a pin cannot be used.
    """
    pins = frozenset(_read_pin(pin) for pin in options.pins)
    if pins:
        _need_cryptography()
    if options.ca is None:
        return _make(None, pins, alpn)
    try:
        # Kept by content, so that a file that was renewed is read again.
        return _make(Path(options.ca).read_text("ascii"), pins, alpn)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else None
        raise ConfigurationError(
            f"ca={options.ca}: {why or 'no certificate in it'}; "
            "allowed is a readable file of PEM certificates"
        ) from error


@lru_cache(maxsize=64)
def _make(
    ca: str | None, pins: frozenset[bytes], alpn: tuple[str, ...]
) -> ssl.SSLContext:
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8310 section 8, RFC 8996
    context.set_alpn_protocols(list(alpn))
    context.pins = pins
    if pins:
        context.sslobject_class = _PinnedObject
    if ca is not None:
        context.load_verify_locations(cadata=ca)
    elif pins:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the pin is what authenticates
    else:
        context.load_default_certs()
    return context


class _Context(ssl.SSLContext):
    """A context that knows the pins."""

    pins: frozenset[bytes] = frozenset()


class _PinnedObject(ssl.SSLObject):
    """A TLS connection whose handshake fails when no pin fits."""

    def do_handshake(self) -> None:
        super().do_handshake()
        pins = self.context.pins if isinstance(self.context, _Context) else ()
        # Only the server's own key counts: a chain that nobody verified may name any.
        if _key_digest(self.getpeercert(binary_form=True) or b"") not in pins:
            error = ssl.SSLCertVerificationError()
            error.verify_message = "no pin matches the server's key"
            raise error


def _key_digest(certificate: bytes) -> bytes:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
    )

    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return b""
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()


def _read_pin(text: str) -> bytes:
    kind, _, value = text.partition("/")
    try:
        digest = base64.b64decode(value, validate=True)
    except binascii.Error:
        digest = b""
    if kind != "sha256" or len(digest) != hashlib.sha256().digest_size:
        raise ConfigurationError(
            f"pin={text}: allowed is sha256/ and the BASE64 of a SHA-256 digest"
        )
    return digest


def _need_cryptography() -> None:
    try:
        import cryptography  # noqa: F401 - an extra
    except ImportError as error:
        raise ConfigurationError(
            "pin= needs the cryptography package: pip install 'resolverkit[pin]'"
        ) from error
