"""What the tests of the HTTP face share: a stub with a face, and a clock to turn on."""

from __future__ import annotations

import contextlib

import aiohttp
import dns.message
from asking import query

from resolverkit import Resolver
from resolverkit.resolver import suspend_clock
from resolverkit.server import Server
from resolverkit.server.http import HttpFace
from resolverkit.server.query import Over
from resolverkit.server.watch import Watch
from resolverkit.testing import ScriptedUpstream, answer

DATA = answer("192.0.2.1", ttl=60, after=0)
LIMIT = 20.0  # seconds for anything that takes some milliseconds


class Clock:
    """A clock that tests can turn on."""

    def __init__(self):
        self._now = suspend_clock()
        self.ahead = 0.0

    def __call__(self):
        return self._now() + self.ahead


class Faced:
    """A stub on loopback with its HTTP face.

    Attributes:
        upstreams: whom it asks, as many as there are letters.
        clock: of its cache and its watch.
    """

    def __init__(self, *upstreams, pages=True, tls=None, **options):
        self.upstreams = list(upstreams) or [
            ScriptedUpstream("udp://192.0.2.53", DATA, operator="Alpha")
        ]
        self.clock = Clock()
        self.watch = Watch(self.clock)
        self._pages = pages
        self._tls = tls or {}
        self._options = options

    async def __aenter__(self):
        async with contextlib.AsyncExitStack() as stack:
            self.resolver = await stack.enter_async_context(
                Resolver(
                    self.upstreams,
                    configure=False,
                    clock=self.clock,
                    hook=self.watch,
                    **self._options,
                )
            )
            self.server = await stack.enter_async_context(
                Server(self.resolver, ["127.0.0.1:0"])
            )
            self.face = HttpFace(self.server, self.watch if self._pages else None)
            stack.push_async_callback(self.face.aclose)
            await self.face.start("127.0.0.1:0", **self._tls)
            self.session = await stack.enter_async_context(aiohttp.ClientSession())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_):
        await self._stack.aclose()

    @property
    def url(self):
        return f"http://{self.face.address}"

    async def ask(self, message=None, **options):
        """Ask as a client of the stub does; gives the reply, parsed."""
        message = message or query(**options)
        wire = message if isinstance(message, bytes) else message.to_wire()
        reply = await self.server.answer(wire, client="127.0.0.1", over=Over.TCP)
        return dns.message.from_wire(reply)

    async def get(self, path, method="GET", **options):
        """The status, headers and body of a response."""
        request = self.session.request(method, self.url + path, **options)
        async with request as response:
            return response.status, response.headers, await response.read()

    async def json(self, path):
        status, headers, _ = got = await self.get(path)
        assert headers["Content-Type"] == "application/json; charset=utf-8"
        async with self.session.get(self.url + path) as response:
            assert response.status == status, got
            return await response.json()
