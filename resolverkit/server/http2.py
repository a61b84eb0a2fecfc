"""DNS over HTTPS on HTTP/2 (RFC 8484 section 5.2), for clients that speak no other.

What a client can occupy is bounded: streams at a time, octets of a query and of its
head, octets that are kept for it, and requests that it takes back (RFC 9113 section
10.5; a flood of those is CVE-2023-44487). Time, and what all clients occupy together,
is for `HttpConnection` to watch.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, cast

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from resolverkit.server import doh

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from resolverkit.server.http_listener import HttpConnection

MAX_STREAMS = 100
"""Requests at a time (RFC 9113 section 6.5.2 recommends no less)."""
MAX_HEAD = 16 * 1024
"""Octets of a request's head: a query in a URL may be long."""
MAX_KEPT = 1024 * 1024
"""Octets that are kept for a client before it is dropped: of queries that are not whole
yet, and of replies that it does not read."""
MAX_RESETS = 200
"""Requests that may be taken back, beyond as many as were answered."""

Answer: TypeAlias = "Callable[[bytes | int, str], Awaitable[Response]]"


@dataclass(frozen=True, slots=True)
class Response:
    """What a request comes to."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class _Request:
    method: str
    path: str
    content_type: str
    body: bytearray = field(default_factory=bytearray)

    @property
    def size(self) -> int:
        """Octets that it keeps."""
        return len(self.path) + len(self.content_type) + len(self.body)


class Http2(asyncio.Protocol):
    """One connection.

    Args:
        connection: where it is kept an eye on.
        answer: gives the response to a query, or to an HTTP status, of a client.
    """

    def __init__(self, connection: HttpConnection, answer: Answer) -> None:
        self._connection = connection
        self._answer = answer
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        codes = h2.settings.SettingCodes
        self._h2.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                codes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                codes.MAX_HEADER_LIST_SIZE: MAX_HEAD,
            },
        )
        self._h2.decoder.max_header_list_size = MAX_HEAD  # what is told is not held to
        self._requests: dict[int, _Request] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._unsent: dict[int, bytes] = {}  # bodies that wait for the peer's window
        self._spare = MAX_RESETS

    # --- the connection --------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection begins."""
        self._transport = cast("asyncio.Transport", transport)
        self._client = str(transport.get_extra_info("peername")[0])
        self._h2.initiate_connection()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone, and whoever waited on it."""
        for task in list(self._tasks.values()):
            task.cancel()

    def data_received(self, data: bytes) -> None:
        """Octets, in any portions."""
        try:
            for event in self._h2.receive_data(data):
                self._take(event)
            self._send_bodies()
        except (h2.exceptions.ProtocolError, UnicodeDecodeError):
            self._flush()  # the GOAWAY that says why
            self._transport.close()
            return
        self._flush()
        self._weigh()

    def resume_writing(self) -> None:
        """The client has read most of what there was."""
        self._weigh()

    def _weigh(self) -> None:
        """See how much is kept for the client; too much is its end."""
        kept = self._transport.get_write_buffer_size()
        kept += sum(map(len, self._unsent.values()))
        kept += sum([request.size for request in self._requests.values()])
        if kept > MAX_KEPT or self._spare < 0:
            self._connection.drop()
        else:
            self._connection.keep(kept)

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    # --- requests --------------------------------------------------------------------

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            headers = dict(cast("list[tuple[str, str]]", event.headers))
            self._requests[event.stream_id] = _Request(
                headers.get(":method", ""),
                headers.get(":path", ""),
                headers.get("content-type", ""),
            )
        elif isinstance(event, h2.events.DataReceived):
            self._h2.acknowledge_received_data(
                event.flow_controlled_length, event.stream_id
            )
            request = self._requests.get(event.stream_id)
            if request is not None and len(request.body) <= doh.MAX_MESSAGE:
                request.body += event.data  # a bit more than allowed says enough
        elif isinstance(event, h2.events.StreamEnded):
            if request := self._requests.pop(event.stream_id, None):
                self._begin(event.stream_id, request)
        elif isinstance(event, h2.events.StreamReset):
            self._spare -= 1
            self._requests.pop(event.stream_id, None)
            self._unsent.pop(event.stream_id, None)
            if task := self._tasks.get(event.stream_id):
                task.cancel()
        elif isinstance(event, h2.events.ConnectionTerminated):
            self._transport.close()

    def _begin(self, stream: int, request: _Request) -> None:
        query = doh.read(
            request.method, request.path, request.content_type, bytes(request.body)
        )
        response = self._respond(stream, query, head=request.method == "HEAD")
        task = asyncio.get_running_loop().create_task(response)
        self._tasks[stream] = task
        self._connection.working = True
        task.add_done_callback(lambda _: self._ended(stream))

    def _ended(self, stream: int) -> None:
        del self._tasks[stream]
        self._connection.rest(working=bool(self._tasks))

    async def _respond(self, stream: int, query: bytes | int, *, head: bool) -> None:
        response = await self._answer(query, self._client)
        if self._transport.is_closing():
            return
        headers = {
            ":status": str(response.status),
            **response.headers,
            "content-length": str(len(response.body)),
        }
        try:
            self._h2.send_headers(stream, list(headers.items()), end_stream=head)
        except h2.exceptions.ProtocolError:  # the client has taken it back
            return
        self._spare = min(self._spare + 1, MAX_RESETS)
        if not head:  # which has no body (RFC 9110 section 9.3.2)
            self._unsent[stream] = response.body
        self._send_bodies()
        self._flush()
        self._weigh()

    def _send_bodies(self) -> None:
        """Send as much as the peer's windows have room for (RFC 9113 section 5.2)."""
        for stream in list(self._unsent):
            body = self._unsent.pop(stream)
            while body:
                room = min(
                    self._h2.local_flow_control_window(stream),
                    self._h2.max_outbound_frame_size,
                )
                if room <= 0:
                    self._unsent[stream] = body
                    break
                part, body = body[:room], body[room:]
                self._h2.send_data(stream, part, end_stream=not body)
