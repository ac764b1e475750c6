"""Which class an output stands for: labels, WordNet IDs and the order in which a network numbers its classes.

Two orders of the 1000 ILSVRC2012 classes are in use, and they agree on no class at all: the devkit's, which the
released SE networks speak (output k is devkit ID k + 1), and that of sorted WordNet IDs, which Caffe's own lists and
most other tools speak. `ilsvrc2012_classes.csv` holds both, with the names of the devkit's synsets.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path

from ...errors import ConvertError, listed
from ...files import require_file

DEVKIT = "ILSVRC2012 devkit ID minus one"
SORTED = "ILSVRC2012 sorted WordNet ID"
AS_GIVEN = "as the labels given"
UNKNOWN = "as in the caffemodel"
ORDERS = {"devkit": DEVKIT, "sorted": SORTED}  # the words of the command line

_WNID = re.compile(r"(n\d{8})\b[\s,]*(.*)")


@dataclass(frozen=True)
class Synset:
    """One of the ILSVRC2012 classes; `devkit` and `sorted` are its numbers from 0 in the two orders."""

    wnid: str
    devkit: int
    sorted: int
    name: str


@cache
def ilsvrc2012() -> tuple[Synset, ...]:
    """The 1000 classes in devkit order."""
    text = resources.files(__package__).joinpath("ilsvrc2012_classes.csv").read_text(encoding="utf-8")
    return tuple(
        Synset(row["wnid"], int(row["devkit_id"]) - 1, int(row["sorted_index"]), row["name"])
        for row in csv.DictReader(text.splitlines())
    )


@dataclass(frozen=True)
class Classes:
    """The classes of a network: `labels[k]` and `wnids[k]` belong to output k. Either may be empty; `order` says how
    the classes are numbered, in words.
    """

    labels: tuple[str, ...] = ()
    wnids: tuple[str, ...] = ()
    order: str = UNKNOWN

    def __bool__(self) -> bool:
        return bool(self.labels)

    @classmethod
    def ilsvrc2012(cls, order: str) -> Classes:
        """The 1000 classes in `order`, DEVKIT or SORTED."""
        table = sorted(ilsvrc2012(), key=lambda synset: synset.devkit if order == DEVKIT else synset.sorted)
        return cls(tuple(synset.name for synset in table), tuple(synset.wnid for synset in table), order)

    def metadata(self) -> dict[str, str]:
        """As it stands in the metadata of an ONNX file: 'class_order', and 'labels' and 'wnids' as JSON lists."""
        lists = {"labels": self.labels, "wnids": self.wnids}
        found = {key: json.dumps(list(value), ensure_ascii=False) for key, value in lists.items() if value}
        return {"class_order": self.order, **found}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Classes:
        """The inverse of `metadata`. Raises ConvertError when the lists are not JSON."""
        try:
            labels, wnids = (tuple(map(str, json.loads(metadata.get(key, "[]")))) for key in ("labels", "wnids"))
        except (ValueError, TypeError) as fault:
            raise ConvertError(f"the model's class names are not readable: {fault}") from fault
        return cls(labels, wnids, metadata.get("class_order", UNKNOWN))

    def label(self, index: int) -> str:
        """The name of an output; its number where names are not known."""
        return self.labels[index] if index < len(self.labels) else str(index)

    def wnid(self, index: int) -> str | None:
        """The WordNet ID of an output, where known."""
        return self.wnids[index] if index < len(self.wnids) else None

    def describe(self, index: int) -> dict[str, int | str]:
        """{"index", "label", "wnid"?} of an output."""
        wnid = self.wnid(index)
        return {"index": index, "label": self.label(index), **({"wnid": wnid} if wnid else {})}

    def index(self, name: str) -> int:
        """The output that a WordNet ID or a class name stands for. Raises LookupError with a reason."""
        if name in self._by_wnid:
            return self._by_wnid[name]
        found = self._by_name.get(name) or self._by_name.get(name.strip().casefold()) or []
        if len(found) == 1:
            return found[0]
        if found:
            raise LookupError(f"'{name}' is the name of {len(found)} classes: {', '.join(map(str, found))}")
        raise LookupError(f"the model has no class '{name}'")

    @cached_property
    def _by_wnid(self) -> Mapping[str, int]:
        return {wnid: index for index, wnid in enumerate(self.wnids)}

    @cached_property
    def _by_name(self) -> Mapping[str, list[int]]:
        """Full names, and without regard to case full names and the first synonym of 'tench, Tinca tinca'."""
        found: dict[str, list[int]] = {}
        for index, label in enumerate(self.labels):
            for name in dict.fromkeys((label, label.casefold(), label.split(",")[0].casefold())):
                found.setdefault(name, []).append(index)
        return found


def renumbering(source: str, target: str) -> tuple[int, ...]:
    """For each class number in order `source` (DEVKIT or SORTED), its number in order `target`."""
    numbers = {DEVKIT: [s.devkit for s in ilsvrc2012()], SORTED: [s.sorted for s in ilsvrc2012()]}
    return tuple(target for _, target in sorted(zip(numbers[source], numbers[target], strict=True)))


def read_labels(path: Path) -> Classes:
    """A label file: a name per line, in the network's order; 'n01440764 tench' also gives the WordNet ID.

    Where the WordNet IDs are the 1000 of ILSVRC2012, their order is recognised. Raises ConvertError.
    """
    require_file(path)
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as fault:
        raise ConvertError(f"{path}: cannot be read as a list of labels, one per line: {fault}") from fault
    if not lines:
        raise ConvertError(f"{path}: holds no labels; write one per line, in the order of the network's outputs")
    matches = [_WNID.fullmatch(line) for line in lines]
    words = [match.groups() for match in matches if match]
    if len(words) < len(lines):
        return Classes(tuple(lines), (), AS_GIVEN)
    wnids = tuple(wnid for wnid, _ in words)
    doubled = [wnid for wnid in dict.fromkeys(wnids) if wnids.count(wnid) > 1]
    if doubled:
        raise ConvertError(f"{path}: WordNet IDs stand there more than once: {listed(doubled)}")
    names = {synset.wnid: synset.name for synset in ilsvrc2012()}
    labels = tuple(name or names.get(wnid, wnid) for wnid, name in words)
    return Classes(labels, wnids, _order_of(wnids))


def _order_of(wnids: Sequence[str]) -> str:
    for order in ORDERS.values():
        if tuple(wnids) == Classes.ilsvrc2012(order).wnids:
            return order
    return AS_GIVEN
