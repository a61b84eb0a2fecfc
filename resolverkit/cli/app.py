"""Commands and their options; what they do stands in a module each."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Annotated

import typer

from resolverkit.cli import options
from resolverkit.cli import query as querying
from resolverkit.cli.store_app import stores

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
    name: Annotated[str, typer.Argument(help="The name to look up.")],
    types: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TYPE]...", help="Record types; A if none is given."),
    ] = None,
    upstream: options.Upstreams = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help=(
                "hedge (default) asks the next upstream when one is late, race asks "
                "all at once, failover asks the next when one has failed, quorum asks "
                "until two operators agree."
            )
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
    name: Annotated[str, typer.Argument(help="The name to ask for.")],
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


@app.command()
def serve(
    listen: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help=(
                "Where to listen, for UDP and TCP: 127.0.0.1:5353, [::1]:5353; port 0 "
                "for any. May be repeated. Default: 127.0.0.1:53."
            ),
        ),
    ] = None,
    upstream: options.Upstreams = None,
    strategy: Annotated[
        str | None,
        typer.Option(help="hedge (default), race, failover or quorum; see query."),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where answers outlive the process: sqlite:///path, redis://host, …",
        ),
    ] = None,
    ca: options.CA = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NETWORK",
            help="Who may ask besides this machine: 192.168.0.0/16. May be repeated.",
        ),
    ] = None,
    rate_limit: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            help="Datagrams per second of one client; 0 for any number. Default: 1000.",
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Tell in replies by which path they came."),
    ] = False,
    listen_tls: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS", help="Where to listen for DNS over TLS. May be repeated."
        ),
    ] = None,
    tls_cert: Annotated[
        str | None, typer.Option(metavar="FILE", help="The certificate (PEM) for that.")
    ] = None,
    tls_key: Annotated[
        str | None, typer.Option(metavar="FILE", help="Its key (PEM).")
    ] = None,
    listen_https: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="Where to listen for DNS over HTTPS, with the same. May be repeated.",
        ),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Where to show the page, the state and the metrics: 127.0.0.1:8053.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER", help="Processes that share the work. Default: 1."
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A TOML file with all this; options take precedence. SIGHUP re-reads.",
        ),
    ] = None,
    log_level: Annotated[
        str, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")
    ] = "info",
) -> None:
    """Answer DNS queries of other programs, on this machine.

    Says where it listens on stdout once it does. SIGHUP has it read its file again,
    SIGTERM and Ctrl-C have it answer what is under way and end.

    Exit status: 0 when told to end; 2 for a mistake in the command or the file, 3 if an
    address cannot be listened at.

    Example: resolverkit serve --listen 127.0.0.1:5353 -u quad9 -u cloudflare
    """
    from resolverkit.cli import serve as serving

    told = {
        "listen": listen,
        "upstreams": upstream,
        "strategy": strategy,
        "store": store,
        "ca": ca,
        "allow": allow,
        "rate_limit": rate_limit,
        "explain": explain or None,
        "listen_tls": listen_tls,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "workers": workers,
        "listen_https": listen_https,
        "http": http,
    }
    raise typer.Exit(serving.serve(config, told, log_level))


@app.command()
def top(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="What serve was given as --http.")
    ] = "http://127.0.0.1:8053",
    once: Annotated[
        bool, typer.Option("--once", help="Show it once, and end: for scripts.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the state as JSON, once.")
    ] = False,
) -> None:
    """Watch a running stub: its upstreams, its answers, the names on old data.

    Needs serve with --http. The key q, or Ctrl-C, ends it.

    Exit status: 0; 2 for a mistake in the command, 3 if the stub does not answer.

    Example: resolverkit top http://127.0.0.1:8053
    """
    from resolverkit.cli import top as watching

    raise typer.Exit(watching.run(url, once=once, as_json=as_json))


app.add_typer(stores, name="store")

configs: typer.Typer = typer.Typer(
    help="Files for serve.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(configs, name="config")


@configs.command("check")
def config_check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The TOML file.")],
) -> None:
    """Say whether serve could use a file.

    Exit status: 0 if it could, 2 if not.

    Example: resolverkit config check /etc/resolverkit.toml
    """
    from resolverkit.cli import serve

    raise typer.Exit(serve.check(file))
