"""A local stub resolver: what is not Python gets the same protection over a socket."""

from __future__ import annotations

from resolverkit.server.counts import ServerStats
from resolverkit.server.query import Over
from resolverkit.server.stub import Server

__all__ = ["Over", "Server", "ServerStats"]
