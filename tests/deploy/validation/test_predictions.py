from __future__ import annotations

import csv
import errno
import sys
from contextlib import closing
from pathlib import Path

import pytest
from pyarrow import parquet

from senet_convert.deploy.validation.accuracy import Judged
from senet_convert.deploy.validation.predictions import ParquetFile, columns, open_predictions
from senet_convert.errors import ConvertError

GOOD = Judged("ä.png", 2, (1, 2, 0), (0.5, 0.3, 0.2))
TORN = ("torn.png", "no picture")


def write(path: Path, *batches: list[Judged | tuple[str, str]]) -> Path:
    with closing(open_predictions(path, 3)) as file:
        for batch in batches:
            file.add(batch)
    return path


def test_columns() -> None:
    assert columns(2) == ["image", "label", "class1", "probability1", "class2", "probability2", "error"]


def test_csv(tmp_path: Path) -> None:
    with write(tmp_path / "p.csv", [GOOD, TORN]).open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        columns(3),
        ["ä.png", "2", "1", "0.5", "2", "0.3", "0", "0.2", ""],
        ["torn.png", "", "", "", "", "", "", "", "no picture"],
    ]


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ParquetFile, "ROWS", 2)
    table = parquet.read_table(write(tmp_path / "p.PARQUET", [GOOD, TORN], [GOOD]))
    assert table.column_names == columns(3)
    first, second, third = table.to_pylist()
    assert first == third
    assert (first["image"], first["label"], first["class1"], first["error"]) == ("ä.png", 2, 1, None)
    assert first["probability2"] == pytest.approx(0.3)
    assert (second["image"], second["label"], second["class1"], second["error"]) == ("torn.png", None, None, TORN[1])


def test_parquet_without_pictures_is_a_table_still(tmp_path: Path) -> None:
    assert parquet.read_table(write(tmp_path / "p.parquet")).num_rows == 0


@pytest.mark.parametrize("name", ["p.csv", "p.parquet"])
def test_what_cannot_be_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=f"{name}: cannot be written"):
        open_predictions(tmp_path / "no" / name, 3)


@pytest.mark.parametrize("results", [1, 100_000])
def test_a_full_disk_is_named(results: int) -> None:
    """A few lines fail when the file is closed, many before."""
    with pytest.raises(ConvertError, match="/dev/full: cannot be written: No space"):
        write(Path("/dev/full"), [GOOD] * results)
    with pytest.raises(ConvertError, match=r"/dev/full: cannot be written: .*No space"):
        ParquetFile(Path("/dev/full"), 3)


class Full:
    """A disk that fills up."""

    def write_table(self, table: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("rows", [0, 1])
def test_parquet_on_a_disk_that_fills_up(rows: int, tmp_path: Path) -> None:
    file = ParquetFile(tmp_path / "p.parquet", 3)
    file._writer.close()
    file._writer = Full()
    file.add([GOOD] * rows)
    with pytest.raises(ConvertError, match=r"p\.parquet: cannot be written: No space"):
        file.close()


def test_parquet_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConvertError, match=r"senet-convert\[parquet\]; or write a \.csv"):
        open_predictions(tmp_path / "p.parquet", 3)
    assert not (tmp_path / "p.parquet").exists()
