"""What the events of a Resolver come to: names on old data, errors, ups and downs."""

from __future__ import annotations

import asyncio

from facing import DATA, Faced

from resolverkit import StalePolicy
from resolverkit.model import AnswerPath, Attempt, Endpoint, Outcome, Source
from resolverkit.server import watch as watching
from resolverkit.server.watch import Watch
from resolverkit.testing import ScriptedUpstream, nxdomain, servfail, silent
from resolverkit.wire import make_question, text_to_wire


class Seen:
    """A Watch on a clock that stands."""

    def __init__(self):
        self.now = 1000.0
        self.watch = Watch(lambda: self.now)

    def names(self, still=lambda _: True):
        return [str(name.question.name) for name in self.watch.names(still)]


def question(name="www.example.com", **options):
    return make_question(text_to_wire(name), 1, **options)


def attempt(outcome, detail="", name="a", **more):
    return Attempt(Endpoint(name), 0.0, 0.1, outcome, detail=detail, **more)


def path(source=Source.STALE, *attempts, winner=None):
    return AnswerPath(source, winner, attempts)


def test_a_name_is_on_stale_from_the_first_answer_to_the_next_fresh_data():
    seen = Seen()
    seen.watch.stale(question(), path())
    seen.now += 30
    seen.watch.stale(question(), path())
    (name,) = seen.watch.names(lambda _: True)
    assert (name.since, name.asked, name.served) == (1000.0, 1030.0, 2)
    seen.watch.answered(question("other.example.com"), path(Source.UPSTREAM))
    assert seen.names() == ["www.example.com."]
    seen.watch.answered(question(), path(Source.UPSTREAM))
    assert seen.names() == []


def test_a_denial_ends_stale_but_not_held():
    seen = Seen()
    denied = path(Source.UPSTREAM, winner=attempt(Outcome.NXDOMAIN))
    seen.watch.held(question(), path(Source.HELD))
    seen.watch.answered(question(), denied)
    assert seen.names() == ["www.example.com."]
    data = path(Source.UPSTREAM, winner=attempt(Outcome.DATA))
    seen.watch.answered(question(), data)
    assert seen.names() == []


def test_what_the_cache_knows_better_and_what_nobody_asks_for_is_forgotten():
    seen = Seen()
    for name in ("a.example", "b.example"):
        seen.watch.stale(question(name), path())
    wanted = text_to_wire("a.example")
    assert seen.names(lambda name: name.question.wire_name == wanted) == ["a.example."]
    seen.now += watching.IDLE
    assert seen.names() == ["a.example."]
    seen.now += 1
    assert seen.names() == []


def test_a_flood_of_names_pushes_out_those_unasked_for_the_longest(monkeypatch):
    monkeypatch.setattr(watching, "MAX_NAMES", 3)
    seen = Seen()
    for name in ("a", "b", "c", "a", "d"):
        seen.watch.stale(question(f"{name}.example"), path())
    assert sorted(seen.names()) == ["a.example.", "c.example.", "d.example."]


def test_errors_are_remembered_by_upstream_and_bounded(monkeypatch):
    monkeypatch.setattr(watching, "MAX_UPSTREAMS", 2)
    seen = Seen()
    lost = attempt(Outcome.OVERTAKEN)
    bogus = attempt(Outcome.FAILURE, "\x1b[31m", ede=((6, "why"),))
    seen.watch.failed(question(), path(Source.UPSTREAM, lost, bogus))
    assert seen.watch.trouble("a").text == (
        "\N{REPLACEMENT CHARACTER}[31m, EDE 6 (DNSSEC Bogus): why"
    )
    for name in "bc":
        error = attempt(Outcome.TIMEOUT, "no reply", name)
        seen.watch.answered(question(), path(Source.UPSTREAM, error))
    assert seen.watch.trouble("a") is None
    assert seen.watch.trouble("c").text == "no reply"


def test_who_goes_down_without_an_error_was_silent():
    seen = Seen()
    seen.watch.upstream_down("a")
    assert "silent" in seen.watch.trouble("a").text
    seen.watch.failed(question(), path(Source.UPSTREAM, attempt(Outcome.TIMEOUT, "x")))
    seen.watch.upstream_down("a")
    assert seen.watch.trouble("a").text == "x"
    seen.watch.upstream_up("a")
    assert [change.up for change in seen.watch.changes] == [False, False, True]


# --- over a whole stub ---------------------------------------------------------------


def test_what_is_flushed_is_not_on_stale_any_more():
    async def main():
        alpha = ScriptedUpstream("a", DATA)
        async with Faced(alpha) as faced:
            await faced.ask()
            alpha.play(servfail())
            faced.clock.ahead += 120
            await faced.ask()
            assert [name.served for name in faced.face.status.old_names()] == [1]
            await faced.resolver.store.flush("www.example.com")
            assert faced.face.status.old_names() == []

    asyncio.run(main())


def test_a_held_name_is_told_as_such_while_denials_go_on():
    async def main():
        alpha = ScriptedUpstream("a", DATA)
        hold = StalePolicy(on_denial="hold")
        async with Faced(alpha, stale=hold) as faced:
            await faced.ask()
            alpha.play(nxdomain())
            faced.clock.ahead += 120
            for _ in range(3):
                await faced.ask()
                await asyncio.sleep(0.05)  # refreshes are behind answers
                faced.clock.ahead += 40
            (told,) = (await faced.json("/api/status"))["old"]["names"]
            assert (told["source"], told["served"]) == ("held", 3)
            assert 119 < told["since"] < 130
            alpha.play(DATA)
            await faced.ask()
            await asyncio.sleep(0.05)
            status = await faced.json("/api/status")
            assert status["old"]["names"] == []
            assert status["answers"]["held"] >= 3

    asyncio.run(main())


def test_an_upstream_goes_through_all_states():
    async def main():
        alpha = ScriptedUpstream("udp://192.0.2.1", DATA, operator="Alpha")
        beta = ScriptedUpstream("udp://192.0.2.2", DATA, operator="Beta")
        async with Faced(alpha, beta, strategy="failover") as faced:

            async def state():
                told = await faced.json("/api/status")
                summary = {"summary": told["summary"]}
                return summary | {each["operator"]: each for each in told["upstreams"]}

            assert (await state())["Alpha"]["state"] == "unknown"
            await faced.ask()
            told = await state()
            assert told["Alpha"]["state"] == "up"
            assert told["Alpha"]["success"] == 1.0
            assert told["Beta"]["state"] == "unknown"
            alpha.play(silent(0.01))
            for i in range(5):
                await faced.ask(name=f"n{i}.example.com")
            count = 6
            while (told := await state())["Alpha"]["state"] == "probing":
                count += 1  # on a busy machine its second was over
                await faced.ask(name=f"n{count}.example.com")
            assert told["Alpha"]["state"] == "down"
            assert round(1 / count, 4) <= told["Alpha"]["success"] <= round(1 / 6, 4)
            assert told["Alpha"]["error"] == "timeout"
            assert 0 < told["Alpha"]["probe_in"] <= count - 5  # it doubles, or less
            assert told["Beta"]["state"] == "up"
            assert told["summary"] == "1 of 2 upstreams down"
            beta.play(servfail())
            for i in range(6 + count):  # more than it has answered
                await faced.ask(name=f"m{i}.example.com")
            assert (await state())["Beta"]["state"] == "failing"

    asyncio.run(main())
