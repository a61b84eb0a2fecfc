"""The commands about a stub, and their options: serve, top, config."""

from __future__ import annotations

from typing import Annotated

import typer

from resolverkit.cli import options  # noqa: TC001  typer reads annotations


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
        typer.Option(
            metavar="NAME", help="hedge (default), race, failover or quorum; see query."
        ),
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


configs: typer.Typer = typer.Typer(
    help="Files for serve.", no_args_is_help=True, rich_markup_mode=None
)


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
