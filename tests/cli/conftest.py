"""The command line asks the real servers of tests/servers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from processes import Vantage

SERVERS = Path(__file__).parent.parent / "servers"


@pytest.fixture(scope="package")
def vantages(
    require: Callable[[Iterable[str]], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Vantage]]:
    """A lab of this package's own."""
    if str(SERVERS) not in sys.path:
        sys.path.insert(0, str(SERVERS))
    from lab import Lab
    from programs import missing_programs

    require(missing_programs())
    with Lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab.vantages
