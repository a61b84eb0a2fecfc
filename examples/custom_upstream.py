"""Upstreams of one's own: names from a dict, and a limit on what another is asked.

Whatever has a `name`, a `query` and an `aclose` is an upstream, and groups and the
resolver take it like any other. Two scripted upstreams stand for public resolvers, so
that the example runs offline. What a real program changes is told below.
"""

import asyncio
from collections.abc import Mapping

import dns.message
import dns.rdatatype
import dns.rrset

import resolverkit
from resolverkit import Attempt, Endpoint, Outcome, Question, Reply
from resolverkit.testing import ScriptedUpstream, answer
from resolverkit.wire import read_reply

ALPHA = ScriptedUpstream("alpha", answer("198.51.100.7"), operator="Alpha")
BETA = ScriptedUpstream("beta", answer("198.51.100.7"), operator="Beta")


class Table:
    """Answers from a dict of names and addresses, and passes on all other questions."""

    def __init__(
        self, addresses: Mapping[str, str], *, behind: resolverkit.Upstream
    ) -> None:
        self.name = "table"
        self.endpoint = Endpoint(self.name, operator="this program")
        self._addresses = dict(addresses)
        self._behind = behind

    async def query(self, question: Question) -> Reply:
        """A reply made on the spot, or the other upstream's."""
        address = self._addresses.get(str(question.name))
        if address is None or question.rdtype != dns.rdatatype.A:
            return await self._behind.query(question)
        message = dns.message.make_response(dns.message.from_wire(question.wire))
        record = dns.rrset.from_text(question.name, 30, "IN", "A", address)
        message.answer.append(record)
        reply = read_reply(question, message.to_wire())
        now = asyncio.get_running_loop().time()
        reply.winner = Attempt(self.endpoint, now, 0.0, Outcome.DATA)
        reply.attempts = (reply.winner,)
        return reply

    async def aclose(self) -> None:
        """Close what is behind."""
        await self._behind.aclose()


class AtMost:
    """Puts no more than so many questions at a time to another upstream."""

    def __init__(self, limit: int, upstream: resolverkit.Upstream) -> None:
        self.name = f"at most {limit}: {upstream.name}"
        self.most = 0
        self._upstream = upstream
        self._free = asyncio.Semaphore(limit)
        self._running = 0

    async def query(self, question: Question) -> Reply:
        """The other's reply, as soon as there is room."""
        async with self._free:
            self._running += 1
            self.most = max(self.most, self._running)
            try:
                return await self._upstream.query(question)
            finally:
                self._running -= 1

    async def aclose(self) -> None:
        """Close the other one."""
        await self._upstream.aclose()


async def main() -> None:
    """First the table; what it does not know, from two upstreams, a few at a time."""
    # A real program: build(parse("tls://9.9.9.9"), timeout=2), and another such, in
    # place of ALPHA and BETA; both functions are in resolverkit.transports.url.
    public = AtMost(4, resolverkit.Hedge([ALPHA, BETA]))
    upstream = Table({"printer.example.com.": "192.0.2.99"}, behind=public)
    async with resolverkit.Resolver(upstream, configure=False) as resolver:
        for name in ("printer.example.com", "www.example.com"):
            found = await resolver.resolve(name)
            print(f"{name}: {found[0].address}")
            print(f"  {found.path}")
        names = [f"n{i}.example.com" for i in range(20)]
        await asyncio.gather(*map(resolver.resolve, names))
        print(f"{len(names)} names at once, {public.most} questions at a time")


if __name__ == "__main__":
    asyncio.run(main())
