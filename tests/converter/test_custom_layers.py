"""Layer types from outside: the worked example of docs/custom_layers.md, installed and from a file."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from click.testing import CliRunner, Result

from senet_convert.cli import main
from senet_convert.converter.graph.build import build
from senet_convert.converter.graph.draft import Options
from senet_convert.converter.layers import LAYERS
from senet_convert.converter.layers.registry import from_file, merged
from senet_convert.errors import ConvertError, GraphError
from senet_convert.proto import caffe_pb2, read_prototxt
from tests.nets import INPUT, blob
from tests.paths import DOCS

PAGE = (DOCS / "custom_layers.md").read_text(encoding="utf-8")
EXAMPLE = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
CONV = """layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 } }
"""
ACT = 'layer { name: "act" type: "SlopedTanh" bottom: "conv" top: "act" sloped_tanh_param { alpha: 1.7 } }\n'
FC = 'layer { name: "fc" type: "InnerProduct" bottom: "act" top: "fc" inner_product_param { num_output: 3 } }\n'
BETA = np.asarray([0.5, -1, 2, 0], np.float32)


def files(folder: Path, act: str = ACT, unknown: bytes = b"") -> tuple[Path, Path]:
    """A net with the example's layer; `unknown`: fields that the caffemodel has and no schema names."""
    prototxt, caffemodel = folder / "net.prototxt", folder / "net.caffemodel"
    prototxt.write_text(INPUT + CONV + act, encoding="utf-8")
    random = np.random.default_rng(0)
    net = caffe_pb2.NetParameter()
    net.layer.add(name="data", type="Input", top=["data"]).input_param.shape.add().dim.extend([2, 3, 12, 10])
    conv = net.layer.add(name="conv", type="Convolution", bottom=["data"], top=["conv"])
    conv.convolution_param.num_output = 4
    conv.convolution_param.kernel_size.append(3)
    conv.blobs.extend([blob(random.normal(0, 0.3, (4, 3, 3, 3))), blob(random.normal(0, 1, 4))])
    own = net.layer.add(name="act", type="SlopedTanh", bottom=["conv"], top=["act"])
    own.blobs.append(blob(BETA))
    own.MergeFromString(unknown)
    if "fc" in act:
        net.layer.add(name="fc").blobs.extend([blob(random.normal(0, 1, (3, 320))), blob(random.normal(0, 1, 3))])
    caffemodel.write_bytes(net.SerializeToString())
    return prototxt, caffemodel


def example(folder: Path, text: str = EXAMPLE) -> Path:
    path = folder / "my_layers.py"
    path.write_text(text, encoding="utf-8")
    return path


