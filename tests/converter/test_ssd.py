"""A small SSD from end to end: converted, checked and detecting, from its deploy and from its training prototxt."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from senet_convert import bundle
from senet_convert.cli import main
from senet_convert.converter.graph.build import build
from senet_convert.deploy.runtime.session import Session
from senet_convert.proto import caffe_pb2, read_prototxt
from tests.nets import Files, blob
from tests.paths import DOCS

from .layers.test_detection_output import CASES, detections, given
from .layers.test_prior_box import priors

PAGE = DOCS / "layers.md"
HEAD = """
layer {{ name: "{map}_loc" type: "Convolution" bottom: "{map}" top: "{map}_loc"
        convolution_param {{ num_output: {loc} kernel_size: 3 pad: 1 }} }}
layer {{ name: "{map}_loc_perm" type: "Permute" bottom: "{map}_loc" top: "{map}_loc_perm"
        permute_param {{ order: 0 order: 2 order: 3 order: 1 }} }}
layer {{ name: "{map}_loc_flat" type: "Flatten" bottom: "{map}_loc_perm" top: "{map}_loc_flat" }}
layer {{ name: "{map}_conf" type: "Convolution" bottom: "{map}" top: "{map}_conf"
        convolution_param {{ num_output: {conf} kernel_size: 3 pad: 1 }} }}
layer {{ name: "{map}_conf_perm" type: "Permute" bottom: "{map}_conf" top: "{map}_conf_perm"
        permute_param {{ order: 0 order: 2 order: 3 order: 1 }} }}
layer {{ name: "{map}_conf_flat" type: "Flatten" bottom: "{map}_conf_perm" top: "{map}_conf_flat" }}
layer {{ name: "{map}_priorbox" type: "PriorBox" bottom: "{map}" bottom: "data" top: "{map}_priorbox"
        prior_box_param {{ {priors} variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 offset: 0.5 }} }}
"""
BODY = (
    """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 8 kernel_size: 3 pad: 1 stride: 2 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
        pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
        convolution_param { num_output: 8 kernel_size: 3 pad: 1 stride: 2 } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "norm" type: "Normalize" bottom: "pool1" top: "norm"
        norm_param { across_spatial: false channel_shared: false scale_filler { type: "constant" value: 20 } } }
"""
    + HEAD.format(
        map="norm", loc=4 * 4, conf=4 * 5, priors="min_size: 12 max_size: 20 aspect_ratio: 2 flip: true step: 4"
    )
    + HEAD.format(map="conv2", loc=4 * 2, conf=2 * 5, priors="min_size: 20 max_size: 34")
    + "".join(
        f'layer {{ name: "mbox_{kind}" type: "Concat" bottom: "norm_{part}" bottom: "conv2_{part}" top: "mbox_{kind}"\n'
        f"        concat_param {{ axis: {axis} }} }}\n"
        for kind, part, axis in (("loc", "loc_flat", 1), ("conf", "conf_flat", 1), ("priorbox", "priorbox", 2))
    )
)
DETECT = """
layer { name: "mbox_conf_reshape" type: "Reshape" bottom: "mbox_conf" top: "mbox_conf_reshape"
        reshape_param { shape { dim: 0 dim: -1 dim: 5 } } RULE }
layer { name: "mbox_conf_softmax" type: "Softmax" bottom: "mbox_conf_reshape" top: "mbox_conf_softmax"
        softmax_param { axis: 2 } RULE }
layer { name: "mbox_conf_flatten" type: "Flatten" bottom: "mbox_conf_softmax" top: "mbox_conf_flatten"
        flatten_param { axis: 1 } RULE }
layer { name: "detection_out" type: "DetectionOutput" bottom: "mbox_loc" bottom: "mbox_conf_flatten"
        bottom: "mbox_priorbox" top: "detection_out" RULE
        detection_output_param { num_classes: 5 share_location: true background_label_id: 0
          nms_param { nms_threshold: 0.45 top_k: 40 }
          save_output_param { output_directory: "results" output_name_prefix: "det_" output_format: "VOC"
                              label_map_file: "labelmap.prototxt" name_size_file: "sizes.txt" num_test_image: 10 }
          code_type: CENTER_SIZE keep_top_k: 20 confidence_threshold: 0.01 } }
"""
TEST = "include { phase: TEST }"
DEPLOY = (
    'name: "SSD"\ninput: "data" input_shape { dim: 1 dim: 3 dim: 40 dim: 48 }\n' + BODY + DETECT.replace("RULE", "")
)
TRAINING = (
    """name: "SSD"
