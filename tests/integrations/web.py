"""What the tests of HTTP clients share: a web server, and names that go wrong."""

from __future__ import annotations

import asyncio
import http.server
import ssl
import threading
from contextlib import contextmanager
from unittest import mock

import trustme

from resolverkit import StalePolicy, addrinfo
from resolverkit.testing import ScriptedUpstream, answer, nodata, nxdomain

HERE, NOBODY = "127.0.0.1", "127.0.0.9"  # where the server is, and where it is not


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.headers["Host"].encode())

    def log_message(self, *_):
        pass


@contextmanager
def web_server(names=()):
    """Give the port of a server on 127.0.0.1; over TLS for `names`, and their CA."""
    ca = trustme.CA()
    with http.server.ThreadingHTTPServer((HERE, 0), _Handler) as server:
        if names:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            ca.issue_cert(*names).configure_cert(context)
            indicated = web_server.indicated = []
            context.sni_callback = lambda _, name, __: indicated.append(name)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, ca
        finally:
            server.shutdown()
            thread.join()


class Names:
    """One name, web.test: where it is can change, and its answers can expire."""

    def __init__(self, address=HERE):
        self.address = address
        self.now = 1000.0
        self.upstream = ScriptedUpstream("a", self._step)

    def _step(self, asked, _):
        if not str(asked).startswith("web.test."):
            return nxdomain()
        if asked.rdtype != 1:
            return nodata(after=0.001)
        return answer(self.address, ttl=60, after=0.001)

    def expire(self):
        self.now += 100

    @property
    def options(self):
        """For a Resolver that serves expired answers at once."""
        return {
            "configure": False,
            "clock": lambda: self.now,
            "stale": StalePolicy(wait=0),
        }


def run(main):
    return asyncio.run(main())


@contextmanager
def lookups():
    """Give a list of what is looked up meanwhile: whether each was to be refreshed."""
    asked = []
    real = addrinfo.look_up

    async def look_up(*args, refresh=False):
        asked.append(refresh)
        return await real(*args, refresh=refresh)

    with mock.patch.object(addrinfo, "look_up", look_up):
        yield asked
