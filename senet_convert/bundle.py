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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import ConvertError

ONNX = "model.onnx"
WEIGHTS = "model.safetensors"
DEFINITION = "model.prototxt"
REPORT = "report.json"
PAGE = "report.html"


@contextmanager
def writing(folder: Path, force: bool = False) -> Iterator[Path]:
    """A temporary folder that becomes `folder` when the block ends well, and vanishes when it does not.

    Raises ConvertError when `folder` is taken: by anything, or with `force` by anything that is not a bundle.
    """
    refuse_taken(folder, force)
    with _temporary(folder) as temporary:
        yield temporary
        _make_ordinary(temporary)
        _replace(temporary, folder)


@contextmanager
def writing_files(places: Sequence[Path], force: bool = False) -> Iterator[list[Path]]:
    """Temporary files, all of one folder, that become `places` together when the block ends well.

    Raises ConvertError when a place is taken: by anything, or with `force` by anything that is not a file.
    """
    refuse_taken_files(places, force)
    with _temporary(places[0]) as temporary:
        written = [temporary / place.name for place in places]
        yield written
        _replace_files(written, places, temporary)


@contextmanager
def _temporary(place: Path) -> Iterator[Path]:
    """A folder beside `place`, gone at the end; after a fault, the parents that were made for it are gone too."""
    made = _make_parents(place.parent)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".partial", dir=place.parent))
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
    if not folder.exists() and not folder.is_symlink():
        return
    if not force:
        raise ConvertError(f"{folder}: it exists already; give another folder with -o, or replace it with --force")
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / REPORT).is_file()):
        raise ConvertError(f"{folder}: it is not a folder that senet-convert wrote, so --force leaves it alone")


def refuse_taken_files(places: Sequence[Path], force: bool) -> None:
    """The same for single files: with `force`, a file may be replaced by another."""
    for place in places:
        if (place.exists() or place.is_symlink()) and not force:
            raise ConvertError(f"{place}: it exists already; give another name with -o, or replace it with --force")
        if place.exists() and not place.is_file():
            raise ConvertError(f"{place}: it is not a file, so --force leaves it alone")


def read_report(folder: Path) -> dict[str, Any]:
    """The report of a bundle. Raises ConvertError when there is none."""
    try:
        report: dict[str, Any] = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise ConvertError(f"{folder}: not a bundle: {fault}") from fault
    return report


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """report.json, readable and stable."""
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / REPORT).write_text(text + "\n", encoding="utf-8")


def _make_parents(folder: Path) -> list[Path]:
    """Create `folder` with its parents; gives those that were made, innermost first."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise ConvertError(_explain(fault, folder)) from fault
    return missing


def _replace(temporary: Path, folder: Path) -> None:
    if not folder.exists():
        temporary.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".old", dir=folder.parent))
    try:
        folder.rename(old / folder.name)
        try:
            temporary.rename(folder)
        except BaseException:
            (old / folder.name).rename(folder)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _replace_files(written: Sequence[Path], places: Sequence[Path], temporary: Path) -> None:
    """All of them or none: what stood there before comes back when one cannot be replaced."""
    old = Path(tempfile.mkdtemp(dir=temporary))
    try:
        for file, place in zip(written, places, strict=True):
            if place.exists():
                place.rename(old / place.name)
            file.rename(place)
    except BaseException:
        for file, place in zip(written, places, strict=True):
            if (old / place.name).exists():
                (old / place.name).replace(place)
            elif not file.exists():
                place.unlink(missing_ok=True)
        raise


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
    return f"{folder}: cannot be written: {fault.strerror or fault}"
