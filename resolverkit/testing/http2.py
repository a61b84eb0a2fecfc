"""DNS over HTTP/2, server side, by h2."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, cast

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from resolverkit.testing.doh_request import MEDIA_TYPE, read_request
from resolverkit.testing.faults import exhausted

if TYPE_CHECKING:
    from resolverkit.testing.faults import Responder

# More than any test asks at once: h2 ends the connection of a client that goes beyond,
# which it may do before it has heard of the limit; real servers refuse the stream.
_MAX_STREAMS = 10_000


@dataclass(slots=True)
class _Request:
    headers: dict[str, str]
    body: bytearray = field(default_factory=bytearray)


class Http2(asyncio.Protocol):
    """One connection."""

    def __init__(self, responder: Responder) -> None:
        self._responder = responder
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        self._h2.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: _MAX_STREAMS
            },
        )
        self._requests: dict[int, _Request] = {}
        self._waiting: set[int] = set()  # streams whose reply has not come yet
        self._unsent: dict[int, bytes] = {}  # bodies that wait for the peer's window
        self._replies = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection begins."""
        self._transport = cast("asyncio.Transport", transport)
        self._h2.initiate_connection()
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Octets arrive, in any portions."""
        try:
            events = self._h2.receive_data(data)
        except h2.exceptions.ProtocolError:
            self._flush()  # the GOAWAY that says why
            self._transport.close()
            return
        for event in events:
            self._take(event)
        self._send_bodies()
        self._flush()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            headers = cast("list[tuple[str, str]]", event.headers)
            self._requests[event.stream_id] = _Request(dict(headers))
        elif isinstance(event, h2.events.DataReceived):
            size = event.flow_controlled_length
            self._h2.acknowledge_received_data(size, event.stream_id)
            if event.stream_id in self._requests:
                self._requests[event.stream_id].body += event.data
        elif isinstance(event, h2.events.StreamEnded):
            if request := self._requests.pop(event.stream_id, None):
                self._ask(event.stream_id, request)
        elif isinstance(event, h2.events.StreamReset):
            self._requests.pop(event.stream_id, None)
            self._waiting.discard(event.stream_id)
            self._unsent.pop(event.stream_id, None)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self._transport.close()

    def _ask(self, stream: int, request: _Request) -> None:
        fault = self._responder.fault
        query = read_request(
            request.headers.get(":method", ""),
            request.headers.get(":path", ""),
            request.headers.get("content-type", ""),
            bytes(request.body),
            refuse_post=fault.refuse_post,
        )
        if isinstance(query, int):
            self._send_headers(stream, {":status": str(query)}, end=True)
            return
        self._waiting.add(stream)
        self._responder.receive(query, partial(self._reply, stream))
        self._close_if_exhausted()

    def _reply(self, stream: int, message: bytes) -> None:
        if stream not in self._waiting or self._transport.is_closing():
            return
        self._waiting.discard(stream)
        fault = self._responder.fault
        headers = {
            ":status": str(fault.status),
            "content-type": MEDIA_TYPE,
            "content-length": str(len(message)),
            **fault.headers,
        }
        if not self._send_headers(stream, headers):
            return
        self._unsent[stream] = message
        self._send_bodies()
        self._replies += 1
        self._close_if_exhausted()
        self._flush()

    def _send_headers(
        self, stream: int, headers: dict[str, str], *, end: bool = False
    ) -> bool:
        """Begin a response; False where the request was taken back in the same read."""
        try:
            self._h2.send_headers(stream, list(headers.items()), end_stream=end)
        except (
            h2.exceptions.StreamClosedError,
            h2.exceptions.StreamIDTooLowError,  # and another one has begun since
        ):
            return False
        return True

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

    def _close_if_exhausted(self) -> None:
        if (
            exhausted(self._responder.fault, self._replies)
            and not self._transport.is_closing()
        ):
            self._h2.close_connection()
            self._flush()
            self._transport.close()

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)
