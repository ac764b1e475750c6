"""What is right for each picture: labels as people write them (numbers, WordNet IDs, names), as outputs of a model.

Read here: Caffe's lists ('file label' lines, such as val.txt and ILSVRC2017_val.txt), CSV, the devkit's ground truth
(one devkit ID per line, for the sorted file names) as text or inside ILSVRC2012_devkit_t12.tar.gz, each also gzipped.
"""

from __future__ import annotations

import csv
import gzip
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO

from ...errors import ConvertError, Problems
from ...files import require_file
from .classes import DEVKIT, ORDERS, SORTED, Classes, renumbering

AUTO, MODEL = "auto", "model"
LABEL_ORDERS = (AUTO, MODEL, *ORDERS)
DEVKIT_FILE = "ILSVRC2012_devkit_t12.tar.gz"
# Devkit IDs of ILSVRC2012_val_00000001.JPEG and the next: they tell which order a list of these files speaks.
ANCHORS = (490, 361, 171, 822, 297, 482, 13, 704, 599, 164, 649, 11, 73, 286, 554, 6)

_MOST_BYTES = 256 << 20  # of a list, unpacked
_GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})")
_WNID = re.compile(r"n\d{8}")
_HEADERS = {"image", "imageid", "file", "filename", "path", "name"}


@dataclass(frozen=True)
class Listed:
    """What a file of labels says: (file name, label) pairs, or labels alone, which go with the sorted file names.

    `offset` is what the numbers begin with: 1 in the devkit's ground truth, else 0.
    """

    pairs: tuple[tuple[str | None, str], ...]
    offset: int = 0

    @property
    def named(self) -> bool:
        """Do the file names stand in it?"""
        return bool(self.pairs) and self.pairs[0][0] is not None


@dataclass(frozen=True)
class Numbering:
    """Which output a label means: `table[number]` for numbers from 0, names and WordNet IDs by the model's classes."""

    classes: Classes
    outputs: int
    table: tuple[int, ...] | None  # None: the numbers are outputs
    described: str

    def index(self, label: str) -> int:
        """The output. Raises LookupError with a reason."""
        if not label.removeprefix("-").isdecimal():
            return self.classes.index(label)
        number = int(label)
        count = self.outputs if self.table is None else len(self.table)
        if not 0 <= number < count:
            raise LookupError(f"{number} is not among 0..{count - 1}; the numbers count from 0")
        return number if self.table is None else self.table[number]


def read(path: Path) -> Listed:
    """The labels in a file. Raises ConvertError."""
    numbered = [(at, line.strip()) for at, line in enumerate(_text(path).splitlines(), 1) if line.strip()]
    lines = [line for _, line in numbered]
    if lines and all(line.isdecimal() for line in lines):
        return Listed(tuple((None, str(int(line) - 1)) for line in lines), 1)
    table = bool(lines) and "," in lines[0] and not any(char.isspace() for char in lines[0].split(",")[0])
    problems = Problems(str(path))
    pairs = []
    try:
        found = list(_cells(lines) if table else _words(lines))
    except csv.Error as fault:
        raise ConvertError(f"{path}: cannot be read as CSV: {fault}") from fault
    for row, name, label in found:
        if not (name and label):
            at, line = numbered[row]
            problems.add(f"line {at}: '{line[:80]}' is not 'file{',' if table else ' '}label'")
        pairs.append((name, label))
    problems.raise_as(
        ConvertError, "Write one 'file label' line per image; or one devkit ID per line, for the sorted file names."
    )
    if not pairs:
        raise ConvertError(f"{path}: holds no labels")
    return Listed(tuple(pairs))


def _words(lines: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """Number of the line, file name and label, empty where it lacks: parted by a tab, else by the last space."""
    for row, line in enumerate(lines):
        name, _, label = line.partition("\t") if "\t" in line else line.rpartition(" ")
        yield row, name.strip(), label.strip()


def _cells(lines: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """The same of CSV, whose first line may be a header."""
    reader = csv.reader(lines)
    for number, row in enumerate(reader):
        if number or row[0].strip().lower() not in _HEADERS:
            yield reader.line_num - 1, row[0].strip(), _first_wnid(row[1].strip()) if len(row) > 1 else ""


def numbering(listed: Listed, classes: Classes, outputs: int, asked: str = AUTO) -> Numbering:
    """What the numbers of a list mean. `asked` is one of LABEL_ORDERS; 'auto' recognises lists of ILSVRC2012's files.

    Raises ConvertError when the list's order is known and the model's is not.
    """
    order = {"devkit": DEVKIT, "sorted": SORTED}.get(asked)
    if listed.offset:
        if asked not in (AUTO, "devkit"):
            raise ConvertError("one number per line is the devkit's ground truth: it speaks devkit IDs, nothing else")
        order = DEVKIT
    elif asked == AUTO and classes.order in ORDERS.values():
        order = recognise(listed.pairs)
    if order is None:
        return Numbering(classes, outputs, None, f"numbers are outputs: {classes.order}")
    if classes.order not in ORDERS.values():
        raise ConvertError(
            f"the labels are in the order '{order}', but the model does not say which of its {outputs} outputs stands "
            "for which ILSVRC2012 class. Convert it with --labels devkit or --labels sorted, as it was trained"
        )
    return Numbering(classes, outputs, renumbering(order, classes.order), f"numbers are {order}")


def recognise(pairs: Sequence[tuple[str | None, str]]) -> str | None:
    """The order that a list of ILSVRC2012 validation files speaks: DEVKIT, SORTED, or None where nothing tells."""
    known = []
    for name, label in pairs:
        match = _VALIDATION.search(name or "")
        if match and 1 <= int(match[1]) <= len(ANCHORS) and label.isdecimal():
            known.append((ANCHORS[int(match[1]) - 1] - 1, int(label)))
    to_sorted = renumbering(DEVKIT, SORTED)
    if known and all(label == devkit for devkit, label in known):
        return DEVKIT
    if known and all(label == to_sorted[devkit] for devkit, label in known):
        return SORTED
    return None


def _first_wnid(cell: str) -> str:
    """A cell of the competition's CSV holds the WordNet ID and boxes: 'n03995372 85 1 499 272'."""
    word = cell.split()[0] if cell else ""
    return word if _WNID.fullmatch(word) else cell


def _text(path: Path) -> str:
    require_file(path)
    try:
        if tarfile.is_tarfile(path):
            return _from_devkit(path)
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            return _bounded(path, file).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, tarfile.TarError, UnicodeDecodeError) as fault:
        raise ConvertError(f"{path}: cannot be read as a list of labels: {fault}") from fault


def _bounded(path: Path, file: IO[bytes] | gzip.GzipFile | BufferedReader) -> bytes:
    data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ConvertError(f"{path}: more than {_MOST_BYTES:,} bytes; no list of labels is that long")
    return data


def _from_devkit(path: Path) -> str:
    with tarfile.open(path) as tar:
        for member in tar:
            if member.name.endswith(_GROUND_TRUTH):
                file = tar.extractfile(member)
                return _bounded(path, file).decode("ascii") if file else ""
    raise ConvertError(f"{path}: the archive holds no {_GROUND_TRUTH}; the devkit is {DEVKIT_FILE}")
