from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
from pyarrow import parquet

from senet_convert.deploy.predictions import ParquetFile, columns, open_predictions
from senet_convert.deploy.tally import Judged
from senet_convert.errors import ConvertError

GOOD = Judged("ä.png", 2, (1, 2, 0), (0.5, 0.3, 0.2))
TORN = ("torn.png", "no picture")


def write(path: Path, *batches: list[Judged | tuple[str, str]]) -> Path:
    file = open_predictions(path, 3)
    for batch in batches:
        file.add(batch)
    file.close()
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


def test_parquet_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConvertError, match=r"senet-convert\[parquet\]; or write a \.csv"):
        open_predictions(tmp_path / "p.parquet", 3)
    assert not (tmp_path / "p.parquet").exists()
