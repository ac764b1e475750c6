from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

from senet_convert.errors import ReadError
from senet_convert.proto import LayerDef, NetDef, ParamSpec, caffe_pb2, read_caffemodel, read_prototxt, v0, v1
from senet_convert.proto.tree import fields
from tests.paths import GOLDEN

from .reference import message_class


def text(folder: Path, source: str) -> NetDef:
    path = folder / "net.prototxt"
    path.write_text(source, encoding="utf-8")
    return read_prototxt(path)


def binary(folder: Path, source: str) -> NetDef:
    path = folder / "net.caffemodel"
    path.write_bytes(text_format.Parse(source, message_class()()).SerializeToString())
    return read_caffemodel(path)


def both(folder: Path, source: str) -> NetDef:
    """The network as read from text, after a look that the binary form gives the same."""
    one, other = text(folder, source), binary(folder, source)
    assert [summary(layer) for layer in one.layers] == [summary(layer) for layer in other.layers]
    return one


def summary(layer: LayerDef) -> Any:
    blobs = [(blob.shape, blob.data.tolist()) for blob in layer.blobs]
    faults = [fault.text for fault in layer.faults]
    return layer.name, layer.type, layer.bottoms, layer.tops, layer.params, blobs, layer.specs, faults


def fails(folder: Path, source: str) -> str:
    with pytest.raises(ReadError) as caught:
        text(folder, source)
    return str(caught.value)


def descriptor(name: str) -> Any:
    return caffe_pb2.DESCRIPTOR.message_types_by_name[name]


# ---- the tables ------------------------------------------------------------------------------------------------------


def test_the_tables_name_what_the_format_has() -> None:
    types = {value.name for value in descriptor("V1LayerParameter").enum_types_by_name["LayerType"].values}
    assert set(v1.TYPES) == types - {"NONE"}
    assert set(v0.TYPES.values()) <= types
    layer, old = fields(descriptor("LayerParameter")), fields(descriptor("V0LayerParameter"))
    for name, (new, kinds) in v0.FIELDS.items():
        for kind in kinds:
            message = layer[v0.MESSAGES[kind]].message
            assert message is not None
            field = fields(message)[new]
            assert (field.kind.lstrip("u"), field.message) == (old[name].kind.lstrip("u"), old[name].message), name
    assert set(v0.TRANSFORM.values()) <= set(fields(descriptor("TransformationParameter")))


def test_every_v0_field_is_upgraded_kept_or_has_no_meaning() -> None:
    rest = set(fields(descriptor("V0LayerParameter"))) - set(v0.FIELDS) - set(v0.TRANSFORM) - set(v0.KEPT)
    assert rest == {"type", "new_num", "new_channels"}


def test_v1_parameters_stand_under_the_same_names_today() -> None:
    today = fields(descriptor("LayerParameter"))
    for name, field in fields(descriptor("V1LayerParameter")).items():
        if name not in v1.OLD and name != "layer":
            assert (today[name].kind, today[name].repeated) == (field.kind, field.repeated), name


# ---- V1 --------------------------------------------------------------------------------------------------------------


def test_a_v1_layer_in_full(tmp_path: Path) -> None:
    net = both(
        tmp_path,
        """name: "n" input: "data" input_dim: [1, 1, 1, 2]
        layers {
          name: "ip" type: INNER_PRODUCT bottom: "data" top: "ip" blobs_lr: 1 blobs_lr: 2 weight_decay: 1
          param: "w" param: "b" blob_share_mode: PERMISSIVE loss_weight: 1 include { phase: TEST }
          inner_product_param { num_output: 1 bias_term: false }
          blobs { num: 1 channels: 1 height: 1 width: 2 data: [3, 4] }
        }""".replace("data: [3, 4]", "data: 3 data: 4"),
    )
    (layer,) = net.layers
    assert net.inputs == (("data", (1, 1, 1, 2)),)
    assert (layer.name, layer.type, layer.bottoms, layer.tops) == ("ip", "InnerProduct", ("data",), ("ip",))
    assert layer.params == {"inner_product_param": {"num_output": 1, "bias_term": False}}
    assert layer.specs == (ParamSpec("w", "PERMISSIVE"), ParamSpec("b"))
    assert layer.include[0].phase == "TEST"
    assert layer.blobs[0].fits((1, 2)) and layer.blobs[0].data.tolist() == [3, 4]