layer { name: "data" type: "AnnotatedData" top: "data" top: "label" include { phase: TRAIN }
        transform_param { mirror: true mean_value: 104 resize_param { prob: 1 resize_mode: WARP height: 40 width: 48 } }
        data_param { source: "train_lmdb" batch_size: 32 backend: LMDB }
        annotated_data_param { batch_sampler { max_sample: 1 } label_map_file: "labelmap.prototxt" } }
layer { name: "data" type: "AnnotatedData" top: "data" top: "label" include { phase: TEST }
        data_param { source: "test_lmdb" batch_size: 8 } }
"""
    + BODY
    + """
layer { name: "mbox_loss" type: "MultiBoxLoss" bottom: "mbox_loc" bottom: "mbox_conf" bottom: "mbox_priorbox"
        bottom: "label" top: "mbox_loss" include { phase: TRAIN } propagate_down: true propagate_down: true
        loss_param { normalization: VALID } multibox_loss_param { loc_loss_type: SMOOTH_L1 num_classes: 5 } }
"""
    + DETECT.replace("RULE", TEST)
    + """
layer { name: "detection_eval" type: "DetectionEvaluate" bottom: "detection_out" bottom: "label" top: "detection_eval"
        include { phase: TEST } detection_evaluate_param { num_classes: 5 background_label_id: 0 } }
"""
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The caffemodel holds weights by layer name; a fork's fields stand in the prototxt only."""
    folder = tmp_path_factory.mktemp("ssd")
    found = Files(folder / "ssd.prototxt", folder / "ssd.caffemodel")
    found.prototxt.write_text(DEPLOY, encoding="utf-8")
    net = caffe_pb2.NetParameter(name="SSD")
    random = np.random.default_rng(0)
    for want in build(read_prototxt(found.prototxt), None).wanted:
        scale = 10 if want.name == "norm" else 0.1
        layer = net.layer.add(name=want.name)
        layer.blobs.extend(blob(random.normal(0, scale, shape)) for shape in want.shapes)
    found.caffemodel.write_bytes(net.SerializeToString())
    (folder / "train.prototxt").write_text(TRAINING, encoding="utf-8")
    return found


def run(*arguments: object) -> str:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def expected(values: dict[str, np.ndarray]) -> np.ndarray:
    """What Caffe's definitions make of the heads' values."""
    variance = (0.1, 0.1, 0.2, 0.2)
    boxes = [
        priors([12], [20], [2, 0.5], (10, 12), (40, 48), (4, 4), variance=variance),
        priors([20], [34], [], (5, 6), (40, 48), variance=variance),
    ]
    logits = values["mbox_conf"].reshape(len(values["mbox_conf"]), -1, 5).astype(np.float64)
    scores = np.exp(logits - logits.max(2, keepdims=True))
    scores /= scores.sum(2, keepdims=True)
    flat, joined = scores.reshape(len(scores), -1), np.concatenate(boxes, 2)
    said: dict[str, Any] = {"threshold": 0.01, "nms": 0.45, "top_k": 40, "keep": 20}
    return detections(values["mbox_loc"], flat, joined, 5, code="CENTER_SIZE", **said)


