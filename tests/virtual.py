"""What tests in virtual time share: moments in ms, and what became of a call."""

from __future__ import annotations

import asyncio
import struct

from resolverkit import Resolver
from resolverkit.errors import UpstreamError
from resolverkit.testing import ScriptedUpstream, Step, VirtualLoop
from resolverkit.testing.time import START
from resolverkit.wire import make_question, text_to_wire

WWW = "www.example.com"


def question(name=WWW, rdtype=1, **options):
    return make_question(text_to_wire(name), rdtype, **options)


def ms():
    """Virtual milliseconds since the test began."""
    return round((VirtualLoop.running().time() - START) * 1000)


async def at(seconds):
    """Wait until this many seconds after the beginning of the test."""
    await asyncio.sleep(START + seconds - VirtualLoop.running().time())


def moments(upstream, name=None):
    """When an upstream was asked (for one name, if given), in ms."""
    return [
        round((when - START) * 1000)
        for when, text in upstream.asked
        if name is None or text.split()[0] == f"{name}."
    ]


def resent(upstream):
    """When a question was sent to an upstream once more, in ms."""
    return [round((when - START) * 1000) for when, _ in upstream.resent]


def upstreams(*scripts, operators="", **options):
    """Scripted upstreams a, b, c …; their operators by letter, each its own if not."""
    letters = "abcdefgh"
    return [
        ScriptedUpstream(letter, script, operator=operator, **options)
        for letter, script, operator in zip(
            letters, scripts, operators or letters.upper(), strict=False
        )
    ]


def resolver(*members, **options):
    """A Resolver on the virtual clock, over these upstreams only."""
    return Resolver(
        list(members),
        options.pop("configure", False),
        clock=VirtualLoop.running().clock,
        **options,
    )


class Got:
    """What a call came to: `what`, from which `source`, in how many ms (`took`)."""

    def __init__(self, what, path, took, result):
        self.what = what
        self.path = path
        self.source = str(path.source) if path else None
        self.took = took
        self.result = result

    def __eq__(self, other):
        return (self.what, self.source, self.took) == other

    __hash__ = None

    def __repr__(self):
        return repr((self.what, self.source, self.took))


async def call(asker, name=WWW, rdtype="A", **options):
    """Resolve; equal to (addresses or the exception's name, source, ms)."""
    began = ms()
    try:
        answer = await asker.resolve(name, rdtype, **options)
    except Exception as error:  # noqa: BLE001
        path = getattr(error, "path", None)
        return Got(type(error).__name__, path, ms() - began, error)
    what = " ".join(str(rdata) for rdata in answer.rrset or ())
    return Got(what, answer.path, ms() - began, answer)


async def put(upstream, *args, **options):
    """Put a question to an upstream: the reply or error, and the ms it took."""
    began = ms()
    try:
        reply = await upstream.query(question(*args, **options))
    except UpstreamError as error:
        return error, ms() - began
    return reply, ms() - began


def told(end):
    """Who was tried, and how it ended, as a path or error lists it."""
    return [(attempt.upstream, str(attempt.outcome)) for attempt in end.attempts]


def pin(asker, *order):
    """Have the upstreams of a Resolver's one group asked in this order (by index)."""
    (group,) = asker._stack._groups.values()
    now = VirtualLoop.running().time()
    for place, index in enumerate(order):
        health = group._children[index].health
        health.srtt, health._updated = 0.01 * (1 + place), now


# --- replies made by hand, for thousands of questions --------------------------------


def denial(asked, rcode=3):
    """The wire of NXDOMAIN (or NODATA) with an SOA in the root."""
    soa = struct.pack("!BBIIIII", 0, 0, 1, 1800, 900, 604800, 300)
    record = struct.pack("!BHHIH", 0, 6, 1, 300, len(soa)) + soa
    header = struct.pack("!HHHHHH", 0, 0x8180 | rcode, 1, 0, 1, 0)
    return header + asked.wire[12 : asked.end] + record


def data(asked, ttl=60):
    """The wire of an address."""
    header = struct.pack("!HHHHHH", 0, 0x8180, 1, 1, 0, 0)
    record = struct.pack("!HHHIH4B", 0xC00C, 1, 1, ttl, 4, 192, 0, 2, 1)
    return header + asked.wire[12 : asked.end] + record


def quick_answer(after=0.0, ttl=60):
    return Step(lambda asked: data(asked, ttl), after)


def quick_nxdomain(after=0.0):
    return Step(denial, after)


def quick_nodata(after=0.0):
    return Step(lambda asked: denial(asked, 0), after)
