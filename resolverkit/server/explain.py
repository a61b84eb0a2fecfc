"""One name with the path by which its answer came, as JSON-ready values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dns.exception
import dns.message
import dns.rdatatype
import dns.resolver

from resolverkit import errors
from resolverkit.errors import ConfigurationError

if TYPE_CHECKING:
    from resolverkit.model import AnswerPath
    from resolverkit.resolver import Resolver

MAX_NAME = 1100
"""Characters of a name: 255 octets, each of them written as ``\\DDD``, and dots."""


async def explain(resolver: Resolver, name: str, rdtype: str) -> dict[str, Any]:
    """Resolve a name, and tell how.

    Args:
        resolver: who is asked.
        name: the name, which the search list is not used for.
        rdtype: the type.

    Raises:
        ConfigurationError: that is no name, or no type that can be looked up.
    """
    if not 0 < len(name) <= MAX_NAME:
        raise ConfigurationError(f"name: allowed are 1 to {MAX_NAME} characters")
    try:
        dns.rdatatype.from_text(rdtype)
    except (dns.rdatatype.UnknownRdatatype, ValueError):  # this above TYPE65535
        raise ConfigurationError(
            f"type {rdtype!r}: allowed are record types such as A, AAAA, MX"
        ) from None
    try:
        answer = await resolver.resolve(
            name, rdtype.upper(), search=False, raise_on_no_answer=False
        )
    except errors.NXDOMAIN as error:
        message = error.kwargs["responses"][error.kwargs["qnames"][0]]
        return _told(name, rdtype, "NXDOMAIN", error.path, message)
    except errors.YXDOMAIN as error:
        return _told(name, rdtype, "YXDOMAIN", error.path)
    except errors.NoNameservers as error:
        return _told(name, rdtype, "FAILED", error.path)
    except errors.LifetimeTimeout as error:
        return _told(name, rdtype, "TIMEOUT", error.path)
    except dns.resolver.NoMetaqueries:
        raise ConfigurationError(
            f"type {rdtype!r}: ANY, AXFR and the like cannot be looked up"
        ) from None
    except (dns.exception.DNSException, ValueError) as error:
        raise ConfigurationError(f"{name!r} is not a name: {error}") from None
    status = "NODATA" if answer.rrset is None else "NOERROR"
    return _told(name, rdtype, status, answer.path, answer.response)


def _told(
    name: str,
    rdtype: str,
    status: str,
    path: AnswerPath,
    message: dns.message.Message | None = None,
) -> dict[str, Any]:
    return {
        "name": name,
        "type": rdtype.upper(),
        "status": status,
        "records": [
            {
                "name": str(rrset.name),
                "ttl": rrset.ttl,
                "type": dns.rdatatype.to_text(rrset.rdtype),
                "data": str(rdata),
            }
            for rrset in ([] if message is None else message.answer)
            for rdata in rrset
        ],
        "summary": str(path),
        "path": path.to_dict(),
    }
