"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

_HOW = (
    "9.9.9.9, udp://…, tcp://…, tls://…, https://…, a preset (quad9, cloudflare, …) or "
    "'system'. May be repeated. Default: as the environment says, or system."
)

Upstreams = Annotated[
    list[str] | None,
    typer.Option("--upstream", "-u", metavar="URL", help=f"Who to ask: {_HOW}"),
]
Vantages = Annotated[
    list[str] | None,
    typer.Option("--upstream", "-u", metavar="URL", help=f"A vantage: {_HOW}"),
]
CA = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Certificates (PEM) to trust for tls:// and https://."
    ),
]
Lifetime = Annotated[
    float, typer.Option(metavar="SECONDS", help="How long it may take in all.")
]
