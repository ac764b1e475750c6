"""What a file is that was taken for a network, by its first bytes."""

from __future__ import annotations

import codecs

HEAD = 4096  # bytes that tell it
HDF5 = b"\x89HDF\r\n\x1a\n"
UTF8_MARK = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n\f\v"

_MAGIC = (
    (
        b"PK\x03\x04",
        "it is a zip archive (a PyTorch file, or a packed download): unpack it, or give the network itself",
    ),
    (b"\x1f\x8b", "it is gzip-compressed: unpack it first"),
    (b"\xfd7zXZ\x00", "it is xz-compressed: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7z archive: unpack it first"),
    (HDF5, "it is an HDF5 file, as Caffe's snapshots of weights are: give it in the caffemodel's place"),
    (codecs.BOM_UTF16_LE, "it is text in UTF-16: save it as UTF-8"),
    (codecs.BOM_UTF16_BE, "it is text in UTF-16: save it as UTF-8"),
    (b"<", "it begins with '<': a web page, perhaps of a download that failed. Download the file again"),
    (b"version https://git-lfs", "it is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`"),
)


def other_kind(head: bytes) -> str | None:
    """What neither a prototxt nor a binary caffemodel begins with, and what to do; blanks before it do not count."""
    start = head.removeprefix(UTF8_MARK).lstrip(_BLANK)
    return next((what for magic, what in _MAGIC if start.startswith(magic)), None)


def is_text(head: bytes) -> bool:
    """Whether a file of these first bytes is text, in UTF-8 or mostly ASCII. A binary has tags and lengths below 32."""
    if not head or any(byte < 9 or 13 < byte < 32 for byte in head):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # which may break off inside a character
    except UnicodeDecodeError:
        return 2 * sum(byte < 128 for byte in head) > len(head)
    return True
