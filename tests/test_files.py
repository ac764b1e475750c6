from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from senet_convert.files import PIECE, write_in_pieces


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
