from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from senet_convert.converter.check.reference_file import read_reference
from senet_convert.converter.graph.graph import Graph
from senet_convert.errors import CheckError, ReadError
from tests.nets import INPUT, SE_NET, write

SHAPE = (2, 3, 12, 10)
X = np.ones(SHAPE, np.float32)
FC = np.ones((2, 7), np.float32)


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return write(tmp_path).graph()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "blobs.npz"


def npy(array: np.ndarray) -> bytes:
    made = io.BytesIO()
    np.save(made, array)
    return made.getvalue()


def npz(**arrays: Any) -> bytes:
    made = io.BytesIO()
    np.savez(made, **arrays)
    return made.getvalue()


def long(length: int) -> str:
    """The header of an array of that many values."""
    return f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({length},)}}"


def archive(**members: bytes) -> bytes:
    """A zip archive with these bytes as arrays."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return made.getvalue()


def headed(header: str) -> bytes:
    """An array with this header, and a few values."""
    return b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header.encode() + FC.tobytes()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_blobs_of_the_network_are_read_as_float32(graph: Graph, path: Path, save: Callable[..., None]) -> None:
    save(path, data=X.astype(np.float64), fc=np.arange(14).reshape(2, 7), names=np.array(["dog", "cat"]), own=FC)
    found = read_reference(path, graph)
    assert {name: array.dtype.name for name, array in found.items()} == {"data": "float32", "fc": "float32"}
    assert np.array_equal(found["data"], X)
    assert np.array_equal(found["fc"], np.arange(14).reshape(2, 7))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"fc": FC, "own": FC}, "it lacks the input 'data'; it has fc, own"),
        ({}, "it lacks the input 'data'; it has no arrays"),
        ({"data": X, "own": FC}, "none of its arrays bears the name of a blob of the network: data, own"),
        ({"data": X[:, :, :5], "fc": FC}, "input 'data' has shape 2x3x5x10, the network takes 2x3x12x10"),
        ({"data": X[0], "fc": FC}, "input 'data' has shape 3x12x10, the network takes"),
        ({"data": X[:0], "fc": FC[:0]}, "input 'data' has shape 0x3x12x10: it is empty"),
        ({"data": X * np.nan, "fc": FC}, "input 'data' holds 720 values of 720 that are NaN or infinite"),
        ({"data": X * 1e300 ** np.eye(12, 10), "fc": FC}, "input 'data' holds 60 values of 720 that are"),
        ({"data": X.astype(complex), "fc": FC}, "array 'data' holds complex128, not real numbers"),
        ({"data": X, "fc": np.array(["dog", "cat"])}, "array 'fc' holds <U3, not real numbers"),
        ({"data": X, "fc": np.array([None, {}])}, "array 'fc' is damaged, or holds Python objects"),
    ],
)
def test_what_does_not_fit(arrays: dict[str, Any], words: str, graph: Graph, path: Path) -> None:
    path.write_bytes(npz(**arrays))
    with pytest.raises(CheckError) as refused:
        read_reference(path, graph)
    assert str(refused.value).startswith(f"{path}: {words}")


def test_a_network_that_overwrites_its_input(tmp_path: Path, path: Path) -> None:
    path.write_bytes(npz(data=X, prep=X))
    text = INPUT + 'layer { name: "prep" type: "ReLU" bottom: "data" top: "data" }'
    with pytest.raises(CheckError, match="overwrites its input 'data' in place"):
        read_reference(path, write(tmp_path, text).graph())


def test_all_that_is_wrong_is_told(tmp_path: Path, path: Path) -> None:
    text = INPUT.replace('"data"', '"more"') + SE_NET + 'layer { name: "r" type: "ReLU" bottom: "more" top: "r" }'
    path.write_bytes(npz(data=X[:0], more=X * np.inf, fc=np.array(["a"])))
    with pytest.raises(CheckError) as refused:
        read_reference(path, write(tmp_path, text).graph())
    assert str(refused.value).startswith(f"{path}: 3 problems\n")
    for words in ("array 'fc' holds <U1", "input 'more' holds 720 values", "input 'data' has shape 0x3x12x10"):
        assert words in str(refused.value)


GOOD = npz(data=X, fc=FC)
DAMAGED = {
    "text": (b"no", "not a file that numpy.savez wrote; save the blobs with numpy.savez"),
    "nothing": (b"", "not a file that numpy.savez wrote"),
    "a web page": (b"<html>" * 99, "not a file that numpy.savez wrote"),
    "one array": (npy(X), "a single array without a name, as numpy.save writes it; save the blobs with numpy.savez"),
    "one array, cut": (npy(X)[:99], "a single array without a name"),
    "cut in half": (GOOD[: len(GOOD) // 2], f"the archive is damaged or cut off after {len(GOOD) // 2:,} bytes"),
    "other bytes inside": (GOOD.replace(X.tobytes(), b"\1" * X.nbytes), "array 'data' is damaged"),
    "an array cut": (archive(data=npy(X)[:-1], fc=npy(FC)), "array 'data' is damaged"),
    "no array": (archive(data=b"no", fc=npy(FC)), "array 'data' is damaged"),
    "no arrays": (archive(), "it lacks the input 'data'; it has no arrays"),
    "no header": (archive(data=headed("{[]: 1}"), fc=npy(FC)), "array 'data' is damaged"),
    "a shape beyond integers": (
        archive(data=headed(long(10**30)), fc=npy(FC)),
        "array 'data' is damaged",
    ),
    "a shape beyond memory": (
        archive(data=headed(long(10**15)), fc=npy(FC)),
        "array 'data' is larger than the memory, or its header is damaged",
    ),
}


@pytest.mark.parametrize(("data", "words"), DAMAGED.values(), ids=DAMAGED)
def test_files_of_another_kind_or_damaged(data: bytes, words: str, graph: Graph, path: Path) -> None:
    path.write_bytes(data)
    with pytest.raises(CheckError) as refused:
        read_reference(path, graph)
    assert str(refused.value).startswith(f"{path}: {words}")
    assert "pickle" not in str(refused.value)


def test_every_cut_and_many_flips_are_refused_in_our_words(graph: Graph, path: Path) -> None:
    random = np.random.default_rng(0)
    made = [GOOD[:end] for end in range(0, len(GOOD), 97)]
    for _ in range(300):
        damaged = bytearray(GOOD)
        for place in random.integers(0, len(GOOD), 3):
            damaged[place] = random.integers(0, 256)
        made.append(bytes(damaged))
    refused = 0
    for data in made:
        path.write_bytes(data)
        try:
            assert np.isfinite(read_reference(path, graph)["data"]).all()
        except CheckError as fault:
            refused += 1
            assert str(fault).startswith(f"{path}: ")
    assert refused > len(made) * 0.8


def test_a_file_that_cannot_be_opened(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"gone\.npz: .*no such file"):
        read_reference(tmp_path / "gone.npz", graph)
