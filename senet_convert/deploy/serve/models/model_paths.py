"""Where models lie: folders that conversion wrote, and repositories of versions.

A model is a bundle (`NAME/model.onnx`), an .onnx file, or a folder of versions (`NAME/1/model.onnx`, `NAME/2/...`,
as Triton has it; each may be a bundle). A repository is a folder of models.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .... import bundle
from ....errors import ConvertError

FIRST = "1"  # the version of a model that has none

Signature = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class ModelPath:
    """A model's name and where it lies; `root` is the folder that nothing of it may leave, where it is one of many."""

    name: str
    path: Path
    root: Path | None = None

    def versions(self) -> dict[str, Path]:
        """Version -> ONNX file, lowest first; empty where nothing is there (any more).

        Raises ConvertError for a file outside `root`: a link that leads away.
        """
        found = self._files()
        for file in found.values():
            if self.root is not None and not file.resolve().is_relative_to(self.root.resolve()):
                raise ConvertError(f"{file}: leads out of the repository {self.root}; models must lie inside it")
        return found

    @property
    def empty(self) -> bool:
        """Is no file there that could be a model?"""
        return not self._files()

    def _files(self) -> dict[str, Path]:
        if self.path.is_file():
            return {FIRST: self.path}
        if (self.path / bundle.ONNX).is_file():
            return {FIRST: self.path / bundle.ONNX}
        numbered = [folder for folder in _folders(self.path) if folder.name.isdecimal() and folder.name.isascii()]
        files = {folder.name: folder / bundle.ONNX for folder in sorted(numbered, key=lambda one: int(one.name))}
        return {version: file for version, file in files.items() if file.is_file()}


def parse(word: str) -> ModelPath:
    """A model as the command line gives it: PATH, or NAME=PATH. Raises ConvertError when nothing is there."""
    name, equals, rest = word.partition("=")
    path = Path(rest) if equals and not Path(word).exists() else Path(word)
    if path == Path(word):
        resolved = path.resolve()
        bare = path.suffix == ".onnx" and path.name != bundle.ONNX
        name = resolved.stem if bare else resolved.parent.name if path.name == bundle.ONNX else resolved.name
    place = ModelPath(name, path)
    if not name or "/" in name:
        raise ConvertError(f"{word}: '{name}' is no name for a model; write NAME=PATH")
    if not place.versions():
        raise ConvertError(
            f"{path}: no model is there; give a folder that senet-convert wrote, an .onnx file, or a folder with "
            f"versions such as {path}/1/{bundle.ONNX}"
        )
    return place


def scan(root: Path) -> dict[str, ModelPath]:
    """The models of a repository by name. Raises ConvertError when it cannot be read."""
    if not root.is_dir():
        raise ConvertError(f"{root}: no folder; a repository is a folder of models")
    places = [ModelPath(folder.name, folder, root) for folder in sorted(_folders(root)) if folder.name[0] != "."]
    return {place.name: place for place in places if not place.empty}


def signature(file: Path) -> Signature:
    """Changes when the file, its external data or the report beside it is replaced; empty where the file is gone."""
    found = []
    for one in (file, file.with_name(f"{file.name}.data"), file.with_name(bundle.REPORT)):
        try:
            stat = one.stat()
        except OSError:
            continue
        found.append((one.name, stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(found) if found and found[0][0] == file.name else ()


def _folders(path: Path) -> list[Path]:
    try:
        return [one for one in path.iterdir() if one.is_dir()]
    except OSError:
        return []
