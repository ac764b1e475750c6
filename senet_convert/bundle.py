"""The bundle: the folder that conversion writes and deployment reads.

    model.onnx          the network for onnxruntime; its metadata hold preprocessing, class names and source digests
    model.onnx.data     its weights, only where the model exceeds protobuf's 2 GiB
    model.safetensors   the weights of the PyTorch net, by the names of its state_dict
    model.prototxt      the network as it was converted, in today's form: what `to-caffe` needs to go back
    report.json         what was converted, checked and dropped (see docs/report.md)
    report.html         the same, to be read by a person

A bundle appears whole or not at all: it is written under a temporary name beside its place and renamed at the end.
So do single files that commands write.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import ConvertError, listed

ONNX = "model.onnx"
WEIGHTS = "model.safetensors"
DEFINITION = "model.prototxt"
REPORT = "report.json"
PAGE = "report.html"
NAMES = frozenset({ONNX, f"{ONNX}.data", WEIGHTS, DEFINITION, REPORT, PAGE})
TOOL = "senet-convert"  # as reports name what wrote them
_HIDDEN = ".senet-convert."  # how the names of temporary folders begin


@contextmanager
def writing(folder: Path, force: bool = False) -> Iterator[Path]:
    """A temporary folder that becomes `folder` when the block ends well, and vanishes when it does not.

    Raises ConvertError when `folder` is taken: by anything, or with `force` by anything that is not a bundle.
    """
    refuse_taken(folder, force)
    with _temporary(folder) as temporary:
        yield temporary
        _make_ordinary(temporary)
        refuse_taken(folder, force)  # once more: much may have come there meanwhile
        _replace([temporary], [folder])


@contextmanager
def writing_files(places: Sequence[Path], force: bool = False) -> Iterator[list[Path]]:
    """Temporary files, all of one folder, that become `places` together when the block ends well.

    Raises ConvertError when a place is taken: by anything, or with `force` by anything that is not a file.
    """
    refuse_taken_files(places, force)
    with _temporary(places[0]) as temporary:
        written = [temporary / place.name for place in places]
        yield written
        refuse_taken_files(places, force)
        _replace(written, places)


@contextmanager
def _temporary(place: Path) -> Iterator[Path]:
    """A folder beside `place`, gone at the end; after a fault, the parents that were made for it are gone too."""
    made = _make_parents(place.parent)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=_HIDDEN, suffix=".partial", dir=place.parent))
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except BaseException as fault:
        for parent in made:
            if parent.exists() and not any(parent.iterdir()):
                parent.rmdir()
        if isinstance(fault, OSError):
            raise ConvertError(_explain(fault, place)) from fault
        raise


def refuse_taken(folder: Path, force: bool) -> None:
    """Raise ConvertError when writing to `folder` would destroy something. Cheap: ask before long work."""
    if not _stands(folder):
        return
    if not force:
        raise ConvertError(f"{folder}: it exists already; give another folder with -o, or replace it with --force")
    if not folder.is_dir():
        raise ConvertError(f"{folder}: it is not a folder, so --force leaves it alone; give another one with -o")
    try:
        found = list(folder.iterdir())
    except OSError as fault:
        raise ConvertError(_explain(fault, folder)) from fault
    others = sorted(child.name for child in found if child.name not in NAMES or not child.is_file())
    if others:
        raise ConvertError(
            f"{folder}: holds what senet-convert did not write ({listed(others)}), so --force leaves it alone; move "
            "that elsewhere, or give another folder with -o"
        )
    if found and own_report(folder) is None:
        raise ConvertError(
            f"{folder}: no {REPORT} says that senet-convert wrote it, so --force leaves it alone; give another folder "
            "with -o"
        )


def caffe_files(name: Path) -> tuple[Path, Path]:
    """NAME.prototxt and NAME.caffemodel; NAME may end in either."""
    stem = name.name
    for suffix in (".prototxt", ".caffemodel"):
        stem = stem.removesuffix(suffix)
    return name.parent / f"{stem}.prototxt", name.parent / f"{stem}.caffemodel"


def refuse_taken_files(places: Sequence[Path], force: bool) -> None:
    """The same for single files: with `force`, a file may be replaced by another."""
    for place in places:
        if not _stands(place):
            continue
        if not force:
            raise ConvertError(f"{place}: it exists already; give another name with -o, or replace it with --force")
        if place.exists() and not place.is_file():
            raise ConvertError(f"{place}: it is not a file, so --force leaves it alone")


def read_report(folder: Path) -> dict[str, Any]:
    """The report of a bundle. Raises ConvertError when there is none."""
    try:
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise ConvertError(f"{folder}: not a bundle: {fault}") from fault
    if not isinstance(report, dict):
        raise ConvertError(f"{folder}: not a bundle: {REPORT} holds no JSON object")
    return report


def own_report(folder: Path) -> dict[str, Any] | None:
    """The report that senet-convert wrote into `folder`; None where there is none, or another program's file."""
    try:
        report = read_report(folder)
    except ConvertError:
        return None
    tool = report.get("tool")
    return report if isinstance(tool, dict) and tool.get("name") == TOOL else None


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """report.json, readable and stable; half of a surrogate, from a file's name that is no UTF-8, is escaped."""
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / REPORT).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def _stands(place: Path) -> bool:
    """Is anything there, a link to nothing too? Raises ConvertError where nothing can be, as a name is too long."""
    try:
        place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as fault:
        raise ConvertError(_explain(fault, place)) from fault
    return True


def _make_parents(folder: Path) -> list[Path]:
    """Create `folder` with its parents; gives those that were made, innermost first."""
    try:
        missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise ConvertError(_explain(fault, folder)) from fault
    return missing


def _replace(written: Sequence[Path], places: Sequence[Path]) -> None:
    """All of them or none: what stood there before goes back when one cannot be replaced.

    What cannot go back is left where it is, and the message names that place: it is the only copy.
    """
    old = Path(tempfile.mkdtemp(prefix=_HIDDEN, suffix=".old", dir=places[0].parent))
    moves: list[tuple[Path, Path]] = []
    try:
        for new, place in zip(written, places, strict=True):
            if _stands(place):
                _move(place, old / place.name, moves)
            _move(new, place, moves)
    except BaseException as fault:
        for source, target in reversed(moves):
            with suppress(OSError):
                target.rename(source)
        with suppress(OSError):
            old.rmdir()
        if old.exists():
            raise ConvertError(
                f"{places[0]}: cannot be replaced ({_reason(fault)}); what stood there before could not be put back "
                f"and is kept in {old}: move it back by hand"
            ) from fault
        raise
    shutil.rmtree(old, ignore_errors=True)


def _move(source: Path, target: Path, moves: list[tuple[Path, Path]]) -> None:
    source.rename(target)
    moves.append((source, target))


def _reason(fault: BaseException) -> str:
    return (fault.strerror if isinstance(fault, OSError) else None) or str(fault) or type(fault).__name__


def _make_ordinary(folder: Path) -> None:
    """Permissions as for any new folder and file: mkdtemp and safetensors make theirs private."""
    mask = os.umask(0)
    os.umask(mask)
    folder.chmod(0o777 & ~mask)
    for file in folder.iterdir():
        file.chmod(0o666 & ~mask)


def _explain(fault: OSError, folder: Path) -> str:
    if fault.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{folder}: the disk is full; nothing was written. Free some space, or choose another disk with -o"
    return f"{folder}: cannot be written: {_reason(fault)}"
