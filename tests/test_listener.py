"""Listeners in place of Futures: what our own upstreams tell, and whom."""

import asyncio

import pytest

from resolverkit import errors, wire
from resolverkit.listener import Direct, Pending, UnderWay, Watched, asker
from resolverkit.model import Kind, Reply, plain_reply

QUESTION = wire.make_question(wire.text_to_wire("www.example.com"), 1)
REPLY = Reply(b"", Kind.NODATA, 0, 60, b"\0")


class Asked(UnderWay):
    """A question that was put to `Slow`."""

    def __init__(self, listener):
        self.listener, self.dropped = listener, False

    def drop(self):
        self.dropped = True


class Slow(Direct):
    """Says nothing by itself; what it was asked is in `asked`."""

    name = "slow"

    def ask(self, question, listener, now):
        self.asked = Asked(listener)
        self.now = now
        return self.asked


class Ear:
    """A listener that notes what it hears."""

    def __init__(self):
        self.heard = []

    def answered(self, reply):
        self.heard.append(reply)

    def failed(self, error):
        self.heard.append(error)

    def called_off(self):
        self.heard.append("called off")


class Plain:
    """An upstream of a user's own."""

    name = "plain"

    def __init__(self, make):
        self.make = make

    def query(self, _question):
        return self.make()


def test_a_future_gets_what_the_listener_is_told():
    async def main():
        slow, loop = Slow(), asyncio.get_running_loop()
        answered, failed = slow.query(QUESTION), None
        assert slow.now == pytest.approx(loop.time(), abs=1.0)
        slow.asked.listener.answered(REPLY)
        failed = slow.query(QUESTION)
        slow.asked.listener.failed(errors.QueryTimeout("late"))
        closed = slow.query(QUESTION)
        slow.asked.listener.called_off()
        assert answered.result() is REPLY
        assert isinstance(failed.exception(), errors.QueryTimeout)
        assert closed.cancelled()
        assert not slow.asked.dropped  # it knows already

    asyncio.run(main())


def test_a_future_has_the_whole_of_a_plain_reply():
    async def main():
        slow = Slow()
        future = slow.query(QUESTION)
        name = QUESTION.wire_name
        head = b"\0\0\x81\xa0\0\1\0\1\0\0\0\0"
        plain = plain_reply(head + name, 60, len(name))
        slow.asked.listener.answered(plain)
        reply = future.result()
        assert (reply.kind, reply.ttl, reply.final) == (Kind.DATA, 60, name)
        assert (reply.ad, reply.ra, reply.winner) == (True, True, None)

    asyncio.run(main())


def test_who_cancels_the_future_drops_the_question():
    async def main():
        slow = Slow()
        future = slow.query(QUESTION)
        assert future.cancel()
        assert slow.asked.dropped
        assert not future.cancel()

    asyncio.run(main())


def test_a_future_takes_the_place_of_a_listener():
    async def main():
        slow, ear, loop = Slow(), Ear(), asyncio.get_running_loop()
        asked = slow.ask(QUESTION, ear, loop.time())
        future = asked.future(loop)
        asked.listener.answered(REPLY)
        assert future.result() is REPLY
        assert ear.heard == []
        assert future.attempts == ()

    asyncio.run(main())


@pytest.mark.parametrize("end", ["answered", "failed", "called off"])
@pytest.mark.parametrize("made", [Pending, asyncio.Future])
def test_a_listener_is_told_what_a_future_gets(end, made):
    async def main():
        ear, future = Ear(), made()
        Watched(future, ear)
        error = errors.QueryTimeout("late")
        if end == "answered":
            future.set_result(REPLY)
        elif end == "failed":
            future.set_exception(error)
        else:
            future.cancel()
        await asyncio.sleep(0)
        return ear.heard, {"answered": REPLY, "failed": error}.get(end, end)

    heard, expected = asyncio.run(main())
    assert heard == [expected]


def test_who_drops_what_is_watched_hears_no_more():
    async def main():
        ear, future = Ear(), asyncio.get_running_loop().create_future()
        watched = Watched(future, ear)
        watched.drop()
        await asyncio.sleep(0)
        assert future.cancelled()
        return ear.heard

    assert asyncio.run(main()) == []


def test_the_future_that_is_watched_may_take_the_listener_s_place():
    async def main():
        ear, future = Ear(), asyncio.get_running_loop().create_future()
        watched = Watched(future, ear)
        assert watched.future(None) is future
        future.set_exception(errors.QueryTimeout("late"))
        await asyncio.sleep(0)
        return ear.heard

    assert asyncio.run(main()) == []


def test_a_user_s_own_upstream_is_asked_by_its_query():
    async def answer():
        await asyncio.sleep(0)
        return REPLY

    async def main():
        ear = Ear()
        asker(Plain(answer))(QUESTION, ear, 0.0)
        for _ in range(5):
            await asyncio.sleep(0)
        return ear.heard

    assert asyncio.run(main()) == [REPLY]
