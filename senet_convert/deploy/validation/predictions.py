"""What a model says of each picture, as a file: CSV, or Parquet by its ending."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from ...errors import ConvertError
from ...files import writing_to
from .accuracy import TOP, Judged

Result = Judged | tuple[str, str]


class Predictions(Protocol):
    """A file that results are written to, batch by batch."""

    def add(self, results: Sequence[Result]) -> None:
        """Judged pictures, and (name, reason) of broken ones. Raises ConvertError when they cannot be written."""

    def close(self) -> None:
        """Finish the file. Raises ConvertError when it cannot be written."""


def open_predictions(path: Path, classes: int) -> Predictions:
    """A file for the results of a network of so many classes. Raises ConvertError when it cannot be written.

    Columns: image, label, then class and probability of the best classes, and what is wrong with a broken picture.
    """
    best = min(TOP, classes)
    return ParquetFile(path, best) if path.suffix.lower() == ".parquet" else CsvFile(path, best)


def columns(best: int) -> list[str]:
    """The names of the columns."""
    ranks = [f"{kind}{rank}" for rank in range(1, best + 1) for kind in ("class", "probability")]
    return ["image", "label", *ranks, "error"]


class CsvFile:
    """Comma-separated values, probabilities with seven digits."""

    def __init__(self, path: Path, best: int) -> None:
        self._path = path
        with writing_to(path):
            self._file = path.open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        self._best = best
        self._writer.writerow(columns(best))

    def add(self, results: Sequence[Result]) -> None:
        """A line for each."""
        with writing_to(self._path):
            self._writer.writerows(self._cells(result) for result in results)

    def close(self) -> None:
        """Finish the file."""
        with writing_to(self._path):
            self._file.close()

    def _cells(self, result: Result) -> list[Any]:
        if not isinstance(result, Judged):
            return [result[0], "", *[""] * (2 * self._best), result[1]]
        pairs = zip(result.top, result.probabilities, strict=True)
        return [result.name, result.label, *(cell for index, p in pairs for cell in (index, f"{p:.7g}")), ""]


class ParquetFile:
    """Parquet: strings, int32 and float32; null where a broken picture has no value, or a good one no error."""

    ROWS = 10_000  # of a row group

    def __init__(self, path: Path, best: int) -> None:
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError as lacking:
            raise ConvertError(
                f"{path}: Parquet needs the package pyarrow: senet-convert[parquet]; or write a .csv"
            ) from lacking
        kinds = {"i": pa.string(), "e": pa.string(), "l": pa.int32(), "c": pa.int32(), "p": pa.float32()}
        self._schema = pa.schema([(name, kinds[name[0]]) for name in columns(best)])
        self._rows: list[dict[str, Any]] = []
        self._table, self._path = pa.Table, path
        with writing_to(path):
            self._writer = parquet.ParquetWriter(path, self._schema)

    def add(self, results: Sequence[Result]) -> None:
        """A row for each."""
        self._rows += [_row(result) for result in results]
        if len(self._rows) >= self.ROWS:
            self._flush()

    def close(self) -> None:
        """Finish the file."""
        self._flush()
        with writing_to(self._path):
            self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            with writing_to(self._path):
                self._writer.write_table(self._table.from_pylist(self._rows, self._schema))
            self._rows = []


def _row(result: Result) -> dict[str, Any]:
    if not isinstance(result, Judged):
        return {"image": result[0], "error": result[1]}
    row: dict[str, Any] = {"image": result.name, "label": result.label}
    for rank, (index, p) in enumerate(zip(result.top, result.probabilities, strict=True), 1):
        row |= {f"class{rank}": index, f"probability{rank}": p}
    return row
