from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Any, Literal
from unittest.mock import Mock

import pyarrow as pa
import pytest
from pyarrow import parquet

from senet_convert.deploy.images import archives
from senet_convert.deploy.images.archives import Table, is_picture, members, pictures, samples
from senet_convert.deploy.images.passed_over import PassedOver
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
    assert not is_picture("@eaDir/b.jpg")
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


def test_rows_are_read_by_one_thread_at_a_time(tmp_path: Path) -> None:
    """The rows' place is one for all threads."""
    pictures = [b"one", b"two"]
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"image": pictures, "label": [0, 1]}), path, row_group_size=1)
    table = Table(path)
    both, met = Barrier(2), []
    read = table._file.iter_batches

    def slowly(size: int, row_groups: list[int], columns: list[str]) -> Any:
        with suppress(BrokenBarrierError):
            met.append(both.wait(0.3))
        return read(size, row_groups=row_groups, columns=columns)

    items = list(table.items())
    table._file = Mock(iter_batches=slowly)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda pair: pair[0].read(), items)) == pictures
    assert met == []


@pytest.mark.parametrize("order", ["forwards", "backwards", "pairs swapped", "every tenth", "twice"])
def test_rows_in_any_order(order: str, tmp_path: Path) -> None:
    pictures = [b"%d" % k for k in range(200)]
    parquet.write_table(pa.table({"image": pictures, "label": range(200)}), tmp_path / "a.parquet", row_group_size=70)
    table = Table(tmp_path / "a.parquet")
    opened: list[int] = []
    read = table._file.iter_batches

    def counted(size: int, row_groups: list[int], columns: list[str]) -> Any:
        opened.extend(row_groups)
        return read(size, row_groups=row_groups, columns=columns)

    items = [item for item, _ in table.items()]
    table._file = Mock(iter_batches=counted)
    rows = {
        "forwards": list(range(200)),
        "backwards": list(range(199, -1, -1)),
        "pairs swapped": [k ^ 1 for k in range(200)],
        "every tenth": list(range(0, 200, 10)),
        "twice": [*range(200), *range(200)],
    }[order]
    assert [items[k].read() for k in rows] == [pictures[k] for k in rows]
    expected = {"backwards": None, "twice": [0, 1, 2, 0, 1, 2]}.get(order, [0, 1, 2])
    assert expected is None or opened == expected


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


def sparse(path: Path, holes: int) -> Path:
    """A tar with a file of holes alone, in the old GNU format; itself without holes to speak of."""
    info = tarfile.TarInfo("hole.png")
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[156:157] = tarfile.GNUTYPE_SPARSE
    head[386:410] = b"%011o\0" % 0 + b"%011o\0" % 0
    head[483:495] = b"\x80" + holes.to_bytes(11, "big")
    head[148:156] = b"%06o\0 " % (sum(head[:148]) + 8 * 32 + sum(head[156:]))
    path.write_bytes(bytes(head) + packed(path, {"a.png": b"x"}).read_bytes())
    return path


def test_a_sparse_member_is_refused_by_name(tmp_path: Path) -> None:
    hole, other = members(sparse(tmp_path / "a.tar", 6 << 30))
    assert (hole.size, other.read()) == (6 << 30, b"x")
    with pytest.raises(ConvertError, match=r"^hole\.png: stored as a sparse file"):
        hole.read()


def test_a_member_larger_than_a_picture_is_refused_by_name(tmp_path: Path) -> None:
    """6 GB, on a disk where they take no place."""
    info = tarfile.TarInfo("big.png")
    info.size = 6 << 30
    with (tmp_path / "a.tar").open("wb") as file:
        file.write(info.tobuf())
        file.truncate(512 + info.size + 1024)
    (member,) = members(tmp_path / "a.tar")
    with pytest.raises(ConvertError, match=r"^big\.png: 6,442,450,944 bytes; at most 268,435,456 are read"):
        member.read()
    with pytest.raises(ConvertError, match="at most 10 are read"):
        replace(member, size=11).read(10)


def test_a_label_larger_than_labels_are_is_refused(tmp_path: Path) -> None:
    shard = packed(tmp_path / "a.tar", {"1.png": b"x", "1.cls": bytes(2 << 20)})
    with pytest.raises(ConvertError, match=r"1\.cls: 2,097,152 bytes"):
        samples([shard])
    deep = packed(tmp_path / "b.tar", {"1.png": b"x", "1.json": b"[" * 500_000})
    assert samples([deep]) == ([], 1)


def pax(body: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    info = tarfile.TarInfo("records")
    info.type, info.size = kind, len(body)
    return info.tobuf() + body + bytes(-len(body) % 512)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (pax(b"1" * (2 << 20)), "more than 1,048,576 bytes"),
        (pax(b"1" * 500_000), "more than 255 digits"),
        (pax(b"x" * (2 << 20), tarfile.GNUTYPE_LONGNAME), "more than 1,048,576 bytes"),
        (pax(b"x" * (2 << 20), tarfile.XGLTYPE), "more than 1,048,576 bytes"),
        (pax(b"11 path=abc\n") * 3000, "more than 1,048,576 bytes|recursion"),
    ],
    ids=["too long", "digits", "a long name", "global", "one after the other"],
)
def test_headers_are_bounded(header: bytes, said: str, tmp_path: Path) -> None:
    path = packed(tmp_path / "a.tar", {"a.png": b"x"})
    path.write_bytes(header + path.read_bytes())
    started = time.process_time()
    with pytest.raises(ConvertError, match=rf"a\.tar: .*({said})"):
        list(members(path))
    assert time.process_time() - started < 2


