"""What is told to who signs a query: that its key is not known here (RFC 8945).

Pure. A stub shares no key with anybody. To answer as if there were no signature would
look like loss to the client, which takes unsigned replies for forged ones.
"""

from __future__ import annotations

import struct

TYPE = 250
"""The type of a TSIG record."""
NOTAUTH = 9
"""The response code for it (RFC 8945 section 5.2.1)."""

_BADKEY = 17
_ANY_CLASS = 255
_MAX_NAME = 255  # octets of a name (RFC 1035 section 2.3.4)

_pair = struct.Struct("!HH").unpack_from
_three = struct.Struct("!HHH").unpack_from
_record = struct.Struct("!HHIH").pack


def unknown_key(owner: bytes, rdclass: int, ttl: int, rdata: bytes) -> bytes:
    """The TSIG record that says so: unsigned, with key, algorithm and time given back.

    Args:
        owner: the name of the key, without pointers.
        rdclass: the class of the record.
        ttl: its TTL.
        rdata: its data.

    Raises:
        ValueError: that is no TSIG record.
        IndexError, struct.error: likewise.
    """
    if rdclass != _ANY_CLASS or ttl or len(owner) > _MAX_NAME:
        raise ValueError
    end = 0
    while length := rdata[end]:
        if length > 63:  # names in it are not compressed (RFC 8945 section 4.2)
            raise ValueError
        end += 1 + length
    end += 1
    if end > _MAX_NAME:
        raise ValueError
    _, size = _pair(rdata, end + 6)  # time and fudge, and how long the MAC is
    mac_end = end + 10 + size
    ident, _, other = _three(rdata, mac_end)
    if mac_end + 6 + other != len(rdata):
        raise ValueError
    told = rdata[: end + 8] + struct.pack("!HHHH", 0, ident, _BADKEY, 0)
    return owner + _record(TYPE, _ANY_CLASS, 0, len(told)) + told
