"""Pictures inside archives, read in place: tar files (also WebDataset shards) and Parquet files of dataset hubs."""

from __future__ import annotations

import json
import os
import tarfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import ConvertError
from .images import SUFFIXES
from .loader import Item


@dataclass(frozen=True)
class Member:
    """One file of a tar: its name there, and its bytes when asked. Reading is safe from several threads."""

    name: str
    place: int
    size: int
    archive: Path

    def read(self) -> bytes:
        """The bytes. Raises ConvertError when the archive is shorter than its table says."""
        with self.archive.open("rb") as file:
            file.seek(self.place)
            data = file.read(self.size)
        if len(data) != self.size:
            raise ConvertError(f"{self.name}: the archive breaks off inside it")
        return data


def members(path: Path) -> Iterator[Member]:
    """The regular files of a tar, in its order. Raises ConvertError."""
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                if member.isfile():
                    yield Member(member.name.removeprefix("./"), member.offset_data, member.size, path)
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep every header
            end = tar.offset
        if _block(path, end).strip(b"\0"):  # tarfile takes a damaged header for the end
            raise ConvertError(
                f"{path}: damaged: there is no header of a file at byte {end:,}, nor an end; files behind it would be "
                "left out. Fetch or make the archive anew"
            )
    except tarfile.ReadError as fault:
        packed = _block(path, 0).startswith(b"\x1f\x8b")
        hint = "it is compressed; unpack it to a plain .tar first (gunzip)" if packed else str(fault)
        raise ConvertError(f"{path}: cannot be read as a tar: {hint}") from fault
    except OSError as fault:
        raise ConvertError(f"{path}: cannot be read: {fault.strerror or fault}") from fault


def _block(path: Path, at: int) -> bytes:
    with path.open("rb") as file:
        file.seek(at)
        return file.read(tarfile.BLOCKSIZE)


def is_picture(name: str) -> bool:
    """By its suffix; hidden files are none."""
    return Path(name).suffix.lower() in SUFFIXES and not Path(name).name.startswith(".")


def samples(shards: Sequence[Path]) -> tuple[list[tuple[Item, str]], int]:
    """(picture, label) of each sample of WebDataset shards, and how many pictures had no label.

    Files of one sample share the name up to its first dot; the label is in `.cls`, or `.json` under "label".
    """
    found: list[tuple[Item, str]] = []
    lacking = 0
    for shard in shards:
        groups: dict[str, dict[str, Member]] = {}
        for member in members(shard):
            folder, name = os.path.split(member.name)
            key, _, kind = name.partition(".")
            groups.setdefault(f"{folder}/{key}" if folder else key, {})[f".{kind}".lower()] = member
        for key, files in groups.items():
            picture = next((files[kind] for kind in files if is_picture(f"x{kind}")), None)
            if picture is None:
                continue
            label = _label(files)
            lacking += label is None
            if label is not None:
                found.append((Item(f"{shard.name}/{key}", picture.read), label))
    return found, lacking


def _label(files: dict[str, Member]) -> str | None:
    for kind in (".cls", ".cls.txt"):
        if kind in files:
            return files[kind].read().decode("utf-8", "replace").strip()
    if ".json" in files:
        try:
            label = json.loads(files[".json"].read()).get("label")
        except (ValueError, AttributeError):
            return None
        return None if label is None else str(label)
    return None


class Table:
    """Pictures of one Parquet file with the columns 'image' (bytes, or a struct with bytes) and 'label'."""

    def __init__(self, path: Path) -> None:
        """Read what is beside the pictures. Raises ConvertError: not such a file, or pyarrow is not installed."""
        try:
            from pyarrow import ArrowException, parquet
        except ImportError as lacking:
            raise ConvertError(f"{path}: Parquet needs the package pyarrow: senet-convert[parquet]") from lacking
        self._path, self._lock, self._faults = path, threading.Lock(), (ArrowException, OSError)
        self._held: tuple[int, Any] = (-1, None)
        try:
            self._file = parquet.ParquetFile(path)
            lacking_columns = {"image", "label"} - set(self._file.schema_arrow.names)
            if lacking_columns:
                raise ConvertError(f"{path}: has no column {' and '.join(sorted(lacking_columns))}")
            self.labels = [str(value) for value in self._file.read(columns=["label"]).column(0).to_pylist()]
        except self._faults as fault:
            raise ConvertError(f"{path}: cannot be read as Parquet: {fault}") from fault

    def items(self) -> Iterator[tuple[Item, str]]:
        """(picture, label) of each row."""
        row = 0
        for group in range(self._file.num_row_groups):
            for at in range(self._file.metadata.row_group(group).num_rows):
                yield Item(f"{self._path.name}/{row}", partial(self._read, group, at)), self.labels[row]
                row += 1

    def _read(self, group: int, at: int) -> bytes:
        """A row group is read whole and kept until another one is asked for: readers go through them in order.

        Raises ConvertError where there is no picture.
        """
        with self._lock:
            if self._held[0] != group:
                try:
                    self._held = (group, self._file.read_row_group(group, columns=["image"]).column(0))
                except self._faults as fault:
                    raise ConvertError(f"cannot be read as Parquet: {fault}") from fault
            value = self._held[1][at].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            path = value.get("path") if isinstance(value, dict) else None
            held = f", only the path '{path}'" if path else f", but {type(data).__name__}" if data is not None else ""
            raise ConvertError(f"the column 'image' holds no bytes here{held}; pictures have to be inside the table")
        return data
