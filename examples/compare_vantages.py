"""Ask several vantages the same question separately, and show who says what.

On 2019-05-02 one of four name servers of Microsoft had an empty copy of a zone. Here
four scripted upstreams play such a day, so that the example runs offline; one of them
is broken, too. A real program changes the line marked below.
"""

import asyncio

import resolverkit
from resolverkit.testing import ScriptedUpstream, answer, nxdomain, servfail

VANTAGES = [
    ScriptedUpstream("udp://192.0.2.3", nxdomain(), operator="Gamma"),
    ScriptedUpstream("udp://192.0.2.1", answer("198.51.100.7"), operator="Alpha"),
    ScriptedUpstream("udp://192.0.2.2", answer("198.51.100.7"), operator="Beta"),
    ScriptedUpstream("udp://192.0.2.4", servfail(ede=22), operator="Delta"),
]


async def main() -> None:
    """Compare the vantages, then believe what two operators agree on."""
    upstreams = VANTAGES  # a real program: ["udp://quad9", "cloudflare", "google"]
    async with resolverkit.Resolver(
        upstreams, configure=False, strategy="quorum"
    ) as resolver:
        survey = await resolver.survey("db.example.com", "A")
        print(f"{survey.question}: {survey.sentence}")
        for vantage in survey.vantages:
            print(f"  {vantage}")
        found = await resolver.resolve("db.example.com", "A")
        print(f"asked together: {found[0].address}")
        print(f"  {found.path}")


if __name__ == "__main__":
    asyncio.run(main())
