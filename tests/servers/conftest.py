"""The lab of real servers, as fixtures.

`lab`, `authority` and `vantages` are shared by the whole run; after each test whoever
was stopped or killed is started afresh. `own_lab` is a lab for one test alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import programs
import pytest
from lab import Lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from processes import Authority, Vantage

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.servers)


@pytest.fixture(scope="session")
def installed(require: Callable[[Iterable[str]], None]) -> None:
    """Skip (in CI: fail) where a program is missing."""
    require(programs.missing_programs())


@pytest.fixture(scope="session")
def lab(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture(scope="session")
def authority(lab: Lab) -> Authority:
    return lab.authority


@pytest.fixture(scope="session")
def vantages(lab: Lab) -> dict[str, Vantage]:
    return lab.vantages


@pytest.fixture(autouse=True)
def settled(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test with the shared lab, all of it runs again."""
    if "lab" in request.fixturenames:
        shared: Lab = request.getfixturevalue("lab")
        yield
        shared.settle()
    else:
        yield


@pytest.fixture
def own_lab(installed: None, tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as lab:
        yield lab
