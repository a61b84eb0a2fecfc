"""Ask several vantages the same question separately, and show who says what.

On 2019-05-02 one of four name servers of Microsoft had an empty copy of a zone. Here
four scripted upstreams play such a day, so that the example runs offline; one of them
is broken, too. A real program changes the line marked below.
"""

import asyncio
from collections.abc import Sequence

import resolverkit
from resolverkit.testing import ScriptedUpstream, answer, nxdomain, servfail

VANTAGES = [
    ScriptedUpstream("udp://192.0.2.1", answer("198.51.100.7"), operator="Alpha"),
    ScriptedUpstream("udp://192.0.2.2", answer("198.51.100.7"), operator="Beta"),
    ScriptedUpstream("udp://192.0.2.3", nxdomain(), operator="Gamma"),
    ScriptedUpstream("udp://192.0.2.4", servfail(ede=22), operator="Delta"),
]


async def ask(upstream: str | resolverkit.Upstream, name: str) -> tuple[str, str]:
    """What one vantage says, and by which path: a resolver of its own, fresh data."""
    async with resolverkit.Resolver(
        [upstream], configure=False, stale=False
    ) as resolver:
        try:
            found = await resolver.resolve(name, "A")
        except (resolverkit.NXDOMAIN, resolverkit.NoAnswer) as error:
            return type(error).__name__, str(error.path)
        except (resolverkit.NoNameservers, resolverkit.LifetimeTimeout) as error:
            return "failed", str(error.path)
        return " ".join(sorted(rdata.address for rdata in found)), str(found.path)


async def compare(upstreams: Sequence[str | resolverkit.Upstream], name: str) -> None:
    """Ask all of them at once, and print a line for each."""
    said = await asyncio.gather(*(ask(upstream, name) for upstream in upstreams))
    print(f"{name} A, from {len(said)} vantages:")
    for what, path in said:
        print(f"  {what:<14} {path}")
    answers = {what for what, _ in said if what != "failed"}
    print("they agree" if len(answers) == 1 else f"they disagree: {sorted(answers)}")


async def main() -> None:
    """Compare the vantages, then ask them together."""
    upstreams = VANTAGES  # a real program: ["udp://quad9", "cloudflare", "google"]
    await compare(upstreams, "db.example.com")


if __name__ == "__main__":
    asyncio.run(main())
