"""``python bench/outage.py``: a stub while its authority is silent, on real servers.

Unbound and BIND ask an nsd that is stopped with SIGSTOP, `resolverkit serve` asks them,
and 50 names whose TTL is over are asked for at a steady rate. Needs the servers that
`make servers` installs; nothing leaves the machine.
"""

import argparse
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parent.parent / "tests"
sys.path[:0] = [str(TESTS / "servers"), str(TESTS / "server")]

from lab import Lab  # noqa: E402
from outage import NAMES, share, suffer  # noqa: E402


def main() -> int:
    """Run and print; 1 where a query has failed or a name was asked too often."""
    parser = argparse.ArgumentParser(prog="outage", description=__doc__)
    parser.add_argument("--rate", type=float, default=1000, help="queries/s")
    parser.add_argument("--seconds", type=float, default=60, help="of the outage")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, Lab(Path(scratch)) as lab:
        outage = suffer(lab, options.rate, options.seconds)
    load, settled = outage.load, outage.settled()
    stale = sum(reply.stale for reply in load.replies)
    print(f"queries   {load.sent:,} in {outage.seconds:g} s, {stale:,} got stale data")
    print(f"failed    {load.failed}, of which {len(load.pending)} without any reply")
    print(f"drops     {load.drops} by the system, for want of room in its buffers")
    most = outage.most_flights()
    flights = sum(map(len, outage.flights.values()))
    print(f"flights   {flights} for {len(NAMES)} names, most in 30 s: {most} a name")
    for text, replies in (("all", load.replies), ("after a failure", settled)):
        took = [reply.took * 1000 for reply in replies]
        told = [f"p{p * 100:g} {share(took, p):.1f}" for p in (0.5, 0.9, 0.99, 0.999)]
        print(f"ms, {text} ({len(took):,}): {', '.join(told)}, most {max(took):.1f}")
    print(f"CPU       {outage.cpu / load.sent * 1e6:.0f} µs a query")
    return int(load.failed > 0 or most > 1)


if __name__ == "__main__":
    sys.exit(main())
