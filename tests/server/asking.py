"""What the tests of the server share: a Responder in virtual time, and queries."""

from __future__ import annotations

import asyncio

import dns.flags
import dns.message
from virtual import resolver

from resolverkit.server.counts import ServerStats
from resolverkit.server.query import Over
from resolverkit.server.responder import Responder

WWW = "www.example.com"


def query(
    name=WWW, rdtype="A", *, flags="RD", edns=0, payload=1232, ident=None, **more
):
    """A query as a client sends it; `edns=False` for one without OPT."""
    options = {"payload": payload, **more} if edns is not False else {}
    return dns.message.make_query(
        name,
        rdtype,
        id=ident,
        flags=dns.flags.from_text(flags),
        use_edns=edns,
        **options,
    )


class Asked:
    """A Responder over scripted upstreams, and what comes of asking it."""

    def __init__(self, *upstreams, explain=False, max_in_flight=4096, **options):
        self.resolver = resolver(*upstreams, **options)
        self.stats = ServerStats()
        self.responder = Responder(
            self.resolver, self.stats, explain=explain, max_in_flight=max_in_flight
        )

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.responder.give_up()
        await asyncio.sleep(0)
        await self.resolver.aclose()

    def send(self, data, over=Over.UDP):
        """A Future of the reply's bytes, or of None for silence."""
        future = asyncio.get_running_loop().create_future()
        data = data if isinstance(data, bytes) else data.to_wire()
        self.responder.ask(data, over, future.set_result)
        return future

    async def wire(self, data, over=Over.UDP):
        return await self.send(data, over)

    async def __call__(self, message=None, over=Over.UDP, **options):
        """The reply to a query, parsed; it answers the query by dnspython's rules."""
        message = message or query(**options)
        data = await self.send(message, over)
        reply = dns.message.from_wire(data)
        assert message.is_response(reply)
        return reply


def ede(reply):
    """The extended errors of a reply: [(code, text)]."""
    return [(int(option.code), option.text or "") for option in reply.extended_errors()]


def ttls(reply):
    """All TTLs of a reply."""
    return [rrset.ttl for part in (reply.answer, reply.authority) for rrset in part]
