"""What a request for DNS over HTTPS asks (RFC 8484 section 4.1). Pure."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Sequence

PATH = "/dns-query"
MEDIA_TYPE = "application/dns-message"
MAX_MESSAGE = 65_535
"""Octets of a query (RFC 8484 section 6)."""
MAX_FIELDS = 16
"""Parameters of a URL, of which one is read."""
HEADER = 12
"""Octets of the least message there is."""

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def read(method: str, target: str, content_type: str, body: bytes) -> bytes | int:
    """The query in a request, or the HTTP status that tells what is wrong with it."""
    path, _, query = target.partition("?")
    if path != PATH:
        return 404
    if method == "POST":
        return read_post(content_type.partition(";")[0].strip().lower(), body)
    if method not in {"GET", "HEAD"}:
        return 405
    try:
        values = parse_qs(query, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        return 400
    return read_get(values.get("dns", []))


def read_get(values: Sequence[str]) -> bytes | int:
    """The query in the values of the parameter ``dns``, or the HTTP status.

    It is base64url without padding (RFC 8484 section 6).
    """
    if len(values) != 1 or not _BASE64URL.fullmatch(values[0]):
        return 400
    text = values[0]
    if len(text) % 4 == 1:  # no number of octets gives that
        return 400
    return _checked(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def read_post(content_type: str, body: bytes) -> bytes | int:
    """The query in a body, or the HTTP status that tells what is wrong with it."""
    if content_type != MEDIA_TYPE:
        return 415
    return _checked(body)


def _checked(message: bytes) -> bytes | int:
    if len(message) > MAX_MESSAGE:
        return 413
    # What has no header, or is a response, gets no reply over UDP; HTTP has to say so.
    if len(message) < HEADER or message[2] & 0x80:
        return 400
    return message
