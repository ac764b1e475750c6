from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Any, Literal
from unittest.mock import Mock

import pyarrow as pa
import pytest
from pyarrow import parquet

from senet_convert.deploy.images.archives import Table, is_picture, members, samples
from senet_convert.errors import ConvertError


def packed(path: Path, files: Mapping[str, bytes], mode: Literal["w", "w:gz"] = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_members_are_read_in_place(tmp_path: Path) -> None:
    files = {f"./deep/{'long' * 40}{k}.JPEG": bytes([k]) * (k * 300) for k in range(5)}
    found = list(members(packed(tmp_path / "a.tar", files)))
    assert [member.name for member in found] == [name[2:] for name in files]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda member: member.read(), found * 20)) == list(files.values()) * 20


def test_an_archive_that_breaks_off(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.tar", {"a.png": b"x" * 5000})
    (member,) = members(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ConvertError, match=r"a\.png: the archive breaks off inside it"):
        member.read()


def test_a_damaged_header_is_no_end(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.tar", {f"{k}.png": b"x" * 700 for k in range(5)})
    whole = path.read_bytes()
    place = whole.index(b"3.png")
    for damage in (b"?", b"\xff" * 512):
        path.write_bytes(whole[:place] + damage + whole[place + len(damage) :])
        with pytest.raises(ConvertError, match=rf"a\.tar: damaged: there is no header of a file at byte {place:,}"):
            list(members(path))
    path.write_bytes(whole[: place + 100])  # breaks off inside a header
    with pytest.raises(ConvertError, match=r"a\.tar: "):
        list(members(path))


@pytest.mark.parametrize("end", [b"", bytes(512), bytes(20 * 512)])
def test_ends_of_archives(end: bytes, tmp_path: Path) -> None:
    path = packed(tmp_path / "a.tar", {"a.png": b"x" * 700})
    path.write_bytes(path.read_bytes()[: 3 * 512] + end)
    assert [member.name for member in members(path)] == ["a.png"]


def test_of_a_file_that_is_no_tar_only_the_beginning_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def whole(_: Path) -> bytes:
        raise AssertionError("the file is read whole")

    path = packed(tmp_path / "a.tar", {"a.png": b"x"}, "w:gz")
    monkeypatch.setattr(Path, "read_bytes", whole)
    with pytest.raises(ConvertError, match="it is compressed"):
        list(members(path))


def test_what_is_no_plain_tar(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=r"compressed; unpack it"):
        list(members(packed(tmp_path / "a.tar", {"a.png": b"x"}, "w:gz")))
    (tmp_path / "b.tar").write_bytes(b"nonsense" * 200)
    with pytest.raises(ConvertError, match=r"b\.tar: cannot be read as a tar"):
        list(members(tmp_path / "b.tar"))


def test_samples_of_shards(tmp_path: Path) -> None:
    files = {
        "d/1.jpg": b"one",
        "d/1.cls": b"7\n",
        "2.seg.png": b"no picture of its own",
        "2.png": b"two",
        "2.json": json.dumps({"label": "cat"}).encode(),
        "3.txt": b"nothing to see",
    }
    found, lacking = samples([packed(tmp_path / "s-0.tar", files), packed(tmp_path / "s-1.tar", {"4.webp": b"four"})])
    assert [(item.name, label) for item, label in found] == [("s-0.tar/d/1", "7"), ("s-0.tar/2", "cat")]
    assert found[0][0].read() == b"one"
    assert lacking == 1


def test_pictures_by_name() -> None:
    assert is_picture("a/b.JPEG")
    assert not is_picture("a/.b.jpg")
    assert not is_picture("a/b.cls")


@pytest.mark.parametrize("nested", [True, False])
def test_parquet(nested: bool, tmp_path: Path) -> None:
    pictures = [f"picture {k}".encode() for k in range(7)]
    column = [{"bytes": data, "path": None} for data in pictures] if nested else pictures
    parquet.write_table(pa.table({"image": column, "label": list(range(7))}), tmp_path / "a.parquet", row_group_size=3)
    found = list(Table(tmp_path / "a.parquet").items())
    assert [label for _, label in found] == [str(k) for k in range(7)]
    assert [item.name for item, _ in found][:2] == ["a.parquet/0", "a.parquet/1"]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda pair: pair[0].read(), found)) == pictures


def test_row_groups_are_read_by_one_thread_at_a_time(tmp_path: Path) -> None:
    """The group that is held is one for all threads."""
    pictures = [b"one", b"two"]
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"image": pictures, "label": [0, 1]}), path, row_group_size=1)
    table = Table(path)
    both, met = Barrier(2), []
    read = table._file.read_row_group

    def slowly(group: int, columns: list[str]) -> Any:
        with suppress(BrokenBarrierError):
            met.append(both.wait(0.3))
        return read(group, columns)

    items = list(table.items())
    table._file = Mock(read_row_group=slowly)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda pair: pair[0].read(), items)) == pictures
    assert met == []


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ([{"bytes": None, "path": "cat.png"}], r"holds no bytes here, only the path 'cat\.png'"),
        ([{"path": "cat.png"}], r"only the path 'cat\.png'"),
        (["cat.png"], "holds no bytes here, but str"),
        ([7], "but int"),
        (pa.array([None], pa.binary()), "holds no bytes here;"),
    ],
)
def test_parquet_without_a_picture_inside(column: Any, said: str, tmp_path: Path) -> None:
    parquet.write_table(pa.table({"image": column, "label": [0]}), tmp_path / "a.parquet")
    ((item, _),) = Table(tmp_path / "a.parquet").items()
    with pytest.raises(ConvertError, match=said):
        item.read()


def test_parquet_that_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    columns = {"image": [bytes(3000)], "label": ["x" * 3000]}
    parquet.write_table(pa.table(columns), path, compression="none", use_dictionary=False)
    whole = path.read_bytes()
    path.write_bytes(b"PAR1" + b"\xff" * 64 + whole[68:])
    ((item, _),) = Table(path).items()
    with pytest.raises(ConvertError, match="cannot be read as Parquet"):
        item.read()
    place = whole.index(b"x" * 3000) - 64
    path.write_bytes(whole[:place] + b"\xff" * 64 + whole[place + 64 :])
    with pytest.raises(ConvertError, match=r"a\.parquet: cannot be read as Parquet"):
        Table(path)


def test_parquet_that_is_something_else(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(ConvertError, match="no column image and label"):
        Table(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"nonsense")
    with pytest.raises(ConvertError, match=r"b\.parquet: cannot be read as Parquet"):
        Table(tmp_path / "b.parquet")
