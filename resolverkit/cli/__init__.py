"""The command line."""

from __future__ import annotations

import io
import signal
import sys


def main() -> None:
    """Run ``resolverkit``; says what to install when the extra is missing."""
    try:
        _run()
    except KeyboardInterrupt:  # while modules load; from then on typer sees to it
        sys.exit(128 + signal.SIGINT)


def _run() -> None:
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
