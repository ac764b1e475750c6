from __future__ import annotations

import pytest

from senet_convert.proto.kinds import HDF5, HEAD, is_text, other_kind


@pytest.mark.parametrize("head", [b"<html>", b"\xef\xbb\xbf<html>", b"\r\n\t <!DOCTYPE html>", b"PK\x03\x04", HDF5])
def test_other_kinds_are_known_behind_a_mark_and_blanks(head: bytes) -> None:
    assert other_kind(head) is not None


@pytest.mark.parametrize("head", [b"", b" \n", b'name: "<"', b"\x0a\x03net", b"# version https://git-lfs"])
def test_what_a_network_may_begin_with_is_no_other_kind(head: bytes) -> None:
    assert other_kind(head) is None


@pytest.mark.parametrize(
    ("head", "text"),
    [
        (b"", False),
        (b'name: "a"\r\n', True),
        ("# ä ö ü 网络".encode(), True),
        (("网" * HEAD).encode()[:HEAD], True),
        ("# äöü: the network of a Latin-1 author".encode("latin-1"), True),
        (b"\xff" * HEAD, False),
        (b"\x0a\x03net", False),
        (b'name: "a"\x00', False),
    ],
)
def test_text_is_utf8_or_mostly_ascii(head: bytes, text: bool) -> None:
    assert is_text(head) is text
