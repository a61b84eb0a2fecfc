"""The probes of a compliance checker (RFC 8906 section 8), over datagrams and streams.

None of them may meet silence, and each reply is the one that the standards ask for.
"""

from __future__ import annotations

import asyncio

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.tsigkeyring
import pytest
from asking import query
from serving import ADDRESS, Stream, client, received, serving

from resolverkit.testing import ScriptedUpstream, Step, answer, nodata

UNKNOWN = dns.edns.GenericOption(100, b"\1")
KNOWN = [
    dns.edns.GenericOption(3, b""),  # NSID (RFC 5001)
    dns.edns.GenericOption(8, bytes.fromhex("00011800c00002")),  # ECS (RFC 7871)
    dns.edns.GenericOption(9, b""),  # EXPIRE (RFC 7314)
    dns.edns.GenericOption(10, b"cookie!!"),  # COOKIE (RFC 7873)
]


def probe(message=None, *, opcode=0, z=False, ednsflags=0, **options):
    """A probe, in wire format; options as in `query`."""
    message = message or query(**options)
    message.flags |= opcode << 11
    message.ednsflags |= ednsflags
    wire = bytearray(message.to_wire())
    wire[3] |= 0x40 * z
    return bytes(wire)


def signed():
    message = query()
    message.use_tsig(dns.tsigkeyring.from_text({"key.": "c2VjcmV0"}))
    return message


# What is sent, and the rcode, flags, EDNS version and EDNS flags of its reply.
PLAIN, EDNS = (-1, 0), (0, 0)
PROBES = {
    "8.1.1 a name that is there": (probe(edns=False), "NOERROR", "QR RD RA", PLAIN),
    "8.1.2 an unknown type": (
        probe(rdtype="TYPE1000", edns=False), "NOERROR", "QR RD RA", PLAIN,
    ),
    "8.1.3.1 CD": (probe(flags="RD CD", edns=False), "NOERROR", "QR RD RA CD", PLAIN),
    "8.1.3.2 AD": (probe(flags="RD AD", edns=False), "NOERROR", "QR RD RA", PLAIN),
    "8.1.3.3 the reserved bit": (
        probe(z=True, edns=False), "NOERROR", "QR RD RA", PLAIN,
    ),
    "8.1.3.4 no recursion": (probe(flags="", edns=False), "REFUSED", "QR RA", PLAIN),
    "8.1.4 an unknown opcode": (
        probe(opcode=15, edns=False), "NOTIMP", "QR RD RA", PLAIN,
    ),
    "8.2.1 EDNS": (probe(), "NOERROR", "QR RD RA", EDNS),
    "8.2.2 EDNS version 1": (probe(edns=1), "BADVERS", "QR RD RA", EDNS),
    "8.2.2 the same with the reserved bit": (
        probe(edns=1, z=True), "BADVERS", "QR RD RA", EDNS,
    ),
    "8.2.3 an unknown option": (
        probe(options=[UNKNOWN]), "NOERROR", "QR RD RA", EDNS,
    ),
    "8.2.4 unknown EDNS flags": (
        probe(ednsflags=0x7FFF), "NOERROR", "QR RD RA", EDNS,
    ),
    "8.2.5 version 1 and flags": (
        probe(edns=1, ednsflags=0x0040), "BADVERS", "QR RD RA", EDNS,
    ),
    "8.2.6 version 1 and an option": (
        probe(edns=1, options=[UNKNOWN]), "BADVERS", "QR RD RA", EDNS,
    ),
    "8.2.8 DO": (probe(ednsflags=0x8000), "NOERROR", "QR RD RA", (0, 0x8000)),
    "8.2.9 version 1 and DO": (
        probe(edns=1, ednsflags=0x8000), "BADVERS", "QR RD RA", EDNS,
    ),
    "8.2.10 several options": (probe(options=KNOWN), "NOERROR", "QR RD RA", EDNS),
    "an update (RFC 2136)": (probe(opcode=5), "NOTIMP", "QR RD RA", PLAIN),
    "a zone transfer": (probe(rdtype="AXFR"), "REFUSED", "QR RD RA", EDNS),
    "another class": (
        probe(dns.message.make_query("version.bind", "TXT", "CH")), "REFUSED",
        "QR RD RA", PLAIN,
    ),
    "a signature (RFC 8945)": (probe(signed()), "NOTAUTH", "QR RD RA", EDNS),
}  # fmt: skip


LONG_RECORDS = answer(*(f"192.0.2.{i}" for i in range(90)), ttl=300)


def reply(question):
    """Addresses for every name, and nothing else."""
    if question.rdtype != dns.rdatatype.A:
        return nodata().make(question)
    long = str(question.name).startswith("long")
    return (LONG_RECORDS if long else answer(ADDRESS, ttl=300)).make(question)


async def ask(server, over, wire):
    """The reply to a message as it stands, over UDP or TCP, in wire format."""
    if over == "udp":
        with client(server) as sock:
            sock.send(wire)
            return await received(sock)
    async with await Stream.open(server.addresses[0]) as stream:
        stream.writer.write(len(wire).to_bytes(2, "big") + wire)
        return await stream.receive_wire()


@pytest.mark.parametrize("over", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("wire", "rcode", "flags", "edns"), PROBES.values(), ids=PROBES.keys()
)
def test_every_probe_is_answered_as_the_standards_say(over, wire, rcode, flags, edns):
    async def main():
        async with serving(ScriptedUpstream("upstream", Step(reply, 0))) as server:
            for _ in range(3):  # asked for, from memory, and as prepared
                check(await ask(server, over, wire))

    def check(data):
        told = dns.message.from_wire(data, keyring=False)
        assert dns.rcode.to_text(told.rcode()) == rcode
        assert (dns.flags.to_text(told.flags), data[3] & 0x40) == (flags, 0)
        assert (told.edns, told.ednsflags & 0xFFFF) == edns
        assert told.id == int.from_bytes(wire[:2], "big")
        assert UNKNOWN.otype not in [option.otype for option in told.options]
        if rcode != "NOTIMP":
            asked = dns.message.from_wire(wire, keyring=False)
            assert told.question == asked.question

    asyncio.run(main())


@pytest.mark.parametrize("options", [{"edns": False}, {"payload": 512}], ids=str)
def test_a_truncated_reply_says_so_and_keeps_its_opt(options):
    """Section 8.2.7; and all of it is there over TCP."""

    async def main():
        async with serving(ScriptedUpstream("upstream", Step(reply, 0))) as server:
            for _ in range(3):
                wire = probe(name="long.example.com", **options)
                short = dns.message.from_wire(await ask(server, "udp", wire))
                assert dns.flags.to_text(short.flags) == "QR TC RD RA"
                assert len(short.to_wire()) <= 512
                assert short.edns == (-1 if "edns" in options else 0)
                full = dns.message.from_wire(await ask(server, "tcp", wire))
                assert dns.flags.to_text(full.flags) == "QR RD RA"
                assert len(full.answer[0]) == 90

    asyncio.run(main())
