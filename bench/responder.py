"""A fast authority for benchmarks: answers any question with one A record.

Run as ``python responder.py ADDRESS…``; prints the port that it has at every address,
and stops when its standard input closes. In place of an address it takes the descriptor
of a bound socket.
"""

import os
import select
import socket
import sys

TTL = int(os.environ.get("TTL", "3600")).to_bytes(4, "big")
ANSWER = b"\xc0\x0c\0\1\0\1" + TTL + b"\0\4\xc0\0\2\1"  # 192.0.2.1
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"


def reply_to(query: bytes) -> bytes:
    """The query turned into a reply, with an OPT if it has one."""
    end = query.index(0, 12) + 5
    opt = OPT if query[11] else b""
    counts = b"\x81\x80\0\1\0\1\0\0\0" + query[11:12]
    return b"".join((query[:2], counts, query[12:end], ANSWER, opt))


def serve(server: socket.socket) -> None:
    """Answer all that has arrived at one address."""
    while True:
        try:
            query, client = server.recvfrom(4096)
        except BlockingIOError:
            return
        server.sendto(reply_to(query), client)


def main() -> None:
    """Answer until standard input closes."""
    if hasattr(os, "SCHED_BATCH"):  # waking up does not interrupt who sent the query
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    servers: list[socket.socket] = []
    port = 0
    for address in sys.argv[1:] or ["127.0.0.1"]:
        if address.isdigit():
            server = socket.socket(fileno=int(address))
        else:
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            server.bind((address, port))
        server.setblocking(False)
        port = server.getsockname()[1]
        servers.append(server)
    print(port, flush=True)
    while True:
        ready, _, _ = select.select([*servers, sys.stdin], [], [])
        for server in ready:
            if server is sys.stdin:
                return
            serve(server)


if __name__ == "__main__":
    main()
