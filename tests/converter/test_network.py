from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import senet_convert
from senet_convert.converter.graph import build
from senet_convert.converter.network import find_prototxt, realise
from senet_convert.proto import read_caffemodel
from tests.nets import INPUT, write

GOLDEN = Path(__file__).parents[1] / "golden"


def test_load_gives_caffes_numbers() -> None:
    for case in ("se_resnet", "se_bn_inception"):
        with np.load(GOLDEN / case / "inputs.npz") as inputs, np.load(GOLDEN / case / "outputs.npz") as outputs:
            x, logits = torch.from_numpy(inputs["data"]), outputs["classifier"]
        model = senet_convert.load(str(GOLDEN / case / "net.caffemodel"))
        with torch.no_grad():
            found = model(x).numpy()
        assert np.abs(found - logits).max() <= 5e-5 * np.abs(logits).max()
        assert not model.training


def test_the_prototxt_beside_the_model_is_found(tmp_path: Path) -> None:
    model = tmp_path / "net.caffemodel"
    assert find_prototxt(model) is None
    (tmp_path / "deploy.prototxt").touch()
    assert find_prototxt(model) == tmp_path / "deploy.prototxt"
    (tmp_path / "net.prototxt").touch()
    assert find_prototxt(model) == tmp_path / "net.prototxt"


def test_shared_weights_are_written_under_every_name(tmp_path: Path) -> None:
    text = INPUT + "".join(
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "data" top: "{name}" param {{ name: "w" }}\n'
        "inner_product_param { num_output: 2 bias_term: false } }\n"
        for name in ("a", "b")
    )
    files = write(tmp_path, text)
    weights = read_caffemodel(files.caffemodel)
    same = replace(weights, layers=(*weights.layers[:2], replace(weights.layers[2], blobs=weights.layers[1].blobs)))
    graph = build(same, same)
    assert list(graph.accounts.arrays) == ["a/weight"]
    assert realise(same, graph).names == {"a/weight": "weights.a/weight"}