@pytest.mark.parametrize(("old", "new"), v1.TYPES.items())
def test_v1_types(tmp_path: Path, old: str, new: str) -> None:
    assert both(tmp_path, f'layers {{ name: "x" type: {old} }}').layers[0].type == new


@pytest.mark.parametrize(
    ("kind", "param"),
    [("DATA", "data_param"), ("IMAGE_DATA", "image_data_param"), ("WINDOW_DATA", "window_data_param")],
)
def test_the_transformation_leaves_the_data_parameters(tmp_path: Path, kind: str, param: str) -> None:
    source = (
        f'layers {{ type: {kind} {param} {{ source: "s" batch_size: 2 scale: 0.5 mean_file: "m" crop_size: 3 '
        "mirror: true } transform_param { scale: 9 mean_value: 7 } }"
    )
    assert both(tmp_path, source).layers[0].params == {
        param: {"source": "s", "batch_size": 2},
        "transform_param": {"scale": 0.5, "mean_file": "m", "crop_size": 3, "mirror": True, "mean_value": (7.0,)},
    }


def test_data_parameters_without_transformation_stay(tmp_path: Path) -> None:
    source = 'layers { type: DATA data_param { source: "s" } } layers { type: DATA }'
    assert [layer.params for layer in both(tmp_path, source).layers] == [{"data_param": {"source": "s"}}, {}]


def test_todays_data_layers_are_left_as_they_are(tmp_path: Path) -> None:
    (layer,) = both(tmp_path, 'layer { type: "Data" data_param { scale: 0.5 } }').layers
    assert layer.params == {"data_param": {"scale": 0.5}}


def test_faults_survive_the_upgrade(tmp_path: Path) -> None:
    source = """layers { name: "a" type: CONVOLUTIONS foo: 1
      convolution_param { bar: 2 } }
    layers { type: DATA data_param { scale: 1 baz: 3 } transform_param { qux: 4 } }"""
    first, second = text(tmp_path, source).layers
    assert [fault.text.split("'")[1] for fault in first.faults] == ["type", "foo", "bar"]
    assert (first.type, first.line) == ("", 1)
    assert sorted(fault.text.split("'")[1] for fault in second.faults) == ["baz", "qux"]


def test_both_forms_in_one_file_are_refused(tmp_path: Path) -> None:
    said = fails(tmp_path, 'layer { name: "a" type: "ReLU" }\nlayers { name: "b" type: RELU }')
    assert said.startswith(f"{tmp_path / 'net.prototxt'}:2: it has both 'layer'")
    with pytest.raises(ReadError, match=r"net\.caffemodel: it has both 'layer'"):
        binary(tmp_path, 'layer { name: "a" } layers { name: "b" }')


# ---- V0 --------------------------------------------------------------------------------------------------------------

