"""Pictures inside archives, read in place: tar files (also WebDataset shards) and Parquet files of dataset hubs.

An archive says how large its parts are, and is not believed: no part is read that is larger than a picture may be, and
headers are read within bounds of their own.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import ConvertError
from .images import SUFFIXES
from .loader import Item
from .passed_over import PassedOver, reason

MOST_BYTES = 256 << 20  # of a picture
LABEL_BYTES = 1 << 20
HEADER_BYTES = 1 << 20  # of a member of a tar, with its PAX records and long names

_ROWS, _BYTES_PER_ROW = 1000, 16  # of a Parquet file: rows with pictures take more
_GROWTH, _LABEL = 16, 256  # what pictures grow by when unpacked; bytes a label
_BATCH = 1024  # labels
_KEPT = 32  # rows
_PIECE = 1 << 20  # bytes of a column that are read at once

_DIGITS = re.compile(rb"\d{256}")  # tarfile searches in quadratic time before 3.11.10 and 3.12.6
_FAULTS = (tarfile.TarError, ValueError, OverflowError, IndexError, RecursionError)  # of broken headers


@dataclass(frozen=True)
class Member:
    """One file of a tar: its name there, and its bytes when asked. Reading is safe from several threads.

    `sparse` ones are stored without their holes, which may be of any size.
    """

    name: str
    place: int
    size: int
    archive: Path
    sparse: bool = False

    def read(self, most: int | None = None) -> bytes:
        """The bytes, at most `most` (MOST_BYTES where that is not said).

        Raises ConvertError: too large, sparse, or the archive is shorter than its table says.
        """
        most = MOST_BYTES if most is None else most
        if self.sparse:
            raise ConvertError(f"{self.name}: stored as a sparse file; make the archive anew without (tar without -S)")
        if self.size > most:
            raise ConvertError(f"{self.name}: {self.size:,} bytes; at most {most:,} are read")
        with self.archive.open("rb") as file:
            file.seek(self.place)
            data = file.read(self.size)
        if len(data) != self.size:
            raise ConvertError(f"{self.name}: the archive breaks off inside it")
        return data


class _Headers(io.FileIO):
    """An archive of which so much may be read for one header. Raises ConvertError."""

    left = HEADER_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        size = self.left + 1 if size is None or size < 0 else size
        if size > self.left:
            raise ConvertError(
                f"{self.name}: the header of a member has more than {HEADER_BYTES:,} bytes at byte {self.tell():,}; no "
                "picture's has. Make the archive anew"
            )
        data = super().read(size) or b""
        self.left -= len(data)
        if _DIGITS.search(data):
            raise ConvertError(f"{self.name}: a number of more than 255 digits in a header before byte {self.tell():,}")
        return data


def members(path: Path) -> Iterator[Member]:
    """The regular files of a tar, in its order; others are left out. Raises ConvertError."""
    try:
        with _Headers(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            place = -1
            while (member := tar.next()) is not None:
                if tar.offset <= place:  # a negative size, which sends older Pythons round in circles
                    raise ConvertError(f"{path}: damaged: the member '{member.name[:80]}' has no size that can be")
                place = tar.offset
                file.left = HEADER_BYTES
                if member.isfile():
                    name = member.name.removeprefix("./")
                    yield Member(name, member.offset_data, member.size, path, member.issparse())
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep every header
            end = tar.offset
        if _block(path, end).strip(b"\0"):  # tarfile takes a damaged header for the end
            raise ConvertError(
                f"{path}: damaged: there is no header of a file at byte {end:,}, nor an end; files behind it would be "
                "left out. Fetch or make the archive anew"
            )
    except _FAULTS as fault:
        packed = _block(path, 0).startswith(b"\x1f\x8b")
        hint = "it is compressed; unpack it to a plain .tar first (gunzip)" if packed else str(fault)
        raise ConvertError(f"{path}: cannot be read as a tar: {hint}") from fault
    except OSError as fault:
        raise ConvertError(f"{path}: cannot be read: {fault.strerror or fault}") from fault


def pictures(path: Path, passed: PassedOver) -> Iterator[Member]:
    """The pictures of a tar; hidden and system files are counted in `passed`."""
    for member in members(path):
        if passed.meant(PurePosixPath(member.name).parts) and is_picture(member.name):
            yield member


def _block(path: Path, at: int) -> bytes:
    with path.open("rb") as file:
        file.seek(at)
        return file.read(tarfile.BLOCKSIZE)


def is_picture(name: str) -> bool:
    """By its suffix; hidden files, and those in hidden folders, are none."""
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and reason(path.parts) is None


def samples(shards: Sequence[Path], passed: PassedOver | None = None) -> tuple[list[tuple[Item, str]], int]:
    """(picture, label) of each sample of WebDataset shards, and how many pictures had no label.

    Files of one sample share the name up to its first dot; the label is in `.cls`, or `.json` under "label". Hidden
    and system files are counted in `passed`.
    """
    passed = passed or PassedOver()
    found: list[tuple[Item, str]] = []
    lacking = 0
    for shard in shards:
        groups: dict[str, dict[str, Member]] = {}
        for member in members(shard):
            if not passed.meant(PurePosixPath(member.name).parts):
                continue
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
            return files[kind].read(LABEL_BYTES).decode("utf-8", "replace").strip()
    if ".json" in files:
        try:
            label = json.loads(files[".json"].read(LABEL_BYTES)).get("label")
        except (ValueError, AttributeError, RecursionError):
            return None
        return None if label is None else str(label)
    return None


class Table:
    """Pictures of one Parquet file with the columns 'image' (bytes, or a struct with bytes) and 'label'.

    Rows are decoded one by one, whatever a row group is said to hold: it takes no longer than reading it whole.
    """

    def __init__(self, path: Path) -> None:
        """Read what is beside the pictures. Raises ConvertError: not such a file, or pyarrow is not installed."""
        try:
            from pyarrow import ArrowException, parquet
        except ImportError as lacking:
            raise ConvertError(f"{path}: Parquet needs the package pyarrow: senet-convert[parquet]") from lacking
        self._path, self._lock, self._faults = path, threading.Lock(), (ArrowException, OSError)
        self._rows: Iterator[Any] = iter(())
        self._group, self._next = -1, 0  # where the rows are
        self._kept: dict[tuple[int, int], Any] = {}
        try:
            self._file = parquet.ParquetFile(path, buffer_size=_PIECE, pre_buffer=False)
            lacking_columns = {"image", "label"} - set(self._file.schema_arrow.names)
            if lacking_columns:
                raise ConvertError(f"{path}: has no column {' and '.join(sorted(lacking_columns))}")
            self._check()
            batches = self._file.iter_batches(_BATCH, columns=["label"])
            self.labels = [str(value) for batch in batches for value in batch.column(0).to_pylist()]
        except self._faults as fault:
            raise ConvertError(f"{path}: cannot be read as Parquet: {fault}") from fault

    def items(self) -> Iterator[tuple[Item, str]]:
        """(picture, label) of each row."""
        row = 0
        for group in range(self._file.num_row_groups):
            for at in range(self._file.metadata.row_group(group).num_rows):
                yield Item(f"{self._path.name}/{row}", partial(self._read, group, at)), self.labels[row]
                row += 1

    def _check(self) -> None:
        """What its table of contents says must be in proportion to the file. Raises ConvertError."""
        contents, size = self._file.metadata, self._path.stat().st_size
        if contents.num_rows > _ROWS + size // _BYTES_PER_ROW:
            raise ConvertError(f"{self._path}: {contents.num_rows:,} rows in {size:,} bytes hold no pictures")
        for group in range(contents.num_row_groups):
            about = contents.row_group(group)
            for column in map(about.column, range(about.num_columns)):
                name, grown = column.path_in_schema.partition(".")[0], column.total_uncompressed_size
                most = {
                    "image": MOST_BYTES + _GROWTH * column.total_compressed_size,
                    "label": LABEL_BYTES + _LABEL * about.num_rows,
                }.get(name, grown)
                if grown > most:
                    raise ConvertError(
                        f"{self._path}: row group {group}: the column '{column.path_in_schema}' grows from "
                        f"{column.total_compressed_size:,} to {grown:,} bytes; at most {most:,} are read"
                    )

    def _read(self, group: int, at: int) -> bytes:
        """Readers go through the rows in order, or nearly, as several threads do. Raises ConvertError: no picture."""
        with self._lock:
            try:
                value = self._row(group, at)
            except self._faults as fault:
                raise ConvertError(f"cannot be read as Parquet: {fault}") from fault
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            path = value.get("path") if isinstance(value, dict) else None
            held = f", only the path '{path}'" if path else f", but {type(data).__name__}" if data is not None else ""
            raise ConvertError(f"the column 'image' holds no bytes here{held}; pictures have to be inside the table")
        if len(data) > MOST_BYTES:
            raise ConvertError(f"{len(data):,} bytes; at most {MOST_BYTES:,} are read")
        return data

    def _row(self, group: int, at: int) -> Any:
        """Rows that are passed on the way are kept for a while: another thread may be about to ask for them."""
        if (group, at) in self._kept:
            return self._kept.pop((group, at))
        if group != self._group or at < self._next:
            batches = self._file.iter_batches(1, row_groups=[group], columns=["image"])
            self._rows, self._group, self._next = (batch.column(0)[0].as_py() for batch in batches), group, 0
        while True:
            try:
                value = next(self._rows)
            except StopIteration:
                raise ConvertError(f"row group {group} has fewer rows than the file says") from None
            self._next += 1
            if self._next > at:
                return value
            self._kept[group, self._next - 1] = value
            while len(self._kept) > _KEPT or sum(map(_size, self._kept.values())) > MOST_BYTES:
                del self._kept[next(iter(self._kept))]


def _size(value: Any) -> int:
    """About, of an image's value."""
    data = value.get("bytes") if isinstance(value, dict) else value
    return len(data) if isinstance(data, bytes | str) else 0
