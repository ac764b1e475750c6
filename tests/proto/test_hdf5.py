from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from senet_convert.converter.graph.build import build
from senet_convert.errors import ConvertError, GraphError, ReadError
from senet_convert.proto import NetDef, hdf5, kinds, read_caffemodel, read_prototxt
from senet_convert.proto.write import write_caffemodel
from tests.paths import GOLDEN

h5py = pytest.importorskip("h5py", reason="h5py is not installed")
CASE = GOLDEN / "hdf5_weights"


def write(folder: Path, **blobs: Any) -> Path:
    """A snapshot; keys are '<layer>/<number>', values arrays, or None for a layer's empty group."""
    path = folder / "net.caffemodel.h5"
    with h5py.File(path, "w") as file:
        file.create_group("diff")
        data = file.create_group("data")
        for name, values in blobs.items():
            if values is None:
                data.create_group(name)
            else:
                data[name] = values
    return path


def floats(*shape: int) -> Any:
    return np.arange(np.prod(shape, dtype=int), dtype="<f4").reshape(shape)


def read(folder: Path, **blobs: Any) -> NetDef:
    return read_caffemodel(write(folder, **blobs))


def fails(path: Path) -> str:
    with pytest.raises(ReadError) as caught:
        read_caffemodel(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_layers_have_names_and_blobs_and_nothing_else(tmp_path: Path) -> None:
    blobs = {"fc/0": floats(2, 3), "fc/1": floats(2), "relu": None, "scalar/0": np.float32(4)}
    net = read(tmp_path, **blobs, **{"double/0": floats(3).astype("<f8")})
    found = {
        layer.name: [(blob.shape, blob.data.dtype.str, blob.legacy) for blob in layer.blobs] for layer in net.layers
    }
    assert found == {
        "double": [((3,), "<f8", False)],
        "fc": [((2, 3), "<f4", False), ((2,), "<f4", False)],
        "scalar": [((), "<f4", False)],
    }
    for layer in net.layers:
        assert (layer.type, layer.bottoms, layer.tops, dict(layer.params)) == ("", (), (), {})
    np.testing.assert_array_equal(net.layers[1].blobs[0].data, np.arange(6))


def test_names_with_slashes_are_nested_groups(tmp_path: Path) -> None:
    net = read(tmp_path, **{"a/b/conv/0": floats(1), "a/b/bn/0": floats(1), "a/c/0": floats(1), "a/relu": None})
    assert sorted(layer.name for layer in net.layers) == ["a/b/bn", "a/b/conv", "a/c"]


def test_more_than_ten_blobs_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    net = read(tmp_path, **{f"lstm/{i}": np.full(1, i, "<f4") for i in range(12)})
    assert [blob.data[0] for blob in net.layers[0].blobs] == list(range(12))


def test_values_come_bit_for_bit(tmp_path: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, (100, 7), dtype=np.uint32)
    (layer,) = read(tmp_path, **{"c/0": bits.view("<f4")}).layers
    np.testing.assert_array_equal(layer.blobs[0].data.view(np.uint32), bits.reshape(-1))


def test_the_reference_network_fits_its_prototxt() -> None:
    weights = read_caffemodel(CASE / "net.caffemodel.h5")
    built = build(read_prototxt(CASE / "deploy.prototxt"), weights)
    assert built.accounts.blobs == 8
    assert built.accounts.unused == ()


def test_a_snapshot_alone_is_refused(tmp_path: Path) -> None:
    weights = read_caffemodel(CASE / "net.caffemodel.h5")
    with pytest.raises(
        GraphError, match=r"net\.caffemodel\.h5: it holds weights but no definitions .*HDF5.*--prototxt"
    ):
        build(weights, weights)


def test_without_h5py_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    said = fails(CASE / "net.caffemodel.h5")
    assert "HDF5" in said
    assert "pip install 'senet-convert[hdf5]'" in said
    assert "binary caffemodel" in said


def as_caffe_writes(path: Path, layers: dict[str, list[Any]]) -> Path:
    """Net::ToHDF5: a group for every layer, made without those above it, then its blobs."""
    flat = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    flat.set_create_intermediate_group(False)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for name, blobs in layers.items():
            group = h5py.Group(h5py.h5g.create(data.id, name.encode(), lcpl=flat))
            for number, values in enumerate(blobs):
                group[str(number)] = values
    return path


def test_a_name_may_begin_another(tmp_path: Path) -> None:
    layers = {"conv1": [floats(2), floats(1)], "conv1/bn": [floats(3)], "conv1/relu": [], "conv1/bn/scale": [floats(4)]}
    net = read_caffemodel(as_caffe_writes(tmp_path / "net.caffemodel.h5", layers))
    found = {layer.name: [blob.data.tolist() for blob in layer.blobs] for layer in net.layers}
    assert found == {name: [blob.tolist() for blob in blobs] for name, blobs in layers.items() if blobs}


def test_a_group_that_no_layer_made_is_what_caffe_fails_at(tmp_path: Path) -> None:
    """Why names such as 'conv1/7x7_s2' stand in no snapshot of Caffe's, unless a layer 'conv1' came before."""
    with pytest.raises(ValueError, match=r"(?i)unable to (synchronously )?create group"):
        as_caffe_writes(tmp_path / "net.caffemodel.h5", {"conv1/7x7_s2": [floats(1)]})


def test_names_of_the_se_networks_are_read_as_other_tools_write_them(tmp_path: Path) -> None:
    layers = {"conv1/7x7_s2": (2,), "conv1/7x7_s2/bn": (3,), "conv2_1_1x1_reduce": (1,), "conv1/7x7_s2/bn/scale": (4,)}
    net = read(tmp_path, **{f"{name}/0": floats(*shape) for name, shape in layers.items()})
    assert {layer.name: layer.blobs[0].shape for layer in net.layers} == layers


def test_a_layer_without_blobs_may_begin_another_name(tmp_path: Path) -> None:
    net = read(tmp_path, **{"block": None, "block/conv/0": floats(1)})
    assert [layer.name for layer in net.layers] == ["block/conv"]


@pytest.mark.parametrize("odd", ["x", "00", "-1", "1.0", "\u0661", "9" * 5000])
def test_blobs_that_are_not_numbered_are_refused(tmp_path: Path, odd: str) -> None:
    said = fails(write(tmp_path, **{"fc/0": floats(1), f"fc/{odd}": floats(1)}))
    assert f"layer 'fc' holds the blobs {odd}; Caffe numbers them 0, 1, 2 and so on" in said


@pytest.mark.parametrize("numbers", [[1], [0, 2], [10, 9]])
def test_blobs_keep_the_numbers_that_the_file_gives_them(tmp_path: Path, numbers: list[int]) -> None:
    (layer,) = read(tmp_path, **{f"fc/{number}": np.full(1, number, "<f4") for number in numbers}).layers
    assert [(blob.number, blob.data[0]) for blob in layer.blobs] == [(number, number) for number in sorted(numbers)]


def test_what_is_left_out_before_another_blob_is_never_written_as_a_caffemodel(tmp_path: Path) -> None:
    whole, gap = {"fc/0": floats(1), "fc/1": floats(2)}, {"conv/0": floats(1), "fc/1": floats(1)}
    write_caffemodel(read(tmp_path, **whole), tmp_path / "net.caffemodel")
    (layer,) = read_caffemodel(tmp_path / "net.caffemodel").layers
    assert [(blob.number, blob.shape) for blob in layer.blobs] == [(None, (1,)), (None, (2,))]
    with pytest.raises(ConvertError, match=r"layer 'fc' has blob 1 alone and shares others; .*net\.caffemodel\.h5"):
        write_caffemodel(read(tmp_path, **gap), tmp_path / "gap.caffemodel")
    assert not (tmp_path / "gap.caffemodel").exists()


@pytest.mark.parametrize(
    "values", [np.zeros(3, "<i4"), np.zeros(3, "<f2"), np.zeros(3, ">f4"), h5py.Empty("f"), "text"]
)
def test_values_that_caffe_does_not_write_are_refused(tmp_path: Path, values: Any) -> None:
    assert "layer 'fc', blob 0: it is of type" in fails(write(tmp_path, **{"fc/0": values}))


def test_a_dataset_that_claims_more_than_the_file_has_allocates_nothing(tmp_path: Path) -> None:
    path = write(tmp_path)
    with h5py.File(path, "a") as file:
        file["data"].create_dataset("fc/0", (10**6, 10**5), "<f4", chunks=(100, 100))
    tracemalloc.start()
    said = fails(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "it claims 400000000000 bytes" in said
    assert peak < 1 << 20


def test_links_to_other_files_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(400))
    path = write(tmp_path, **{"fc/0": floats(100)})
    with h5py.File(path, "a") as file:
        file["data/soft"] = h5py.SoftLink("/data/fc")
        file["data/external"] = h5py.ExternalLink("other.h5", "/data/fc")
    assert [layer.name for layer in read_caffemodel(path).layers] == ["fc"]
    with h5py.File(path, "a") as file:
        file["data"].create_dataset("raw/0", (4,), "<f4", external=[(str(tmp_path / "secret"), 0, 16)])
    assert "layer 'raw', blob 0: its values lie in another file" in fails(path)


def test_groups_in_a_circle_end(tmp_path: Path) -> None:
    path = write(tmp_path, **{"a/b/0": floats(1)})
    with h5py.File(path, "a") as file:
        file["data/a/circle/again"] = file["data"]
    assert [layer.name for layer in read_caffemodel(path).layers] == ["a/b"]


def test_other_hdf5_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "solver.h5"
    for content in ({"iter": 1}, {"data": np.zeros(3)}):
        with h5py.File(path, "w") as file:
            for name, value in content.items():
                file[name] = value
        assert "not a snapshot of Caffe's weights" in fails(path)
    assert "holds no blobs" in fails(write(tmp_path, relu=None))


@pytest.mark.parametrize("size", [8, 9, 50, 96, 1000, 5000])
def test_a_file_cut_short_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "net.h5"
    path.write_bytes((CASE / "net.caffemodel.h5").read_bytes()[:size])
    assert "a damaged HDF5 file" in fails(path)


def test_only_hdf5_files_are_taken_for_such(tmp_path: Path) -> None:
    assert hdf5.is_hdf5(CASE / "net.caffemodel.h5")
    path = tmp_path / "x"
    path.write_bytes(kinds.HDF5[:-1])
    assert not hdf5.is_hdf5(path)
