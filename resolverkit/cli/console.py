"""What commands print their tables on."""

from __future__ import annotations

from rich.console import Console

_WIDTH = 240


def console() -> Console:
    """Stdout. A file or pipe has no edge at which to cut or fold."""
    found = Console(highlight=False)
    if not found.is_terminal:
        found.width = _WIDTH
    return found
