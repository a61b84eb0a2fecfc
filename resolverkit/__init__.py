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

if TYPE_CHECKING:  # what loads on first use, asyncio with it: see _LAZY
    from resolverkit import blocking  # noqa: F401  a module, not a name of this one
    from resolverkit.answer import Answer
    from resolverkit.default import (
        canonical_name,
        get_default_resolver,
        resolve,
        resolve_address,
        resolve_name,
    )
    from resolverkit.groups.hedge import Hedge, failover, race
    from resolverkit.groups.quorum import Quorum
    from resolverkit.hooks import Hook
    from resolverkit.integrations.socket import install
    from resolverkit.integrations.streams import open_connection
    from resolverkit.resolver import Resolver
    from resolverkit.stats import Stats
    from resolverkit.survey import Survey
    from resolverkit.upstream import Store, Upstream

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
    "Answer": "answer",
    "Hedge": "groups.hedge",
    "Hook": "hooks",
    "Quorum": "groups.quorum",
    "Resolver": "resolver",
    "Stats": "stats",
    "Store": "upstream",
    "Survey": "survey",
    "Upstream": "upstream",
    "blocking": "blocking",
    "canonical_name": "default",
    "failover": "groups.hedge",
    "get_default_resolver": "default",
    "install": "integrations.socket",
    "open_connection": "integrations.streams",
    "race": "groups.hedge",
    "resolve": "default",
    "resolve_address": "default",
    "resolve_name": "default",
}
"""Where the names are that load on first use (PEP 562)."""

if not TYPE_CHECKING:  # or type checkers would take any name for one

    def __getattr__(name: str) -> Any:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = importlib.import_module(f"{__name__}.{_LAZY[name]}")
        value = globals()[name] = (
            module if name == "blocking" else getattr(module, name)
        )
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_LAZY})