def test_the_deploy_prototxt(files: Files, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "passed" in run(files.caffemodel, "-o", out)
    report = bundle.read_report(out)
    assert report["onnx"]["outputs"] == [{"name": "detection_out", "shape": [1, 1, None, 7]}]
    assert any("min_size and max_size are cut to whole pixels" in warning for warning in report["warnings"])
    run(files.caffemodel, "-o", tmp_path / "all", "--all-blobs")
    x = np.random.default_rng(1).normal(0, 50, (3, 3, 40, 48)).astype(np.float32)
    values = Session(tmp_path / "all" / bundle.ONNX).run({"data": x})
    model = expected(values)
    assert model.shape[2] == 3 * 20
    np.testing.assert_allclose(values["detection_out"], model, atol=2e-5)
    found = Session(out / bundle.ONNX).run({"data": x})
    np.testing.assert_allclose(found["detection_out"], model, atol=2e-5)


def test_the_training_prototxt_gives_the_same_network(files: Files, tmp_path: Path) -> None:
    train = files.prototxt.with_name("train.prototxt")
    shape = ("--input-shape", "data=1,3,40,48")
    run(files.caffemodel, "-o", tmp_path / "deploy")
    run(files.caffemodel, "--prototxt", train, *shape, "-o", tmp_path / "test")
    reports = [bundle.read_report(tmp_path / name) for name in ("deploy", "test")]
    assert reports[0]["onnx"] == reports[1]["onnx"]
    assert [row["name"] for row in reports[0]["layers"]] == [row["name"] for row in reports[1]["layers"]]
    assert {item["name"] for item in reports[1]["dropped"]} == {"data", "mbox_loss", "detection_eval", "label"}
    # In the TRAIN phase the heads are what is left when the loss goes.
    run(files.caffemodel, "--prototxt", train, *shape, "--phase", "TRAIN", "-o", tmp_path / "train")
    report = bundle.read_report(tmp_path / "train")
    assert [item["name"] for item in report["onnx"]["outputs"]] == ["mbox_loc", "mbox_conf", "mbox_priorbox"]
    assert {item["name"]: item["reason"] for item in report["dropped"]}["mbox_loss"].startswith("a loss")


def test_inspect_lists_the_detection_layers(files: Files) -> None:
    report = json.loads(run("inspect", files.prototxt, "-q", "--json"))
    rows = {row["name"]: row for row in report["layer_table"]}
    assert (rows["mbox_priorbox"]["shapes"], rows["detection_out"]["shapes"]) == ([[1, 2, 2160]], [[1, 1, 1, 7]])


def test_another_size_gets_other_priors(files: Files, tmp_path: Path) -> None:
    run(files.caffemodel, "--input-shape", "data=1,3,48,64", "-o", tmp_path / "out")
    report = bundle.read_report(tmp_path / "out")
    assert report["verdict"] == "passed"
    shapes = {row["name"]: row["shapes"][0] for row in report["layers"]}
    assert shapes["mbox_priorbox"] == [1, 2, 4 * (12 * 16 * 4 + 6 * 8 * 2)]


def test_the_recipe_of_the_docs(files: Files, tmp_path: Path) -> None:
    """Without the layer its bottoms are outputs, and the function in docs/layers.md detects."""
    prototxt = tmp_path / "heads.prototxt"
    prototxt.write_text(DEPLOY[: DEPLOY.index('layer { name: "detection_out"')], encoding="utf-8")
    run(files.caffemodel, "--prototxt", prototxt, "-o", tmp_path / "heads")
    run(files.caffemodel, "-o", tmp_path / "whole")
    (code,) = re.findall(r"```python\n(.*?def detect.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    recipe: dict[str, Any] = {}
    exec(code, recipe)
    x = np.random.default_rng(2).normal(0, 50, (2, 3, 40, 48)).astype(np.float32)
    heads = Session(tmp_path / "heads" / bundle.ONNX).run({"data": x})
    assert set(heads) == {"mbox_loc", "mbox_conf_flatten", "mbox_priorbox"}
    wanted = Session(tmp_path / "whole" / bundle.ONNX).run({"data": x})["detection_out"]
    bottoms = [heads[name] for name in ("mbox_loc", "mbox_conf_flatten", "mbox_priorbox")]
    said = {"nms_threshold": 0.45, "top_k": 40, "keep_top_k": 20, "confidence_threshold": 0.01}
    found = recipe["detect"](*bottoms, classes=5, code_type="CENTER_SIZE", **said)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    nothing = recipe["detect"](*bottoms, classes=5, confidence_threshold=2.0)
    np.testing.assert_array_equal(nothing[0, 0], [[0, *[-1] * 6], [1, *[-1] * 6]])


@pytest.mark.parametrize(("text", "model"), CASES)
def test_the_recipe_knows_every_parameter(text: str, model: dict[str, Any]) -> None:
    (code,) = re.findall(r"```python\n(.*?def detect.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    recipe: dict[str, Any] = {}
    exec(code, recipe)
    names = {"code": "code_type", "target": "in_target", "share": "share_location", "nms": "nms_threshold"}
    names |= {"threshold": "confidence_threshold", "keep": "keep_top_k"}
    bottoms = given(share=model.get("share", True))
    found = recipe["detect"](*bottoms, classes=3, **{names.get(key, key): value for key, value in model.items()})
    np.testing.assert_allclose(found, detections(*bottoms, 3, **model), atol=1e-5)


def test_the_recipes_adaptive_suppression() -> None:
    """ApplyNMSFast: each box that stays lowers the threshold, while it is above a half."""
    (code,) = re.findall(r"```python\n(.*?def detect.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    recipe: dict[str, Any] = {}
    exec(code, recipe)
    boxes = np.asarray([[0, 0, 1, 1], [2, 2, 3, 3], [0, 0, 1, 0.6], [4, 4, 5, 5], [4, 4, 5, 4.6]])
    assert recipe["suppress"](boxes, range(5), 0.7, 1.0) == [0, 1, 2, 3, 4]
    assert recipe["suppress"](boxes, range(5), 0.7, 0.9) == [0, 1, 3]  # 0.7, 0.63, then 0.567, below 0.6
