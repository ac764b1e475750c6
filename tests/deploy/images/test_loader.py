from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from senet_convert.deploy.images.images import read_image
from senet_convert.deploy.images.loader import AHEAD, Item, load, read
from senet_convert.deploy.images.preprocess import Preprocess
from senet_convert.errors import ConvertError

from ..conftest import paint

PREPROCESS = Preprocess((4, 4))


def items(folder: Path, count: int) -> list[Item]:
    paths = [paint(folder / f"{k}.png", k) for k in range(count)]
    return [Item(path.name, path.read_bytes, k) for k, path in enumerate(paths)]


def test_batches_keep_the_order(tmp_path: Path) -> None:
    found = list(load(items(tmp_path, 10), PREPROCESS, 4, 3))
    assert [item.label for loaded in found for item in loaded.items] == list(range(10))
    assert [loaded.images.shape for loaded in found] == [(4, 3, 4, 4), (4, 3, 4, 4), (2, 3, 4, 4)]
    assert np.array_equal(found[1].images[1], PREPROCESS.apply(read_image(tmp_path / "5.png")))


def test_broken_pictures_are_told_not_fatal(tmp_path: Path) -> None:
    asked = items(tmp_path, 3)
    asked.insert(1, Item("torn", lambda: b"nonsense"))
    asked.insert(3, Item("gone", (tmp_path / "gone.png").read_bytes))
    (found,) = load(asked, PREPROCESS, 8, 2)
    assert [item.name for item in found.items] == ["0.png", "1.png", "2.png"]
    assert found.order == ("0.png", "torn", "1.png", "gone", "2.png")
    assert [name for name, _ in found.broken] == ["torn", "gone"]
    assert "No such file" in found.broken[1][1]
    assert not found.broken[0][1].startswith("torn")


def test_a_batch_of_broken_pictures_is_empty() -> None:
    (found,) = load([Item("torn", lambda: b"nonsense")], PREPROCESS, 8, 2)
    assert found.images.shape == (0, 3, 4, 4)


def test_reading_names_the_picture(tmp_path: Path) -> None:
    item = Item("small", paint(tmp_path / "a.png", 0).read_bytes)
    with pytest.raises(ConvertError, match=r"^small: a 8x4 crop does not fit"):
        read(item, Preprocess((8, 4), 5))


def test_the_work_ahead_is_bounded(tmp_path: Path) -> None:
    data = paint(tmp_path / "a.png", 0).read_bytes()
    count, lock = 0, threading.Lock()

    def slow_consumer() -> bytes:
        nonlocal count
        with lock:
            count += 1
        return data

    before = set(threading.enumerate())
    batches = load((Item(str(k), slow_consumer) for k in range(1000)), PREPROCESS, 5, 2)
    next(batches)
    time.sleep(0.1)
    assert count <= 5 * (AHEAD + 1)
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("decode")]


def test_whole_pictures_come_in_small_batches(tmp_path: Path) -> None:
    whole = replace(PREPROCESS, input="image", any_size=True)
    found = list(load([*items(tmp_path, 4), Item("torn", lambda: b"nonsense")], whole, 32, 2))
    assert [len(loaded.order) for loaded in found] == [2, 2, 1]
    assert found[1].images[1].shape == (6, 5, 3)
    assert found[2].images.shape == (0,)
