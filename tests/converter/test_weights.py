from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from senet_convert.converter.graph import Graph, build
from senet_convert.errors import GraphError
from senet_convert.proto import caffe_pb2, read_caffemodel, read_prototxt
from tests.nets import INPUT, SE_NET, Files, blob, write


def edited(files: Files, edit: str, **given: object) -> Graph:
    """The graph after one edit of the caffemodel, named by what it does."""
    net = caffe_pb2.NetParameter.FromString(files.caffemodel.read_bytes())
    layers = {layer.name: layer for layer in net.layer}
    if edit == "drop":
        del layers[str(given["layer"])].blobs[:]
    elif edit == "rename":
        layers[str(given["layer"])].name = str(given["to"])
    elif edit == "reshape":
        values = np.zeros(given["shape"], np.float32)  # type: ignore[call-overload]
        layers[str(given["layer"])].blobs[0].CopyFrom(blob(values))
    elif edit == "set":
        held = layers[str(given["layer"])].blobs[int(str(given["index"]))]
        values = np.frombuffer(held.data, "<f4").copy()
        values[0] = given["value"]
        held.data = values.tobytes()
    files.caffemodel.write_bytes(net.SerializeToString())
    return build(read_prototxt(files.prototxt), read_caffemodel(files.caffemodel))


def test_every_blob_lands_once_bit_for_bit(tmp_path: Path) -> None:
    files = write(tmp_path)
    accounts = files.graph().accounts
    held = {
        f"{layer.name}[{i}]": item.data.tobytes()
        for layer in read_caffemodel(files.caffemodel).layers
        for i, item in enumerate(layer.blobs)
    }
    assert accounts.blobs == len(held) == 10
    assert accounts.arrays["conv/weight"].tobytes() == held["conv[0]"]
    assert accounts.arrays["fc/bias"].tobytes() == held["fc[1]"]
    assert accounts.arrays["fc/weight"].shape == (7, 180)
    assert len(accounts.arrays) == 9  # BatchNorm's factor went into mean and variance


@pytest.mark.parametrize("factor", [0.9, 0.0, 999.98236])
def test_batchnorms_factor_is_applied_as_caffe_does(tmp_path: Path, factor: float) -> None:
    files = write(tmp_path)
    before = read_caffemodel(files.caffemodel).layers[2].blobs
    found = edited(files, "set", layer="bn", index=2, value=factor).accounts.arrays
    scale = np.float32(0) if factor == 0 else np.float32(1) / np.float32(factor)
    assert found["bn/mean"].tobytes() == (before[0].data * scale).astype("<f4").tobytes()
    assert found["bn/variance"].tobytes() == (before[1].data * scale).astype("<f4").tobytes()


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"edit": "drop", "layer": "fc"}, ["no weights for these layers", "fc", "lacks: none"]),
        ({"edit": "rename", "layer": "fc", "to": "fc8"}, ["network: fc;", "lacks: fc8"]),
        ({"edit": "reshape", "layer": "conv", "shape": (5, 3, 3, 3)}, ["'conv'", "5x3x3x3", "6x3x3x3"]),
        ({"edit": "reshape", "layer": "fc", "shape": (7, 45)}, ["7x45", "7x180", "height or width"]),
        ({"edit": "reshape", "layer": "fc", "shape": (180, 7)}, ["'fc'", "180x7", "7x180", "transpose: true"]),
    ],
)
def test_misfits_are_refused_with_both_sides(tmp_path: Path, edit: dict[str, object], words: list[str]) -> None:
    with pytest.raises(GraphError) as caught:
        edited(write(tmp_path), **edit)  # type: ignore[arg-type]
    assert [word for word in words if word not in str(caught.value)] == []


def test_misfits_come_all_at_once(tmp_path: Path) -> None:
    files = write(tmp_path)
    with pytest.raises(GraphError):
        edited(files, "reshape", layer="conv", shape=(5, 3, 3, 3))
    with pytest.raises(GraphError) as caught:
        edited(files, "rename", layer="fc", to="fc8")
    assert "2 problems" in str(caught.value)


def test_unused_weights_are_warned_of(tmp_path: Path) -> None:
    files = write(tmp_path)
    net = caffe_pb2.NetParameter.FromString(files.caffemodel.read_bytes())
    net.layer.add(name="old", type="InnerProduct").blobs.append(blob(np.ones((2, 3), np.float32)))
    files.caffemodel.write_bytes(net.SerializeToString())
    found = files.graph()
    assert found.accounts.unused == ("old",)
    assert any("old" in warning for warning in found.warnings)


def test_strange_values_are_warned_of(tmp_path: Path) -> None:
    files = write(tmp_path)
    for value, word in ((np.nan, "1 values are NaN and 0 infinite"), (np.inf, "0 values are NaN and 1 infinite")):
        warnings = edited(files, "set", layer="conv", index=0, value=value).warnings
        assert any("'conv'" in warning and word in warning for warning in warnings)
    edited(files, "set", layer="conv", index=0, value=0)
    warnings = edited(files, "set", layer="bn", index=1, value=-3).warnings
    assert any("'bn'" in warning and "1 of 6 channels is negative" in warning for warning in warnings)


def test_large_finite_values_are_not_taken_for_infinite(tmp_path: Path) -> None:
    files = write(tmp_path)
    assert edited(files, "set", layer="conv", index=0, value=np.finfo(np.float32).max).warnings == ()


SHARED = (
    'layer { name: "l" type: "Input" top: "l" top: "r" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 5 } } }\n'
    'layer { name: "a" type: "InnerProduct" bottom: "l" top: "a" param { name: "w" }\n'
    "inner_product_param { num_output: 4 } }\n"
    'layer { name: "b" type: "InnerProduct" bottom: "r" top: "b" param { name: "w" }\n'
    "inner_product_param { num_output: 4 } }"
)


def test_shared_weights_are_held_once(tmp_path: Path) -> None:
    files = write(tmp_path, SHARED)
    net = caffe_pb2.NetParameter.FromString(files.caffemodel.read_bytes())
    with pytest.raises(GraphError, match="share the weight 'w'"):
        files.graph()
    net.layer[2].blobs[0].CopyFrom(net.layer[1].blobs[0])
    files.caffemodel.write_bytes(net.SerializeToString())
    found = files.graph()
    assert found.accounts.keys == {"a": ("a/weight", "a/bias"), "b": ("a/weight", "b/bias")}


def test_ambiguous_names_are_refused(tmp_path: Path) -> None:
    text = INPUT + "".join(
        f'layer {{ name: "fc" type: "InnerProduct" bottom: "data" top: "{top}"\n'
        "inner_product_param { num_output: 2 } }\n"
        for top in ("x", "y")
    )
    files = write(tmp_path, SE_NET)
    files.prototxt.write_text(text)
    with pytest.raises(GraphError, match="2 layers that need weights are named 'fc'"):
        files.graph()


def test_layers_without_a_name_are_refused(tmp_path: Path) -> None:
    files = write(tmp_path)
    files.prototxt.write_text(SE_NET.replace('name: "fc" type', "type"))
    with pytest.raises(GraphError, match="no name"):
        files.graph()
