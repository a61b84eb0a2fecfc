"""How the demo looks on a terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from resolverkit.cli.demo import EVERY, FAST, FULL, NAMES, Demo

if TYPE_CHECKING:
    from rich.console import RenderableType

    from resolverkit.cli.demo import Row, Tally

_STYLES = {"healthy": "green", "gone": "red", "back": "cyan"}
_SHOWN = 14  # rows of the live table: fits a small terminal


async def run(*, fast: bool, as_json: bool) -> int:
    """Run the demo.

    Args:
        fast: a few seconds in all.
        as_json: print JSON at the end and nothing else.

    Returns:
        The exit status: 0, or 1 if resolverkit lost an answer.
    """
    demo = Demo(FAST if fast else FULL)
    if as_json:
        await demo.run()
        print(json.dumps(demo.to_dict(), indent=2))
    else:
        await _show(demo, Console(highlight=False))
    return 1 if demo.failures else 0


async def _show(demo: Demo, console: Console) -> None:
    plan = demo.plan
    console.print(
        f"A mini-internet on loopback. {len(NAMES)} names are asked for every "
        f"{EVERY:g} s, through resolverkit and through plain dnspython.\n"
        f"TTLs are those of 2021-10-04 (60 s to 1 h); the caches' clocks run "
        f"{plan.speed:g} times as fast as yours.\n"
        f"After {plan.before:g} s the authoritative servers vanish, "
        f"{plan.outage:g} s later they are back."
    )
    if console.is_terminal:
        with Live(
            get_renderable=lambda: _table(demo.rows[-_SHOWN:]),
            console=console,
            refresh_per_second=5,
            transient=True,
        ):
            await demo.run()
    else:
        demo._on_second = lambda row: console.print(_progress(demo, row))
        await demo.run()
    console.print(_table(demo.rows))
    console.print(_verdict(demo))


def _progress(demo: Demo, row: Row) -> Text:
    text = Text(f"{row.second:>3} s  the authority is {row.phase}")
    if len(demo.rows) > 1:
        before = demo.rows[-2]
        text.append(
            f"; answered in the last second: resolverkit {before.ours.answered} of "
            f"{before.ours.asked}, dnspython {before.plain.answered} of "
            f"{before.plain.asked}"
        )
    return text


def _table(rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("s", justify="right")
    table.add_column("authority")
    for heading in (
        "resolverkit", "fresh", "cache", "stale", "max ms", "sent",
        "dnspython", "max ms", "sent",
    ):  # fmt: skip
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        sources = row.ours.sources
        table.add_row(
            str(row.second),
            Text(row.phase, style=_STYLES[row.phase]),
            _answered(row.ours),
            *(str(sources.get(s, "")) for s in ("upstream", "cache", "stale")),
            _worst(row.ours),
            str(row.ours.queries),
            _answered(row.plain),
            _worst(row.plain),
            str(row.plain.queries),
        )
    return table


def _answered(tally: Tally) -> Text:
    text = Text(f"{tally.answered}/{tally.asked}")
    if tally.pending:
        text.stylize("dim")
    elif tally.answered < tally.asked:
        text.stylize("red")
    return text


def _worst(tally: Tally) -> str:
    return f"{max(tally.took) * 1000:.0f}" if tally.took else "…"


def _verdict(demo: Demo) -> RenderableType:
    lines = []
    for name, tallies in (
        ("resolverkit", [row.ours for row in demo.rows]),
        ("dnspython", [row.plain for row in demo.rows]),
    ):
        asked = sum(t.asked for t in tallies)
        answered = sum(t.answered for t in tallies)
        gone = sum(
            t.queries
            for row, t in zip(demo.rows, tallies, strict=True)
            if row.phase == "gone"
        )
        lines.append(
            f"{name:<12} answered {answered} of {asked}; "
            f"{gone} queries left for the upstreams while the authority was gone"
        )
    text = Text("\n" + "\n".join(lines))
    if demo.failures:
        text.append(
            "\nresolverkit lost an answer: " + demo.failures[0], style="bold red"
        )
    return Group(
        text,
        Text(
            "What no resolver can do: hosts that are down stay down. On that day the "
            "addresses answered nobody either; a stale answer changes which error a "
            "program sees, how soon, and how much load it makes.",
            style="dim",
        ),
    )
