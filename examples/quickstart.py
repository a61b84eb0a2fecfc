"""Resolve a name through several upstreams, and see by which path the answer came.

The upstreams here are a mini-internet on loopback, so that the example runs offline. A
real program has no Lab: it changes the line marked below, and nothing else.
"""

import asyncio

import resolverkit
from resolverkit.testing import Authority, Lab, LabUpstream

AUTHORITY = Authority(
    [
        "www.example.com. 300 IN CNAME web.example.net.",
        "web.example.net. 60 IN A 192.0.2.10",
        "web.example.net. 60 IN AAAA 2001:db8::10",
    ]
)
UPSTREAMS = [LabUpstream("udp", operator="Alpha"), LabUpstream("doh", operator="Beta")]


async def look_up(resolver: resolverkit.Resolver) -> None:
    """Ask for a name, again, for all its addresses, and for one that is not there."""
    answer = await resolver.resolve("www.example.com", "A")
    print("address:", answer[0].address)
    print("  path:", answer.path)

    answer = await resolver.resolve("www.example.com", "A")
    print("again, from memory:", answer.path)

    hosts = await resolver.resolve_name("www.example.com")
    print("both families:", ", ".join(sorted(hosts.addresses())))

    try:
        await resolver.resolve("nosuch.example.com")
    except resolverkit.NXDOMAIN as error:
        print("no such name:", error.path)


async def main() -> None:
    """Start the mini-internet, and resolve through it."""
    async with Lab(AUTHORITY, UPSTREAMS) as lab:
        upstreams = lab.urls  # a real program: upstreams = ["quad9", "cloudflare"]
        async with resolverkit.Resolver(upstreams, configure=False) as resolver:
            await look_up(resolver)


if __name__ == "__main__":
    asyncio.run(main())
