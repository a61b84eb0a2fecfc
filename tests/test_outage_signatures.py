"""What a stub has seen in real outages, and what becomes of it (facts/outages.md).

Each test is a row of section 1.3 of the table of signatures that needs no quorum and no
hold. Three vantages of three operators; the name has been used before, unless the
test says otherwise.
"""

from itertools import pairwise

import pytest
from virtual import WWW, at, call, moments, pin, resolver, told, upstreams

from resolverkit.testing import (
    ScriptedUpstream,
    answer,
    bad_reply,
    network_error,
    nodata,
    nxdomain,
    refused,
    run,
    servfail,
    silent,
    wire,
)

OLD = answer("192.0.2.1", ttl=60)
NEW = answer("192.0.2.2", ttl=60)


def outage(*scripts, calls=1, every=1.0, **options):
    """What calls come to, from 100 s on, when the vantages act like that."""

    async def main():
        members = upstreams(*[OLD] * len(scripts))
        r = resolver(*members, **options)
        await call(r)
        await at(100)
        for member, script in zip(members, scripts, strict=True):
            member.play(script)
            member.asked.clear()
        pin(r, *range(len(members)))
        got = []
        for i in range(calls):
            await at(100 + i * every)
            got.append(await call(r))
        return got, members

    return run(main)


def test_one_resolver_down():
    """Timeout on one upstream, answers on others: use another; breaker on that path.
    (1.1.1.1 on 2025-07-14 and 2024-06-27, 8.8.8.8 on 2018-05-30.)"""
    got, (a, b, c) = outage(
        silent(), answer("192.0.2.2", ttl=1), NEW, calls=30, every=5.0
    )
    # The hedge delay is 1.25 × 10 ms + 2 ms; once overtaken it is not asked first.
    assert (got[0].what, got[0].source) == ("192.0.2.2", "upstream")
    assert got[0].took in {24, 25}
    assert told(got[0].path) == [("a", "overtaken"), ("b", "data")]
    assert {one.what for one in got} == {"192.0.2.2"}
    assert max(one.took for one in got[1:]) <= 25
    assert a.count <= 10  # three losses, and then probes that nobody waits for
    assert b.count + c.count <= 31


def test_one_resolver_down_while_nothing_is_known():
    async def main():
        a, b, c = upstreams(silent(), NEW, NEW)
        r = resolver(a, b, c)
        got = [await call(r, f"n{i}.example.com") for i in range(10)]
        return got, a.count

    got, asked = run(main)
    assert got[0].took == 160
    assert [one.took for one in got[1:]] == [10] * 9
    assert asked == 1


@pytest.mark.parametrize("ede", [None, 13, 22, 23])
def test_servfail_fast_everywhere(ede):
    """SERVFAIL fast (≤ 10 ms) everywhere, a cached failure of a dead zone (Facebook,
    2021-10-04): serve stale; recheck ≥ 30 s."""
    fails = servfail(ede=ede, after=0.004)
    got, members = outage(fails, fails, fails, calls=90)
    assert got[0] == ("192.0.2.1", "stale", 12)
    assert all(one == ("192.0.2.1", "stale", 0) for one in got[1:])
    for member in members:
        assert len(moments(member)) == 3  # in 90 s
        asked = [when for when, _ in member.asked]
        gaps = [later - sooner for sooner, later in pairwise(asked)]
        assert all(gap >= 30 for gap in gaps)


def test_servfail_slow_everywhere():
    """SERVFAIL slow everywhere, authority dead, uncached: serve stale at 1.8 s."""
    slow = servfail(after=1.95)
    got, members = outage(slow, slow, slow, calls=20)
    assert got[0] == ("192.0.2.1", "stale", 1800)
    # The second call joins the flight that began at 100 s; the flight then fails.
    assert all(one.source == "stale" for one in got)
    assert [one.took for one in got[3:]] == [0] * 17
    assert [member.count for member in members] == [1, 1, 1]


def test_silence_everywhere_and_back():
    """The whole event, as an application saw it: 7 hours."""

    async def main():
        members = upstreams(OLD, OLD, OLD)
        r = resolver(*members)
        await call(r)
        for member in members:
            member.play(silent())
            member.asked.clear()
        got = []
        for minute in range(1, 7 * 60 + 1):
            await at(minute * 60 + 5)
            got.append(await call(r))
        asked = [member.count for member in members]
        for member in members:
            member.play(NEW)
        await at(7 * 3600 + 40)
        back = await call(r)
        await at(7 * 3600 + 80)
        return got, asked, back, await call(r)

    got, asked, _, fresh = run(main)
    assert {(one.what, one.source) for one in got} == {("192.0.2.1", "stale")}
    assert got[0].took == 1800
    assert {one.took for one in got[1:]} == {0}
    assert max(asked) <= 421  # once a minute: as often as it was asked for
    assert fresh.what == "192.0.2.2"


@pytest.mark.parametrize("ede", [6, 7, 9, 22])
def test_bogus_on_validating_vantages(ede):
    """SERVFAIL on validating, NOERROR on non-validating: stale that was validated
    earlier; do not pick the non-validated answer by default (.de 2026, .ru 2024, .nz
    2023); but 22 was seen in the field and proves nothing."""

    async def main():
        a, b, c = upstreams(answer("192.0.2.1", ad=True), NEW, NEW)
        r = resolver(a, b, c)
        await call(r)
        a.play(servfail(ede=ede))
        b.play(servfail(ede=ede))
        await at(100)
        pin(r, 0, 1, 2)
        return await call(r)

    got = run(main)
    assert told(got.path)[-1] == ("c", "data")
    if ede == 22:
        assert got == ("192.0.2.2", "upstream", 30)
        assert not got.path.disputed
    else:
        assert got == ("192.0.2.1", "stale", 30)
        assert "DNSSEC" in str(got.path) or got.path.attempts[1].ede == ((ede, ""),)


