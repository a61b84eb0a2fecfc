"""What holds for every test: it leaves nothing behind, and missing servers are told.

Warnings are errors (pyproject.toml), unclosed sockets and unraisable exceptions among
them. On top of that no test may end its event loop with tasks still running, and
asyncio may not log an error, such as an exception that nobody retrieved. A test that is
about just that says so: `@pytest.mark.untidy("why")`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from park import Park

SERVERS = Path(__file__).parent / "servers"
MISSING = pytest.StashKey[set[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MISSING] = set()
    # No test of a text or a message is a test of time: machines are slow and busy.
    hypothesis.settings.register_profile("any time", deadline=None)
    hypothesis.settings.load_profile("any time")
    for variable in ("RESOLVERKIT_UPSTREAMS", "RESOLVERKIT_CONFIG"):
        os.environ.pop(variable, None)  # whom a developer's shell names is not asked
    # A shell's job in the background ignores Ctrl-C, and so would all that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers", "untidy(reason): may leave tasks behind or make asyncio log errors"
    )


def pytest_collection_finish() -> None:
    """What is loaded by now is here to stay: the collections below can skip it."""
    gc.collect()
    gc.freeze()


class _Errors(logging.Handler):
    """Keeps what asyncio logs as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture(autouse=True)
def tidy(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves tasks, or errors that only asyncio's log tells."""
    left: list[str] = []
    loops = 0
    cancel_all = asyncio.runners._cancel_all_tasks

    def watch(loop: asyncio.AbstractEventLoop) -> None:
        nonlocal loops
        loops += 1
        left.extend(repr(task) for task in asyncio.all_tasks(loop))
        cancel_all(loop)

    errors = _Errors()
    logger = logging.getLogger("asyncio")
    logger.addHandler(errors)
    with mock.patch.object(asyncio.runners, "_cancel_all_tasks", watch):
        yield
    if loops:
        gc.collect()  # what was dropped unclosed is told now, in the test that did it
    logger.removeHandler(errors)
    if request.node.get_closest_marker("untidy"):
        return
    if left:
        pytest.fail("tasks left when the loop ended:\n" + "\n".join(left))
    if errors.lines:
        pytest.fail("asyncio logged:\n" + "\n".join(errors.lines))


@pytest.fixture(scope="session")
def in_ci() -> bool:
    """Whether this run is a CI's, where nothing may be skipped."""
    return os.environ.get("CI", "").lower() not in {"", "0", "false"}


@pytest.fixture(scope="session")
def require(
    in_ci: bool, pytestconfig: pytest.Config
) -> Callable[[Iterable[str]], None]:
    """A function that takes the missing programs and skips; in CI it fails."""

    def require(missing: Iterable[str]) -> None:
        missing = set(missing)
        if not missing:
            return
        pytestconfig.stash[MISSING] |= missing
        told = f"not installed: {', '.join(sorted(missing))}; see `make servers`"
        if in_ci:
            pytest.fail(told, pytrace=False)
        pytest.skip(told)

    return require


@pytest.fixture(scope="session")
def redis_program(require: Callable[[Iterable[str]], None]) -> str:
    """Where redis-server is; skip (in CI: fail) where it is missing."""
    if str(SERVERS) not in sys.path:
        sys.path.insert(0, str(SERVERS))
    from processes import find_program

    found = find_program("redis-server")
    require([] if found else ["redis-server"])
    assert found is not None
    return found


@pytest.fixture
def redis_server(redis_program: str, tmp_path: Path) -> Iterator[Park]:
    """A function that starts a server of the test's own."""
    from park import Park

    park = Park(redis_program, tmp_path)
    yield park
    park.end()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    missing = config.stash[MISSING]
    if not missing:
        return
    names = ", ".join(sorted(missing))
    terminalreporter.section("servers missing", sep="!", yellow=True, bold=True)
    terminalreporter.write_line(
        f"The tests with real servers did not run: {names} not installed."
    )
    terminalreporter.write_line("`make servers` (as root) installs them.")
