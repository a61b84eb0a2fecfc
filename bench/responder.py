"""A fast authority for benchmarks: answers any question with one A record.

Run as ``python responder.py``; prints its port, and stops when its standard input
closes.
"""

import select
import socket
import sys

ANSWER = b"\xc0\x0c\0\1\0\1\0\0\x0e\x10\0\4\xc0\0\2\1"  # 192.0.2.1, TTL 3600


def reply_to(query: bytes) -> bytes:
    """The query turned into a reply; its OPT, if any, is left out."""
    end = 12
    while query[end]:
        end += 1 + query[end]
    end += 5
    return b"".join(
        (query[:2], b"\x81\x80\0\1\0\1\0\0\0\0", query[12:end], ANSWER),
    )


def main() -> None:
    """Answer until standard input closes."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    server.bind(("127.0.0.1", 0))
    server.setblocking(False)
    print(server.getsockname()[1], flush=True)
    while True:
        ready, _, _ = select.select([server, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        while True:
            try:
                query, client = server.recvfrom(4096)
            except BlockingIOError:
                break
            server.sendto(reply_to(query), client)


if __name__ == "__main__":
    main()
