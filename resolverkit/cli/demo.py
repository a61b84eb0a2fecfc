"""``resolverkit demo``: an outage on loopback, lived through by several programs."""

from __future__ import annotations

import json
import sys

from rich.console import Console
from rich.table import Table

from resolverkit.cli import demo_phases, demo_view
from resolverkit.testing.outages import OUTAGES
from resolverkit.testing.replay import FAST, FULL, Replay

DEFAULT = "facebook-2021"
"""The outage that is shown second by second where none is named."""
LIST = "list"


async def run(name: str | None, *, fast: bool, as_json: bool) -> int:
    """Run the demo.

    Args:
        name: which outage, or `LIST`; without one `DEFAULT`, second by second.
        fast: some seconds in all.
        as_json: print JSON at the end and nothing else.

    Returns:
        The exit status: 0; 1 if an answer was lost that was to be kept; 2 if there
        is no such outage.
    """
    if name == LIST:
        show_list(as_json=as_json)
        return 0
    if name is not None and name not in OUTAGES:
        print(
            f"resolverkit: no outage {name!r}: allowed are {', '.join(OUTAGES)}, "
            f"and {LIST!r}",
            file=sys.stderr,
        )
        return 2
    replay = Replay(OUTAGES[name or DEFAULT], FAST if fast else FULL)
    console = Console(highlight=False)
    if as_json:
        await replay.run()
        print(json.dumps(replay.to_dict(), indent=2))
    elif name is None:
        await demo_view.show(replay, console)
    else:
        await demo_phases.show(replay, console)
    return 1 if replay.failures else 0


def show_list(*, as_json: bool) -> None:
    """Show what can be replayed."""
    if as_json:
        print(json.dumps([outage.to_dict() for outage in OUTAGES.values()], indent=2))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for outage in OUTAGES.values():
        table.add_row(outage.name, f"{outage.title}\n{outage.when}")
    Console(highlight=False).print(table)
