from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from senet_convert import demo
from senet_convert.converter.convert import Wishes, convert
from senet_convert.converter.engines import GENERIC, TORCH, engines
from senet_convert.converter.graph.draft import Options
from senet_convert.converter.graph.resize import resized
from senet_convert.converter.report import released
from senet_convert.deploy.model import Model
from senet_convert.errors import ConvertError
from tests.nets import INPUT, SE_NET, definition, write

TAIL = """
layer { name: "gate" type: "Pooling" bottom: "data" top: "gate" pooling_param { pool: AVE kernel_h: 12 kernel_w: 10 } }
layer { name: "max" type: "Pooling" bottom: "data" top: "max" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "last" type: "Pooling" bottom: "max" top: "last" pooling_param { pool: AVE kernel_size: 6 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "last" top: "fc" inner_product_param { num_output: 5 } }
"""


def test_a_whole_conversion(tmp_path: Path) -> None:
    """The digits at 48 x 48: the family net is recognised still, and everything is checked."""
    with demo.files() as digits:
        caffemodel, prototxt = digits / f"{demo.NAME}.caffemodel", digits / "deploy.prototxt"
        wishes = Wishes(size=48, resize=54)
        done = convert(caffemodel, prototxt, tmp_path / "digits", wishes, lambda _: None)
        model = Model.open(tmp_path / "digits", "cpu")
        others = engines([TORCH, GENERIC], model, caffemodel)
        definition = (tmp_path / "digits" / "model.prototxt").read_text()
    assert definition.count("dim: 48") == 2
    assert done.report["verdict"] == "passed"
    assert done.report["network"]["family"] == "SE-ResNet"
    assert done.report["network"]["inputs"] == {"data": [1, 3, 48, 48]}
    assert done.report["preprocess"]["size"] == [48, 48]
    assert any("layer 'pool5/2x2_s1' covered its whole map of 2x2" in warning for warning in done.warnings)
    assert model.session.shapes["data"] == ["batch", 3, 48, 48]
    batch = np.random.default_rng(0).normal(0, 50, (2, 3, 48, 48)).astype(np.float32)
    for other in others:
        assert np.abs(other.probabilities(batch) - model.probabilities(batch)).max() < 1e-5


def test_its_own_size_changes_no_value(tmp_path: Path) -> None:
    text = INPUT.replace("dim: 10", "dim: 12") + TAIL.replace("kernel_w: 10", "kernel_w: 12")
    files = write(tmp_path, text)
    batch = np.random.default_rng(0).normal(0, 50, (2, 3, 12, 12)).astype(np.float32)
    results = []
    for name, size in (("plain", None), ("sized", 12)):
        convert(files.caffemodel, files.prototxt, tmp_path / name, Wishes(size=size), lambda _: None)
        results.append(Model.open(tmp_path / name, "cpu").probabilities(batch))
    assert np.abs(results[0] - results[1]).max() < 1e-6


def test_every_pooling_over_a_whole_map_becomes_global(tmp_path: Path) -> None:
    """With stride 2 a kernel of 6 has one window on a 6x5 map, clipped to it."""
    net, options, notes = resized(definition(tmp_path, INPUT + TAIL), Options(), 20)
    kinds = {layer.name: dict(layer.params.get("pooling_param", {})) for layer in net.layers}
    assert kinds["gate"] == kinds["last"] == {"pool": "AVE", "global_pooling": True}
    assert kinds["max"]["kernel_size"] == 2
    assert options.input_shapes == {"data": (2, 3, 20, 20)}
    assert len(notes) == 2


def test_a_network_that_pools_globally_needs_no_change(tmp_path: Path) -> None:
    text = INPUT + TAIL.replace("pool: AVE kernel_size: 6 stride: 2", "pool: AVE global_pooling: true")
    _, _, notes = resized(definition(tmp_path, text), Options(), 20)
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SE_NET.replace("pool: AVE global_pooling: true", "global_pooling: true"), "has no AVE pooling"),
        (INPUT + TAIL.replace("kernel_size: 6", "kernel_size: 2"), "layer 'last', goes from 6x5 to 3x3 and does not"),
    ],
)
def test_networks_without_such_a_pooling_are_refused(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=words):
        resized(definition(tmp_path, text), Options(), 20)


def test_a_release_is_cropped_from_as_much_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = released.releases()[0]
    found = released.identify
    monkeypatch.setattr(released, "identify", lambda path, role: replace(found(path, role), release=release))
    with demo.files() as digits:
        caffemodel, prototxt = digits / f"{demo.NAME}.caffemodel", digits / "deploy.prototxt"
        for size, shorter in ((None, 37), (320, 366)):
            wishes = Wishes(size=size, check=False, force=True)
            convert(caffemodel, prototxt, tmp_path / "digits", wishes, lambda _: None)
            report = json.loads((tmp_path / "digits" / "report.json").read_text())
            assert report["preprocess"]["resize"] == shorter
