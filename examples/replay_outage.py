"""An outage of the past, replayed on loopback: plain dnspython beside resolverkit.

    python examples/replay_outage.py [NAME]

`resolverkit.testing.outages` has the outages. Here the registry takes zoom.us out of
its zone: every resolver in the world says NXDOMAIN, and only who holds on to the last
known good answer goes on. Runs offline, in ten seconds.
"""

import asyncio
import sys

from resolverkit.testing.outages import OUTAGES
from resolverkit.testing.replay import FAST, Replay


async def main(name: str) -> int:
    """Replay it, and tell what became of each client's questions."""
    outage = OUTAGES[name]
    print(f"{outage.title} ({outage.when})")
    print(f"at the stub: {outage.signature}")
    replay = Replay(outage, FAST)
    await replay.run()
    for phase, tallies in replay.phases().items():
        for client, tally in tallies.items():
            sources = ", ".join(sorted(tally.sources)) or "nobody"
            print(
                f"{phase:<12} {client:<18} {tally.share:4.0%} of {tally.asked} right, "
                f"{tally.queries} queries sent, answered by: {sources}"
            )
    print(f"limits: {outage.limits}")
    return 1 if replay.failures else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "zoom-2025")))
