"""The command line."""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Run ``resolverkit``; says what to install when the extra is missing."""
    try:
        from resolverkit.cli.app import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("resolverkit"):
            raise
        sys.exit(
            f"resolverkit: the command line needs {error.name}; "
            "install it with: pip install 'resolverkit[cli]'"
        )
    if isinstance(sys.stdout, io.TextIOWrapper):  # not every locale has arrows
        sys.stdout.reconfigure(errors="replace")
    app()


if __name__ == "__main__":
    main()
