"""The commands of ``resolverkit store``, and their options."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Coroutine

stores: typer.Typer = typer.Typer(
    help="Look into a store: sqlite:///path, redis://host and the like.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_StoreURL = Annotated[
    str, typer.Argument(metavar="URL", help="sqlite:///path, redis://host[:port], …")
]


@stores.command("show")
def store_show(
    url: _StoreURL,
    under: Annotated[
        str | None, typer.Option(metavar="NAME", help="This name and those below it.")
    ] = None,
) -> None:
    """List what a store keeps: name, type, state, age, who gave it.

    Exit status: 0; 2 for a mistake in the command, 3 if the store cannot be used.

    Example: resolverkit store show sqlite:///var/cache/app/dns.db --under example.com
    """
    from resolverkit.cli import store

    raise typer.Exit(asyncio.run(store.run(lambda: store.show(url, under))))


@stores.command("flush")
def store_flush(
    url: _StoreURL,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Of which name; without it, all."),
    ] = None,
    subtree: Annotated[
        bool, typer.Option("--subtree", help="Also of the names below it.")
    ] = False,
) -> None:
    """Delete answers from a store.

    What running programs have in memory stays there.

    Exit status: 0; 2 for a mistake in the command, 3 if the store cannot be used.

    Example: resolverkit store flush redis://cache.internal example.com --subtree
    """
    from resolverkit.cli import store

    def work() -> Coroutine[Any, Any, None]:
        return store.flush(url, name, subtree=subtree)

    raise typer.Exit(asyncio.run(store.run(work)))


@stores.command("export")
def store_export(url: _StoreURL) -> None:
    """Print every answer as a line of JSON.

    Exit status: 0; 2 for a mistake in the command, 3 if the store cannot be used.

    Example: resolverkit store export sqlite:///var/cache/app/dns.db > answers.jsonl
    """
    from resolverkit.cli import store

    raise typer.Exit(asyncio.run(store.run(lambda: store.export(url))))


@stores.command("load")
def store_load(
    url: _StoreURL,
    file: Annotated[
        typer.FileText,
        typer.Argument(
            metavar="FILE",
            help="Lines that export printed; - for stdin.",
            encoding="utf-8",
            errors="replace",  # what is no text is no record either, and told as such
        ),
    ],
) -> None:
    """Read answers that export has printed; newer ones in the store stay.

    Exit status: 0; 2 for a mistake in the command or the file, 3 if the store cannot
    be used.

    Example: resolverkit store load redis://cache.internal answers.jsonl
    """
    from resolverkit.cli import store

    raise typer.Exit(asyncio.run(store.run(lambda: store.load(url, file))))
