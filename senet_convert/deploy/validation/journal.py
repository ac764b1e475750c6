"""The journal of a validation: a line of JSON for each picture, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from ...errors import ConvertError
from ...files import writing_to
from ..images.loader import Item
from ..model import Model
from .accuracy import Judged

FORMAT = "senet-convert validate 1"


def fingerprint(model: Model, items: Sequence[Item]) -> dict[str, Any]:
    """What must be the same for a run to be continued: the model, its preprocessing, the pictures and their labels."""
    listed = hashlib.sha256()
    for item in items:
        listed.update(f"{item.label}\t{item.name}\n".encode("utf-8", "surrogatepass"))
    stat = model.path.stat()
    return {
        "format": FORMAT,
        "engine": model.engine,
        "model": [model.path.name, stat.st_size, model.session.metadata.get("sources", str(stat.st_mtime_ns))],
        "preprocess": model.preprocess.to_json(),
        "images": len(items),
        "set": listed.hexdigest(),
    }


class Journal:
    """A file of results by position in the set. `done` counts the pictures that it holds already."""

    def __init__(self, path: Path, run: dict[str, Any]) -> None:
        """Open `path` to continue it, or begin it. Raises ConvertError when it belongs to another run."""
        self._path = path
        self.done = 0
        with writing_to(path):
            if path.exists() and path.stat().st_size:
                self._check(run)
                self._file = path.open("a", encoding="utf-8")
            else:
                self._file = path.open("w", encoding="utf-8")
                self._file.write(json.dumps(run) + "\n")

    def _check(self, run: dict[str, Any]) -> None:
        """Count whole lines, and cut off the last one where it was torn."""
        with self._path.open("rb+") as file:
            try:
                head = json.loads(file.readline())
            except ValueError:
                head = None
            if not isinstance(head, dict) or head.get("format") != FORMAT:
                raise ConvertError(f"{self._path}: not a journal of `validate`; give --resume another file")
            other = [key for key in run if head.get(key) != run[key]]
            if other:
                raise ConvertError(
                    f"{self._path}: belongs to a run with other {', '.join(other)}; remove it to begin anew, or give "
                    "--resume another file"
                )
            end = file.tell()
            for line in _whole(file):
                end += len(line)
                self.done += 1
            file.truncate(end)

    def results(self) -> Iterator[Judged | tuple[str, str]]:
        """What it holds from earlier: judged pictures, and (name, reason) of broken ones."""
        with self._path.open("rb") as file:
            file.readline()
            for line, _ in zip(_whole(file), range(self.done), strict=False):
                row = json.loads(line)
                if "broken" in row:
                    yield row["name"], row["broken"]
                else:
                    yield Judged(row["name"], row["label"], tuple(row["top"]), tuple(row["p"]))

    def write(self, results: Sequence[Judged | tuple[str, str]]) -> None:
        """Add the results of a batch, and hand them to the system: a kill loses nothing after this.

        Raises ConvertError when they cannot be written.
        """
        lines = []
        for result in results:
            if isinstance(result, Judged):
                row: dict[str, Any] = {"name": result.name, "label": result.label}
                row |= {"top": result.top, "p": result.probabilities}
            else:
                row = {"name": result[0], "broken": result[1]}
            lines.append(json.dumps(row) + "\n")
        with writing_to(self._path):
            self._file.writelines(lines)
            self._file.flush()

    def close(self) -> None:
        """Close the file; what it holds stays."""
        with writing_to(self._path):
            self._file.close()


def _whole(file: IO[bytes]) -> Iterator[bytes]:
    """Lines up to the first one that is torn."""
    for line in file:
        if not line.endswith(b"\n"):
            return
        try:
            json.loads(line)
        except ValueError:
            return
        yield line
