from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner

from senet_convert.cli import main
from senet_convert.converter.graph.build import build
from senet_convert.converter.graph.draft import Options
from senet_convert.converter.graph.fields import OTHERWISE, WITHOUT_EFFECT, WITHOUT_EFFECT_AS
from senet_convert.converter.graph.graph import Graph
from senet_convert.converter.layers.activation import ReLU
from senet_convert.errors import GraphError
from senet_convert.proto import caffe_pb2, read_caffemodel
from senet_convert.proto.tree import FORK_NUMBERS, is_bvlc
from tests.nets import INPUT, definition, parse

TYPES = {
    "batch_norm_param": "BatchNorm",
    "convolution_param": "Convolution",
    "detection_output_param": "DetectionOutput",
    "dropout_param": "Dropout",
    "parameter_param": "Parameter",
}
NEEDED = {
    "convolution_param": "num_output: 1 kernel_size: 1",
    "detection_output_param": "num_classes: 2",
    "parameter_param": "shape { dim: 1 }",
}

BOTTOMS: dict[str, dict[str, tuple[int, ...]]] = {
    "parameter_param": {},
    "detection_output_param": {"loc": (2, 12), "conf": (2, 6), "prior": (1, 2, 12)},
}


def graph(folder: Path, layer: str, *ignore: str) -> Graph:
    return build(definition(folder, INPUT + layer), None, Options(ignore_fields=ignore))


def refusal(folder: Path, layer: str, *ignore: str) -> str:
    with pytest.raises(GraphError) as caught:
        graph(folder, layer, *ignore)
    return str(caught.value)


def relu(params: str) -> str:
    return f'layer {{ name: "r" type: "ReLU" bottom: "data" top: "r" {params} }}\n'


def layer_with(field: str, value: str) -> str:
    """A layer that has the field; header fields stand alone."""
    message, _, name = field.partition(".")
    if not message.endswith("param"):
        return f"{message}: {value}\n" + relu("")
    if message == "param":
        return f'layer {{ name: "r" type: "PReLU" bottom: "data" top: "r" param {{ something_of_a_fork: {value} }} }}'
    if not name:
        return relu(f"{message} {{ something_of_a_fork: {value} }}")
    inputs = BOTTOMS.get(message, {"data": ()})
    shaped = {blob: " ".join(f"dim: {dim}" for dim in shape) for blob, shape in inputs.items() if shape}
    text = "".join(
        f'layer {{ name: "{blob}" type: "Input" top: "{blob}" input_param {{ shape {{ {dims} }} }} }}\n'
        for blob, dims in shaped.items()
    )
    bottoms = " ".join(f'bottom: "{blob}"' for blob in inputs)
    params = f"{message} {{ {NEEDED.get(message, '')} {name}: {value} }}"
    return relu("") + text + f'layer {{ name: "x" type: "{TYPES[message]}" {bottoms} top: "x" {params} }}'


@pytest.mark.parametrize("field", WITHOUT_EFFECT)
def test_fields_without_effect_are_passed_over(tmp_path: Path, field: str) -> None:
    assert graph(tmp_path, layer_with(field, "3")).warnings == ()


@pytest.mark.parametrize(("field", "value"), WITHOUT_EFFECT_AS.items())
def test_fields_without_effect_with_one_value_only(tmp_path: Path, field: str, value: bool) -> None:
    assert graph(tmp_path, layer_with(field, str(value).lower())).warnings == ()
    other = str(not value).lower()
    assert f"(line 3): {field}: {other}: {OTHERWISE[field]}" in refusal(tmp_path, layer_with(field, other))


@pytest.mark.parametrize("name", ["pad_type", "pooling_param.pad_type"])
def test_a_person_can_pass_over_a_field(tmp_path: Path, name: str) -> None:
    pool = 'layer { name: "p" type: "Pooling" bottom: "data" top: "p"\npooling_param { kernel_size: 2 pad_type: 1 } }'
    assert "layer 'p' (line 2): line 3: unknown field 'pad_type' of PoolingParameter" in refusal(tmp_path, pool)
    (warning,) = graph(tmp_path, pool, name).warnings
    assert warning == (
        "layer 'p' (line 2): the field pooling_param.pad_type is passed over (--ignore-field), whatever it does"
    )


def test_whole_messages_and_fields_of_the_header_can_be_passed_over(tmp_path: Path) -> None:
    text = "quantize: 8\n" + relu("quantization_param { bits: 8 deep { er: 1 } }")
    said = refusal(tmp_path, text)
    assert "line 2: unknown field 'quantize' of NetParameter" in said
    assert "unknown field 'quantization_param' of LayerParameter" in said
    found = graph(tmp_path, text, "quantize", "quantization_param").warnings
    assert [warning.split(" is passed over")[0] for warning in found] == [
        "the header: the field quantize",
        "layer 'r' (line 3): the field quantization_param",
    ]


