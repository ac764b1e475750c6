from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from senet_convert.errors import ReadError
from senet_convert.proto import Blob, NetDef, ParamSpec, Rule, State, netdef, read_prototxt
from senet_convert.proto.tree import Tree


def net_of(folder: Path, source: str) -> NetDef:
    path = folder / "net.prototxt"
    path.write_text(source, encoding="utf-8")
    return read_prototxt(path)


def tree(value: Any) -> Any:
    """Plain values as a Tree."""
    if isinstance(value, dict):
        made = Tree()
        made.update({key: tree(item) for key, item in value.items()})
        return made
    return [tree(item) for item in value] if isinstance(value, list) else value


def blobs_of(*blobs: dict[str, Any]) -> tuple[Blob, ...]:
    return netdef.from_tree(tree({"layer": [{"name": "conv", "blobs": list(blobs)}]}), "net").layers[0].blobs


# ---- the network -----------------------------------------------------------------------------------------------------


def test_a_layer_in_full(tmp_path: Path) -> None:
    net = net_of(
        tmp_path,
        """name: "net" # a comment
        state { phase: TRAIN level: 2 stage: "a" stage: "b" }
        layer {
          name: "c" type: "Convolution" bottom: "x" bottom: "y" top: "z" loss_weight: 1 propagate_down: true phase: TEST
          param { name: "w" share_mode: PERMISSIVE lr_mult: 2 } param { }
          include { phase: TEST min_level: 1 max_level: 3 stage: "s" not_stage: "t" } exclude { phase: TRAIN }
          convolution_param { num_output: 3 kernel_size: [1, 2] weight_filler { type: "xavier" } }
        }""",
    )
    assert (net.name, net.comments, net.inputs, net.faults) == ("net", ("a comment",), (), ())
    assert net.source == str(tmp_path / "net.prototxt")
    assert net.state == State("TEST", 2, ("a", "b"))
    (layer,) = net.layers
    assert (layer.name, layer.type, layer.line) == ("c", "Convolution", 3)
    assert (layer.bottoms, layer.tops) == (("x", "y"), ("z",))
    assert layer.specs == (ParamSpec("w", "PERMISSIVE"), ParamSpec("", "STRICT"))
    assert layer.include == (Rule("TEST", 1, 3, ("s",), ("t",)),)
    assert layer.exclude == (Rule("TRAIN"),)
    assert layer.params == {
        "convolution_param": {"num_output": 3, "kernel_size": (1, 2), "weight_filler": {"type": "xavier"}}
    }


def test_what_is_read_cannot_be_changed(tmp_path: Path) -> None:
    (layer,) = net_of(tmp_path, 'layer { name: "c" input_param { shape { dim: 1 } } }').layers
    with pytest.raises(FrozenInstanceError):
        layer.name = "d"  # type: ignore[misc]
    params: Any = layer.params
    with pytest.raises(TypeError):
        params["x"] = {}
    assert layer.params["input_param"]["shape"][0]["dim"] == (1,)
    with pytest.raises(TypeError):
        params["input_param"]["shape"] = ()


def test_an_empty_layer(tmp_path: Path) -> None:
    (layer,) = net_of(tmp_path, "layer { }").layers
    assert (layer.name, layer.type, layer.bottoms, layer.blobs, dict(layer.params)) == ("", "", (), (), {})


def test_names_with_a_zero_byte_are_refused(tmp_path: Path) -> None:
    source = r'input: "x\000" layer { name: "a" top: "y\0001" } layer { name: "b\000" bottom: "y" }'
    with pytest.raises(ReadError) as caught:
        net_of(tmp_path, source)
    assert str(caught.value).splitlines()[1:4] == [
        r"  - layer 'a': the name 'y\x001' holds a zero byte",
        r"  - layer 'b\x00': the name 'b\x00' holds a zero byte",
        r"  - the input 'x\x00' holds a zero byte in its name",
    ]


def test_faults_of_layers_are_theirs_and_all_others_the_networks(tmp_path: Path) -> None:
    header = 'foo: 1\nstate { bar: 2 }\ninput_shape { baz: 3 }\ninput: "a"\n'
    net = net_of(tmp_path, header + 'layer { name: "l"\n qux: 4 relu_param { quux: 5 } }')
    assert [(fault.line, fault.text.split("'")[1]) for fault in net.faults] == [(1, "foo"), (2, "bar"), (3, "baz")]
    assert [(fault.line, fault.text.split("'")[1]) for fault in net.layers[0].faults] == [(6, "qux"), (6, "quux")]


def test_faults_of_rules_stand_apart(tmp_path: Path) -> None:
    (layer,) = net_of(tmp_path, 'layer { name: "l" phase: TUST\ninclude { phase: TEST }\nexclude { fase: 1 } }').layers
    assert [(fault.line, fault.path) for fault in layer.rule_faults] == [(3, ("exclude", "fase"))]
    assert [fault.line for fault in layer.faults] == [1]
    assert layer.where == "layer 'l' (line 1)"