def test_a_sparse_map_of_any_length_is_bounded(tmp_path: Path) -> None:
    records = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n25 GNU.sparse.name=a.png\n30 GNU.sparse.realsize=512000\n"
    info = tarfile.TarInfo("GNUSparseFile.0/a.png")
    info.size = 4 << 20
    path = tmp_path / "a.tar"
    path.write_bytes(pax(records) + info.tobuf() + b"999999\n" + b"1\n" * (2 << 20))
    with pytest.raises(ConvertError, match=r"a\.tar: "):
        list(members(path))


def test_a_member_of_negative_size_is_damage(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.png")
    head = bytearray(info.tobuf())
    head[124:136] = b"\xff" * 10 + (-1024 & 0xFFFF).to_bytes(2, "big")
    head[148:156] = b"%06o\0 " % (sum(head[:148]) + 8 * 32 + sum(head[156:]))
    (tmp_path / "a.tar").write_bytes(tarfile.TarInfo("b.png").tobuf() + bytes(head) + bytes(2048))
    with pytest.raises(ConvertError, match=r"a\.tar: "):
        list(members(tmp_path / "a.tar"))


def test_long_names_and_records_are_read(tmp_path: Path) -> None:
    name = "n" * 300 + "/ü.png"
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        info = tarfile.TarInfo(name)
        (tmp_path / "a.tar").write_bytes(info.tobuf(kind) + bytes(1024))
        assert [member.name for member in members(tmp_path / "a.tar")] == [name]


def test_links_and_devices_are_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo(f"{ord(kind)}.png")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    assert list(members(tmp_path / "a.tar")) == []


def test_hidden_and_system_files_of_archives_are_passed_over(tmp_path: Path) -> None:
    names = ["__MACOSX/d/._a.png", "d/._a.png", "d/a.png", "d/.ipynb_checkpoints/a.png", "d/Thumbs.db", "._d"]
    path = packed(tmp_path / "a.tar", {**dict.fromkeys(names, b"x"), "d/a.cls": b"3", "d/._a.cls": b"4"})
    passed = PassedOver()
    assert [member.name for member in pictures(path, passed)] == ["d/a.png"]
    told = "passed over: 6 hidden or system files: 3 of ._*, 1 of .ipynb_checkpoints, 1 of Thumbs.db, 1 of __MACOSX"
    assert str(passed) == told
    passed = PassedOver()
    found, lacking = samples([path], passed)
    assert ([(item.name, label) for item, label in found], lacking, str(passed)) == ([("a.tar/d/a", "3")], 0, told)


def bomb(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    parquet.write_table(pa.table(columns), path, **({"compression": "zstd", "use_dictionary": False} | options))
    return path


def test_a_table_that_grows_without_measure_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_BYTES", 1 << 20)
    rows = [bytes(100_000)] * 100
    path = bomb(tmp_path / "a.parquet", {"image": rows, "label": range(100)})
    assert path.stat().st_size < 50_000
    with pytest.raises(ConvertError, match=r"row group 0: the column 'image' grows from .* to 10,0"):
        Table(path)
    nested = [{"bytes": row, "path": None} for row in rows]
    with pytest.raises(ConvertError, match=r"the column 'image\.bytes' grows"):
        Table(bomb(tmp_path / "b.parquet", {"image": nested, "label": range(100)}))
    with pytest.raises(ConvertError, match=r"the column 'label' grows"):
        Table(bomb(tmp_path / "c.parquet", {"image": [b"x"] * 100, "label": ["x" * 100_000] * 100}))


def test_more_rows_than_the_file_can_hold_are_refused(tmp_path: Path) -> None:
    same = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), pa.array([b"x"]))
    path = bomb(tmp_path / "a.parquet", {"image": same, "label": [0] * 1_000_000}, use_dictionary=True)
    assert path.stat().st_size < 50_000
    with pytest.raises(ConvertError, match=r"a\.parquet: 1,000,000 rows in .* hold no pictures"):
        Table(path)


def test_one_large_picture_that_many_rows_name_is_held_once(tmp_path: Path) -> None:
    """A row group of 1 GB in a file of a kilobyte, which its table of contents does not tell."""
    same = pa.DictionaryArray.from_arrays(pa.array([0] * 500, pa.int32()), pa.array([bytes(2_000_000)]))
    plain = pa.schema([("image", pa.binary()), ("label", pa.int64())])
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"image": same, "label": range(500)}), path, compression="zstd", store_schema=False)
    assert parquet.ParquetFile(path).schema_arrow.field("image").type == plain.field("image").type
    before = pa.total_allocated_bytes()
    items = [item for item, _ in Table(path).items()]
    assert len(items[0].read()) == len(items[400].read()) == 2_000_000
    assert pa.total_allocated_bytes() - before < 50_000_000


def test_a_row_larger_than_a_picture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bomb(tmp_path / "a.parquet", {"image": [b"x" * 5000, b"y"], "label": [0, 1]}, compression="none")
    large, small = (item for item, _ in Table(path).items())
    monkeypatch.setattr(archives, "MOST_BYTES", 4999)
    with pytest.raises(ConvertError, match="5,000 bytes; at most 4,999 are read"):
        large.read()
    assert small.read() == b"y"
