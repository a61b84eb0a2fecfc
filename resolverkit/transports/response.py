"""Which responses of HTTP are DNS replies, whatever the version (RFC 8484)."""

from __future__ import annotations

MEDIA_TYPE = "application/dns-message"
MAX_BODY = 65_535
"""Octets of a DNS message (RFC 8484 section 6)."""


class Head:
    """The header of a response, as far as it matters to DNS.

    Args:
        status: 0 where there is none, as in trailers.
        content_type: as it was sent; empty where it was not.
        age: the same of Age (RFC 8484 section 5.1).
        length: what Content-Length says, if it says something.
        fault: why this is no header at all; HTTP/2 is strict about that.

    Attributes:
        age: in seconds.
        refusal: why a response with this header is no DNS reply (RFC 8484 section
            4.2.1); empty if it is one. A redirect is none either: a resolver has no
            reason to send us elsewhere.
        welcome: there is neither a fault nor a refusal.
    """

    __slots__ = ("age", "fault", "length", "refusal", "status", "welcome")

    def __init__(
        self,
        status: int,
        content_type: str,
        age: str,
        length: int | None = None,
        fault: str = "",
    ) -> None:
        self.status: int = status
        self.age: int = int(age[:10]) if age.isascii() and age.isdigit() else 0
        self.length: int | None = length
        self.fault: str = fault
        self.refusal: str = ""
        if not 200 <= status <= 299:
            self.refusal = f"HTTP status {status}"
        elif content_type.partition(";")[0].strip().lower() != MEDIA_TYPE:
            self.refusal = f"content type {content_type[:80] or 'missing'}"
        self.welcome: bool = not fault and not self.refusal
