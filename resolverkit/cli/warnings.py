"""What the library warns of, as lines on stderr."""

from __future__ import annotations

import logging


def tell(command: str, *loggers: str) -> None:
    """Print the warnings of some loggers as complaints of a command.

    Args:
        command: what the lines begin with.
        loggers: by name.
    """
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter(f"{command}: %(message)s"))
    for name in loggers:
        logging.getLogger(name).addHandler(handler)
