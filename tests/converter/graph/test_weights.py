from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from senet_convert.converter.graph.build import build
from senet_convert.converter.graph.graph import Graph
from senet_convert.errors import GraphError
from senet_convert.proto import Blob, LayerDef, NetDef, caffe_pb2, read_caffemodel, read_prototxt
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
        ({"edit": "drop", "layer": "fc"}, ["net.caffemodel holds no weights for these layers", "fc", "lacks: none"]),
        ({"edit": "rename", "layer": "fc", "to": "fc8"}, ["network: fc;", "lacks: fc8"]),
        (
            {"edit": "reshape", "layer": "conv", "shape": (5, 3, 3, 3)},
            ["'conv' (Convolution, line 5): ", "net.caffemodel holds blobs of shape 5x3x3x3", "needs 6x3x3x3"],
        ),
        ({"edit": "reshape", "layer": "fc", "shape": (7, 54)}, ["7x54", "7x180", "height or width"]),
        ({"edit": "reshape", "layer": "fc", "shape": (180, 7)}, ["'fc'", "180x7", "7x180", "lack transpose: true?"]),
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
        found = edited(files, "set", layer="conv", index=0, value=value)
        assert any("'conv'" in warning and word in warning for warning in found.warnings)
        assert any("no family" in warning for warning in found.warnings)
        assert not any(node.layer.sound for node in found.nodes)
    assert all(node.layer.sound for node in edited(files, "set", layer="conv", index=0, value=0).nodes)
    found = edited(files, "set", layer="bn", index=1, value=-3)
    assert any("'bn'" in warning and "1 of 6 channels is negative" in warning for warning in found.warnings)
    assert not any(node.layer.sound for node in found.nodes)


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
    with pytest.raises(GraphError, match=r"share the weight 'w', but \S*net.caffemodel holds different values"):
        files.graph()
    net.layer[2].blobs[0].CopyFrom(net.layer[1].blobs[0])
    files.caffemodel.write_bytes(net.SerializeToString())
    found = files.graph()
    assert found.accounts.keys == {"a": ("a/weight", "a/bias"), "b": ("a/weight", "b/bias")}


BOTH = SHARED.replace('param { name: "w" }', 'param { name: "w" } param { name: "b" }')


@pytest.mark.parametrize("kept", ["a", "b"])
@pytest.mark.parametrize("entry", [True, False])
def test_a_layer_whose_blobs_are_all_shared_need_not_be_in_the_file(tmp_path: Path, kept: str, entry: bool) -> None:
    files = write(tmp_path, BOTH)
    net = caffe_pb2.NetParameter.FromString(files.caffemodel.read_bytes())
    held = next(layer.blobs[0].data for layer in net.layer if layer.name == kept)
    other = next(layer for layer in net.layer if layer.name in {"a", "b"} - {kept})
    other.ClearField("blobs")
    if not entry:
        net.layer.remove(other)
    files.caffemodel.write_bytes(net.SerializeToString())
    found = files.graph().accounts
    assert found.keys == {"a": ("a/weight", "a/bias"), "b": ("a/weight", "a/bias")}
    assert found.arrays["a/weight"].tobytes() == held
    assert (found.blobs, found.values) == (2, 4 * 90 + 4)


def numbered(files: Files, blobs: dict[str, dict[int, np.ndarray]]) -> Graph:
    """The graph with weights such as an HDF5 snapshot holds."""
    layers = tuple(
        LayerDef(name, "", blobs=tuple(Blob(held.shape, held.reshape(-1), number=i) for i, held in own.items()))
        for name, own in blobs.items()
    )
    return build(read_prototxt(files.prototxt), NetDef("", "net.h5", layers))


def test_of_a_snapshot_each_blob_that_is_shared_may_be_left_out(tmp_path: Path) -> None:
    files = write(tmp_path, SHARED)
    weight, one, two = np.ones((4, 90), "<f4"), np.ones(4, "<f4"), np.full(4, 2, "<f4")
    found = numbered(files, {"a": {0: weight, 1: one}, "b": {1: two}}).accounts
    assert found.keys == {"a": ("a/weight", "a/bias"), "b": ("a/weight", "b/bias")}
    assert found.arrays["b/bias"].tolist() == [2, 2, 2, 2]
    assert found.blobs == 3
    with pytest.raises(GraphError, match=r"network: b; it holds"):
        numbered(files, {"a": {0: weight, 1: one}})
    with pytest.raises(GraphError, match=r"'b' .* 1 blobs \(4x90\), .* needs 2 \(4x90 and 4\); it lacks blob 1, which"):
        numbered(files, {"a": {0: weight, 1: one}, "b": {0: weight}})
    with pytest.raises(GraphError, match=r"holds 2 blobs \(4 and 4\), the network needs 2 .*; it lacks blob 0,"):
        numbered(write(tmp_path, SE_NET), {"fc": {1: one, 2: one}})