def test_a_field_that_a_type_does_not_have_can_be_passed_over(tmp_path: Path) -> None:
    """Within a message that only the type of a fork brings."""

    @dataclass(frozen=True)
    class Sharp(ReLU):
        """ReLU with a message of its own."""

        message: ClassVar[str] = "sharp_param"

    text = 'layer { name: "s" type: "Sharp" bottom: "data" top: "s" sharp_param { negative_slope: 0.5 mode: FAST } }'
    net = definition(tmp_path, INPUT + text)
    with pytest.raises(GraphError, match="sharp_param: mode is not supported for layers of type Sharp"):
        build(net, None, Options(layers={"Sharp": Sharp}))
    found = build(net, None, Options(layers={"Sharp": Sharp}, ignore_fields=("mode",)))
    assert found.nodes[0].layer == Sharp(negative_slope=0.5)
    assert any("the field sharp_param.mode is passed over" in warning for warning in found.warnings)


def test_values_of_enums_cannot_be_passed_over(tmp_path: Path) -> None:
    pool = 'layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { kernel_size: 2 pool: NEW } }'
    assert "field 'pool' has no value 'NEW'" in refusal(tmp_path, pool, "pool")


def test_a_name_that_does_not_occur_is_told(tmp_path: Path) -> None:
    (warning,) = graph(tmp_path, relu(""), "pad_typ").warnings
    assert warning == "--ignore-field pad_typ: no layer that counts has a field of that name to pass over"