V0_LAYERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "conv": (
        'type: "conv" num_output: 4 biasterm: false weight_filler { type: "gaussian" std: 1 } bias_filler { value: 2 } '
        "pad: 1 kernelsize: 3 group: 2 stride: 4",
        "Convolution",
        {
            "convolution_param": {
                "num_output": 4,
                "bias_term": False,
                "weight_filler": {"type": "gaussian", "std": 1.0},
                "bias_filler": {"value": 2.0},
                "pad": (1,),
                "kernel_size": (3,),
                "group": 2,
                "stride": (4,),
            }
        },
    ),
    "pool": (
        'type: "pool" pool: STOCHASTIC kernelsize: 3 stride: 2 pad: 1',
        "Pooling",
        {"pooling_param": {"pool": "STOCHASTIC", "kernel_size": 3, "stride": 2, "pad": 1}},
    ),
    "innerproduct": (
        'type: "innerproduct" num_output: 9 biasterm: true',
        "InnerProduct",
        {"inner_product_param": {"num_output": 9, "bias_term": True}},
    ),
    "lrn": (
        'type: "lrn" local_size: 3 alpha: 2 beta: 0.5 k: 4',
        "LRN",
        {"lrn_param": {"local_size": 3, "alpha": 2.0, "beta": 0.5, "k": 4.0}},
    ),
    "dropout": ('type: "dropout" dropout_ratio: 0.25', "Dropout", {"dropout_param": {"dropout_ratio": 0.25}}),
    "concat": ('type: "concat" concat_dim: 2', "Concat", {"concat_param": {"concat_dim": 2}}),
    "data": (
        'type: "data" source: "s" meanfile: "m" batchsize: 2 cropsize: 3 mirror: true scale: 0.5 rand_skip: 6',
        "Data",
        {
            "data_param": {"source": "s", "batch_size": 2, "rand_skip": 6},
            "transform_param": {"mean_file": "m", "crop_size": 3, "mirror": True, "scale": 0.5},
        },
    ),
    "images": (
        'type: "images" source: "s" batchsize: 2 shuffle_images: true rand_skip: 3 new_height: 4 new_width: 5',
        "ImageData",
        {
            "image_data_param": {
                "source": "s",
                "batch_size": 2,
                "shuffle": True,
                "rand_skip": 3,
                "new_height": 4,
                "new_width": 5,
            }
        },
    ),
    "window_data": (
        'type: "window_data" source: "s" batchsize: 2 det_fg_threshold: 0.5 det_bg_threshold: 0.25 det_fg_fraction: '
        '0.125 det_context_pad: 3 det_crop_mode: "square"',
        "WindowData",
        {
            "window_data_param": {
                "source": "s",
                "batch_size": 2,
                "fg_threshold": 0.5,
                "bg_threshold": 0.25,
                "fg_fraction": 0.125,
                "context_pad": 3,
                "crop_mode": "square",
            }
        },
    ),
    "hdf5_data": (
        'type: "hdf5_data" source: "s" batchsize: 2',
        "HDF5Data",
        {"hdf5_data_param": {"source": "s", "batch_size": 2}},
    ),
    "hdf5_output": (
        'type: "hdf5_output" hdf5_output_param { file_name: "f" }',
        "HDF5Output",
        {"hdf5_output_param": {"file_name": "f"}},
    ),
    "infogain_loss": (
        'type: "infogain_loss" source: "s"',
        "InfogainLoss",
        {"infogain_loss_param": {"source": "s"}},
    ),
    "relu": ('type: "relu" blobs_lr: 1 weight_decay: 2', "ReLU", {}),
}


@pytest.mark.parametrize(("inner", "kind", "params"), V0_LAYERS.values(), ids=V0_LAYERS)
def test_v0_layers(tmp_path: Path, inner: str, kind: str, params: dict[str, Any]) -> None:
    source = f'layers {{ layer {{ name: "x" {inner} }} bottom: "a" bottom: "b" top: "c" }}'
    (layer,) = both(tmp_path, source).layers
    assert (layer.name, layer.type, layer.bottoms, layer.tops) == ("x", kind, ("a", "b"), ("c",))
    assert layer.params == params
    assert layer.faults == ()


@pytest.mark.parametrize(("old", "new"), v0.TYPES.items())
def test_v0_types(tmp_path: Path, old: str, new: str) -> None:
    assert both(tmp_path, f'layers {{ layer {{ type: "{old}" }} }}').layers[0].type == v1.TYPES[new]


def test_v0_blobs_lie_in_the_inner_layer(tmp_path: Path) -> None:
    source = (
        'layers { layer { name: "c" type: "conv" blobs { num: 1 channels: 1 height: 1 width: 2 data: 1 data: 2 } } }'
    )
    (blob,) = both(tmp_path, source).layers[0].blobs
    assert blob.fits((2,))
    np.testing.assert_array_equal(blob.data, [1, 2])


def test_v0_fields_without_meaning_become_faults(tmp_path: Path) -> None:
    source = 'layers {\n layer { name: "r" type: "relu" kernelsize: 3\n foo: 1 new_num: 2 } bar: 4 top: "r" }'
    (layer,) = text(tmp_path, source).layers
    assert [(fault.line, fault.text) for fault in layer.faults] == [
        (3, "unknown field 'bar' of V1LayerParameter"),
        (3, "unknown field 'foo' of V0LayerParameter"),
        (2, "field 'kernelsize' has no meaning for layers of type 'relu'"),
        (2, "field 'new_num' has no meaning for layers of type 'relu'"),
    ]


def test_types_that_a_form_does_not_know_are_one_fault(tmp_path: Path) -> None:
    """Caffe refuses them: today's names and those of forks too."""
    (old,) = text(tmp_path, 'layers { layer { type: "warp" num_output: 3 } }').layers
    assert old.type == ""
    assert [fault.text.split("; it has ")[0] for fault in old.faults] == ["field 'type' has no value 'warp'"]
    for kind in ("WARP", "ReLU", "99"):
        (layer,) = text(tmp_path, f"layers {{ type: {kind} }}").layers
        assert layer.type == ""
        assert [fault.text.split("; it has ")[0] for fault in layer.faults] == [f"field 'type' has no value '{kind}'"]


