"""What the tests of the transports share: servers on 127.0.0.1 that do as told."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
import struct
from typing import TYPE_CHECKING, Any

import trustme
from h2 import events as on
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import Settings

from resolverkit import wire
from resolverkit.model import Endpoint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from pathlib import Path

    from resolverkit.model import Question

LIMIT = 30.0  # seconds for one test; they take some ms
PATIENCE = 20.0  # of a transport, where nothing is about its timeout: machines are busy


class Loop(asyncio.SelectorEventLoop):
    """A loop whose time can jump, so that a test says when a question times out."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


def skip(seconds: float) -> None:
    """Have the time of the running loop jump; of a test, by less than `LIMIT`."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    loop.ahead += seconds


def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Run a test; when it is over only its own task may be left."""

    async def bounded() -> None:
        async with asyncio.timeout(LIMIT):
            await main()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(bounded())


async def until(true: Callable[[], object]) -> None:
    """Return once it holds; the limit of the test bounds it."""
    while not true():  # noqa: ASYNC110 - what is awaited has no event
        await asyncio.sleep(0.001)


def ask(name: str = "www.example.com", rdtype: int = 1) -> Question:
    return wire.make_question(wire.text_to_wire(name), rdtype)


def answer(query: bytes, *, flags: int = 0x8180, ttl: int = 300) -> bytes:
    """A reply with one A record."""
    end = 12
    while query[end]:
        end += 1 + query[end]
    head = query[:2] + struct.pack("!HHHHH", flags, 1, 1, 0, 0)
    record = struct.pack("!HHHIH", 0xC00C, 1, 1, ttl, 4) + bytes((192, 0, 2, 1))
    return head + query[12 : end + 5] + record


def frame(message: bytes) -> bytes:
    return struct.pack("!H", len(message)) + message


async def read_query(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack("!H", await reader.readexactly(2))
    return await reader.readexactly(size)


Handle = "Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]"


class Server:
    """Calls `handle(reader, writer, n)` for its n-th connection, then closes it."""

    def __init__(
        self,
        handle: Callable[
            [asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]
        ],
        tls: ssl.SSLContext | None = None,
        port: int = 0,
    ) -> None:
        self.handle = handle
        self.tls = tls
        self.port = port
        self.connections = 0
        self.alpn: list[str | None] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, ssl=self.tls
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        tls = writer.get_extra_info("ssl_object")
        self.alpn.append(tls.selected_alpn_protocol() if tls else None)
        # A cancelled handler ends like another: 3.11 would log it as an error.
        quiet = (OSError, ssl.SSLError, asyncio.IncompleteReadError)
        with contextlib.suppress(*quiet, asyncio.CancelledError):
            try:
                with contextlib.suppress(*quiet):
                    await self.handle(reader, writer, self.connections)
                writer.close()
                await writer.wait_closed()
            finally:
                writer.transport.abort()
        self._tasks.discard(task)

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    def endpoint(self, scheme: str, transport: str) -> Endpoint:
        url = f"{scheme}://127.0.0.1:{self.port}"
        return Endpoint(url, transport, address="127.0.0.1", port=self.port)


async def answer_all(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, n: int
) -> None:
    """A well-behaved server."""
    while True:
        writer.write(frame(answer(await read_query(reader))))


@functools.cache
def authority(name: str = "ours") -> trustme.CA:
    return trustme.CA()


@functools.cache
def certificate(host: str = "dns.example", ca: str = "ours") -> trustme.LeafCert:
    return authority(ca).issue_cert(host)


def server_tls(
    *alpn: str, host: str = "dns.example", ca: str = "ours"
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate(host, ca).configure_cert(context)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def ca_file(directory: Path, ca: str = "ours") -> str:
    path = directory / f"{ca}.pem"
    authority(ca).cert_pem.write_to_path(str(path))
    return str(path)


class Peer:
    """The server's end of an HTTP/2 connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        settings: dict[int, int] | None = None,
    ) -> None:
        self.reader, self.writer = reader, writer
        self.h2 = H2Connection(
            H2Configuration(client_side=False, header_encoding="utf-8")
        )
        self.h2.local_settings = Settings(client=False, initial_values=settings)
        self.h2.initiate_connection()
        self.flush()
        self.events: list[Any] = []
        self.open: dict[int, tuple[dict[str, str], bytearray]] = {}

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    async def event(self, *kinds: Any) -> Any:
        """The next event of one of these kinds."""
        while True:
            while self.events:
                event = self.events.pop(0)
                self._note(event)
                if type(event) in kinds:
                    return event
            data = await self.reader.read(65_536)
            if not data:
                raise ConnectionResetError
            self.events += self.h2.receive_data(data)
            self.flush()

    def _note(self, event: Any) -> None:
        if isinstance(event, on.RequestReceived):
            self.open[event.stream_id] = (dict(event.headers), bytearray())
        elif isinstance(event, on.DataReceived):
            if event.stream_id in self.open:
                self.open[event.stream_id][1].extend(event.data)
            if event.flow_controlled_length:
                self.h2.increment_flow_control_window(event.flow_controlled_length)
                self.flush()

    async def request(self) -> tuple[int, dict[str, str], bytes]:
        """The stream, header and body of the next request that is complete."""
        stream = (await self.event(on.StreamEnded)).stream_id
        header, body = self.open[stream]
        return stream, header, bytes(body)

    def respond(
        self, stream: int, body: bytes, status: int = 200, **header: str
    ) -> None:
        fields = {"content-type": "application/dns-message", **header}
        fields = {k.replace("_", "-"): v for k, v in fields.items() if v}
        self.open.pop(stream, None)
        self.h2.send_headers(stream, [(":status", str(status)), *fields.items()])
        self.h2.send_data(stream, body, end_stream=True)
        self.flush()

    async def answer_all(self, n: int = 1) -> None:
        while True:
            stream, _, body = await self.request()
            self.respond(stream, answer(body))


def h2_server(
    handle: Callable[[Peer, int], Awaitable[None]],
    settings: dict[int, int] | None = None,
) -> Server:
    async def serve(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, n: int
    ) -> None:
        await handle(Peer(reader, writer, settings), n)

    return Server(serve, server_tls("h2"))
