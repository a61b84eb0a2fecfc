"""A stub resolver in one's own program: everything on this machine can ask it.

The upstream here is a mini-internet on loopback, so that the example runs offline, and
the program asks its own server, as dig or the C library would. A real program has no
Lab: it changes the line marked below, listens at 127.0.0.1 (port 53), and goes on until
it is told to end.
"""

import asyncio

import dns.asyncquery
import dns.message

import resolverkit
from resolverkit.server import Server
from resolverkit.testing import Authority, Lab

AUTHORITY = Authority(["www.example.com. 60 IN A 192.0.2.10"])


async def ask(server: Server, name: str) -> str:
    """Ask the server over UDP, as any client does; gives the answer section."""
    host, port = server.addresses[0]
    query = dns.message.make_query(name, "A", use_edns=True)
    reply = await dns.asyncquery.udp(query, host, port=port, timeout=5)
    told = "; ".join(str(rrset) for rrset in reply.answer)
    why = ", ".join(option.to_text() for option in reply.extended_errors())
    return f"{told} ({why})"


async def main() -> None:
    """Serve, and ask."""
    async with Lab(AUTHORITY) as lab:
        upstreams = lab.urls  # a real program: upstreams = ["quad9", "cloudflare"]
        async with (
            resolverkit.Resolver(upstreams, configure=False) as resolver,
            Server(resolver, ["127.0.0.1:0"], explain=True) as server,
        ):
            print("ready at", *server.addresses)
            print(await ask(server, "www.example.com"))
            print(await ask(server, "www.example.com"))
            print(server.stats.udp, "queries over UDP")


if __name__ == "__main__":
    asyncio.run(main())
