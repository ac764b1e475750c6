"""Sets of labelled pictures in the layouts that people have: folders, lists, archives. Nothing is unpacked or moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ...errors import ConvertError, Problems
from ..labels import labels as truth
from ..labels.classes import Classes
from ..labels.labels import AUTO, Listed, Numbering
from . import archives
from .images import pictures_in
from .loader import Item
from .passed_over import PassedOver, reason

Read = Callable[[], bytes]


@dataclass(frozen=True)
class ImageSet:
    """Labelled pictures, in a fixed order; `truth` says in words how the labels were read, `part` whether some are left
    out on purpose, `passed` which hidden and system files were passed over.
    """

    items: tuple[Item, ...]
    truth: str
    part: bool = False
    passed: str = ""

    def shard(self, number: int, count: int) -> ImageSet:
        """Every `count`-th picture, beginning with picture `number` (from 1)."""
        return replace(self, items=self.items[number - 1 :: count], part=count > 1)

    def limited(self, limit: int) -> ImageSet:
        """At most `limit` pictures, spread evenly over the set: of all classes where it is sorted by class."""
        total = len(self.items)
        if limit >= total:
            return self
        return replace(self, items=tuple(self.items[at * total // limit] for at in range(limit)), part=True)


def open_set(images: Path, labels: Path | None, classes: Classes, outputs: int, label_order: str = AUTO) -> ImageSet:
    """The pictures of `images` with what is right for each, as outputs of a model with these `classes`.

    images  a folder with a folder per class; a flat folder, or a tar, with `labels`; WebDataset shards (a .tar or a
            folder of them); a Parquet file or a folder of them
    labels  see `truth`; beside ILSVRC2012_img_val.tar the devkit's archive is found by itself

    Raises ConvertError that says what is missing, or lists what does not fit.
    """
    if not images.exists():
        raise ConvertError(f"{images}: there is no such folder or file")
    passed = PassedOver()
    found = _open(images, labels, _Meant(classes, outputs, label_order, passed))
    return replace(found, passed=str(passed))


def _open(images: Path, labels: Path | None, meant: _Meant) -> ImageSet:
    shards = _files(images, ".tar")
    if labels is None and shards:
        labels = _devkit_beside(images)
        if labels is None:
            return _from_samples(images, shards, meant)
    tables = _files(images, ".parquet")
    if tables:
        if labels is not None:
            raise ConvertError(f"{images}: Parquet files hold their labels; leave --labels away")
        return meant.pairs([pair for table in tables for pair in archives.Table(table).items()], str(images))
    if labels is None:
        return _from_folders(images, meant)
    return _from_list(images, shards, truth.read(labels), labels, meant)


@dataclass(frozen=True)
class _Meant:
    """From labels as they are written to outputs."""

    classes: Classes
    outputs: int
    order: str
    passed: PassedOver

    def numbering(self, listed: Listed) -> Numbering:
        return truth.numbering(listed, self.classes, self.outputs, self.order)

    def pairs(self, found: Sequence[tuple[Item, str]], where: str) -> ImageSet:
        """Pictures with their labels, all problems collected."""
        listed = Listed(tuple((item.name, label) for item, label in found))
        return self.resolved(found, self.numbering(listed), where)

    def resolved(self, found: Sequence[tuple[Item, str]], numbers: Numbering, where: str) -> ImageSet:
        problems = Problems(where)
        known: dict[str, int] = {}
        for label in dict.fromkeys(label for _, label in found):
            try:
                known[label] = numbers.index(label)
            except LookupError as fault:
                problems.add(f"label '{label}': {fault.args[0]}")
        problems.raise_as(ConvertError, _advice(self.classes))
        if not found:
            raise ConvertError(f"{where}: no pictures")
        words = any(not label.isdecimal() for label in known)
        described = "labels are names or WordNet IDs" if words else numbers.described
        return ImageSet(tuple(replace(item, label=known[label]) for item, label in found), described)


def _from_folders(images: Path, meant: _Meant) -> ImageSet:
    """A folder per class, named by WordNet ID, class name or number."""
    if not images.is_dir():
        raise ConvertError(f"{images}: neither a folder nor an archive of images (.tar, .parquet)")
    found = []
    for place in sorted(images.iterdir()):
        if not place.is_dir():
            meant.passed.meant((place.name,))
            continue
        inside = meant.passed.pictures(place, images)
        found += [(Item(str(path.relative_to(images)), path.read_bytes), place.name) for path in inside]
    if not found:
        flat = "holds pictures, but no folder per class" if pictures_in(images.iterdir()) else "holds no pictures"
        raise ConvertError(f"{images}: {flat}. For pictures side by side, say what they show: --labels val.txt")
    return meant.pairs(found, f"{images}: the folders of classes")


def _from_samples(images: Path, shards: Sequence[Path], meant: _Meant) -> ImageSet:
    found, lacking = archives.samples(shards, meant.passed)
    if lacking or not found:
        raise ConvertError(
            f"{images}: {lacking} pictures without a label. WebDataset shards hold a .cls or .json beside each; for "
            f"ILSVRC2012_img_val.tar put {truth.DEVKIT_FILE} beside it, or give --labels"
        )
    return meant.pairs(found, str(images))


def _from_list(images: Path, shards: Sequence[Path], listed: Listed, labels: Path, meant: _Meant) -> ImageSet:
    reads = {m.name: m.read for shard in shards for m in archives.pictures(shard, meant.passed)}
    if listed.named:
        find = _in_archive(reads) if shards else _in_folder(images)
        found = [(_item(str(name), find), label) for name, label in listed.pairs]
        present = [item for item, _ in found if item.read is not _absent]
        if not present:
            raise ConvertError(
                f"{labels}: none of the {len(found)} listed files is in {images}; the first is '{found[0][0].name}'"
            )
    else:
        names = sorted(reads) if shards else [str(path) for path in meant.passed.pictures(images)]
        if len(names) != len(listed.pairs):
            raise ConvertError(
                f"{labels}: {len(listed.pairs)} labels for the {len(names)} pictures of {images}; one number per line "
                "goes with the sorted file names, so the counts must be equal"
            )
        items = [Item(name, reads[name] if shards else Path(name).read_bytes) for name in names]
        found = [(item, label) for item, (_, label) in zip(items, listed.pairs, strict=True)]
    return meant.resolved(found, meant.numbering(listed), str(labels))


def _item(name: str, find: Callable[[str], Read | None]) -> Item:
    """A listed picture; where the file lacks, reading it says so, and it counts as broken."""
    return Item(name, find(name) or (find(f"{name}.JPEG") if not PurePosixPath(name).suffix else None) or _absent)


def _absent() -> bytes:
    raise ConvertError("listed, but not there")


def _in_folder(folder: Path) -> Callable[[str], Read | None]:
    def find(name: str) -> Read | None:
        path = folder / name
        try:
            return path.read_bytes if path.is_file() else None
        except OSError:  # a name that no file can have: too long
            return None

    return find


def _in_archive(reads: Mapping[str, Read]) -> Callable[[str], Read | None]:
    by_file = {PurePosixPath(name).name: read for name, read in reads.items()}
    return lambda name: reads.get(name) or by_file.get(name)


def _files(images: Path, suffix: str) -> list[Path]:
    """The archive itself, or those of a folder without pictures: among pictures they are something else."""
    if images.is_file():
        return [images] if images.suffix.lower() == suffix else []
    beside = (path for path in images.iterdir() if reason((path.name,)) is None)
    found = sorted(path for path in beside if path.suffix.lower() == suffix and path.is_file())
    return [] if found and _holds_pictures(images) else found


def _holds_pictures(folder: Path) -> bool:
    return any(archives.is_picture(str(path.relative_to(folder))) for path in folder.rglob("*"))


def _devkit_beside(images: Path) -> Path | None:
    place = (images if images.is_dir() else images.parent) / truth.DEVKIT_FILE
    return place if place.is_file() else None


def _advice(classes: Classes) -> str:
    if classes.labels:
        return f"The model's classes are {', '.join(classes.labels[:3])}, ... ({classes.order})."
    return "The model carries no class names: convert it with --labels FILE, or with --labels devkit or sorted."
