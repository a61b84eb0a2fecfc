"""The responder behind a network: replies come late, and some never.

Run as ``python lossy.py RTT LOSS DEAD``: it listens at three addresses on one port,
which it prints; a reply leaves RTT (s) after its query came; LOSS is the share of
queries that have none; the first DEAD addresses never reply. For each line on standard
input it prints how many queries have come since the last one, and it ends with it.
"""

import os
import random
import select
import socket
import sys
import time
from collections import deque

from measure import go_first
from responder import reply_to

ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


class Lossy:
    """Sockets, and the replies that are on their way: all take alike."""

    def __init__(self, rtt: float, loss: float, dead: int) -> None:
        self.rtt = rtt
        self.loss = loss
        self.dead = dead
        self.queries = 0
        self.chance = random.Random(1)
        self.flying: deque[tuple[float, socket.socket, bytes, object]] = deque()
        self.epoll = select.epoll()
        self.places: dict[int, tuple[int, socket.socket]] = {}
        self.port = 0
        for place, address in enumerate(ADDRESSES):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            sock.setblocking(False)
            sock.bind((address, self.port))
            self.port = sock.getsockname()[1]
            self.places[sock.fileno()] = (place, sock)
            self.epoll.register(sock, select.EPOLLIN)

    def read(self, place: int, sock: socket.socket) -> None:
        """Take in all queries that have come to an address."""
        while True:
            try:
                query, client = sock.recvfrom(4096)
            except BlockingIOError:
                return
            self.queries += 1
            if place >= self.dead and self.chance.random() >= self.loss:
                due = time.monotonic() + self.rtt
                self.flying.append((due, sock, reply_to(query), client))

    def run(self) -> None:
        """Reply until standard input ends."""
        self.epoll.register(0, select.EPOLLIN)
        flying = self.flying
        while True:
            wait = max(0.0, flying[0][0] - time.monotonic()) if flying else -1.0
            for number, _ in self.epoll.poll(wait):
                if number:
                    self.read(*self.places[number])
                    continue
                if not os.read(0, 1):
                    return
                print(self.queries, flush=True)
                self.queries = 0
            now = time.monotonic()
            while flying and flying[0][0] <= now:
                _, sock, reply, client = flying.popleft()
                sock.sendto(reply, client)  # type: ignore[arg-type]


if __name__ == "__main__":
    go_first()
    rtt, loss, dead = sys.argv[1:]
    servers = Lossy(float(rtt), float(loss), int(dead))
    print(servers.port, flush=True)
    servers.run()