def test_the_option_of_both_commands(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(INPUT + relu("fork_param { a: 1 }"))
    refused = CliRunner().invoke(main, ["inspect", str(path)])
    assert refused.exit_code == 1
    done = CliRunner().invoke(main, ["inspect", str(path), "--ignore-field", "fork_param"])
    assert done.exit_code == 0, done.output
    assert "warning: layer 'r' (line 2): the field fork_param is passed over" in done.stderr
    weights = tmp_path / "net.caffemodel"
    weights.write_bytes(parse(INPUT + relu("")).SerializeToString())
    done = CliRunner().invoke(main, ["convert", str(weights), "--ignore-field", "fork_param"])
    assert done.exit_code == 0, done.output
    assert "the field fork_param is passed over" in (tmp_path / "net" / "report.json").read_text()


@pytest.mark.parametrize("rules", ["include { phase: TRAIN %s }", "exclude { %s }"])
@pytest.mark.parametrize("fault", ["phase: TESTING", "fase: TEST"])
def test_faults_of_rules_count_whether_or_not_the_layer_runs(tmp_path: Path, rules: str, fault: str) -> None:
    """A mistyped rule may be what takes a layer out."""
    if "TESTING" in fault:
        rules = rules.replace("phase: TRAIN", "")
    for kind in ("ReLU", "Accuracy", "Data"):
        other = f'layer {{ name: "x" type: "{kind}" bottom: "data" top: "x"\n {rules % fault} }}\n'
        said = refusal(tmp_path, relu("") + other)
        assert f"layer 'x' (line 3): line 4: {'field' if 'TESTING' in fault else 'unknown field'} '" in said
    if "fase" in fault:
        assert any("is passed over" in warning for warning in graph(tmp_path, relu("") + other, "fase").warnings)


def test_faults_of_rules_in_a_binary_count_too(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    net = parse(INPUT + relu("") + relu("include { min_level: 1 }").replace('"r"', '"s"'))
    rule = net.layer[2].include[0]
    rule.MergeFromString(b"\xf8\x01\x07")  # field 31, of a fork
    path.write_bytes(net.SerializeToString())
    with pytest.raises(GraphError, match=r"layer 's': unknown field number 31 of NetStateRule.*\n.*give the network's"):
        build(read_caffemodel(path), None)


@pytest.mark.parametrize(
    "text",
    [
        'layer { name: "x" bottom: "data" top: "x" }',
        'layer { name: "x" type: "" bottom: "data" top: "x" }',
    ],
)
def test_a_layer_without_type_is_told_so(tmp_path: Path, text: str) -> None:
    with pytest.raises(GraphError) as caught:
        graph(tmp_path, text)
    assert str(caught.value) == (
        f"{tmp_path / 'net.prototxt'}: layer 'x' (line 2): it has no type; every layer needs one"
    )


@pytest.mark.parametrize("kind", ["FOO", "ReLU"])
def test_a_type_that_v1_lacks_is_one_problem(tmp_path: Path, kind: str) -> None:
    header = 'input: "data" input_shape { dim: 1 }\n'
    with pytest.raises(GraphError) as caught:
        build(definition(tmp_path, f'{header}layers {{ name: "x" bottom: "data" top: "x" type: {kind} }}'), None)
    assert f"net.prototxt: layer 'x' (line 2): field 'type' has no value '{kind}'; it has" in str(caught.value)


@pytest.mark.parametrize(("param", "name"), [("eps: nan", "eps"), ("eps: 0.1", "")])
def test_parameters_that_are_nan_are_named(tmp_path: Path, param: str, name: str) -> None:
    text = f'layer {{ name: "b" type: "BatchNorm" bottom: "data" top: "b" batch_norm_param {{ {param} }} }}'
    warnings = graph(tmp_path, text).warnings
    assert warnings == ((f"layer 'b' (line 2): batch_norm_param.{name} is NaN; is that meant?",) if name else ())


NORM = 'layer { name: "n" type: "%s" bottom: "data" top: "n" %s }'
BY_BATCH = "with which Caffe normalises by the statistics of each batch, whatever the network's phase"


@pytest.mark.parametrize(
    ("kind", "params", "words"),
    [
        ("BatchNorm", "phase: TRAIN", BY_BATCH),
        ("CuDNNBatchNorm", "phase: TRAIN", BY_BATCH),
        ("BN", "phase: TRAIN", BY_BATCH),
        ("Dropout", "phase: TRAIN", "with which Caffe drops values at random"),
        ("BatchNorm", "phase: TEST", ""),
        ("BatchNorm", "phase: TRAIN batch_norm_param { use_global_stats: true }", ""),
        ("BN", "phase: TRAIN bn_param { bn_mode: INFERENCE }", ""),
        ("BN", "phase: TRAIN bn_param { frozen: true }", ""),
        ("ReLU", "phase: TRAIN", ""),
    ],
)
def test_a_layers_own_phase_is_named_where_it_counts(tmp_path: Path, kind: str, params: str, words: str) -> None:
    text = relu("") + NORM % (kind, params)
    found = [warning for warning in graph(tmp_path, text).warnings if "phase" in warning]
    assert len(found) == bool(words)
    assert all(warning.startswith(f"layer 'n' (line 3): its phase: TRAIN is passed over, {words}") for warning in found)


def test_the_phase_in_a_caffemodel_is_the_nets_that_saved_it(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(parse(INPUT + NORM % ("BatchNorm", "phase: TRAIN")).SerializeToString())
    assert build(read_caffemodel(path), None).warnings == ()


def test_one_fault_of_many_layers_is_told_in_one_line(tmp_path: Path) -> None:
    text, below = "", "data"
    for i in range(12):
        text += f'layer {{ name: "d{i}" type: "Dropout" bottom: "{below}" top: "d{i}"\n'
        text += " dropout_param { sample_weights_test: true } }\n"
        below = f"d{i}"
    said = refusal(tmp_path, text)
    assert said.count("values are dropped at inference too") == 1
    assert "'d0' (line 2): line 3, 'd1' (line 4): line 5," in said
    assert "(12 layers: " in said


def test_a_coefficient_that_is_nan_is_named(tmp_path: Path) -> None:
    text = (
        'layer { name: "e" type: "Eltwise" bottom: "data" bottom: "data" top: "e"\neltwise_param { coeff: [1, nan] } }'
    )
    (warning,) = graph(tmp_path, text).warnings
    assert "eltwise_param.coeff is NaN" in warning


def test_round_mode_of_a_binary_may_be_a_forks_ceil_mode(tmp_path: Path) -> None:
    text = (
        'layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { kernel_size: 2 round_mode: FLOOR } }'
    )
    path = tmp_path / "net.caffemodel"
    path.write_bytes(parse(INPUT + text).SerializeToString())
    (warning,) = build(read_caffemodel(path), None).warnings
    assert "has the number that some forks use for ceil_mode" in warning
    assert graph(tmp_path, text).warnings == ()


def test_fields_of_forks_have_numbers_that_binaries_do_not() -> None:
    """BVLC's go up to 148 for layers; forks' are known to go beyond 1000, and protobuf keeps 19000 to 19999."""
    for message in caffe_pb2.DESCRIPTOR.message_types_by_name.values():
        numbers = [field.number for field in message.fields]
        assert all(number < 1100 or number > FORK_NUMBERS for number in numbers), message.name
    assert is_bvlc("pooling_param")
    assert not is_bvlc("norm_param")
    assert not is_bvlc("any_param")
