"""An asyncio DNS resolver that keeps its names when the name servers vanish.

It asks several independent upstreams, serves the last known good answer when the
authoritative servers are gone, and reports which path answered::

    import resolverkit

    answer = await resolverkit.resolve("www.example.com", "A")
    print(answer[0].address, answer.path)
"""

import importlib
import logging
from typing import TYPE_CHECKING, Any

from resolverkit.answer import Answer
from resolverkit.default import (
    canonical_name,
    get_default_resolver,
    resolve,
    resolve_address,
    resolve_name,
)
from resolverkit.errors import (
    NXDOMAIN,
    YXDOMAIN,
    BadReply,
    ConfigurationError,
    LifetimeTimeout,
    NetworkError,
    NoAnswer,
    NoNameservers,
    QueryTimeout,
    ResolverKitError,
    ServerFailure,
    StoreError,
    UpstreamError,
)
from resolverkit.groups.hedge import Hedge, failover, race
from resolverkit.groups.quorum import Quorum
from resolverkit.hooks import Hook
from resolverkit.model import (
    AnswerPath,
    Attempt,
    Endpoint,
    Outcome,
    Question,
    Reply,
    Source,
)
from resolverkit.policy import StalePolicy
from resolverkit.resolver import Resolver
from resolverkit.stats import Stats
from resolverkit.survey import Survey
from resolverkit.upstream import Store, Upstream

if TYPE_CHECKING:
    from resolverkit import blocking  # noqa: F401  it loads on first use
    from resolverkit.integrations.socket import install
    from resolverkit.integrations.streams import open_connection

# Silent unless the program configures logging.
logging.getLogger("resolverkit").addHandler(logging.NullHandler())

__all__ = [
    "NXDOMAIN",
    "YXDOMAIN",
    "Answer",
    "AnswerPath",
    "Attempt",
    "BadReply",
    "ConfigurationError",
    "Endpoint",
    "Hedge",
    "Hook",
    "LifetimeTimeout",
    "NetworkError",
    "NoAnswer",
    "NoNameservers",
    "Outcome",
    "QueryTimeout",
    "Question",
    "Quorum",
    "Reply",
    "Resolver",
    "ResolverKitError",
    "ServerFailure",
    "Source",
    "StalePolicy",
    "Stats",
    "Store",
    "StoreError",
    "Survey",
    "Upstream",
    "UpstreamError",
    "canonical_name",
    "failover",
    "get_default_resolver",
    "install",
    "open_connection",
    "race",
    "resolve",
    "resolve_address",
    "resolve_name",
]

_LAZY = {
    "blocking": "resolverkit",
    "install": "resolverkit.integrations.socket",
    "open_connection": "resolverkit.integrations.streams",
}
"""What loads on first use, since most programs need none of it."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _LAZY[name] == __name__:
        return importlib.import_module(f"{__name__}.{name}")
    value = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
    return value