def test_what_a_snapshot_leaves_out_is_taken_in_the_shape_that_is_permitted(tmp_path: Path) -> None:
    text = SHARED.replace('bottom: "r" top: "b" param { name: "w"', 'bottom: "a" top: "b" param { name: "w" SHARE')
    text = "num_output: 90".join(text.rsplit("num_output: 4", 1))
    files = write(tmp_path, text.replace("SHARE", "share_mode: PERMISSIVE"))
    weight = np.arange(360, dtype="<f4").reshape(4, 90)
    blobs: dict[str, dict[int, np.ndarray]] = {"a": {0: weight, 1: np.ones(4, "<f4")}, "b": {1: np.ones(90, "<f4")}}
    found = numbered(files, blobs).accounts
    np.testing.assert_array_equal(found.arrays["b/weight"], weight.reshape(90, 4))
    files.prototxt.write_text(text.replace("SHARE", ""))
    with pytest.raises(GraphError, match=r"'w' with shapes 4x90 and 90x4; that needs share_mode") as caught:
        numbered(files, blobs)
    assert "problems" not in str(caught.value)


def test_some_blobs_without_numbers_do_not_tell_which_they_are(tmp_path: Path) -> None:
    files = write(tmp_path, BOTH)
    net = caffe_pb2.NetParameter.FromString(files.caffemodel.read_bytes())
    del net.layer[2].blobs[1]
    files.caffemodel.write_bytes(net.SerializeToString())
    with pytest.raises(GraphError, match=r"'b' .*holds 1 blobs \(4x90\), the network needs 2 \(4x90 and 4\)$"):
        files.graph()


def test_ambiguous_names_are_refused(tmp_path: Path) -> None:
    text = INPUT + "".join(
        f'layer {{ name: "fc" type: "InnerProduct" bottom: "data" top: "{top}"\n'
        "inner_product_param { num_output: 2 } }\n"
        for top in ("x", "y")
    )
    files = write(tmp_path, SE_NET)
    files.prototxt.write_text(text)
    with pytest.raises(GraphError) as caught:
        files.graph()
    assert "problems" not in str(caught.value)
    assert "have one name, layer 'fc' (InnerProduct, line 2), layer 'fc' (InnerProduct, line 4)" in str(caught.value)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("blobs", [0, 1])
def test_an_entry_that_lacks_blobs_beside_another_of_its_name_is_refused(
    tmp_path: Path, first: bool, blobs: int
) -> None:
    files = write(tmp_path)
    net = caffe_pb2.NetParameter.FromString(files.caffemodel.read_bytes())
    fc = next(layer for layer in net.layer if layer.name == "fc")
    again = caffe_pb2.NetParameter(layer=[caffe_pb2.LayerParameter(name="fc", blobs=fc.blobs[:blobs])])
    parts = [again, net] if first else [net, again]
    files.caffemodel.write_bytes(b"".join(part.SerializeToString() for part in parts))
    counts = (blobs, 2) if first else (2, blobs)
    with pytest.raises(GraphError) as caught:
        files.graph()
    assert "problems" not in str(caught.value)
    assert f"net.caffemodel names layer 'fc' 2 times, with {counts[0]}, {counts[1]} blobs" in str(caught.value)


def test_of_a_layer_that_the_file_lists_twice_the_last_entry_counts(tmp_path: Path) -> None:
    files = write(tmp_path)
    net = caffe_pb2.NetParameter.FromString(files.caffemodel.read_bytes())
    again = caffe_pb2.NetParameter(layer=[next(layer for layer in net.layer if layer.name == "fc")])
    last = again.layer[0].blobs[1]
    last.data = np.full(last.shape.dim[0], 7.0, "<f4").tobytes()
    files.caffemodel.write_bytes(net.SerializeToString() + again.SerializeToString())
    accounts = files.graph().accounts
    assert set(accounts.arrays["fc/bias"]) == {7.0}
    assert [text for text in accounts.warnings if "'fc' (2 times)" in text and "the last one counts" in text]
    last.data += np.float32(7.0).tobytes()
    last.shape.dim[0] += 1
    files.caffemodel.write_bytes(again.SerializeToString() + net.SerializeToString())
    with pytest.raises(GraphError, match="names layer 'fc' 2 times"):  # the first entry fits no layer of the network
        files.graph()


def test_layers_without_a_name_are_refused(tmp_path: Path) -> None:
    files = write(tmp_path)
    unnamed = SE_NET.replace('name: "fc" type', "type")
    files.prototxt.write_text(unnamed)
    words = r": layers that need weights have no name, by which these are matched: layer '' \(InnerProduct, line 17\)"
    with pytest.raises(GraphError, match=words):
        files.graph()
    other = write(tmp_path, unnamed, "other")
    with pytest.raises(GraphError) as caught:
        build(read_prototxt(other.prototxt), read_caffemodel(other.caffemodel))
    assert "problems" not in str(caught.value)
    files.prototxt.write_text(SE_NET)
    with pytest.raises(GraphError, match=r"layers that the network lacks: \(one without a name\)\."):
        build(read_prototxt(files.prototxt), read_caffemodel(other.caffemodel))