@pytest.mark.parametrize("denial", [nxdomain(), nodata()])
def test_a_denial_on_one_vantage_data_on_others(denial):
    """NXDOMAIN/NODATA on some vantages, data on others, one bad authority (Microsoft
    2019-05-02): keep positive while vantages disagree."""
    got, _ = outage(denial, NEW, NEW)
    assert got[0] == ("192.0.2.2", "upstream", 20)
    assert got[0].path.disputed
    assert "disputed" in str(got[0].path)


@pytest.mark.parametrize("ede", [15, 16, 17])
def test_a_block_on_one_vantage_data_on_others(ede):
    """… filter; 15/16/17 if honest."""
    got, _ = outage(nxdomain(ede=ede), NEW, NEW)
    assert got[0] == ("192.0.2.2", "upstream", 20)
    assert told(got[0].path) == [("a", "blocked"), ("b", "data")]


@pytest.mark.parametrize(
    ("denial", "what"), [(nxdomain(), "NXDOMAIN"), (nodata(), "NoAnswer")]
)
def test_a_denial_everywhere(denial, what):
    """NXDOMAIN/NODATA everywhere, had data minutes ago (Zoom 2025-04-16, DynamoDB
    2025-10-20, or intent): RFC 8767: negative wins."""
    got, _ = outage(denial, denial, denial)
    assert got[0] == (what, "upstream", 20)


def test_a_quad9_block():
    """NXDOMAIN with no SOA, RA=0: treat as filtered, not as non-existence; do not
    negative-cache (no SOA)."""

    async def main():
        block = nxdomain(soa=False, ra=False)
        a = ScriptedUpstream("quad9", block, operator="Quad9", unsigned_block=True)
        b = ScriptedUpstream("b", NEW, operator="B")
        got = await call(resolver(a, b))
        alone = resolver(a)
        blocked = await call(alone)
        return got, blocked, len(alone._store)

    got, blocked, kept = run(main)
    assert got == ("192.0.2.2", "upstream", 20)
    assert told(got.path)[0] == ("quad9", "blocked")
    assert blocked.what == "NoNameservers"
    assert kept == 0


def test_different_addresses_are_no_hijack():
    """NOERROR, different A sets, CDN geo-steering: do *not* call it hijack."""
    got, _ = outage(answer("198.51.100.7"), NEW, NEW, strategy="race")
    assert got[0] == ("198.51.100.7", "upstream", 10)
    assert not got[0].path.disputed


@pytest.mark.parametrize("ede", [None, 18, 20, 31])
def test_refused_on_one(ede):
    """REFUSED, policy or rate limit: other upstream."""
    got, _ = outage(refused(ede=ede), NEW, NEW)
    assert got[0] == ("192.0.2.2", "upstream", 20)


def test_refused_everywhere():
    """All REFUSED pre-empts stale? RFC 8767 section 6: MAY. It does not: the rest of
    the world may go on refusing, and the last known good is served."""
    got, _ = outage(refused(), refused(), refused())
    assert got[0] == ("192.0.2.1", "stale", 30)


@pytest.mark.parametrize(
    "step",
    [
        bad_reply("HTTP 503"),
        bad_reply("HTTP 429"),
        bad_reply("text/html is no DNS message"),
        network_error("TLS: certificate has expired"),
        network_error("ALPN: the server does not speak h2"),
        wire(b"<html>captive portal</html>"),
    ],
)
def test_what_is_no_dns_answer(step):
    """HTTP 4xx/5xx, 429, TLS failure, ALPN without h2: not a DNS answer; other
    transport/upstream."""
    got, _ = outage(step, NEW, NEW)
    assert (got[0].what, got[0].source) == ("192.0.2.2", "upstream")
    assert got[0].took <= 20


def test_aliases_in_any_order():
    """1.1.1.1 on 2026-01-08: CNAMEs after the addresses."""
    import dns.message
    import dns.rrset

    def shuffled(asked):
        query = dns.message.from_wire(asked.wire)
        reply = dns.message.make_response(query, recursion_available=True)
        for owner, rdtype, value in (
            ("c.example.", "A", "192.0.2.7"),
            ("b.example.", "CNAME", "c.example."),
            (f"{WWW}.", "CNAME", "b.example."),
        ):
            reply.answer.append(dns.rrset.from_text(owner, 60, "IN", rdtype, value))
        return reply.to_wire()

    got, _ = outage(wire(shuffled), NEW, NEW)
    assert got[0] == ("192.0.2.7", "upstream", 10)


def test_a_registrys_half_signed_zone():
    """.de on 2026-05-05: some servers signed correctly, on and off. Each refresh that
    succeeds counts, none that fails costs an answer."""

    async def main():
        flaky = [servfail(ede=22), OLD, servfail(), servfail(), OLD]
        members = upstreams(OLD, OLD, OLD)
        r = resolver(*members)
        await call(r)
        for member in members:
            member.play(flaky * 200)
        got = []
        for second in range(100, 2000, 7):
            await at(second)
            got.append(await call(r))
        return got

    assert {one.what for one in run(main)} == {"192.0.2.1"}
