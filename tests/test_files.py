from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path

import numpy as np
import pytest

from senet_convert import bundle
from senet_convert.errors import ReadError
from senet_convert.files import PIECE, require_file, require_utf8, write_in_pieces


def refused(path: Path, *suffixes: str) -> str:
    with pytest.raises(ReadError) as caught:
        require_file(path, *suffixes)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    return said


def test_a_file_is_taken_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "net.caffemodel").touch()
    (tmp_path / "link").symlink_to("net.caffemodel")
    require_file(tmp_path / "net.caffemodel")
    require_file(tmp_path / "link", ".caffemodel")


def test_of_a_missing_file_the_like_in_its_folder_are_named(tmp_path: Path) -> None:
    for name in ("b.caffemodel", "a.caffemodel", "a.prototxt", "plain"):
        (tmp_path / name).touch()
    (tmp_path / "folder.caffemodel").mkdir()
    said = refused(tmp_path / "net", ".caffemodel")
    assert said.endswith("there is no such file; in its folder are: a.caffemodel, b.caffemodel")
    assert refused(tmp_path / "net.prototxt").endswith("in its folder are: a.prototxt")
    assert refused(tmp_path / "other").endswith("there is no such file; check the path")
    assert f"nor a folder {tmp_path / 'no'}" in refused(tmp_path / "no" / "net.caffemodel", ".caffemodel")
    assert "there is no such file" in refused(tmp_path / "plain" / "net.caffemodel")


def test_a_link_to_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("gone.caffemodel")
    assert "it is a link to gone.caffemodel, where there is no file" in refused(tmp_path / "link")
    (tmp_path / "loop").symlink_to("loop")
    assert "cannot be read: " in refused(tmp_path / "loop")


def test_of_a_folder_the_files_in_it_are_named(tmp_path: Path) -> None:
    assert refused(tmp_path).endswith("it is a folder; give a file")
    assert "without a .caffemodel or .prototxt" in refused(tmp_path, ".caffemodel", ".prototxt")
    bundle.write_report(tmp_path, {"tool": {"name": bundle.TOOL}})
    assert "it is a bundle already" in refused(tmp_path, ".caffemodel")
    (tmp_path / "net.caffemodel").touch()
    assert refused(tmp_path, ".caffemodel").endswith("it is a folder; give one of its files: net.caffemodel")


def test_pipes_devices_and_sockets_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "a pipe, not a file: save what comes out of it as a file" in refused(tmp_path / "pipe")
    assert "it is a device, not a file" in refused(Path("/dev/zero"))
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(tmp_path):  # a socket's path must be short
        server.bind("socket")
        assert "it is a socket, not a file" in refused(Path("socket"))


def test_what_may_not_be_opened_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.caffemodel"
    path.touch()

    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert refused(path).endswith("cannot be read: Permission denied")


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 7])
def test_all_bytes_are_written_in_their_order(tmp_path: Path, size: int) -> None:
    data = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    with (tmp_path / "file").open("wb") as file:
        file.write(b"head")
        write_in_pieces(file, data.data)
        write_in_pieces(file, memoryview(b"tail"))
    assert (tmp_path / "file").read_bytes() == b"head" + data.tobytes() + b"tail"


def test_no_piece_is_larger_than_the_limit(tmp_path: Path) -> None:
    sizes = []

    class Counting:
        def write(self, data: memoryview) -> None:
            sizes.append(len(data))

    write_in_pieces(Counting(), memoryview(bytes(2 * PIECE + 5)))  # type: ignore[arg-type]
    assert sizes == [PIECE, PIECE, 5]


def test_a_path_for_onnxruntime_is_utf8() -> None:
    require_utf8(Path("Netz ä"))
    with pytest.raises(ReadError, match="onnxruntime takes no path that is not UTF-8"):
        require_utf8(Path(os.fsdecode(b"Netz \xe4")))
