"""The page of the HTTP face, and the policy that lets a browser run it and no more."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

_INLINE = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


class Page(NamedTuple):
    """A document, and its Content-Security-Policy."""

    body: bytes
    policy: str


@cache
def page() -> Page:
    """The page: one file, whose style and script alone may run, by their hashes.

    Trusted Types have the browser refuse every way to turn text into markup, so that a
    name cannot become more than text by a mistake here.
    """
    text = files("resolverkit.server").joinpath("page.html").read_text("utf-8")
    hashes: dict[str, str] = {}
    for kind, inline in _INLINE.findall(text):
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        hashes[kind] = f"'sha256-{digest}'"
    policy = [
        "default-src 'none'",
        f"style-src {hashes['style']}",
        f"script-src {hashes['script']}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ]
    return Page(text.encode(), "; ".join(policy))
