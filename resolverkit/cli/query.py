"""``resolverkit query``: ask, and show the records and the path."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import dns.exception
import dns.message
import dns.rdatatype
import dns.resolver

from resolverkit import errors
from resolverkit.cli.warnings import tell
from resolverkit.errors import ConfigurationError
from resolverkit.resolver import Resolver
from resolverkit.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resolverkit.model import AnswerPath

Form: TypeAlias = Literal["text", "short", "json"]

DATA, DENIED, USAGE, UNREACHABLE = 0, 1, 2, 3
"""Exit statuses."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    name: str
    types: tuple[str, ...]
    options: Mapping[str, Any]
    timeout: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one type."""

    rdtype: str
    status: str
    exit_status: int
    path: AnswerPath
    message: dns.message.Message | None = None
    ttl: int | None = None  # of every record, where they are stale
    error: str = ""

    def records(self) -> list[dict[str, Any]]:
        """The answer section, a record each."""
        if self.message is None:
            return []
        return [
            {
                "name": str(rrset.name),
                "ttl": rrset.ttl if self.ttl is None else self.ttl,
                "type": dns.rdatatype.to_text(rrset.rdtype),
                "data": str(rdata),
            }
            for rrset in self.message.answer
            for rdata in rrset
        ]


async def run(request: Request, form: Form, *, trace: bool) -> int:
    """Ask and print.

    Returns:
        The exit status.
    """
    tell("resolverkit", "resolverkit.store", "resolverkit.sqlite")
    try:
        outcomes = await _ask(request)
    except (ConfigurationError, dns.exception.DNSException) as error:
        return complain(error, request.name, request.types)
    _print(request, outcomes, form, trace=trace)
    return min(outcome.exit_status for outcome in outcomes)


async def _ask(request: Request) -> list[Outcome]:
    if not request.timeout > 0:  # nan, too
        raise ConfigurationError(f"--timeout {request.timeout:g}: allowed is above 0")
    async with Settings.load(None, request.options).make(Resolver) as resolver:
        return await asyncio.gather(
            *(_ask_one(resolver, request, known(rdtype)) for rdtype in request.types)
        )


def known(rdtype: str) -> str:
    """A record type in capitals.

    Raises:
        dns.rdatatype.UnknownRdatatype: there is none of this name, or number.
    """
    try:
        dns.rdatatype.from_text(rdtype)
    except ValueError:  # above TYPE65535
        raise dns.rdatatype.UnknownRdatatype from None
    return rdtype.upper()


async def _ask_one(resolver: Resolver, request: Request, rdtype: str) -> Outcome:
    try:
        answer = await resolver.resolve(
            request.name, rdtype, raise_on_no_answer=False, lifetime=request.timeout
        )
    except errors.NXDOMAIN as error:
        message = error.kwargs["responses"][error.kwargs["qnames"][0]]
        return Outcome(
            rdtype, "NXDOMAIN", DENIED, error.path, message, error=str(error)
        )
    except errors.YXDOMAIN as error:
        return Outcome(rdtype, "YXDOMAIN", DENIED, error.path, error=str(error))
    except (errors.NoNameservers, errors.LifetimeTimeout) as error:
        status = "TIMEOUT" if isinstance(error, dns.exception.Timeout) else "FAILED"
        text = f"nothing could be reached within {request.timeout:g} s"
        if status == "FAILED":
            text = "every upstream failed"
        return Outcome(rdtype, status, UNREACHABLE, error.path, error=text)
    if answer.rrset is None:
        text = f"{request.name or '.'} has no {rdtype} record"
        return Outcome(
            rdtype, "NODATA", DENIED, answer.path, answer.response, error=text
        )
    return Outcome(rdtype, "NOERROR", DATA, answer.path, answer.response)


def complain(error: Exception, name: str, types: Sequence[str]) -> int:
    """Say on stderr what is wrong with a command that has this name and these types.

    Returns:
        The exit status.
    """
    text = str(error)
    if isinstance(error, dns.resolver.NoMetaqueries):
        text = "ANY, AXFR and the like cannot be looked up; name a record type"
    elif isinstance(error, dns.rdatatype.UnknownRdatatype):
        text = f"unknown record type in {' '.join(types)}; try A or AAAA"
    elif not isinstance(
        error, (ConfigurationError, dns.resolver.NoResolverConfiguration)
    ):  # what the name itself is refused for
        text = f"{name!r} is not a name: {error}"
    print(f"resolverkit: {text}", file=sys.stderr)
    return USAGE


# --- output --------------------------------------------------------------------------


def _print(
    request: Request, outcomes: list[Outcome], form: Form, *, trace: bool
) -> None:
    if form == "json":
        print(json.dumps([_as_dict(request, o) for o in outcomes], indent=2))
        return
    for outcome in outcomes:
        if form == "short":
            for record in outcome.records():
                if record["type"] == outcome.rdtype:
                    print(record["data"])
            if outcome.exit_status == UNREACHABLE:  # else it looks like no data
                print(f"resolverkit: {outcome.path}", file=sys.stderr)
        else:
            _print_text(outcome, trace=trace)


def _as_dict(request: Request, outcome: Outcome) -> dict[str, Any]:
    return {
        "name": request.name,
        "type": outcome.rdtype,
        "status": outcome.status,
        "error": outcome.error or None,
        "records": outcome.records(),
        "path": outcome.path.to_dict(),
    }


def _print_text(outcome: Outcome, *, trace: bool) -> None:
    from rich.text import Text

    from resolverkit.cli.console import console

    out = console()
    for record in outcome.records():
        owner, ttl, rdtype = record["name"], record["ttl"], record["type"]
        line = Text(f"{owner:<32} {ttl:>6}  {rdtype:<6} {record['data']}")
        out.print(line, soft_wrap=True)
    if outcome.error:
        error = Text(f"{outcome.status}: {outcome.error}", style="bold red")
        out.print(error, soft_wrap=True)
    out.print(Text(f"; {outcome.path}", style="dim"), soft_wrap=True)
    if trace:
        out.print(_attempts(outcome.path))


def _attempts(path: AnswerPath) -> Any:
    from rich.table import Column, Table
    from rich.text import Text

    upstream, outcomes = (Column(c, overflow="fold") for c in ("upstream", "outcome"))
    table = Table("at", upstream, "over", "operator", "took", outcomes, box=None)
    first = min((attempt.started for attempt in path.attempts), default=0.0)
    for attempt in path.attempts:
        outcome = attempt.detail or str(attempt.outcome)
        if attempt.dropped:
            outcome += f" ({attempt.dropped} bad packets dropped)"
        if attempt.sends > 1:
            outcome += f" ({attempt.sends} sent)"
        won = attempt is path.winner
        table.add_row(
            f"{(attempt.started - first) * 1000:.0f} ms",
            Text(attempt.upstream),
            attempt.transport,
            Text(attempt.operator),
            f"{attempt.elapsed * 1000:.1f} ms",
            Text(f"{outcome} ←" if won else outcome),
            style="bold" if won else None,
        )
    return table
