"""``python bench/hostile.py``: a stub under clients that mean harm, one kind at a time.

`resolverkit serve` with its default limits; hits are asked for meanwhile, and memory is
watched. Forged origins need root. Nothing leaves the machine.
"""

import argparse
import os
import resource
import sys
import tempfile
from pathlib import Path

import trustme

TESTS = Path(__file__).parent.parent / "tests"
sys.path[:0] = [str(TESTS / "server")]

import hostile  # noqa: E402
from authority import Authority  # noqa: E402
from outage import share  # noqa: E402
from served import Served  # noqa: E402

CLIENT_HELLO = bytes.fromhex("16030100f8010000f40303")
"""The beginning of one that claims to be 248 octets long."""


def main() -> int:
    """Run and print; 1 where the stub did not outlive it."""
    parser = argparse.ArgumentParser(prog="hostile", description=__doc__)
    parser.add_argument("--datagrams", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, default=10_000)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - hostile.SPARE
    connections = min(options.connections, hard)
    with tempfile.TemporaryDirectory() as scratch, Authority() as authority:
        certificate = Path(scratch) / "server.pem"
        trustme.CA().issue_cert(
            "localhost"
        ).private_key_and_cert_chain_pem.write_to_path(str(certificate))
        with Served(
            "--listen", "127.0.0.1:0", "-u", authority.url, "--log-level", "warning",
            "--listen-tls", "127.0.0.1:0", "--tls-cert", certificate, limit=3600,
        ) as served:  # fmt: skip
            port, tls = served.ports
            attacks = [
                ("random datagrams", hostile.noise, options.datagrams, port),
                ("idle connections", hostile.idlers, connections, port),
                ("half-open TLS", hostile.idlers, connections, tls, CLIENT_HELLO),
                ("slow writers", hostile.dribblers, min(800, connections), port),
                ("deaf readers", hostile.deaf, min(800, connections), port),
            ]
            if os.geteuid() == 0:
                count = options.datagrams // 10
                attacks.append(("forged origins", hostile.forgers, count, port))
            for name, attack, *told in attacks:
                report(name, hostile.suffer(served.process.pid, port, attack, *told))
            ended = served.end()
    print(f"ended with {ended}, as it was told; {len(served.lines)} lines logged")
    return ended


def report(name: str, suffered: hostile.Suffered) -> None:
    took = [each * 1000 for each in suffered.took]
    print(
        f"{name:<18} {suffered.count:>9,}   hits {len(took):,}, lost {suffered.lost}, "
        f"ms: median {share(took, 0.5):.2f}, p99 {share(took, 0.99):.1f}, "
        f"most {max(took):.0f}   MiB: {suffered.before:.0f} before, "
        f"{suffered.peak:.0f} at most, {suffered.after:.0f} after",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
