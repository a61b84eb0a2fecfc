"""What ``resolverkit top`` shows, made from what the stub says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

WIDTH = 160
"""Columns where there is no terminal."""

_STYLES = {
    "upstream": "blue",
    "cache": "green",
    "stale": "yellow",
    "held": "magenta",
    "failed": "red",
}
_STATES = {"up": "green", "unknown": "dim"}
_LEAST = 12  # columns of a name or an error, on however narrow a terminal
_HEIGHT = 6  # rows of the chart
_SLOTS = 360  # of the stub's history: an hour
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_AROUND = 12  # rows of the screen that are neither upstreams, chart nor names


def view(
    status: dict[str, Any],
    width: int,
    height: int | None = None,
    problem: str = "",
    silent: float = 0.0,
) -> RenderableType:
    """The whole screen.

    Args:
        status: what the stub says.
        width: columns that there are.
        height: rows that there are; None for as many as it takes.
        problem: why there is nothing newer.
        silent: seconds since the stub has said this.
    """
    upstreams, old = status["upstreams"], status["old"]
    shown = len(old["names"])
    if height is not None:
        shown = max(1, height - _AROUND - _HEIGHT - len(upstreams))
    parts: list[RenderableType] = [_head(status)]
    if problem:
        text = f"The stub does not answer; this is its state {_ago(silent)} ago: "
        parts.append(Text(text + clean(problem), style="bold red"))
    parts += [
        Text(),
        _upstreams(upstreams),
        Text(),
        *_chart(status["history"], width),
        Text(),
        _names(old, shown),
    ]
    return Group(*parts)


def clean(text: object) -> str:
    """A text that cannot steer the terminal: some of it is a server's."""
    return "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text)
    )


def _ago(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds // 60:.0f} min"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"


def _head(status: dict[str, Any]) -> Text:
    text = Text(clean(status["summary"]), style="bold")
    told = (
        f"  resolverkit {status['version']}, up for {_ago(status['uptime'])}, "
        f"answers in memory: {status['cache']['entries']}, "
        f"in flight: {status['flights']}"
    )
    if (store := status["store"]) is not None:
        told += f", store: {store['problem'] or 'usable'}"
    return text.append(clean(told), style="not bold dim")


def _upstreams(upstreams: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("upstream", "state", "round trip", "success, 5 min", "last error"):
        long = heading in {"upstream", "last error"}  # which give way to the others
        table.add_column(heading, no_wrap=not long, min_width=_LEAST if long else None)
    for each in upstreams:
        operator = f" ({each['operator']})" if each["operator"] else ""
        rtt, success, error = each["rtt_ms"], each["success"], each["error"]
        table.add_row(
            Text(clean(each["name"] + operator), no_wrap=True, overflow="ellipsis"),
            Text(_state(each), style=_STATES.get(each["state"], "bold red")),
            "" if rtt is None else f"{rtt} ms",
            "" if success is None else f"{success * 100:.1f} %",
            Text(
                ""
                if error is None
                else f"{clean(error)}, {_ago(each['error_age'])} ago"
            ),
        )
    return table


def _state(upstream: dict[str, Any]) -> str:
    state = clean(upstream["state"])
    if upstream["down_for"] is None:
        return "not asked yet" if state == "unknown" else state
    return f"{state} for {_ago(upstream['down_for'])}"


def _chart(history: dict[str, Any], width: int) -> list[Text]:
    """Columns, each of as many slots as it takes; the parts stand on each other."""
    fields, counts = history["fields"], history["counts"]
    per = max(1, -(-_SLOTS // max(10, width)))
    columns = [
        [sum(column) for column in zip(*counts[max(0, end - per) : end], strict=True)]
        for end in range(len(counts), 0, -per)
    ][::-1]
    most = max([1, *(sum(column) for column in columns)])
    empty = " " * (-(-_SLOTS // per) - len(columns))  # now is at the right
    lines = [Text(empty) for _ in range(_HEIGHT)]
    for column in columns:
        for row, (eighths, field) in enumerate(_bar(column, fields, most)):
            style = _STYLES.get(field, "")
            lines[_HEIGHT - 1 - row].append(_EIGHTHS[eighths], style=style)
    legend = Text(f"the last hour, at most {most} in {per * history['slot']:.0f} s: ")
    for i, field in enumerate(fields):
        total = sum(slot[i] for slot in counts)
        legend.append(f"{clean(field)} {total}  ", style=_STYLES.get(field, ""))
    return [*lines, legend]


def _bar(
    column: Sequence[int], fields: Sequence[str], most: int
) -> list[tuple[int, str]]:
    """From below: eighths of each cell, and the part that it mostly shows."""
    cells = []
    total = sum(column)
    for row in range(_HEIGHT):
        low = row * most / _HEIGHT
        filled = min(1.0, max(0.0, (total - low) * _HEIGHT / most))
        reach, shown = 0, fields[0]
        middle = low + filled * most / _HEIGHT / 2
        for field, count in zip(fields, column, strict=True):
            reach += count
            if count and middle <= reach:
                shown = field
                break
        cells.append((-int(-filled * 8 // 1), shown))
    return cells


def _names(old: dict[str, Any], shown: int) -> RenderableType:
    if not old["total"]:
        return Text("No name is on old data.", style="dim")
    table = Table(box=None, pad_edge=False)
    for heading in ("on old data", "type", "source", "since", "learnt", "served"):
        long = heading == "on old data"
        table.add_column(heading, no_wrap=not long, min_width=_LEAST if long else None)
    for each in old["names"][:shown]:
        table.add_row(
            Text(clean(each["name"])),
            clean(each["type"]),
            Text(clean(each["source"]), style=_STYLES.get(each["source"], "")),
            _ago(each["since"]),
            f"{_ago(each['age'])} ago",
            str(each["served"]),
        )
    hidden = old["total"] - min(shown, len(old["names"]))
    return Group(table, Text(f"and {hidden} more", style="dim")) if hidden else table
