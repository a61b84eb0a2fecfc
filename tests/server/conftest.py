"""The server is asked by real clients, over the real servers of tests/servers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lab import Lab

SERVERS = Path(__file__).parent.parent / "servers"
CLIENTS = ("dig", "delv", "kdig", "drill")


@pytest.fixture(scope="package")
def lab(
    require: Callable[[Iterable[str]], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Lab]:
    """A lab of this package's own."""
    if str(SERVERS) not in sys.path:
        sys.path.insert(0, str(SERVERS))
    from lab import Lab
    from processes import find_program
    from programs import missing_programs

    clients = [program for program in CLIENTS if find_program(program) is None]
    require([*missing_programs(), *clients])
    with Lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab
