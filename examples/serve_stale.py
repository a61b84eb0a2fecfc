"""An outage, in virtual time: what is served while the name servers are gone.

The upstreams are scripted and the hours pass at once, so that the example runs offline
and in a moment. A real program changes the line marked below, passes no clock, and runs
`main` with asyncio.run.
"""

import asyncio

import resolverkit
from resolverkit.testing import ScriptedUpstream, VirtualLoop, answer, run, servfail

ALPHA = ScriptedUpstream("alpha", answer("192.0.2.10", ttl=60), operator="Alpha")
BETA = ScriptedUpstream("beta", answer("192.0.2.10", ttl=60), operator="Beta")


async def show(resolver: resolverkit.Resolver, when: str) -> None:
    """Ask, and tell where the answer came from and how long it took."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        found = await resolver.resolve("www.example.com")
    except resolverkit.NoNameservers as error:
        what = f"no answer ({error.path.detail})"
    else:
        path = found.path
        what = f"{found[0].address}  {path.source}, {path.age:.0f} s old"
        if path.source is resolverkit.Source.STALE:
            what += f", {path.stale_for:.0f} s past its TTL"
    print(f"{when:<28} {(loop.time() - started) * 1000:6.0f} ms  {what}")


async def main() -> None:
    """Live through it."""
    clock = VirtualLoop.running().clock
    upstreams = [ALPHA, BETA]  # a real program: upstreams = ["quad9", "cloudflare"]
    policy = resolverkit.StalePolicy(max_stale=6 * 3600)
    async with resolverkit.Resolver(
        upstreams, configure=False, stale=policy, clock=clock
    ) as resolver:
        await show(resolver, "healthy")
        await asyncio.sleep(30)
        await show(resolver, "30 s later")

        for upstream in (ALPHA, BETA):  # a dead zone: each resolver tries, and fails
            upstream.play(servfail(after=4.0))
        await asyncio.sleep(60)
        await show(resolver, "the servers are gone")
        await show(resolver, "and at once again")
        await asyncio.sleep(3600)
        before = ALPHA.count + BETA.count
        for _ in range(1000):
            await resolver.resolve("www.example.com")
        asked = ALPHA.count + BETA.count - before
        await show(resolver, "an hour later")
        print(f"  (1000 calls just now put {asked} questions to the upstreams)")

        for upstream in (ALPHA, BETA):
            upstream.play(answer("192.0.2.20", ttl=60))
        await asyncio.sleep(60)
        await show(resolver, "they are back, first call")
        await asyncio.sleep(1)
        await show(resolver, "and the next one")

        for upstream in (ALPHA, BETA):
            upstream.play(servfail(after=0.01))
        await asyncio.sleep(7 * 3600)
        await show(resolver, "gone beyond max_stale")


if __name__ == "__main__":
    run(main())