@pytest.mark.parametrize("layers", ["layers { }", "layers { type: NONE }", "layers { layer { } }"])
def test_layers_without_a_type_have_none(tmp_path: Path, layers: str) -> None:
    (layer,) = both(tmp_path, layers).layers
    assert (layer.type, layer.faults) == ("", ())


def v0_layer(name: str, kind: str, bottom: str, top: str, extra: str = "") -> str:
    return f'layers {{ layer {{ name: "{name}" type: "{kind}" {extra} }} bottom: "{bottom}" top: "{top}" }}\n'


def test_padding_is_folded_into_every_reader(tmp_path: Path) -> None:
    net = both(
        tmp_path,
        v0_layer("pad", "padding", "data", "padded", "pad: 2")
        + v0_layer("conv", "conv", "padded", "conv", "pad: 7 kernelsize: 5")
        + v0_layer("pool", "pool", "padded", "pool", "kernelsize: 3")
        + v0_layer("relu", "relu", "conv", "conv")
        + v0_layer("nopad", "padding", "conv", "nopad")
        + v0_layer("conv2", "conv", "nopad", "conv2", "pad: 1"),
    )
    found = [(layer.name, layer.bottoms, dict(layer.params)) for layer in net.layers]
    assert found == [
        ("conv", ("data",), {"convolution_param": {"pad": (2,), "kernel_size": (5,)}}),
        ("pool", ("data",), {"pooling_param": {"kernel_size": 3, "pad": 2}}),
        ("relu", ("conv",), {}),
        ("conv2", ("conv",), {"convolution_param": {"pad": (0,)}}),
    ]


def test_a_blob_that_is_written_again_is_padded_no_more(tmp_path: Path) -> None:
    net = text(
        tmp_path,
        v0_layer("pad", "padding", "data", "x", "pad: 2")
        + v0_layer("conv", "conv", "x", "x")
        + v0_layer("relu", "relu", "x", "x"),
    )
    assert [(layer.name, layer.bottoms) for layer in net.layers] == [("conv", ("data",)), ("relu", ("x",))]


@pytest.mark.parametrize(
    "reader",
    [
        v0_layer("bad", "relu", "padded", "y"),
        v0_layer("bad", "padding", "padded", "y"),
        'layers { layer { name: "bad" type: "conv" } bottom: "padded" bottom: "data" top: "y" }',
        'layers { name: "bad" type: RELU bottom: "padded" top: "y" }',
    ],
)
def test_padding_that_caffe_cannot_fold_is_refused(tmp_path: Path, reader: str) -> None:
    said = fails(tmp_path, v0_layer("pad", "padding", "data", "padded") + reader)
    assert said.startswith(f"{tmp_path / 'net.prototxt'}:2: layer 'bad' of type '")
    assert "reads the padding layer 'pad'" in said


# ---- forms of one network pair by layer names ------------------------------------------------------------------------


def test_the_three_forms_of_a_network_are_the_same(tmp_path: Path) -> None:
    blobs, param = 'bottom: "x" top: "c"', "convolution_param { num_output: 2 kernel_size: 1 }"
    forms = [
        f'layers {{ layer {{ name: "c" type: "conv" num_output: 2 kernelsize: 1 }} {blobs} }}',
        f'layers {{ name: "c" type: CONVOLUTION {param} {blobs} }}',
        f'layer {{ name: "c" type: "Convolution" {param} {blobs} }}',
    ]
    found = [summary(both(tmp_path, form).layers[0]) for form in forms]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("case", ["legacy_v0", "legacy_v1"])
def test_reference_networks(case: str) -> None:
    definition = read_prototxt(GOLDEN / case / "deploy.prototxt")
    weights = read_caffemodel(GOLDEN / case / "net.caffemodel")
    assert not [fault for net in (definition, weights) for layer in net.layers for fault in layer.faults]
    learned = [layer.name for layer in definition.layers if layer.type in ("Convolution", "InnerProduct")]
    assert [layer.name for layer in weights.layers if layer.blobs] == learned
    assert [layer.type for layer in definition.layers][:3] == [
        "Convolution",
        "ReLU",
        "Pooling" if "0" in case else "LRN",
    ]