def convert(folder: Path, *more: object) -> Result:
    return CliRunner().invoke(main, ["convert", str(folder / "net.caffemodel"), *map(str, more), "--force"])


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The example as an installed package: what an installation leaves, module and entry point, in a site folder."""
    site = tmp_path / "site"
    info = site / "my_layers-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-layers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[senet_convert.layers]\nSlopedTanh = my_layers:SlopedTanh\n")
    example(site)
    monkeypatch.syspath_prepend(site)
    yield info
    sys.modules.pop("my_layers", None)


def test_an_installed_package_brings_its_type(tmp_path: Path, package: Path) -> None:
    files(tmp_path)
    done = convert(tmp_path, "--all-blobs")
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "net" / "report.json").read_text())
    assert report["verdict"] == "passed"
    assert "my_layers" in sys.modules


def test_what_the_example_computes(tmp_path: Path) -> None:
    from senet_convert.deploy.runtime.session import Session

    files(tmp_path)
    done = convert(tmp_path, "--layers", example(tmp_path), "--all-blobs")
    assert done.exit_code == 0, done.output
    found = Session(tmp_path / "net" / "model.onnx").run(
        {"data": np.random.default_rng(1).normal(0, 1, (3, 3, 12, 10)).astype(np.float32)}
    )
    expected = np.float32(1.7) * np.tanh(BETA.reshape(-1, 1, 1) * found["conv"].astype(np.float64))
    np.testing.assert_allclose(found["act"], expected, atol=2e-6)


def test_inspect_takes_the_file_too(tmp_path: Path) -> None:
    prototxt, _ = files(tmp_path)
    done = CliRunner().invoke(main, ["inspect", str(prototxt), "--layers", str(example(tmp_path)), "--json"])
    assert done.exit_code == 0, done.output
    assert {row["type"] for row in json.loads(done.stdout)["layer_table"]} >= {"SlopedTanh"}


def test_a_package_is_left_alone_where_its_type_is_not_used(tmp_path: Path, package: Path) -> None:
    (package / "entry_points.txt").write_text(
        "[senet_convert.layers]\nOther = no_such_module:Other\nReLU = my_layers:SlopedTanh\n"
    )
    assert merged({"Pooling"}, {}) == LAYERS
    assert "my_layers" not in sys.modules
    with pytest.raises(ConvertError, match=r"'Other' of the package my-layers .* cannot be imported: ModuleNotFound"):
        merged({"Other"}, {})
    with pytest.raises(ConvertError, match="'ReLU' comes from senet-convert and from the package my-layers"):
        merged({"ReLU"}, {})


def test_types_that_two_sources_define_are_refused(tmp_path: Path, package: Path) -> None:
    own = from_file(example(tmp_path))
    with pytest.raises(ConvertError, match=r"'SlopedTanh' comes from the file of .*my_layers.py and from the package"):
        merged({"SlopedTanh"}, own)
    for name in ("ReLU", "Dropout"):
        with pytest.raises(ConvertError, match=f"'{name}' comes from senet-convert and from the file of"):
            merged(set(), {name: own["SlopedTanh"]}, ["Dropout"])
    (tmp_path / "more").mkdir()
    files(tmp_path)
    done = convert(tmp_path, "--layers", example(tmp_path), "--layers", example(tmp_path / "more"))
    assert done.exit_code == 1
    assert "'SlopedTanh' comes from another file of --layers too" in done.stderr


HEAD = "from dataclasses import dataclass\nfrom senet_convert.converter.layers import LAYERS, Layer\n"
BROKEN = {
    "syntax": ("def f(:\n", "my_layers.py:1: the file cannot be imported: SyntaxError"),
    "import": ("\nimport no_such_module\n", "my_layers.py:2: the file cannot be imported: ModuleNotFoundError"),
    "code": ("x = 1\n\ny = x / 0\n", "my_layers.py:3: the file cannot be imported: ZeroDivisionError"),
    "exit": ("import sys\nsys.exit(0)\n", "my_layers.py:2: the file cannot be imported: SystemExit: 0"),
    "silent exit": ("raise SystemExit\n", "my_layers.py:1: the file cannot be imported: SystemExit\n"),
    "nothing": (HEAD + "LAYERS\n", "holds no layer type"),
    "an empty dict": ("LAYERS = {}\n", "holds no layer type"),
    "no class": ("LAYERS = {'A': 3}\n", "layer type 'A' is 3, not a subclass"),
    "no dataclass": (HEAD + "class A(Layer):\n    alpha: float = 1\n", "class A lacks the decorator @dataclass"),
    "no methods": (HEAD + "@dataclass(frozen=True)\nclass A(Layer):\n    pass\n", "does not define torch and onnx()"),
}


@pytest.mark.parametrize(("text", "words"), BROKEN.values(), ids=BROKEN)
def test_files_that_bring_no_type_are_refused(tmp_path: Path, text: str, words: str) -> None:
    files(tmp_path)
    done = convert(tmp_path, "--layers", example(tmp_path, text))
    assert done.exit_code == 1
    assert words in done.stderr
    assert str(tmp_path) in done.stderr


def test_files_must_be_python(tmp_path: Path) -> None:
    (tmp_path / "layers.txt").write_text(EXAMPLE)
    with pytest.raises(ConvertError, match=r"not a Python file; its name must end in \.py"):
        from_file(tmp_path / "layers.txt")


def test_a_dict_names_types_that_python_cannot(tmp_path: Path) -> None:
    path = example(tmp_path, EXAMPLE + '\nLAYERS = {"Sloped-Tanh": SlopedTanh}\n')
    assert list(from_file(path)) == ["Sloped-Tanh"]


VALUES = '''from dataclasses import dataclass
from senet_convert.converter.layers import LAYERS
from senet_convert.converter.layers.activation import ReLU

@dataclass(frozen=True)
class Values(ReLU):
    """Every kind of field."""

    number: float = 0
    count: int | None = None
    flag: bool = False
    mode: str = "A"
    sizes: tuple[int, ...] = ()
    inner: dict = None
    needed: float = 1.0
    message = "values_param"
'''


def built(folder: Path, params: str) -> object:
    prototxt = folder / "net.prototxt"
    act = f'layer {{ name: "act" type: "Values" bottom: "data" top: "act"\n{params} }}'
    prototxt.write_text(INPUT + act, encoding="utf-8")
    graph = build(read_prototxt(prototxt), None, Options(layers=from_file(example(folder, VALUES))))
    return graph.nodes[0].layer


def test_values_are_read_as_the_annotations_say(tmp_path: Path) -> None:
    params = """number: 1 count: 0x10 flag: 1 mode: BEST sizes: 3 inner { a: 1 a: 2 b: "x" 'y' c { } d: [] e: -1.5 }"""
    found = vars(built(tmp_path, f"values_param {{ {params} negative_slope: 0.1 }}"))
    assert found["number"] == 1.0
    assert isinstance(found["number"], float)
    assert (found["count"], found["flag"], found["mode"], found["sizes"]) == (16, True, "BEST", (3,))
    assert found["inner"] == {"a": [1, 2], "b": "xy", "c": {}, "d": [], "e": -1.5}
    assert found["negative_slope"] == float(np.float32(0.1))
    found = vars(built(tmp_path, "values_param: < sizes: [4, 5], sizes: 6; flag: false number: inf >"))
    assert (found["sizes"], found["flag"], found["number"]) == ((4, 5, 6), False, float("inf"))


MISFITS = {
    "values_param { number: x }": "field 'number' needs a value of kind float, found 'x'",
    "values_param { number: true }": "field 'number' needs a value of kind float, found True",
    "values_param { count: 1.5 }": "field 'count' needs a value of kind int, found 1.5",
    "values_param { flag: 2 }": "field 'flag' needs a value of kind bool, found 2",
    "values_param { mode: 3 }": "field 'mode' needs a value of kind str, found 3",
    "values_param { number: 1 number: 2 }": "field 'number' needs a value of kind float, found [1, 2]",
    "values_param { other: 1 }": "values_param: other is not supported for layers of type Values",
    "values_param { } values_param { }": "unknown field 'values_param' of LayerParameter",
    "values_param: 3": "unknown field 'values_param' of LayerParameter",
    "values_param { number: 1 } more_param { }": "line 3: unknown field 'more_param' of LayerParameter",
}


@pytest.mark.parametrize(("params", "words"), MISFITS.items())
def test_values_that_do_not_fit_are_refused(tmp_path: Path, params: str, words: str) -> None:
    with pytest.raises(GraphError) as caught:
        built(tmp_path, params)
    assert words in str(caught.value)
    assert "layer 'act' (line 2)" in str(caught.value)


def test_fields_can_be_added_to_a_message_of_caffe(tmp_path: Path) -> None:
    text = VALUES.replace('message = "values_param"', "")
    prototxt = tmp_path / "net.prototxt"
    params = "relu_param { negative_slope: 0.5 sizes: 1 sizes: 2 number: 3 }"
    prototxt.write_text(INPUT + f'layer {{ name: "a" type: "Values" bottom: "data" top: "a" {params} }}')
    graph = build(read_prototxt(prototxt), None, Options(layers=from_file(example(tmp_path, text))))
    found = vars(graph.nodes[0].layer)
    assert (found["negative_slope"], found["sizes"], found["number"]) == (0.5, (1, 2), 3.0)


def test_a_message_of_a_fork_is_needed_by_name(tmp_path: Path) -> None:
    """A field without a name in the binary does not matter beside a prototxt, and stops a caffemodel alone."""
    prototxt, _ = files(tmp_path, unknown=b"\x92\x7d\x05\x0d\x9a\x99\xd9\x3f")  # field 2002: { 1: 1.7 }
    path = example(tmp_path)
    assert convert(tmp_path, "--layers", path).exit_code == 0
    prototxt.unlink()
    done = convert(tmp_path, "--layers", path)
    assert done.exit_code == 1
    assert "layer 'act': unknown field number 2002 of LayerParameter" in done.stderr
    assert "give the network's prototxt, which names them (--prototxt)" in done.stderr


def test_a_number_that_means_something_else_is_not_taken_for_bvlcs(tmp_path: Path) -> None:
    other = caffe_pb2.LayerParameter()
    other.embed_param.num_output = 3
    prototxt, _ = files(tmp_path, unknown=other.SerializeToString())
    prototxt.unlink()
    done = convert(tmp_path, "--layers", example(tmp_path))
    assert done.exit_code == 1
    assert "a layer of type SlopedTanh has no embed_param: a fork of Caffe means something else" in done.stderr


def test_an_unknown_type_is_told_where_to_go(tmp_path: Path) -> None:
    files(tmp_path)
    done = convert(tmp_path)
    assert done.exit_code == 1
    assert "layer type 'SlopedTanh' is not supported: layer 'act' (line 4)" in done.stderr
    assert "docs/custom_layers.md" in done.stderr


# ---- and back --------------------------------------------------------------------------------------------------------


def back(folder: Path, *more: object) -> Result:
    return CliRunner().invoke(main, ["to-caffe", str(folder / "net"), "-o", str(folder / "back"), *map(str, more)])


def test_a_layer_of_ones_own_goes_back_to_caffe(tmp_path: Path) -> None:
    files(tmp_path, ACT.replace("sloped_tanh_param { alpha: 1.7 }", ""))
    own = ("--layers", example(tmp_path))
    assert convert(tmp_path, *own).exit_code == 0
    assert "layer type 'SlopedTanh' is not supported" in back(tmp_path).output
    done = back(tmp_path, *own)
    assert done.exit_code == 0, done.output
    text = (tmp_path / "back.prototxt").read_text(encoding="utf-8")
    assert 'type: "SlopedTanh"' in text
    again = CliRunner().invoke(main, ["convert", str(tmp_path / "back.caffemodel"), *map(str, own)])
    assert again.exit_code == 0, again.output
    weights = [tmp_path / name / "model.safetensors" for name in ("net", "back")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_with_fields_of_its_own_it_goes_back_with_the_prototxt_that_has_them(tmp_path: Path) -> None:
    prototxt, _ = files(tmp_path)
    own = ("--layers", example(tmp_path))
    assert convert(tmp_path, *own).exit_code == 0
    assert "there is no model.prototxt" in back(tmp_path, *own).output
    done = back(tmp_path, *own, "--prototxt", prototxt)
    assert done.exit_code == 0, done.output
    assert "back.prototxt is net.prototxt as it is: its layers have fields that Caffe's format lacks" in done.stderr
    assert (tmp_path / "back.prototxt").read_bytes() == prototxt.read_bytes()
    again = CliRunner().invoke(main, ["convert", str(tmp_path / "back.caffemodel"), *map(str, own)])
    assert again.exit_code == 0, again.output
    weights = [tmp_path / name / "model.safetensors" for name in ("net", "back")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_with_fields_of_its_own_and_other_outputs_it_cannot_go_back(tmp_path: Path) -> None:
    prototxt, _ = files(tmp_path, ACT + FC)
    own = ("--layers", example(tmp_path))
    assert convert(tmp_path, *own).exit_code == 0, convert(tmp_path, *own).output
    state = safetensors.numpy.load_file(tmp_path / "net" / "model.safetensors")
    state["weights.fc/weight"], state["weights.fc/bias"] = np.ones((2, 320), np.float32), np.ones(2, np.float32)
    safetensors.numpy.save_file(state, tmp_path / "tuned.safetensors")
    done = back(tmp_path, *own, "--prototxt", prototxt, "--weights", tmp_path / "tuned.safetensors")
    assert done.exit_code == 1
    assert "it cannot be written, because its layers have fields that Caffe's format lacks" in done.output
    assert not (tmp_path / "back.caffemodel").exists()