def test_weights_of_another_network_are_told_by_their_names(tmp_path: Path) -> None:
    files = write(tmp_path)
    net = caffe_pb2.NetParameter.FromString(files.caffemodel.read_bytes())
    for layer in net.layer:
        layer.name = f"x/{layer.name}"
    files.caffemodel.write_bytes(net.SerializeToString())
    with pytest.raises(GraphError) as caught:
        files.graph()
    assert "no layer name matches: " in str(caught.value)
    assert "net.caffemodel holds weights for x/conv, x/bn, x/scale, x/down, x/fc; the" in str(caught.value)
    assert "needs them for conv, bn, scale, down, fc. " in str(caught.value)


def test_long_lists_of_layers_show_both_ends(tmp_path: Path) -> None:
    """The classifier comes last, and is what a download that stopped early lacks."""
    layers = [
        f'layer {{ name: "fc{i}" type: "InnerProduct" bottom: "data" top: "fc{i}"\n'
        "inner_product_param { num_output: 2 } }\n"
        for i in range(30)
    ]
    files = write(tmp_path, INPUT + "".join(layers))
    whole = files.caffemodel.read_bytes()
    net = caffe_pb2.NetParameter.FromString(whole)
    del net.layer[3:]
    files.caffemodel.write_bytes(net.SerializeToString())
    with pytest.raises(GraphError, match=r"network: fc2, fc3, .* fc11, \.\.\. 8 more \.\.\., fc20, .* fc29; it"):
        files.graph()
    files.caffemodel.write_bytes(whole)
    files.prototxt.write_text(INPUT + layers[0])
    (warning,) = files.graph().warnings
    assert warning.endswith(
        "does not run: "
        + ", ".join(f"fc{i}" for i in range(1, 11))
        + ", ... 9 more ..., "
        + ", ".join(f"fc{i}" for i in range(20, 30))
    )


@pytest.mark.parametrize(
    ("param", "shapes", "words"),
    [
        ("transpose: true", [(7, 180), (7,)], "is transpose: true meant?"),
        ("transpose: true", [(54, 7), (7,)], "height or width"),
        ("", [(7, 180), (7, 1)], ""),
        ("", [(7, 45), (7,)], ""),  # no map of 6 channels has 45 values
        ("", [(8, 54), (8,)], ""),
    ],
)
def test_a_likely_cause_is_named_only_where_the_shapes_speak_for_it(
    tmp_path: Path, param: str, shapes: list[tuple[int, ...]], words: str
) -> None:
    files = write(tmp_path)
    net = caffe_pb2.NetParameter.FromString(files.caffemodel.read_bytes())
    fc = next(layer for layer in net.layer if layer.name == "fc")
    del fc.blobs[:]
    fc.blobs.extend(blob(np.zeros(shape, np.float32)) for shape in shapes)
    files.caffemodel.write_bytes(net.SerializeToString())
    files.prototxt.write_text(SE_NET.replace("num_output: 7", f"num_output: 7 {param}"))
    with pytest.raises(GraphError) as caught:
        files.graph()
    assert words in str(caught.value)
    assert str(caught.value).endswith("?") == bool(words)


def test_shared_weights_of_other_shapes_are_one_problem(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        SHARED.replace("num_output: 4", "num_output: 5", 1),
    )
    with pytest.raises(GraphError) as caught:
        files.graph()
    assert "problems" not in str(caught.value)
    assert "share the weight 'w' with shapes 5x90 and 4x90" in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "outputs", "words"),
    [
        ("PERMISSIVE", 90, None),
        ("STRICT", 90, "with shapes 4x90 and 90x4; that needs share_mode: PERMISSIVE and equal counts"),
        ("PERMISSIVE", 30, "with shapes 4x90 and 30x4; that needs share_mode: PERMISSIVE and equal counts"),
    ],
)
def test_shared_weights_of_other_shapes_need_to_be_permitted(
    tmp_path: Path, mode: str, outputs: int, words: str | None
) -> None:
    """Layer b reads what a has made, by the same numbers in another shape."""
    param = f'name: "w" share_mode: {mode}'
    text = SHARED.replace('bottom: "r" top: "b" param { name: "w"', f'bottom: "a" top: "b" param {{ {param}')
    files = write(tmp_path, f"num_output: {outputs}".join(text.rsplit("num_output: 4", 1)))
    net = caffe_pb2.NetParameter.FromString(files.caffemodel.read_bytes())
    values = np.frombuffer(net.layer[1].blobs[0].data, "<f4")
    net.layer[2].blobs[0].CopyFrom(blob(values[: outputs * 4], (outputs, 4)))
    files.caffemodel.write_bytes(net.SerializeToString())
    if words is not None:
        with pytest.raises(GraphError, match=words):
            files.graph()
        return
    found = files.graph().accounts
    assert found.keys == {"a": ("a/weight", "a/bias"), "b": ("b/weight", "b/bias")}
    assert [found.arrays[f"{layer}/weight"].shape for layer in "ab"] == [(4, 90), (90, 4)]
    assert found.arrays["a/weight"].tobytes() == found.arrays["b/weight"].tobytes()
