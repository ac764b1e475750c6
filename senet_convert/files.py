"""Files on the disk: what may be read, and how large arrays are written."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .bundle import own_report
from .errors import ConvertError, ReadError, listed

PIECE = 1 << 16

_NO_FILES = (
    (stat.S_ISFIFO, "a pipe, not a file: save what comes out of it as a file, and give that"),
    (stat.S_ISSOCK, "a socket, not a file: give a file"),
    (stat.S_ISCHR, "a device, not a file: give a file"),
    (stat.S_ISBLK, "a device, not a file: give a file"),
)


def require_file(path: Path, *suffixes: str, folders: bool = False) -> None:
    """Raise ReadError that says what to do where `path` is no file that can be read; nothing waits for it here.

    Pipes are refused as well: files are read in several places, and a pipe gives its content once, or never. Where the
    file is missing or a folder, those files are named that lie there and have one of `suffixes`, or the path's own.
    With `folders`, a folder will do as well.
    """
    try:
        kind = path.stat().st_mode
        if stat.S_ISREG(kind):
            path.open("rb").close()
            return
    except (FileNotFoundError, NotADirectoryError):
        raise ReadError(f"{path}: {_missing(path, suffixes)}") from None
    except OSError as fault:
        raise ReadError(f"{path}: cannot be read: {fault.strerror or fault}") from None
    if stat.S_ISDIR(kind):
        if folders:
            return
        raise ReadError(f"{path}: {_folder(path, suffixes)}")
    raise ReadError(f"{path}: it is {next((what for test, what in _NO_FILES if test(kind)), 'not a file')}")


def _missing(path: Path, suffixes: tuple[str, ...]) -> str:
    if path.is_symlink():
        return f"it is a link to {path.readlink()}, where there is no file"
    if not path.parent.is_dir():
        return f"there is no such file, nor a folder {path.parent}; check the path"
    found = _files_in(path.parent, (*suffixes, path.suffix))
    return "there is no such file; " + (f"in its folder are: {listed(found)}" if found else "check the path")


def _folder(path: Path, suffixes: tuple[str, ...]) -> str:
    found = _files_in(path, suffixes)
    if found:
        return f"it is a folder; give one of its files: {listed(found)}"
    if own_report(path) is not None:
        return "it is a bundle already, which senet-convert wrote; give the file that it was converted from"
    return "it is a folder" + (f" without a {' or '.join(suffixes)}" if suffixes else "") + "; give a file"


def _files_in(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    try:
        return sorted(
            place.name for place in folder.iterdir() if place.suffix in set(suffixes) - {""} and place.is_file()
        )
    except OSError:
        return []


def require_utf8(path: Path) -> None:
    """Raise ReadError for a path that is not UTF-8, as onnxruntime wants those of its files."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ReadError(
            f"{path}: onnxruntime takes no path that is not UTF-8; give the file or folder another name"
        ) from None


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Faults of the system while `path` is written as ConvertError that names it: a full disk, no permission."""
    try:
        yield
    except OSError as fault:
        raise ConvertError(f"{path}: cannot be written: {fault.strerror or fault}") from fault


def write_in_pieces(file: BinaryIO, data: memoryview) -> None:
    """Write `data`, whose items are bytes, in pieces of 64 KiB.

    For larger pieces Linux takes larger blocks of memory to hold them, and those are what a virtual machine with free
    page reporting has given back to its host: 108 MB took 0.3 s in pieces of 128 KiB or more, 0.03 s in these.
    """
    for at in range(0, len(data), PIECE):
        file.write(data[at : at + PIECE])
