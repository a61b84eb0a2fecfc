"""``resolverkit survey``: what every vantage says, and what that comes to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dns.exception

from resolverkit.cli.query import complain, known
from resolverkit.comparison import Verdict
from resolverkit.errors import ConfigurationError
from resolverkit.model import ede_text
from resolverkit.resolver import Resolver
from resolverkit.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resolverkit.survey import Survey, Vantage

AGREED, DENIED, UNREACHABLE, DISAGREED = 0, 1, 3, 4
"""Exit statuses, beside that of `complain`."""

_STYLES = {
    Verdict.AGREE: "green",
    Verdict.DIFFER: "green",
    Verdict.UNKNOWN: "dim",
    Verdict.DENIES: "yellow",
    Verdict.FILTERS: "yellow",
    Verdict.LIES: "bold red",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    name: str
    rdtype: str
    options: Mapping[str, Any]
    timeout: float


async def run(request: Request, *, as_json: bool) -> int:
    """Ask all and print.

    Returns:
        The exit status.
    """
    try:
        survey = await _survey(request)
    except (ConfigurationError, dns.exception.DNSException) as error:
        return complain(error, request.name, (request.rdtype,))
    if as_json:
        print(json.dumps(survey.to_dict(), indent=2))
    else:
        _print(survey)
    return exit_status(survey)


async def _survey(request: Request) -> Survey:
    if not request.timeout > 0:  # nan, too
        raise ConfigurationError(f"--timeout {request.timeout:g}: allowed is above 0")
    async with Settings.load(None, request.options).make(Resolver) as resolver:
        return await resolver.survey(
            request.name, known(request.rdtype), lifetime=request.timeout
        )


def exit_status(survey: Survey) -> int:
    """What a script can go by."""
    if not survey.answered:
        return UNREACHABLE
    if survey.verdict in {Verdict.AGREE, Verdict.DIFFER} or survey.operators == 1:
        return DENIED if survey.denied else AGREED
    return DISAGREED


def _print(survey: Survey) -> None:
    from rich.table import Column, Table
    from rich.text import Text

    from resolverkit.cli.console import console

    out = console()
    upstream = Column("upstream", overflow="fold")
    table = Table(upstream, "over", "operator", "took", "TTL", box=None)
    table.add_column("says", overflow="fold")
    table.add_column("")
    for vantage in survey.vantages:
        table.add_row(
            Text(vantage.name),
            vantage.transport,
            Text(vantage.operator),
            f"{vantage.elapsed * 1000:.1f} ms",
            "" if vantage.ttl is None else str(vantage.ttl),
            Text("\n".join(_said(vantage))),
            Text(str(vantage.verdict), style=_STYLES[vantage.verdict]),
        )
    if survey.vantages:
        out.print(table)
    style = "bold " + _STYLES[survey.verdict]
    sentence = Text(f"{survey.question}: {survey.sentence}", style=style)
    out.print(sentence, soft_wrap=True)


def _said(vantage: Vantage) -> list[str]:
    """A line for each record, and one for what else there is to say."""
    lines = list(vantage.records)
    if not lines:
        lines.append(vantage.detail or str(vantage.outcome))
    if vantage.cname:
        lines.append(f"by {vantage.cname}")
    return [*lines, *(f"EDE {ede_text(ede)}" for ede in vantage.ede)]
