"""What clients are told, in virtual time: flags, TTLs, sizes, extended errors."""

from __future__ import annotations

import asyncio

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from asking import WWW, Asked, ede, query, ttls
from virtual import upstreams

from resolverkit import StalePolicy
from resolverkit.model import plain_reply
from resolverkit.server.query import Over
from resolverkit.server.reply import least_ttl
from resolverkit.testing import (
    answer,
    network_error,
    nodata,
    nxdomain,
    run,
    servfail,
    silent,
)

ADDRESS = "192.0.2.1"
MANY = {WWW: answer(*(f"192.0.2.{i}" for i in range(1, 100)))}


def flags(reply):
    return dns.flags.to_text(reply.flags)


def addresses(reply):
    return [rdata.address for rrset in reply.answer for rdata in rrset]


def in_virtual_time(*scripts, **options):
    """Run a test of one argument: an `Asked` over upstreams with these scripts."""

    def decorate(test):
        def runs():
            async def main():
                members = upstreams(*scripts)
                async with Asked(*members, **options) as asked:
                    asked.upstreams = members
                    await test(asked)

            run(main)

        runs.__name__ = test.__name__
        runs.__doc__ = test.__doc__
        return runs

    return decorate


# --- header and question -------------------------------------------------------------


@in_virtual_time(answer(ADDRESS))
async def test_an_answer_has_id_question_and_flags_of_its_query(asked):
    message = query("WwW.eXaMple.com", flags="RD CD")
    reply = await asked(message)
    assert reply.id == message.id
    assert reply.question[0].name.to_text() == "WwW.eXaMple.com."
    assert flags(reply) == "QR RD RA CD"
    assert addresses(reply) == [ADDRESS]


@in_virtual_time(answer(ADDRESS, ad=True))
async def test_ad_is_for_those_who_ask(asked):
    """RFC 6840 sections 5.7 and 5.8: with AD or DO."""
    assert flags(await asked()) == "QR RD RA"
    assert flags(await asked(flags="RD AD")) == "QR RD RA AD"
    reply = await asked(want_dnssec=True)
    assert flags(reply) == "QR RD RA AD"
    assert reply.ednsflags & dns.flags.DO  # RFC 3225 section 3


@in_virtual_time(answer(ADDRESS))
async def test_ad_is_for_what_the_upstream_has_validated(asked):
    assert flags(await asked(flags="RD AD")) == "QR RD RA"


@in_virtual_time(answer(ADDRESS))
async def test_opt_is_for_those_who_have_one(asked):
    """RFC 6891 section 6.1.1."""
    assert (await asked(edns=False)).edns == -1
    assert (await asked()).payload == 1232


@in_virtual_time(answer(ADDRESS))
async def test_do_and_cd_are_questions_of_their_own(asked):
    for options in ({}, {"want_dnssec": True}, {"flags": "RD CD"}, {}):
        await asked(**options)
    assert asked.upstreams[0].count == 3


@in_virtual_time(answer(ADDRESS))
async def test_any_is_answered_with_hinfo(asked):
    """RFC 8482 section 4.2."""
    reply = await asked(rdtype="ANY")
    (rrset,) = reply.answer
    assert rrset.to_text() == f'{WWW}. 3600 IN HINFO "RFC8482" ""'
    assert asked.upstreams[0].count == 0


@in_virtual_time(answer(ADDRESS))
async def test_without_rd_nobody_is_asked(asked):
    """RFC 8914 section 4.21: REFUSED, with the code that says why."""
    reply = await asked(flags="")
    assert (reply.rcode(), ede(reply)[0][0]) == (dns.rcode.REFUSED, 20)
    await asked()
    reply = await asked(flags="")
    assert (addresses(reply), flags(reply)) == ([ADDRESS], "QR RA")
    assert asked.upstreams[0].count == 1


@in_virtual_time(answer(ADDRESS))
async def test_special_names_are_answered_here(asked):
    """RFC 6761, RFC 7686: as `resolve` does."""
    assert addresses(await asked(name="localhost")) == ["127.0.0.1"]
    assert addresses(await asked(name="localhost", flags="")) == ["127.0.0.1"]
    assert (await asked(name="x.onion")).rcode() == dns.rcode.NXDOMAIN
    assert (await asked(name="printer", rdtype="A")).rcode() == dns.rcode.NXDOMAIN
    assert asked.upstreams[0].count == 0
    assert asked.stats.local == 4


@in_virtual_time({"com NS": answer("a.example.com.")})
async def test_a_top_level_domain_can_be_asked_about(asked):
    assert (await asked(name="com", rdtype="NS")).answer


# --- TTLs ----------------------------------------------------------------------------


