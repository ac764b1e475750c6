from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from senet_convert.errors import ConvertError
from senet_convert.proto import Blob, LayerDef, NetDef, ParamSpec, Rule, State, read_caffemodel, read_prototxt
from senet_convert.proto.tree import FORK_NUMBERS
from senet_convert.proto.write import to_text, write_caffemodel, write_prototxt
from tests.paths import GOLDEN

from .reference import message_class
from .test_text import NETWORKS

LEGACY = ("legacy_v0", "legacy_v1")
SAVED = sorted(path.parent.name for path in GOLDEN.glob("*/net.caffemodel") if path.parent.name not in LEGACY)
IGNORED = ("source", "line", "comments", "faults")


def content(value: Any) -> Any:
    """What a network says, in values that compare: where it stood and what was unknown in it left out."""
    if is_dataclass(value):
        return {f.name: content(getattr(value, f.name)) for f in fields(value) if f.name not in IGNORED}
    if isinstance(value, Mapping):
        return {key: content(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.tobytes())
    if isinstance(value, float):
        return value.hex()
    return [content(item) for item in value] if isinstance(value, tuple | list) else value


def in_text(folder: Path, net: NetDef) -> NetDef:
    write_prototxt(net, folder / "again.prototxt")
    return read_prototxt(folder / "again.prototxt")


def in_binary(folder: Path, net: NetDef) -> NetDef:
    write_caffemodel(net, folder / "again.caffemodel")
    return read_caffemodel(folder / "again.caffemodel")


def without_blobs(net: NetDef) -> NetDef:
    return replace(net, layers=tuple(replace(layer, blobs=()) for layer in net.layers))


def without_forks(message: Any) -> None:
    """Clear the fields that have no number in binaries."""
    for field, value in message.ListFields():
        if field.number >= FORK_NUMBERS:
            message.ClearField(field.name)
        elif field.message_type is not None:
            for item in value if field.is_repeated else (value,):
                without_forks(item)


def definition(folder: Path, source: str) -> NetDef:
    (folder / "net.prototxt").write_text(source, encoding="utf-8")
    return read_prototxt(folder / "net.prototxt")


# ---- binary ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SAVED)
def test_what_caffe_saved_is_written_byte_for_byte(tmp_path: Path, case: str) -> None:
    path = GOLDEN / case / "net.caffemodel"
    write_caffemodel(read_caffemodel(path), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("case", LEGACY)
def test_old_forms_are_written_in_todays(tmp_path: Path, case: str) -> None:
    net = read_caffemodel(GOLDEN / case / "net.caffemodel")
    assert content(in_binary(tmp_path, net)) == content(net)
    message = message_class().FromString((tmp_path / "again.caffemodel").read_bytes())
    assert not message.layers
    assert len(message.layer) == len(net.layers)
    assert {blob.legacy for layer in net.layers for blob in layer.blobs} == {True}


def test_blobs_of_every_kind(tmp_path: Path) -> None:
    values = np.array([1.5, -0.0, np.nan, np.inf, 1e-45, 3e38], "<f4")
    blobs = (
        Blob((2, 3), values),
        Blob((6,), values.astype("<f8") + 0.1),
        Blob((1, 1, 2, 3), values, legacy=True),
        Blob((), values[:1]),
        Blob((0, 4), values[:0]),
        Blob((3,), values[::2]),
        Blob((300,), np.broadcast_to(values[0], (300,))),
        Blob((2,), values[:2].astype(">f4")),
    )
    net = NetDef("n", "", (LayerDef("l", "Convolution", blobs=blobs, params={"convolution_param": {}}),))
    again = in_binary(tmp_path, net).layers[0]
    for blob, found in zip(blobs, again.blobs, strict=True):
        assert (found.shape, found.legacy) == (blob.shape, blob.legacy)
        assert found.data.tobytes() == blob.data.astype(found.data.dtype).tobytes()
        assert found.data.dtype.itemsize == blob.data.dtype.itemsize
    message = message_class().FromString((tmp_path / "again.caffemodel").read_bytes())
    assert message.SerializeToString(deterministic=True) == (tmp_path / "again.caffemodel").read_bytes()
    assert [blob.HasField("shape") for blob in message.layer[0].blobs] == [1, 1, 0, 0, 1, 1, 1, 1]
    assert len(message.layer[0].blobs[1].double_data) == 6


def test_two_gib_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    zeros = np.broadcast_to(np.zeros((), "<f4"), (2**29,))
    net = NetDef("n", "", (LayerDef("l", "InnerProduct", blobs=(Blob((2**29,), zeros),)),))
    with pytest.raises(ConvertError, match=r"takes 21474836\d\d bytes, of which its weights are 2147483648"):
        write_caffemodel(net, tmp_path / "big")
    assert not (tmp_path / "big").exists()


def test_payloads_are_not_copied(tmp_path: Path) -> None:
    blobs = tuple(Blob((2**21,), np.ones(2**21, "<f4")) for _ in range(4))
    net = NetDef("n", "", (LayerDef("l", "InnerProduct", blobs=blobs),))
    tracemalloc.start()
    write_caffemodel(net, tmp_path / "net")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "net").stat().st_size > 4 * 2**23
    assert peak < 2**20


# ---- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*/deploy.prototxt")), ids=lambda path: path.parent.name)
def test_prototxts_say_the_same_when_written_again(tmp_path: Path, path: Path) -> None:
    net = read_prototxt(path)
    again = in_text(tmp_path, net)
    assert content(again) == content(without_blobs(net))
    assert again.comments == tuple(comment for comment in net.comments if comment)
    assert to_text(again) == to_text(net)


def test_fields_stand_in_caffes_order_and_spelling(tmp_path: Path) -> None:
    net = definition(
        tmp_path,
        """# mean_value: 104, 117, 123
        layer { power_param { shift: 1e-5 scale: 0.1 power: 2 } type: "Power" top: "y" name: "p" bottom: "x"
                include { stage: "s" phase: TEST } param { lr_mult: 0 name: "w" } phase: TEST loss_weight: 1e10 }
        input_shape { dim: [1, 2] } name: "net" input: "x" state { level: 2 } force_backward: true""",
    )
    assert to_text(net) == (
        "# mean_value: 104, 117, 123\n"
        'name: "net"\ninput: "x"\nforce_backward: true\nstate {\n  level: 2\n}\n'
        "input_shape {\n  dim: 1\n  dim: 2\n}\n"
        'layer {\n  name: "p"\n  type: "Power"\n  bottom: "x"\n  top: "y"\n  loss_weight: 10000000000\n'
        '  param {\n    name: "w"\n    lr_mult: 0\n  }\n'
        '  include {\n    phase: TEST\n    stage: "s"\n  }\n  phase: TEST\n'
        "  power_param {\n    power: 2\n    scale: 0.1\n    shift: 1e-05\n  }\n}\n"
    )


@given(value=st.floats(width=32))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_floats_come_back_to_the_bit(tmp_path: Path, value: float) -> None:
    net = NetDef("", "", (LayerDef("p", "Power", params={"power_param": {"shift": value}}),))
    again = in_text(tmp_path, net).layers[0].params["power_param"]["shift"]
    assert again.hex() == value.hex()


@given(message=NETWORKS)
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_network_comes_back_from_both_forms(tmp_path: Path, message: Any) -> None:
    for field in ("layers", "input", "input_dim", "input_shape"):
        message.ClearField(field)
    for layer in message.layer:
        layer.ClearField("blobs")
        for field in ("name", "type", "bottom", "top"):
            layer.ClearField(field)
    message.layer.add(name="last", type="ReLU")
    net = definition(tmp_path, text_format.MessageToString(message))
    assert content(in_text(tmp_path, net)) == content(net)
    without_forks(message)
    net = definition(tmp_path, text_format.MessageToString(message))
    assert content(in_binary(tmp_path, net)) == content(net)


def test_odd_names_come_back(tmp_path: Path) -> None:
    names = ("a\"b'c\\", "tab\there", "new\nline", "ä\U0001f600", "\\xff", ": 1.0")
    net = NetDef("n\n  power: 2.0\n", "", tuple(LayerDef(name, name) for name in names))
    for again in (in_text(tmp_path, net), in_binary(tmp_path, net)):
        assert again.name == net.name
        assert tuple(layer.name for layer in again.layers) == names


def test_values_made_in_python_are_written(tmp_path: Path) -> None:
    layer = LayerDef(
        "c",
        "Convolution",
        ("x",),
        ("y",),
        specs=(ParamSpec("w"), ParamSpec("", "PERMISSIVE")),
        include=(Rule("TRAIN", 1, 2, ("a",), ("b",)),),
        exclude=(Rule(),),
    )
    net = NetDef("n", "", (layer,), (("x", (1, 2)), ("z", (3,))), State("TEST", 3, ("s",)))
    again = in_binary(tmp_path, net)
    assert (again.inputs, again.state) == (net.inputs, net.state)
    assert (again.layers[0].specs, again.layers[0].include) == (layer.specs, layer.include)
    assert again.layers[0].exclude == (Rule(),)
    assert content(in_text(tmp_path, net)) == content(again)
    assert in_text(tmp_path, NetDef("", "", (LayerDef("a", "ReLU"),), (("x", None),))).inputs == (("x", None),)


def test_layers_of_forks_are_whole_in_text_and_only_name_and_blobs_in_binary(tmp_path: Path) -> None:
    source = """layer { name: "a" type: "Pooling" bottom: "x" top: "a" pooling_param { stride: 2 ceil_mode: false } }
    layer { name: "b" type: "Normalize" bottom: "a" top: "b" norm_param { scale_filler { value: 20 } } }
    layer { name: "c" type: "Pooling" bottom: "b" top: "c" pooling_param { stride: 2 } }"""
    net = definition(tmp_path, source)
    assert content(in_text(tmp_path, net)) == content(net)
    again = in_binary(tmp_path, net)
    assert [(layer.name, layer.type, layer.params) for layer in again.layers] == [
        ("a", "", {}),
        ("b", "", {}),
        ("c", "Pooling", {"pooling_param": {"stride": 2}}),
    ]
    assert not any(layer.faults for layer in again.layers)


def test_what_the_format_lacks_is_left_out(tmp_path: Path) -> None:
    net = definition(tmp_path, 'layer { name: "p" type: "Pooling" fork: 1 pooling_param { pool: LARGEST stride: 2 } }')
    assert len(net.layers[0].faults) == 2
    assert in_text(tmp_path, net).layers[0].params == {"pooling_param": {"stride": 2}}
