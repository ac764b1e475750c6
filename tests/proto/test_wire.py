from __future__ import annotations

import pytest

from senet_convert.proto.wire import BYTES, FIXED32, FIXED64, VARINT, Walker, WireError, WireField, head

from .reference import message_class


def walk(data: bytes) -> list[WireField]:
    return list(Walker(data).fields(0, len(data)))


def test_fields_of_every_wire_type() -> None:
    data = b"\x08\x96\x01" + b"\x12\x03abc" + b"\x1d\0\0\x80\x3f" + b"\x21" + bytes(8)
    assert walk(data) == [
        WireField(1, VARINT, 0, 1, 3),
        WireField(2, BYTES, 3, 5, 8),
        WireField(3, FIXED32, 8, 9, 13),
        WireField(4, FIXED64, 13, 14, 22),
    ]


def test_spans_inside_a_larger_buffer() -> None:
    assert [field.number for field in Walker(b"\xff\x08\x01\x10\x02\xff").fields(1, 5)] == [1, 2]


def test_an_empty_message_has_no_fields() -> None:
    assert walk(b"") == []


def test_field_numbers_as_protobuf_writes_them() -> None:
    net = message_class()(name="n", input=["a"], input_dim=[1])
    net.layer.add(name="l")
    assert [field.number for field in walk(net.SerializeToString())] == [1, 3, 4, 100]


FAULTS: dict[str, tuple[bytes, str]] = {
    "tag cut": (b"\x08\x01\x80", "the data ends inside a number at offset 2"),
    "value cut": (b"\x08", "the data ends inside a number at offset 1"),
    "length cut": (b"\x12", "the data ends inside a number at offset 1"),
    "length beyond the end": (b"\x12\x05abc", "the field at offset 0 needs 5 bytes, 3 are left"),
    "length beyond any file": (b"\x12" + b"\xff" * 9 + b"\x01", "needs 18446744073709551615 bytes, 0 are left"),
    "float cut": (b"\x1d\0\0", "needs 4 bytes, 2 are left"),
    "double cut": (b"\x21\0", "needs 8 bytes, 1 are left"),
    "overlong number": (b"\x08" + b"\x80" * 10 + b"\x01", "a number of more than 10 bytes at offset 1"),
    "overlong tag": (b"\xff" * 20, "a number of more than 10 bytes at offset 0"),
    "field 0": (b"\0\0", "a field numbered 0 at offset 0"),
    "group": (b"\x08\x01\x0b\x0c", "wire type 3 at offset 2"),
    "end of a group": (b"<html>", "wire type 4 at offset 0"),
    "unused wire type": (b"\x0f", "wire type 7 at offset 0"),
}


@pytest.mark.parametrize(("data", "words"), FAULTS.values(), ids=FAULTS)
def test_broken_data_is_refused_with_its_offset(data: bytes, words: str) -> None:
    with pytest.raises(WireError, match=words):
        walk(data)


@pytest.mark.parametrize("number", [1, 15, 16, 100, 2**29 - 1])
@pytest.mark.parametrize("size", [0, 1, 127, 128, 300, 2**14, 2**21 + 1])
def test_a_written_head_is_read_again(number: int, size: int) -> None:
    begun = head(number, size)
    (field,) = walk(begun + bytes(size))
    assert field == WireField(number, BYTES, 0, len(begun), len(begun) + size)


def test_a_message_may_not_read_beyond_its_span() -> None:
    with pytest.raises(WireError, match="needs 3 bytes, 1 are left"):
        list(Walker(b"\x12\x03abc").fields(0, 3))


def test_the_field_budget_counts_over_all_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senet_convert.proto.wire.MAX_FIELDS", 10)
    data = b"\x08\x01" * 6
    walker = Walker(data)
    list(walker.fields(0, 12))
    with pytest.raises(WireError, match="more than 10 fields by offset 8"):
        list(walker.fields(0, 12))


@pytest.mark.parametrize(
    "record", [b"\x2d\0\0\x80\x3f", b"\x2a\x04\0\0\x80\x3f", b"\x2a\x00", b"\x2a\xac\x02" + bytes(300)]
)
@pytest.mark.parametrize("count", [1, 2, 3, 15, 16, 17, 64, 65, 400, 10_000])
@pytest.mark.parametrize("rest", [b"", b"\x08\x01", b"\x2d\0\0", b"\x2a\x08" + bytes(8)])
def test_a_run_is_counted_in_one_piece(record: bytes, count: int, rest: bytes) -> None:
    data = b"\x08\x05" + record * count + rest
    walker = Walker(data)
    assert walker.run(walker.field(2, len(data)), len(data)) == count


def test_a_run_stops_at_its_span() -> None:
    data = b"\x2d\0\0\x80\x3f" * 10
    walker = Walker(data)
    assert walker.run(walker.field(0, 22), 22) == 4
    assert walker.run(walker.field(0, 9), 9) == 1


def test_a_run_of_doubles_with_a_tag_of_two_bytes() -> None:
    data = b"\x81\x01" + bytes(8) + b"\x81\x01" + bytes(8) + b"\x82\x01" + bytes(8)
    walker = Walker(data)
    assert walker.run(walker.field(0, 20), len(data)) == 2


def test_a_run_of_pieces_ends_where_their_size_changes() -> None:
    data = b"\x2a\x04abcd" * 3 + b"\x2a\x05abcde"
    walker = Walker(data)
    assert walker.run(walker.field(0, len(data)), len(data)) == 3


def test_a_run_counts_as_one_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senet_convert.proto.wire.MAX_FIELDS", 1)
    data = b"\x2d\0\0\x80\x3f" * 1000
    walker = Walker(data)
    assert walker.run(walker.field(0, len(data)), len(data)) == 1000
