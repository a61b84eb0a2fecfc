"""What commands print their tables on."""

from __future__ import annotations

from rich.console import Console


def console(width: int = 240) -> Console:
    """Stdout; `width` is for files and pipes, which have no edge to cut or fold at."""
    found = Console(highlight=False)
    if not found.is_terminal:
        found.width = width
    return found
