"""What a program pays before its first answer, each time in a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from measure import Series, fresh_names
from peers import ADDRESSES

if TYPE_CHECKING:
    from collections.abc import Mapping

IMPORTS = {
    "resolverkit": "import resolverkit",
    "dnspython": "import dns.asyncresolver",
    "a Resolver": "from resolverkit import Resolver",  # what the first use adds
    "and asyncio": "import dns.asyncresolver, asyncio",  # what its first use adds
}
ANSWERS = {
    "resolverkit": """
import asyncio, resolverkit
resolver = resolverkit.Resolver(["{address}:{port}"], configure=False)
asyncio.run(resolver.resolve("{name}"))
""",
    "dnspython": """
import asyncio, dns.asyncresolver
resolver = dns.asyncresolver.Resolver(configure=False)
resolver.nameservers, resolver.port = ["{address}"], {port}
asyncio.run(resolver.resolve("{name}"))
""",
}
_TIMED = (
    "import time\nbegan = time.process_time()\n{}\nprint(time.process_time() - began)"
)


async def imports(rounds: int, _: int) -> Series:
    """µs of CPU (user and system) for the import alone."""
    return _measured(IMPORTS, rounds)


async def first_answer(rounds: int, port: int) -> Series:
    """µs of CPU for import, Resolver, loop, and one answer over UDP."""
    (name,) = fresh_names(1)
    values = {"address": ADDRESSES[0], "port": port, "name": name}
    return _measured({k: v.format(**values) for k, v in ANSWERS.items()}, rounds)


def _measured(programs: Mapping[str, str], rounds: int) -> Series:
    """Eight runs of each program for a round: what one takes differs a lot."""
    series = Series()
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for turn in range(-1, 8 * rounds):  # the first writes the bytecode
        for peer, program in programs.items():
            done = subprocess.run(
                [sys.executable, "-c", _TIMED.format(program)],
                check=True, capture_output=True, env=environment,
            )  # fmt: skip
            if turn >= 0:
                series.add(peer, float(done.stdout) * 1e6)
    return series