@in_virtual_time(answer(ADDRESS, ttl=60, cname=["web.example.com"], cname_ttl=300))
async def test_ttls_count_down(asked):
    assert ttls(await asked()) == [300, 60]
    await asyncio.sleep(20.5)
    assert ttls(await asked()) == [280, 40]
    await asyncio.sleep(1)
    assert ttls(await asked()) == [279, 39]
    assert asked.stats.upstream == 1


@in_virtual_time(nodata(ttl=3600, minimum=100))
async def test_the_soa_of_a_denial_counts_down_from_what_it_is_worth(asked):
    """RFC 2308 section 5."""
    assert ttls(await asked()) == [100]
    await asyncio.sleep(10)
    assert ttls(await asked()) == [90]


@in_virtual_time([answer(ADDRESS, ttl=60), servfail()])
async def test_stale_data_has_30_seconds_and_says_so(asked):
    """RFC 8767 section 4, RFC 8914 section 4.4."""
    await asked()
    await asyncio.sleep(70)
    reply = await asked()
    assert (ttls(reply), ede(reply)) == ([30], [(3, "")])
    assert asked.stats.stale == 1


@in_virtual_time([answer(ADDRESS, ttl=60), silent()])
async def test_who_was_given_stale_data_is_told_nothing_more(asked):
    """What comes after the client response timer is for those who ask next."""
    await asked()
    await asyncio.sleep(70)
    told = []
    asked.responder.ask(query().to_wire(), Over.UDP, told.append)
    (flight,) = asked.resolver._store._flights.values()
    await asyncio.sleep(1.9)
    assert len(told) == 1
    message = dns.message.make_response(query(edns=False))
    message.answer.append(dns.rrset.from_text(f"{WWW}.", 60, "IN", "A", "192.0.2.2"))
    flight.answered(
        plain_reply(
            message.to_wire(), 60, len(WWW) + 2, asked.upstreams[0].endpoint, 0.0, 1.9
        )
    )
    assert [addresses(dns.message.from_wire(data)) for data in told] == [[ADDRESS]]
    assert addresses(await asked()) == ["192.0.2.2"]


@in_virtual_time([nxdomain(minimum=60), servfail()])
async def test_a_stale_nxdomain_has_a_code_of_its_own(asked):
    """RFC 8914 section 4.20."""
    await asked()
    await asyncio.sleep(70)
    reply = await asked()
    assert (reply.rcode(), ede(reply), ttls(reply)) == (3, [(19, "")], [30])


@in_virtual_time([answer(ADDRESS, ttl=60, ad=True), servfail()])
async def test_stale_data_is_not_called_authentic(asked):
    """Its signatures may have run out (RFC 8767 section 10)."""
    assert "AD" in flags(await asked(flags="RD AD"))
    await asyncio.sleep(70)
    assert "AD" not in flags(await asked(flags="RD AD"))


@in_virtual_time(
    [answer(ADDRESS, ttl=60), nxdomain()], stale=StalePolicy(on_denial="hold")
)
async def test_what_is_held_on_to_is_told(asked):
    await asked()
    await asyncio.sleep(70)
    reply = await asked()
    assert (addresses(reply), ttls(reply)) == ([ADDRESS], [30])
    assert ede(reply) == [(3, "held on to")]
    assert asked.stats.held == 1


@in_virtual_time(answer(ADDRESS, ttl=60))
async def test_an_http_reply_may_be_kept_for_its_least_ttl(asked):
    """RFC 8484 section 5.1."""
    wire = await asked.wire(query(), Over.HTTPS)
    assert least_ttl(wire) == 60
    assert least_ttl(await asked.wire(query(rdtype="AXFR"), Over.HTTPS)) == 0


# --- failures ------------------------------------------------------------------------


@in_virtual_time(servfail(ede=(6, "bogus")))
async def test_a_failure_says_that_nobody_can_be_reached_and_what_they_said(asked):
    """RFC 8914 sections 4.23 and 3."""
    reply = await asked()
    assert reply.rcode() == dns.rcode.SERVFAIL
    assert ede(reply) == [(22, ""), (6, "a: bogus")]
    assert asked.stats.failed == 1


@in_virtual_time(network_error())
async def test_a_network_that_is_broken_is_told(asked):
    """RFC 8914 section 4.24."""
    assert ede(await asked())[0][0] == 23


