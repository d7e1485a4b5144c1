"""Frames, records, payloads and attributes as bytes."""

import zlib

import pytest

from broker.log.attributes import decode_attributes, encode_attributes
from broker.log.frame import HEADER, Frame, Kind, decode_frame, encode_frame, frame_length
from broker.log.payload import (
    Fence,
    PublishHead,
    RunHead,
    decode_fence,
    decode_publish_head,
    encode_fence,
    encode_publish_head,
    publish_head_size,
)
from broker.log.record import (
    Columns,
    Piece,
    Records,
    decode_entries,
    decode_lanes,
    decode_records,
    encode_entries,
    encode_records,
    rebuild_entries,
)
from broker.model import Attributes

FRAME = b"".join(encode_frame(Kind.FENCE, [b"pay", b"load"], position=7, durable=5, stored_at_ms=99))


def test_a_frame_is_read_back_as_it_was_written() -> None:
    assert decode_frame(FRAME, 7) == Frame(Kind.FENCE, 7, 5, 99, b"payload", zlib.crc32(FRAME[8:]))
    assert frame_length(FRAME[: HEADER.size]) == len(FRAME)


def test_a_frame_of_another_position_is_none() -> None:
    assert decode_frame(FRAME, 8) is None


@pytest.mark.parametrize("at", range(len(FRAME)))
def test_a_frame_with_one_wrong_byte_is_none(at: int) -> None:
    wrong = bytearray(FRAME)
    wrong[at] ^= 0x40
    assert decode_frame(bytes(wrong), 7) is None


@pytest.mark.parametrize("size", range(len(FRAME)))
def test_a_part_of_a_frame_is_none(size: int) -> None:
    assert decode_frame(FRAME[:size], 7) is None


def whole(records: Records) -> Piece:
    """All of the records, as a fetch would read them."""
    places = [*decode_entries(encode_entries(records, 0))]
    return Piece(records.data, [position for position, _, _ in places], [size for _, size, _ in places])


def test_records_are_read_back_through_their_entries() -> None:
    columns = Columns([b"one", b"", b"three"], [b"k", b"", b"q"], [b"t"] * 3, {1: b"attributes"})
    records = encode_records(columns, 77)
    entries = encode_entries(records, 1_000)
    assert rebuild_entries(b"head" + records.data, 4, 3, 1_000) == entries
    places = [*decode_entries(entries)]
    piece = Piece(records.data, [position - 1_000 for position, _, _ in places], [size for _, size, _ in places])
    assert decode_records([piece]) == (columns, [77, 77, 77])


def test_an_entry_is_20_bytes_and_holds_the_hash_of_the_tag() -> None:
    records = encode_records(Columns([b"body"], tags=[b"push"]), 1)
    entries = encode_entries(records, 5)
    assert len(entries) == 20
    assert [*decode_entries(entries)] == [(5, len(records.data), zlib.crc32(b"push"))]


def test_an_entry_tells_the_ordered_messages_of_a_key_from_all_others() -> None:
    ordered, plain = encode_attributes(Attributes(ordered=True)), encode_attributes(Attributes({"a": "b"}))
    attributes = {0: ordered, 1: ordered, 2: ordered, 3: plain}
    records = encode_records(Columns([b""] * 5, [b"k", b"k", b"", b"k", b"k"], attributes=attributes), 1)
    entries = encode_entries(records, 0)
    assert rebuild_entries(records.data, 0, 5, 0) == entries
    lanes = [lane for *_, lane in decode_lanes(entries)]
    assert lanes == [lanes[0], lanes[0], 0, 0, 0]
    assert lanes[0]


def test_columns_that_nobody_filled_come_back_empty() -> None:
    assert decode_records([whole(encode_records(Columns([b"a"]), 1))]) == (Columns([b"a"]), [1])


def test_pieces_are_read_one_behind_the_other() -> None:
    first = Columns([b"a", b"b"], attributes={1: b"x"})
    second = Columns([b"c"], [b"k"], [b"t"], {0: b"y"})
    pieces = [whole(encode_records(first, 1)), whole(encode_records(second, 2))]
    expected = Columns([b"a", b"b", b"c"], [b"", b"", b"k"], [b"", b"", b"t"], {1: b"x", 2: b"y"})
    assert decode_records(pieces) == (expected, [1, 1, 2])


RECORDS = encode_records(Columns([b"one", b"", b"three"], [b"k", b"", b"q"], [b"t"] * 3, {1: b"attributes"}), 77)


@pytest.mark.parametrize("at", range(len(RECORDS.data)))
def test_nothing_is_read_from_a_record_with_a_wrong_byte_on(at: int) -> None:
    piece = whole(RECORDS)
    wrong = bytearray(RECORDS.data)
    wrong[at] ^= 0x40
    before = sum(start + size <= at for start, size in zip(piece.starts, piece.sizes, strict=True))
    columns, times = decode_records([Piece(bytes(wrong), piece.starts, piece.sizes), whole(RECORDS)])
    assert [*columns.bodies] == [b"one", b"", b"three"][:before]
    assert len(times) == before


@pytest.mark.parametrize(
    ("starts", "sizes"),
    [([-5], [50]), ([0], [3]), ([0], [0]), ([0], [1 << 31]), ([1 << 60], [30]), ([len(RECORDS.data) - 2], [30])],
)
def test_an_entry_that_points_astray_finds_no_record(starts: list[int], sizes: list[int]) -> None:
    assert decode_records([Piece(RECORDS.data, starts, sizes)]) == (Columns([]), [])


@pytest.mark.parametrize("cursor", [None, b"", b"42"])
def test_a_publish_head_is_read_back_without_its_records(cursor: bytes | None) -> None:
    runs = (RunHead(0, 1, 2, 3, 4, 5), RunHead(0, 1, 3, 9, 2, 5, (7, 8)))
    head = PublishHead("run/é/0", 3, 9, cursor, runs)
    encoded = encode_publish_head(head)
    assert publish_head_size(encoded + b"records") == len(encoded)
    assert decode_publish_head(encoded + b"records") == head


def test_a_fence_is_read_back() -> None:
    fence = Fence("run/r/0", 1 << 60, "holder")
    assert decode_fence(encode_fence(fence)) == fence


def test_attributes_are_read_back() -> None:
    attributes = Attributes({"a": "", "ü": "x" * 30_000}, deliver_at_ms=1 << 40, ordered=True)
    assert decode_attributes(encode_attributes(attributes)) == attributes
