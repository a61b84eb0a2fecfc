"""The responder over TLS: DoH by HTTP/2 where that is agreed on, else DoT.

Prints its port and the file of the authority to trust, and stops when its standard
input closes. With the argument ``changing`` a header says how long and how old its
reply is, as those of public resolvers do; else all are the same. It reads frames by
hand and believes what it is told: a server for benchmarks, which is to cost as little
as can be.
"""

import asyncio
import itertools
import os
import struct
import sys

from hpack import Encoder
from responder import reply_to

from resolverkit.testing.certificates import Certificates

DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8  # RFC 9113 section 6
END_STREAM, ACK, END_HEADERS = 1, 1, 4
PREFACE = 24  # octets of the client's, which are always the same
TYPE = b"application/dns-message"
# RFC 7541: ":status: 200" by its index, and the content type, which no table keeps.
BLOCK = b"\x88\x0f\x10" + bytes((len(TYPE),)) + TYPE
WINDOW = struct.pack("!I", 0x7FFFFFFF - 65_535)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame of HTTP/2."""
    return struct.pack("!IBI", len(payload) << 8 | kind, flags, stream) + payload


CHANGING = sys.argv[1:] == ["changing"]
_replies = itertools.count()


def header(encoder: Encoder, size: int) -> bytes:
    """The header of a reply of so many octets: another one for each, or always one."""
    if not CHANGING:
        return BLOCK
    count = next(_replies)
    seconds = count // 1000 % 60
    return encoder.encode(
        [
            (b":status", b"200"),
            (b"content-type", TYPE),
            (b"content-length", b"%d" % size),
            (b"date", b"Mon, 23 Nov 2026 07:00:%02d GMT" % seconds),
            (b"cache-control", b"max-age=%d" % (count % 300)),
        ]
    )


class Server(asyncio.Protocol):
    """One connection, of either kind."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS stands."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.rest = b""
        tls = transport.get_extra_info("ssl_object")
        self.h2 = tls.selected_alpn_protocol() == "h2"
        self.bodies: dict[int, bytes] = {}
        self.encoder = Encoder()
        if self.h2:
            self.skip = PREFACE
            settings = frame(SETTINGS, 0, 0, struct.pack("!HI", 3, 1000))
            transport.write(settings + frame(WINDOW_UPDATE, 0, 0, WINDOW))

    def data_received(self, data: bytes) -> None:
        """Answer all that is whole in one write."""
        self.rest += data
        out = self.read_h2() if self.h2 else self.read_dot()
        if out:
            self.transport.write(b"".join(out))

    def read_dot(self) -> list[bytes]:
        """Messages with their length before them (RFC 7858)."""
        out, rest, pos = [], self.rest, 0
        while len(rest) - pos >= 2:
            stop = pos + 2 + (rest[pos] << 8 | rest[pos + 1])
            if stop > len(rest):
                break
            reply = reply_to(rest[pos + 2 : stop])
            out.append(len(reply).to_bytes(2, "big") + reply)
            pos = stop
        self.rest = rest[pos:]
        return out

    def read_h2(self) -> list[bytes]:
        """A query is what DATA frames carry; what its header says is not looked at."""
        out, rest, pos = [], self.rest, self.skip
        while len(rest) - pos >= 9:
            size, flags, stream = struct.unpack_from("!IBI", rest, pos)
            kind, size = size & 255, size >> 8
            stop = pos + 9 + size
            if stop > len(rest):
                break
            if kind == DATA:
                self.bodies[stream] = (
                    self.bodies.get(stream, b"") + rest[pos + 9 : stop]
                )
            if kind == DATA and flags & END_STREAM:
                reply = reply_to(self.bodies.pop(stream))
                block = header(self.encoder, len(reply))
                out.append(frame(HEADERS, END_HEADERS, stream, block))
                out.append(frame(DATA, END_STREAM, stream, reply))
            elif kind == SETTINGS and not flags & ACK:
                out.append(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                out.append(frame(PING, ACK, 0, rest[pos + 9 : stop]))
            pos = stop
        if pos >= PREFACE or not self.skip:
            self.rest, self.skip = rest[pos:], 0
        return out


async def main() -> None:
    """Answer until standard input closes."""
    loop = asyncio.get_running_loop()
    certificates = Certificates()
    context = certificates.context(("h2", "dot"))
    server = await loop.create_server(Server, "127.0.0.1", 0, ssl=context, backlog=1000)
    print(server.sockets[0].getsockname()[1], certificates.ca_path, flush=True)
    ended = loop.create_future()
    loop.add_reader(sys.stdin, ended.set_result, None)
    await ended
    loop.remove_reader(sys.stdin)
    server.close()
    certificates.close()


if __name__ == "__main__":
    if hasattr(os, "SCHED_BATCH"):  # as in responder.py
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    asyncio.run(main())