@in_virtual_time(silent())
async def test_a_client_is_told_before_it_gives_up(asked):
    """dig and glibc wait for 5 s."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    reply = await asked()
    assert (reply.rcode(), ede(reply)[0][0]) == (2, 22)
    assert loop.time() - began <= 4.5


@in_virtual_time(servfail())
async def test_a_client_without_edns_is_told_no_more_than_servfail(asked):
    reply = await asked(edns=False)
    assert (reply.rcode(), reply.edns) == (2, -1)


@in_virtual_time(answer(ADDRESS, ede=(0, "thought about it")))
async def test_an_upstreams_extended_error_comes_with_its_name(asked):
    """RFC 8914 section 3."""
    for _ in range(3):
        assert ede(await asked()) == [(0, "a: thought about it")]


@in_virtual_time([answer(ADDRESS, ttl=60), servfail()], explain=True)
async def test_the_path_is_told_to_those_who_want_to_know(asked):
    assert ede(await asked()) == [(0, "upstream: a (A) over udp in 10.0 ms")]
    for seconds in (2, 3, 4):
        await asyncio.sleep(1)
        text = f"cache, {seconds - 1} s old: a (A) over udp in 10.0 ms"
        assert ede(await asked()) == [(0, text)]
    await asyncio.sleep(66)
    ((code, text),) = ede(await asked())
    assert code == 3
    assert text.startswith("stale, 69 s old, 9 s past its TTL: a (A) over udp")


@in_virtual_time(silent(), explain=True)
async def test_the_path_of_a_failure_is_told(asked):
    ((code, text), *_) = ede(await asked())
    assert (code, text[:20]) == (22, "no upstream answered")


# --- sizes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "over", "truncated"),
    [
        ({"edns": False}, Over.UDP, True),
        ({"payload": 1000}, Over.UDP, True),
        ({"payload": 4096}, Over.UDP, True),
        ({"payload": 4096}, Over.TCP, False),
        ({"edns": False}, Over.TCP, False),
    ],
)
def test_what_does_not_fit_is_cut_and_marked(options, over, truncated):
    """RFC 2181 section 9: all or nothing of a record set."""

    async def main():
        async with Asked(*upstreams(MANY)) as asked:
            for _ in range(3):  # by the slow path and the fast one
                wire = await asked.wire(query(**options), over)
                reply = dns.message.from_wire(wire)
                assert bool(reply.flags & dns.flags.TC) is truncated
                assert len(addresses(reply)) == (0 if truncated else 99)
                assert (reply.edns < 0) is (options.get("edns") is False)
                assert len(wire) <= 1232 or not over.datagram

    run(main)


@in_virtual_time({WWW: answer(*(f"192.0.2.{i}" for i in range(1, 74)))}, explain=True)
async def test_texts_give_way_to_records(asked):
    """1232 octets are enough for 73 addresses and a code without a text."""
    reply = await asked()
    assert (len(addresses(reply)), ede(reply)) == (73, [(0, "")])


# --- options -------------------------------------------------------------------------


def option(reply, code):
    return [each for each in reply.options if each.otype == code]


@in_virtual_time(answer(ADDRESS))
async def test_replies_are_padded_where_that_hides_something(asked):
    """RFC 8467 section 4.1, RFC 7830 section 4: encrypted, and asked for."""
    padded = query(options=[dns.edns.GenericOption(12, bytes(30))])
    for over, message, size in [
        (Over.TLS, padded, 468),
        (Over.HTTPS, padded, 468),
        (Over.TLS, query(), None),
        (Over.TCP, padded, None),
        (Over.UDP, padded, None),
    ]:
        wire = await asked.wire(message, over)
        assert (len(wire) == 468) is (size == 468)


@in_virtual_time(answer(ADDRESS))
async def test_a_connection_says_how_long_it_may_be_idle(asked):
    """RFC 7828 sections 3.2 and 3.3: not over UDP."""
    message = query(options=[dns.edns.GenericOption(11, b"")])
    (told,) = option(await asked(message, Over.TCP), 11)
    assert told.to_wire() == (300).to_bytes(2, "big")
    assert not option(await asked(message, Over.UDP), 11)
    assert not option(await asked(query(), Over.TCP), 11)


# --- those who wait ------------------------------------------------------------------


def test_the_oldest_give_way_when_too_many_wait():
    async def main():
        (upstream,) = upstreams(answer(ADDRESS, after=1.0))
        async with Asked(upstream, max_in_flight=3) as asked:
            waiting = [asked.send(query(f"n{i}.example.com")) for i in range(5)]
            done = await asyncio.gather(*waiting)
            assert [reply is None for reply in done] == [
                True,
                True,
                False,
                False,
                False,
            ]
            assert asked.stats.dropped == 2
            assert upstream.cancelled == 2  # nobody else waits for these
            streamed = [
                asked.send(query(f"m{i}.example.com"), Over.TCP) for i in range(4)
            ]
            first, *_ = await asyncio.gather(*streamed)
            assert ede(dns.message.from_wire(first)) == [(0, "too many questions wait")]

    run(main)


def test_one_flight_for_all_who_ask_the_same():
    async def main():
        (upstream,) = upstreams(answer(ADDRESS, after=1.0))
        async with Asked(upstream) as asked:
            done = await asyncio.gather(*(asked() for _ in range(50)))
            assert {tuple(addresses(reply)) for reply in done} == {(ADDRESS,)}
            assert upstream.count == 1

    run(main)
