"""The query in an HTTP request (RFC 8484 section 4.1). Pure."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import parse_qs, urlsplit

PATH = "/dns-query"
MEDIA_TYPE = "application/dns-message"


def read_request(
    method: str, target: str, content_type: str, body: bytes, *, refuse_post: bool
) -> bytes | int:
    """The query in a request, or the HTTP status that tells what is wrong with it."""
    url = urlsplit(target)
    if url.path != PATH:
        return 404
    if method == "POST":
        if refuse_post:
            return 400
        return body if content_type == MEDIA_TYPE else 415
    if method != "GET":
        return 405
    try:
        text = parse_qs(url.query)["dns"][0]
        return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (KeyError, binascii.Error, ValueError):
        return 400
