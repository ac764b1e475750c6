"""What is in these pictures? Paths in, the best classes with their probabilities out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConvertError, Problems, ReadError
from ..files import require_file
from .images.loader import Item, load
from .images.passed_over import PassedOver
from .model import Model, best
from .runtime.cores import usable_cores

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")


@dataclass(frozen=True)
class Answer:
    """One picture: its best classes as (index, probability), best first; `fault` says why there are none."""

    image: str
    top: tuple[tuple[int, float], ...] = ()
    fault: str | None = None

    def plain(self, model: Model) -> dict[str, Any]:
        """{"image", "top": [{"index", "label", "wnid"?, "probability"}], "class_order", "assumed", "error"?}.

        `assumed` names the values of the preprocessing that nothing states; null where the model does not say.
        """
        classes, origins = model.classes, model.origins
        top = [{**classes.describe(index), "probability": probability} for index, probability in self.top]
        assumed = list(origins.assumed) if origins else None
        found = {"image": self.image, "top": top, "class_order": classes.order, "assumed": assumed}
        return found if self.fault is None else {**found, "error": self.fault}


def pictures(asked: Sequence[str], lines: Iterable[str] = (), passed: PassedOver | None = None) -> list[Path]:
    """The files that a person means: files, folders (their pictures, sorted, subfolders too), '-' for paths in `lines`.

    Hidden and system files of folders are left out, and counted in `passed`.

    Raises ConvertError that lists everything that cannot be one: URLs, what does not exist, folders without pictures.
    """
    passed = passed or PassedOver()
    problems = Problems("the images asked for")
    words = [word for given in asked for word in (_listed(lines) if given == "-" else [given])]
    found: list[Path] = []
    for word in words:
        path = Path(word)
        if _URL.match(word):
            problems.add(f"{word}: addresses are not fetched; download the file, and give its path")
        elif path.is_dir():
            inside = passed.pictures(path)
            found += inside
            if not inside:
                problems.add(f"{word}: no pictures in this folder")
        else:
            try:
                require_file(path)
                found.append(path)
            except ReadError as fault:
                problems.add(str(fault))
    problems.raise_as(ConvertError)
    if not found:
        raise ConvertError("no images: '-' reads their paths from standard input, one per line, and none came")
    return found


def classify(
    model: Model, paths: Sequence[Path], top: int = 5, batch: int = 32, workers: int | None = None
) -> Iterator[Answer]:
    """An answer for each picture, in the order asked; one for a picture that cannot be read says why."""
    items = [Item(str(path), path.read_bytes) for path in paths]
    for loaded in load(items, model.preprocess, batch, workers or usable_cores()):
        answers = {name: Answer(name, (), fault) for name, fault in loaded.broken}
        if loaded.items:
            probabilities = model.probabilities(loaded.images)
            for item, row, order in zip(loaded.items, probabilities, best(probabilities, top), strict=True):
                answers[item.name] = Answer(item.name, tuple((int(k), float(row[k])) for k in order))
        yield from (answers[name] for name in loaded.order)


def _listed(lines: Iterable[str]) -> list[str]:
    return [line.strip() for line in lines if line.strip()]
