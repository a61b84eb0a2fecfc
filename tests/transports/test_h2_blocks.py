"""The decoder of header blocks beside hpack's own (RFC 7541)."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resolverkit.transports import h2_frames as h2
from resolverkit.transports.h2_blocks import MAX_LIST, TABLE, Decoder
from resolverkit.transports.h2_frames import Http2Error

NAMES = st.one_of(
    st.sampled_from([b":status", b"age", b"date", b"content-type", b"x"]),
    st.binary(min_size=1, max_size=20),
)
VALUES = st.one_of(
    st.sampled_from([b"200", b"0", b"application/dns-message", b""]),
    st.binary(max_size=30),
    st.sampled_from([b"v" * 2000, b"w" * 4200]),  # which push out others, or do not fit
)
FIELDS = st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=3)
OVERLONG = bytes((0x80,)) * 5  # an integer that we do not read to its end


def both(ours: Decoder, theirs: hpack.Decoder, block: bytes) -> bool:
    """Whether both take a block; if so, for the same."""
    try:
        expected = [tuple(field) for field in theirs.decode(block, raw=True)]
    except (hpack.HPACKError, IndexError):
        with pytest.raises(Http2Error) as caught:
            ours.decode(block)
        assert caught.value.code == h2.COMPRESSION_ERROR
        return False
    assert ours.decode(block) == expected
    assert list(ours._table) == list(theirs.header_table.dynamic_entries)
    assert ours._size == theirs.header_table._current_size
    return True


@given(st.lists(st.tuples(FIELDS, st.booleans(), st.integers(0, TABLE)), max_size=8))
def test_what_an_encoder_writes_is_read_as_hpack_does(headers):
    encoder = hpack.Encoder()
    ours, theirs = Decoder(), hpack.Decoder(MAX_LIST)
    for fields, huffman, size in headers:
        if not size % 5:
            encoder.header_table_size = size
        assert both(ours, theirs, encoder.encode(fields, huffman=huffman))


@given(st.lists(st.binary(max_size=60), max_size=8))
@example([b"\x80"])
@example([b"\x82\x20"])
@example([b"\x20\x3f\xe1\x1f\x82"])
@example([b"\x3f\xe2\x1f"])
@example([b"\x40\x01x\x01y\xbe", b"\xbe\xbf"])
@example([b"\x20\x40\x01x\x01y\xbe"])
def test_any_octets_are_read_as_hpack_does_or_refused(blocks):
    ours, theirs = Decoder(), hpack.Decoder(MAX_LIST)
    for block in blocks:
        if OVERLONG[:4] in block or not both(ours, theirs, block):
            break


@pytest.mark.parametrize(
    "block",
    [
        b"\xff" + OVERLONG + b"\0",
        b"\x7f" + OVERLONG + b"\1\1x",
        b"\x3f" + OVERLONG + b"\0",
        b"\x00\x7f" + OVERLONG + b"\0",
    ],
)
def test_an_integer_ends_somewhere(block):
    with pytest.raises(Http2Error, match="an integer without an end"):
        Decoder().decode(block)


def test_a_list_is_bounded_although_its_block_is_short():
    decoder = Decoder()
    decoder.decode(hpack.Encoder().encode([(b"x", b"a" * 4000)]))
    with pytest.raises(Http2Error, match="more than 16384 octets"):
        decoder.decode(b"\xbe" * 5)


def test_changes_are_counted():
    decoder = Decoder()
    decoder.decode(b"\x88\x00\x01x\x01y")
    assert decoder.changes == 0
    decoder.decode(b"\x40\x01x\x01y")
    decoder.decode(b"\x20\x88")
    assert decoder.changes == 2
