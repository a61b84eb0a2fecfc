"""Commands and their options; what they do stands in a module each."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Annotated

import typer

from resolverkit.cli import options, store_app, stub_app
from resolverkit.cli import query as querying

app: typer.Typer = typer.Typer(
    name="resolverkit",
    help=(
        "A DNS resolver that asks several upstreams, serves the last known good answer "
        "when the name servers vanish, and says which path answered."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"resolverkit {version('resolverkit')}")
        raise typer.Exit


@app.callback()
def common(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version."
        ),
    ] = False,
) -> None:
    """Options of every command."""


@app.command()
def query(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name to look up.")],
    types: Annotated[
        list[str] | None,
        typer.Argument(metavar="TYPE", help="Record types; A if none is given."),
    ] = None,
    upstream: options.Upstreams = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=(
                "hedge (default) asks the next upstream when one is late, race asks "
                "all at once, failover asks the next when one has failed, quorum asks "
                "until two operators agree."
            ),
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help=(
                "Where answers are kept from one call to the next: sqlite:///path, "
                "redis://host, …"
            ),
        ),
    ] = None,
    ca: options.CA = None,
    timeout: options.Lifetime = 5.0,
    trace: Annotated[
        bool, typer.Option("--trace", help="Show every attempt, the losers included.")
    ] = False,
    short: Annotated[
        bool, typer.Option("--short", help="Show nothing but the data.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: records and path, for machines.")
    ] = False,
) -> None:
    """Look up a name, and show by which path the answer came.

    Exit status: 0 with data, 1 if the name or the data does not exist, 2 for a mistake
    in the command, 3 when nothing could be reached.

    Example: resolverkit query example.com A AAAA -u quad9 -u cloudflare --trace
    """
    request = querying.Request(
        name=name,
        types=tuple(types or ("A",)),
        options={
            "upstreams": upstream,
            "strategy": strategy,
            "store": store,
            "ca": ca,
        },
        timeout=timeout,
    )
    form: querying.Form = "text"
    if as_json:
        form = "json"
    elif short:
        form = "short"
    raise typer.Exit(asyncio.run(querying.run(request, form, trace=trace)))


@app.command()
def survey(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name to ask for.")],
    rdtype: Annotated[
        str, typer.Argument(metavar="TYPE", help="The record type.")
    ] = "A",
    upstream: options.Vantages = None,
    ca: options.CA = None,
    timeout: options.Lifetime = 5.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: all vantages, for machines.")
    ] = False,
) -> None:
    """Ask every vantage for a name, and say whether they agree.

    Exit status: 0 if they agree, or differ as CDNs do, 1 if all deny the name or the
    data, 2 for a mistake in the command, 3 when nothing could be reached, 4 if vantages
    disagree: one denies, filters or lies, or nobody can tell.

    Example: resolverkit survey example.com -u quad9 -u cloudflare -u google
    """
    from resolverkit.cli import survey as surveying

    request = surveying.Request(
        name=name,
        rdtype=rdtype,
        options={"upstreams": upstream, "ca": ca},
        timeout=timeout,
    )
    raise typer.Exit(asyncio.run(surveying.run(request, as_json=as_json)))


@app.command()
def demo(
    outage: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=(
                "Replay this outage and show a table of its phases; 'list' tells "
                "which there are. Default: facebook-2021, second by second."
            ),
        ),
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Ten seconds instead of half a minute.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the table as JSON at the end.")
    ] = False,
) -> None:
    """Live through an outage of the past, on loopback and offline.

    Without a name it is that of 2021-10-04: an authority with the names of Facebook,
    WhatsApp and Instagram vanishes and comes back; resolverkit and plain dnspython ask
    all the while, side by side.

    Exit status: 0; 1 if resolverkit lost an answer that it was to keep; 2 for a
    mistake in the command.

    Example: resolverkit demo --outage zoom-2025
    """
    from resolverkit.cli import demo as demos

    raise typer.Exit(asyncio.run(demos.run(outage, fast=fast, as_json=as_json)))


app.command()(stub_app.serve)
app.command()(stub_app.top)
app.add_typer(store_app.stores, name="store")
app.add_typer(stub_app.configs, name="config")
