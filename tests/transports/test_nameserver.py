"""Name servers of dnspython's, asked through their own code."""

from __future__ import annotations

import dns.nameserver
import pytest
from loopback import PATIENCE, Server, answer, answer_all, ask, run
from test_do53 import HOST, Udp, truncated

from resolverkit.errors import NetworkError, QueryTimeout
from resolverkit.model import Kind
from resolverkit.transports.nameserver import ForeignNameserver


def foreign(server, timeout=PATIENCE):
    return ForeignNameserver(dns.nameserver.Do53Nameserver(HOST, server.port), timeout)


def test_a_truncated_reply_is_asked_for_again_over_tcp():
    """RFC 7766 section 5."""

    async def main():
        async with (
            Udp(lambda q, send: send(truncated(q))) as server,
            Server(answer_all, port=server.port) as tcp,
        ):
            reply = await foreign(server).query(ask())
            assert (reply.kind, reply.ttl) == (Kind.DATA, 300)
            assert (len(server.packets), tcp.connections) == (1, 1)

    run(main)


def test_what_a_truncated_reply_holds_is_no_answer():
    def handle(query, send):
        reply = answer(query)
        send(reply[:2] + b"\x83" + reply[3:])

    async def main():
        async with Udp(handle) as server:
            with pytest.raises(NetworkError) as caught:
                await foreign(server).query(ask())
            assert len(caught.value.attempts) == 1

    run(main)


def test_udp_and_tcp_have_one_timeout_together():
    async def hold(reader, writer, n):
        await reader.read()
        await reader.read()

    async def main():
        async with (
            Udp(lambda q, send: send(truncated(q))) as server,
            Server(hold, port=server.port),
        ):
            with pytest.raises(QueryTimeout) as caught:
                await foreign(server, 0.2).query(ask())
            (attempt,) = caught.value.attempts
            assert 0.19 < attempt.elapsed < 2

    run(main)
