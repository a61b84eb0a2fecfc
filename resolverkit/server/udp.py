"""Datagrams: the sockets are drained on each wake-up, and hits are answered there.

What takes longer is put in a queue of bounded length, whose oldest give way, and worked
off in portions between two drains: however many misses come, hits are answered first.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from resolverkit.server import batch
from resolverkit.server.access import Ruling
from resolverkit.server.asker import Asker
from resolverkit.server.batch import SLOT, SLOTS, Batch
from resolverkit.server.everywhere import Everywhere
from resolverkit.server.query import Over
from resolverkit.server.responder import LIFETIME

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from resolverkit.server.access import Access
    from resolverkit.server.fastpath import FastPath
    from resolverkit.server.responder import Responder

DRAIN = 256
"""Datagrams that are read before anything else gets its turn."""
FEW = 4
"""Datagrams that are read one by one first: for those a batch costs more."""
LONE = 8
"""Wake-ups that read one datagram and do not look for more, after one found no more.

Where clients ask one thing at a time, to be told that there is no more costs a tenth.
"""
PORTION = 0.002
"""Seconds of work on the queue between two drains."""
QUEUE = 2048
"""Datagrams that may wait for that; a burst of one large page load is some hundred."""
RECEIVE_BUFFER = 4 << 20
"""Octets that the system is asked to buffer; it gives what it allows."""

_UDP = Over.UDP  # members of enums are slow to look up on Python 3.11


class _Datagram(Asker):
    """A query that came in one."""

    __slots__ = ("_client", "_listener")

    over = _UDP

    def __init__(self, listener: UdpListener, data: bytes, client: Any) -> None:
        # As super().__init__, without the call.
        self.responder = listener._responder
        self.data = data
        self.form = None
        self.ended = False
        self._listener = listener
        self._client = client

    def tell(self, reply: bytes | None) -> None:
        if reply is None:
            return
        listener = self._listener
        try:  # as `send`, without the call
            listener.sendto(reply, self._client)
        except OSError:
            listener._stats.unsent += 1


class UdpListener:
    """One bound datagram socket.

    Replies leave from the address that the query came to: the one that the socket is
    bound to, or, if that is all of them, the one that came along.

    Args:
        sock: the socket, which belongs to the listener from now on.
        responder: who answers.
        access: who may ask; None where only this machine can.
        own: addresses of this server, from which no query can come.
    """

    def __init__(
        self,
        sock: socket.socket,
        responder: Responder,
        access: Access | None,
        own: set[tuple[str, int]],
    ) -> None:
        self.socket = sock
        self.access = access
        self._responder = responder
        self._stats = responder.stats
        self._own: Container[Any] = own
        self._face: socket.socket | Everywhere = sock
        if ipaddress.ip_address(sock.getsockname()[0]).is_unspecified:
            self._face = self._own = Everywhere(sock)
        self.sendto: Callable[[bytes, Any], object] = self._face.sendto
        self._lone = 0  # such wake-ups to come
        self._queue: deque[tuple[bytes, Any]] = deque()
        self._working: asyncio.Handle | None = None
        self._transport: asyncio.DatagramTransport | None = None
        sock.setblocking(False)

    async def start(self) -> None:
        """Begin to answer."""
        self._loop = loop = asyncio.get_running_loop()
        sock = self.socket
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        # To look at each client's address would cost what a batch saves.
        many = batch.AVAILABLE and self.access is None and self._face is sock
        self._batch = Batch(sock) if many else None
        try:
            loop.add_reader(sock, self._drain)
        except NotImplementedError:  # the proactor loop of Windows
            self._transport, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(self), sock=sock
            )
            self.sendto = self._transport.sendto

    def close(self) -> None:
        """Stop reading and let go of the socket; what waits is forgotten."""
        self.pause()
        self._queue.clear()
        if self._transport is not None:
            self._transport.abort()
        else:
            self.socket.close()

    def pause(self) -> None:
        """Stop reading; what was read is still answered."""
        if self._transport is None and self.socket.fileno() >= 0:
            self._loop.remove_reader(self.socket)

    @property
    def idle(self) -> bool:
        """Whether nothing that was read waits for its turn."""
        return not self._queue

    def _drain(self) -> None:
        receive, send = self._face.recvfrom, self._face.sendto
        fast = self._responder.fast(_UDP)
        access, queue = self.access, self._queue
        now = self._responder.resolver._clock()
        fast.check(now)
        at_hand, rest_of = fast.at_hand, fast.rest
        count = served = 0
        if self._lone and not queue:
            self._lone -= 1
            most, batch = 1, None
        else:
            batch = self._batch
            most = DRAIN if batch is None else FEW
        for _ in range(most):
            try:
                data, client = receive(SLOT)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:  # somebody else's ICMP error
                continue
            count += 1
            if access and not self._admit(data, client, now):
                continue
            asked = data[2:]
            rest = at_hand(asked) or rest_of(asked, now)
            if rest is None:
                queue.append((data, client))
                continue
            served += 1
            try:
                send(data[:2] + rest, client)
            except OSError:
                self._stats.unsent += 1
        else:
            if batch is not None:
                count += self._drain_many(batch, fast, now)
        if most > 1 >= count:
            self._lone = LONE
        self._stats.udp += count
        if served:
            fast.served(served)
        if queue:
            while len(queue) > QUEUE:
                queue.popleft()
                self._stats.dropped += 1
            if self._working is None:
                self._work()

    def _drain_many(self, batch: Batch, fast: FastPath, now: float) -> int:
        """The same with fewer calls, for replies are sent together; how many came."""
        at_hand, rest_of = fast.at_hand, fast.rest
        count = 0
        for _ in range(DRAIN // SLOTS):
            queries = batch.receive()
            if not queries:
                break
            replies = list(map(at_hand, queries))
            if None in replies:
                pairs = zip(replies, queries, strict=True)
                replies = [rest or rest_of(asked, now) for rest, asked in pairs]
            self._stats.unsent += batch.send(replies)
            count += len(queries)
            fast.served(len(queries) - replies.count(None))
            if None in replies:
                for i, reply in enumerate(replies):
                    if reply is None:
                        self._queue.append((batch.query(i), batch.client(i)))
            if len(queries) < SLOTS:
                break
        return count

    def take(self, data: bytes, client: Any) -> None:
        """One datagram, where a transport reads the socket."""
        self._stats.udp += 1
        now = self._responder.resolver._clock()
        if client in self._own:
            self._stats.ignored += 1
            return
        if self.access is None or self._admit(data, client, now):
            fast = self._responder.fast(Over.UDP)
            fast.check(now)
            reply = fast.reply(data, now)
            if reply is not None:
                self.send(reply, client)
            else:
                asker = _Datagram(self, data, client)
                call = self._responder.resolver._client_call(LIFETIME)
                self._responder.take(asker, call)

    def _admit(self, data: bytes, client: Any, now: float) -> bool:
        assert self.access is not None
        ruling = self.access.rule(client[0], now, datagram=True)
        if ruling is Ruling.ANSWER:
            return True
        if ruling is Ruling.DENY:
            self._stats.denied += 1
            return False
        self._stats.limited += 1
        if ruling is Ruling.TRUNCATE and len(data) >= 12 and not data[2] & 0x80:
            self.send(truncated(data), client)
        return False

    def _work(self) -> None:
        """Answer from the queue until it is empty, or others should have their turn."""
        self._working = None
        queue, own, take = self._queue, self._own, self._responder.take
        call = self._responder.resolver._client_call(LIFETIME)
        until = time.perf_counter() + PORTION
        while queue:
            data, client = queue.popleft()
            if client in own:
                self._stats.ignored += 1
                continue
            take(_Datagram(self, data, client), call)
            if time.perf_counter() > until:
                break
        if queue:
            self._working = self._loop.call_soon(self._work)

    def send(self, reply: bytes, client: Any) -> None:
        """Send a reply; what the system does not take is counted."""
        try:
            self.sendto(reply, client)
        except OSError:  # no room, closed by now, or an address that nothing can reach
            self._stats.unsent += 1


class _Datagrams(asyncio.DatagramProtocol):
    """Where the loop reads sockets by itself only."""

    def __init__(self, listener: UdpListener) -> None:
        self._listener = listener

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._listener.take(data, addr)


def truncated(data: bytes) -> bytes:
    """TC and no records, for a query that was not even read: ask again over TCP.

    The question is given back if it ends where a name can end.
    """
    end = 12
    while end < len(data) and 0 < data[end] < 64:
        end += 1 + data[end]
    asked = data[12 : end + 5]
    whole = data[4:6] == b"\0\1" and len(asked) == end - 7 and not data[end]
    flags = bytes((0x82 | data[2] & 0x79, 0x80))
    counts = b"\0\1" if whole else b"\0\0"
    return data[:2] + flags + counts + bytes(6) + (asked if whole else b"")