# ---- the old header --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "inputs"),
    [
        ('input: "a" input_dim: [1, 2, 3, 4]', (("a", (1, 2, 3, 4)),)),
        ('input: "a" input: "b" input_dim: [1,2,3,4, 5,6,7,8]', (("a", (1, 2, 3, 4)), ("b", (5, 6, 7, 8)))),
        ('input: "a" input_shape { dim: 1 dim: 2 }', (("a", (1, 2)),)),
        ('input: ["a", "b"] input_shape { dim: 1 } input_shape { dim: [2, 3] }', (("a", (1,)), ("b", (2, 3)))),
        ('input: "a"', (("a", None),)),
        ('input: "a" input_shape { }', (("a", ()),)),
        ("input_dim: [1, 2, 3, 4]", ()),
        ("input_shape { dim: 1 } input_shape { dim: 2 }", ()),
    ],
)
def test_headers(tmp_path: Path, header: str, inputs: Any) -> None:
    assert net_of(tmp_path, header).inputs == inputs


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ('input: "a" input_dim: [1, 2, 3]', "input 'a' gives 3 input_dim values; each input needs 4"),
        ("input_dim: [1, 2, 3]", "0 inputs gives 3 input_dim values; each input needs 4"),
        ('input: "a" input_dim: [1, 2, 3, 4] input_shape { dim: 1 }', "input 'a' gives both input_shape and input_dim"),
        ('input: "a" input_dim: [1, 2, 3, 4, 1, 2, 3, 4]', "input 'a' gives 2 shapes; give one for each input"),
        ('input: ["a", "b"] input_shape { dim: 1 }', "2 inputs 'a', 'b' gives 1 shape; give one for each input"),
        ('input: ["a", "b"] input_dim: [1, 2, 3, 4]', "2 inputs 'a', 'b' gives 1 shape; give one for each input"),
        ('input: ["a", "b", "c"] input_shape { } input_shape { }', "3 inputs 'a', 'b', 'c' gives 2 shapes"),
    ],
)
def test_headers_that_contradict_themselves(tmp_path: Path, header: str, words: str) -> None:
    with pytest.raises(ReadError, match=words) as caught:
        net_of(tmp_path, header)
    assert str(tmp_path / "net.prototxt") in str(caught.value)


# ---- blobs -----------------------------------------------------------------------------------------------------------


def test_shapes_of_blobs() -> None:
    data = np.arange(6, dtype="<f4")
    one, old, scalar, empty = blobs_of(
        {"shape": {"dim": [2, 3]}, "data": data},
        {"num": 1, "channels": 2, "height": 3, "width": 1, "data": data},
        {"shape": {}, "data": data[:1]},
        {"shape": {"dim": [0, 5]}},
    )
    assert (one.shape, one.legacy, one.data.base is data or one.data is data) == ((2, 3), False, True)
    assert (old.shape, old.legacy) == ((1, 2, 3, 1), True)
    assert (scalar.shape, scalar.data.tolist()) == ((), [0])
    assert (empty.shape, empty.data.size) == ((0, 5), 0)


def test_legacy_dimensions_count_before_a_shape_as_in_caffe() -> None:
    sides = {"num": 1, "channels": 1, "height": 1, "width": 2}
    (blob,) = blobs_of({**sides, "shape": {"dim": [2]}, "data": np.zeros(2, "<f4")})
    assert (blob.shape, blob.legacy, blob.fits((2,))) == ((1, 1, 1, 2), True, True)


def test_blobs_in_text_are_arrays(tmp_path: Path) -> None:
    source = "layer { blobs { shape { dim: 2 } data: [1, 0.1] } blobs { shape { dim: 1 } double_data: 0.1 } }"
    single, double = net_of(tmp_path, source).layers[0].blobs
    np.testing.assert_array_equal(single.data, np.array([1, 0.1], "<f4"))
    assert (single.data.dtype, double.data.dtype, double.data[0]) == (np.dtype("<f4"), np.dtype("<f8"), 0.1)


def test_every_bad_blob_is_listed() -> None:
    data = np.zeros(5, "<f4")
    with pytest.raises(ReadError) as caught:
        blobs_of(
            {"shape": {"dim": [2, 3]}, "data": data},
            {"shape": {"dim": [-5]}, "data": data},
            {"shape": {"dim": [1] * 33}, "data": data[:1]},
            {"shape": {"dim": [10**6, 10**6]}, "data": data},
            {"data": data},
            {"num": 5, "data": data},
        )
    said = str(caught.value).splitlines()
    assert said == [
        "net: 6 problems",
        "  - layer 'conv', blob 0: shape 2x3 is 6 values, the file holds 5",
        "  - layer 'conv', blob 1: impossible shape -5",
        "  - layer 'conv', blob 2: a shape of 33 dimensions; Caffe has at most 32",
        "  - layer 'conv', blob 3: shape 1000000x1000000 is 1000000000000 values; Caffe has at most 2147483647, "
        "here are 5",
        "  - layer 'conv', blob 4: shape scalar is 1 values, the file holds 5",
        "  - layer 'conv', blob 5: shape 5x0x0x0 is 0 values, the file holds 5",
        "The file is damaged, or was not written by Caffe.",
    ]


@pytest.mark.parametrize(
    ("have", "legacy", "want", "fits"),
    [
        ((2, 3), False, (2, 3), True),
        ((2, 3), False, (3, 2), False),
        ((1, 1, 2, 3), True, (2, 3), True),
        ((1, 1, 2, 3), False, (2, 3), False),
        ((1, 2, 1, 3), True, (2, 3), False),
        ((1, 1, 1, 4), True, (4,), True),
        ((1, 1, 1, 1), True, (), True),
        ((1, 1, 1, 4), True, (1, 1, 1, 1, 4), False),
        ((4, 1, 1, 1), True, (4, 1, 1, 1), True),
    ],
)
def test_which_blobs_fit(have: tuple[int, ...], legacy: bool, want: tuple[int, ...], fits: bool) -> None:
    assert Blob(have, np.zeros(0, "<f4"), legacy).fits(want) is fits
