"""Real Redis servers that are shared; one of a test's own is `redis_server`."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from park import RedisServer

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def shared(
    redis_program: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, RedisServer]]:
    """A server, and a cluster of one node, for tests that do them no harm."""
    from park import Park

    park = Park(redis_program, tmp_path_factory.mktemp("redis"))
    alone, node = park(), park("--cluster-enabled", "yes")
    node.own()
    yield {"server": alone, "cluster": node}
    park.end()


@pytest.fixture(params=["server", "cluster"])
def anywhere(request: pytest.FixtureRequest, shared: dict[str, RedisServer]) -> Any:
    """A shared server, and the URL of a place in it that nobody has used."""
    server = shared[request.param]
    prefix = f"?prefix=[{next(_NUMBERS)}]*:"
    server.place = server.url(prefix + "&cluster=1" * (request.param == "cluster"))
    return server
