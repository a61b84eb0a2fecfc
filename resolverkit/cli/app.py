"""Commands and their options; what they do stands in a module each."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Annotated

import typer

from resolverkit.cli import query as querying

app = typer.Typer(
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
    name: Annotated[str, typer.Argument(help="The name to look up.")],
    types: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TYPE]...", help="Record types; A if none is given."),
    ] = None,
    upstream: Annotated[
        list[str] | None,
        typer.Option(
            "--upstream",
            "-u",
            metavar="URL",
            help=(
                "Who to ask: 9.9.9.9, udp://…, tcp://…, tls://…, https://…, a preset "
                "(quad9, cloudflare, …) or 'system'. May be repeated. Default: system."
            ),
        ),
    ] = None,
    strategy: Annotated[
        str,
        typer.Option(
            help=(
                "hedge asks the next upstream when one is late, race asks all at once, "
                "failover asks the next when one has failed."
            )
        ),
    ] = "hedge",
    ca: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Certificates (PEM) to trust for tls:// and https://."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long it may take in all.")
    ] = 5.0,
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
        upstreams=tuple(upstream or ("system",)),
        strategy=strategy,
        ca=ca,
        timeout=timeout,
    )
    form: querying.Form = "text"
    if as_json:
        form = "json"
    elif short:
        form = "short"
    raise typer.Exit(asyncio.run(querying.run(request, form, trace=trace)))


@app.command()
def demo(
    fast: Annotated[
        bool, typer.Option("--fast", help="Ten seconds instead of half a minute.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the table as JSON at the end.")
    ] = False,
) -> None:
    """Live through the outage of 2021-10-04, on loopback and offline.

    An authority with the names of Facebook, WhatsApp and Instagram vanishes and comes
    back; resolverkit and plain dnspython ask all the while, side by side.

    Exit status: 0, or 1 if resolverkit lost an answer.
    """
    from resolverkit.cli import demo_view

    raise typer.Exit(asyncio.run(demo_view.run(fast=fast, as_json=as_json)))
