"""An outage as a page: the facts, a table by phase and client, and the limits."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from rich.live import Live
from rich.table import Table
from rich.text import Text

from resolverkit.testing.replay import EVERY

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from resolverkit.testing.outage import Client, Outage
    from resolverkit.testing.replay import Replay
    from resolverkit.testing.tally import Row, Tally


async def show(replay: Replay, console: Console) -> None:
    """Tell of the outage, run the replay, and show it meanwhile and afterwards."""
    console.print(_facts(replay))
    console.print()
    if console.is_terminal:
        with Live(
            get_renderable=lambda: _table(replay),
            console=console,
            refresh_per_second=4,
            transient=True,
        ):
            await replay.run()
    else:
        replay.on_second = _announcer(replay, console)
        await replay.run()
    console.print(_table(replay))
    console.print()
    console.print(_verdict(replay))
    console.print(Text("Limits: " + replay.outage.limits, style="dim"))


def _facts(replay: Replay) -> Table:
    outage = replay.outage
    table = Table.grid(padding=(0, 2))
    table.add_row(outage.name, Text(outage.title, style="bold"))
    table.add_row("when", outage.when)
    table.add_row("what", outage.facts)
    table.add_row("at the stub", outage.signature)
    table.add_row("what helps", outage.helps)
    table.add_row(
        "this replay",
        f"{outage.replay} A name is asked for every {EVERY:g} s by each client; the "
        f"caches' clocks run {replay.pace.speed:g} times as fast as yours.",
    )
    for client in outage.clients:
        table.add_row(client.label, _setting(outage, client))
    return table


def _setting(outage: Outage, client: Client) -> str:
    asks = ", ".join(str(outage.vantages[name]) for name in client.vantages)
    return f"{asks}; {client.setting}" if client.setting else asks


def _announcer(replay: Replay, console: Console) -> Callable[[Row], None]:
    def announce(row: Row) -> None:
        if len(replay.rows) < 2 or replay.rows[-2].phase != row.phase:
            console.print(f"{row.second:>3} s  {row.phase}")

    return announce


def _table(replay: Replay) -> Table:
    signed = any(vantage.validates for vantage in replay.outage.vantages.values())
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    headings = ["asked", "right", "wrong", "failed", "median ms", "sent"]
    for heading in headings[:2] + ["AD"] * signed + headings[2:]:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("by way of")
    for phase in replay.outage.phases:
        table.add_row(Text(phase.name, style="red" if phase.outage else "green"))
        for label, tally in replay.phases()[phase.name].items():
            table.add_row(f"  {label}", *_cells(tally, signed=signed))
    return table


def _cells(tally: Tally, *, signed: bool) -> list[str | Text]:
    right = Text(f"{tally.share:.0%}" if tally.asked else "")
    if tally.pending:
        right.stylize("dim")
    elif tally.answered < tally.asked:
        right.stylize("red")
    share = tally.validated / tally.asked if tally.asked else 0.0
    return [
        str(tally.asked),
        right,
        *([f"{share:.0%}"] if signed else []),
        str(tally.wrong or ""),
        str(tally.failed or ""),
        f"{median(tally.took) * 1000:.0f}" if tally.took else "",
        str(tally.queries),
        ways(tally),
    ]


def ways(tally: Tally) -> str:
    """Where the answers came from, the most common first: ``cache 90 %, held 10 %``."""
    found = tally.via + tally.sources
    del found["upstream"]  # told by those who answered
    total = found.total()
    return ", ".join(
        f"{way} {count / total:.0%}".replace("%", " %")
        for way, count in found.most_common()
    )


def _verdict(replay: Replay) -> Text:
    lines = Text()
    for client in replay.outage.clients:
        tallies = [tallies[client.label] for tallies in replay.phases().values()]
        asked, answered = (
            sum(t.asked for t in tallies),
            sum(t.answered for t in tallies),
        )
        lost = asked - answered
        what = f"lost {lost} of {asked} answers" if lost else "kept every answer"
        style = "bold red" if client.keeps and lost else ""
        lines.append(f"{client.label} {what}\n", style=style)
    if replay.failures:
        lines.append(f"{replay.failures[0]}\n", style="bold red")
    return lines
