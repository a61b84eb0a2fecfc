"""The demo as a table of seconds: plain dnspython beside resolverkit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from resolverkit.testing.replay import EVERY

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from resolverkit.testing.replay import Replay
    from resolverkit.testing.tally import Row, Tally

_STYLES = {"healthy": "green", "gone": "red", "back": "cyan"}
_SHOWN = 14  # rows of the live table: fits a small terminal
_CLIENTS = ("resolverkit", "dnspython")


async def show(replay: Replay, console: Console) -> None:
    """Run the replay and show it meanwhile."""
    before, gone, _ = map(replay.pace.seconds, replay.outage.phases)
    console.print(
        f"A mini-internet on loopback. {len(replay.outage.names)} names are asked for "
        f"every {EVERY:g} s, through resolverkit and through plain dnspython.\n"
        f"TTLs are those of 2021-10-04 (60 s to 1 h); the caches' clocks run "
        f"{replay.pace.speed:g} times as fast as yours.\n"
        f"After {before:g} s the authoritative servers vanish, {gone:g} s later they "
        "are back."
    )
    if console.is_terminal:
        with Live(
            get_renderable=lambda: _table(replay.rows[-_SHOWN:]),
            console=console,
            refresh_per_second=5,
            transient=True,
        ):
            await replay.run()
    else:
        replay.on_second = lambda row: console.print(_progress(replay, row))
        await replay.run()
    console.print(_table(replay.rows))
    console.print(_verdict(replay))


def _progress(replay: Replay, row: Row) -> Text:
    text = Text(f"{row.second:>3} s  the authority is {row.phase}")
    if len(replay.rows) > 1:
        before = replay.rows[-2].tallies
        told = (
            f"{client} {before[client].answered} of {before[client].asked}"
            for client in _CLIENTS
        )
        text.append("; answered in the last second: " + ", ".join(told))
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
        ours, plain = (row.tallies[client] for client in _CLIENTS)
        table.add_row(
            str(row.second),
            Text(row.phase, style=_STYLES[row.phase]),
            _answered(ours),
            *(str(ours.sources.get(s, "")) for s in ("upstream", "cache", "stale")),
            _worst(ours),
            str(ours.queries),
            _answered(plain),
            _worst(plain),
            str(plain.queries),
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


def _verdict(replay: Replay) -> RenderableType:
    phases = replay.phases().values()
    gone = replay.phases()["gone"]
    lines = []
    for client in _CLIENTS:
        answered = sum(tallies[client].answered for tallies in phases)
        asked = sum(tallies[client].asked for tallies in phases)
        lines.append(
            f"{client:<12} answered {answered} of {asked}; {gone[client].queries} "
            "queries left for the upstreams while the authority was gone"
        )
    text = Text("\n" + "\n".join(lines))
    if replay.failures:
        text.append(
            "\nresolverkit lost an answer: " + replay.failures[0], style="bold red"
        )
    limits = Text(
        f"What no resolver can do: {replay.outage.limits[0].lower()}"
        f"{replay.outage.limits[1:]}",
        style="dim",
    )
    return Group(text, limits)
