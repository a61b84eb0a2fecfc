"""Any of dnspython's name servers as an upstream: DoQ, or a class of the user's own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import dns.asyncbackend
import dns.exception
import dns.message
import dns.nameserver

from resolverkit.errors import BadReply, NetworkError, QueryTimeout, UpstreamError
from resolverkit.model import Endpoint
from resolverkit.transports.outcome import conclude_in_full, failed

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from resolverkit.model import Question, Reply


class ForeignNameserver:
    """Asks through `dns.nameserver.Nameserver.async_query`: a task per question.

    Args:
        nameserver: who to ask.
        timeout: seconds until an attempt has failed.
        tcp: ask for the largest size at once.
        source: address to send from.
        source_port: port to send from.
    """

    def __init__(
        self,
        nameserver: dns.nameserver.Nameserver,
        timeout: float,
        tcp: bool = False,
        source: str | None = None,
        source_port: int = 0,
    ) -> None:
        self._nameserver = nameserver
        self._timeout = timeout
        self._way = (source, source_port, tcp)
        self.endpoint: Endpoint = Endpoint(
            str(nameserver),
            transport=nameserver.kind().lower(),
            address=nameserver.answer_nameserver(),
            port=nameserver.answer_port(),
        )

    @property
    def name(self) -> str:
        """What the name server calls itself."""
        return self.endpoint.name

    async def query(self, question: Question) -> Reply:
        """Ask; see `Upstream.query`."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        query = dns.message.from_wire(question.wire)
        assert isinstance(query, dns.message.QueryMessage)
        query.id = dns.message.Message().id  # dnspython draws a random one
        problem: UpstreamError
        cause: Exception
        try:
            try:
                message = await self._ask(query, self._timeout, max_size=False)
            except dns.message.Truncated:  # RFC 7766 section 5
                left = started + self._timeout - loop.time()
                message = await self._ask(query, left, max_size=True)
            wire = message.wire or message.to_wire()
            return conclude_in_full(question, wire, self.endpoint, started, loop.time())
        except UpstreamError:
            raise
        except (dns.exception.Timeout, TimeoutError) as error:
            problem = QueryTimeout(f"no reply within {self._timeout:g} s")
            cause = error
        except dns.exception.DNSException as error:
            problem = BadReply(f"{type(error).__name__}: {error}")
            cause = error
        except (OSError, EOFError, NotImplementedError) as error:
            problem = NetworkError(f"{type(error).__name__}: {error}")
            cause = error
        raise failed(problem, self.endpoint, started, loop.time()) from cause

    def _ask(
        self, query: dns.message.QueryMessage, timeout: float, *, max_size: bool
    ) -> Coroutine[Any, Any, dns.message.Message]:
        source, source_port, tcp = self._way
        return self._nameserver.async_query(
            query,
            timeout,
            source,
            source_port,
            max_size or tcp or self._nameserver.is_always_max_size(),
            dns.asyncbackend.get_default_backend(),
        )

    async def aclose(self) -> None:
        """Nothing is kept open."""
