"""Networks that are cut before a layer which is not known: the functions and commands of docs/layers.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from senet_convert import bundle
from senet_convert.cli import main
from senet_convert.converter.graph.build import build
from senet_convert.converter.graph.cut import cut
from senet_convert.converter.graph.draft import Options
from senet_convert.deploy.runtime.session import Session
from senet_convert.errors import GraphError
from senet_convert.proto import Blob, LayerDef, NetDef
from senet_convert.proto.write import write_caffemodel
from tests.nets import definition
from tests.paths import DOCS

PAGE = (DOCS / "layers.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    (code,) = re.findall(r"```python\n([^`]*?def propose[^`]*?)```", PAGE)
    found: dict[str, Any] = {}
    exec(code, found)
    return found


# What py-faster-rcnn's generate_anchors.py has in its comments: Faster R-CNN's MATLAB code, counted from 0.
ANCHORS = [
    (-84, -40, 99, 55),
    (-176, -88, 191, 103),
    (-360, -184, 375, 199),
    (-56, -56, 71, 71),
    (-120, -120, 135, 135),
    (-248, -248, 263, 263),
    (-36, -80, 51, 95),
    (-80, -168, 95, 183),
    (-168, -344, 183, 359),
]


def test_anchors_are_those_of_faster_rcnn(recipe: dict[str, Any]) -> None:
    np.testing.assert_array_equal(recipe["anchors"](16, (0.5, 1, 2), (8, 16, 32)), ANCHORS)


def proposals(
    scores: np.ndarray, offsets: np.ndarray, info: np.ndarray, before: int, after: int, smallest: float
) -> np.ndarray:
    """proposal_layer.py, box by box."""
    _, channels, height, width = scores.shape
    found = []
    for h, w, a in np.ndindex(height, width, channels // 2):
        x1, y1, x2, y2 = (edge + 16 * shift for edge, shift in zip(ANCHORS[a], (w, h, w, h), strict=True))
        dx, dy, dw, dh = (float(offsets[0, 4 * a + i, h, w]) for i in range(4))
        wide, high = x2 - x1 + 1.0, y2 - y1 + 1.0
        cx, cy = dx * wide + x1 + 0.5 * wide, dy * high + y1 + 0.5 * high
        pw, ph = np.exp(dw) * wide, np.exp(dh) * high
        box = [cx - 0.5 * pw, cy - 0.5 * ph, cx + 0.5 * pw, cy + 0.5 * ph]
        box = [max(min(edge, float(info[1 - i % 2]) - 1), 0) for i, edge in enumerate(box)]
        if min(box[2] - box[0], box[3] - box[1]) + 1 >= smallest * info[2]:
            found.append((float(scores[0, channels // 2 + a, h, w]), box))
    found.sort(key=lambda item: -item[0])
    kept: list[list[float]] = []
    for _, box in found[:before]:
        for other in kept:
            w = max(min(box[2], other[2]) - max(box[0], other[0]) + 1, 0)
            h = max(min(box[3], other[3]) - max(box[1], other[1]) + 1, 0)
            area, its = ((b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (box, other))
            if w * h / (area + its - w * h) > 0.7:
                break
        else:
            kept.append(box)
    return np.asarray([(0, *box) for box in kept[:after]], np.float32)


@pytest.mark.parametrize(
    ("before", "after", "smallest"), [(6000, 300, 16), (40, 300, 16), (6000, 7, 16), (6000, 300, 40)]
)
def test_proposals(recipe: dict[str, Any], before: int, after: int, smallest: float) -> None:
    random = np.random.default_rng(0)
    scores = random.permutation(18 * 6 * 8).reshape(1, 18, 6, 8).astype(np.float32) / 1000
    offsets = random.normal(0, 0.3, (1, 36, 6, 8)).astype(np.float32)
    info = np.array([96, 128, 1.5])
    wanted = proposals(scores, offsets, info, before, after, smallest)
    found = recipe["propose"](scores, offsets, info, before=before, after=after, smallest=smallest)
    assert len(wanted) > 2
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_nothing_is_proposed_where_all_boxes_are_small(recipe: dict[str, Any]) -> None:
    zeros = np.zeros((1, 36, 2, 2), np.float32)
    assert recipe["propose"](zeros[:, :18], zeros, np.array([8, 8, 1.0])).shape == (0, 5)


RPN = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 96 dim: 128 } } }
layer { name: "conv5" type: "Convolution" bottom: "data" top: "conv5"
        convolution_param { num_output: 4 kernel_size: 16 stride: 16 } }
layer { name: "score" type: "Convolution" bottom: "conv5" top: "score"
        convolution_param { num_output: 18 kernel_size: 1 } }
layer { name: "offset" type: "Convolution" bottom: "conv5" top: "offset"
        convolution_param { num_output: 36 kernel_size: 1 } }
"""
PROPOSAL = """layer { name: "proposal" type: "Python" bottom: "score" bottom: "offset" bottom: "im_info" top: "rois"
        python_param { module: "rpn.proposal_layer" layer: "ProposalLayer" param_str: "'feat_stride': 16" } }
"""
HEAD = """layer { name: "pool" type: "ROIPooling" bottom: "conv5" bottom: "rois" top: "pool"
        roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 0.0625 } }
layer { name: "class" type: "InnerProduct" bottom: "pool" top: "class" inner_product_param { num_output: 3 } }
"""
BROUGHT = """layer { name: "in" type: "Input" top: "rois" top: "conv5" input_param {
        shape { dim: 300 dim: 5 } shape { dim: 1 dim: 4 dim: 6 dim: 8 } } }
"""


def run(*arguments: object, code: int = 0) -> Result:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done


def weights(folder: Path) -> Path:
    random = np.random.default_rng(0)
    shapes = {
        "conv5": [(4, 3, 16, 16), (4,)],
        "score": [(18, 4, 1, 1), (18,)],
        "offset": [(36, 4, 1, 1), (36,)],
        "class": [(3, 16), (3,)],
    }
    layers = tuple(
        LayerDef(name, "", blobs=tuple(Blob(s, random.normal(0, 0.05, s).astype("<f4").ravel()) for s in sizes))
        for name, sizes in shapes.items()
    )
    path = folder / "net.caffemodel"
    write_caffemodel(NetDef("", "net", layers), path)
    return path


def test_a_detector_in_two_parts(recipe: dict[str, Any], tmp_path: Path) -> None:
    """The commands of the docs: the region proposal network, the function, the heads."""
    net = weights(tmp_path)
    (tmp_path / "rpn.prototxt").write_text(RPN)
    (tmp_path / "heads.prototxt").write_text(BROUGHT + HEAD)
    run(net, "--prototxt", tmp_path / "rpn.prototxt", "--outputs", "conv5,score,offset", "-o", tmp_path / "rpn")
    run(net, "--prototxt", tmp_path / "heads.prototxt", "-o", tmp_path / "heads")
    x = np.random.default_rng(1).normal(0, 1, (1, 3, 96, 128)).astype(np.float32)
    first = Session(tmp_path / "rpn" / bundle.ONNX).run({"data": x})
    rois = recipe["propose"](first["score"], first["offset"], np.array([96, 128, 1.0]))
    assert 1 < len(rois) < 300
    second = Session(tmp_path / "heads" / bundle.ONNX).run({"conv5": first["conv5"], "rois": rois})
    assert second["class"].shape == (len(rois), 3)


def test_outputs_cut_the_network_before_a_layer_that_is_not_known(tmp_path: Path) -> None:
    net = weights(tmp_path)
    prototxt = tmp_path / "net.prototxt"
    yolo = 'layer { name: "yolo" type: "Yolov3DetectionOutput" bottom: "score" top: "boxes" yolo_param { n: 1 } }\n'
    behind = 'layer { name: "r" type: "ReLU" bottom: "boxes" top: "r" }\n'
    prototxt.write_text(RPN + yolo + behind)
    refused = run(net, "--prototxt", prototxt, "-o", tmp_path / "no", code=1)
    assert "layer type 'Yolov3DetectionOutput' is not supported" in refused.stderr
    done = run(net, "--prototxt", prototxt, "--outputs", "score,offset", "-o", tmp_path / "yes")
    assert "needs nothing of them: layers 'yolo' (Yolov3DetectionOutput), 'r' (ReLU)" in done.stderr
    assert (tmp_path / "yes" / bundle.DEFINITION).exists()
    x = np.zeros((1, 3, 96, 128), np.float32)
    assert set(Session(tmp_path / "yes" / bundle.ONNX).run({"data": x})) == {"score", "offset"}
    still = run(net, "--prototxt", prototxt, "--outputs", "r", "-o", tmp_path / "no", code=1)
    assert "layer type 'Yolov3DetectionOutput' is not supported" in still.stderr


def test_yolos_type_of_the_name_of_ssds_is_cut_too(tmp_path: Path) -> None:
    yolo = 'layer { name: "yolo" type: "DetectionOutput" bottom: "score" top: "boxes" '
    yolo += "detection_output_param { num_classes: 3 anchors: 1.08 } }\n"
    net = definition(tmp_path, RPN + yolo)
    with pytest.raises(GraphError, match=r"its type takes 3; forks for YOLO have .* see 'YOLO' in docs"):
        build(net, None)
    kept, (note,) = cut(net, ["score"], Options())
    assert "'yolo' (DetectionOutput)" in note
    assert build(kept, None).outputs == ("score", "offset")


def test_a_type_that_the_old_form_lacks_is_cut_too(tmp_path: Path) -> None:
    text = 'input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8\n'
    text += 'layers { name: "r" type: RELU bottom: "data" top: "r" }\n'
    net = definition(tmp_path, text + 'layers { name: "f" type: FOO bottom: "r" top: "f" }\n')
    with pytest.raises(GraphError, match=r'write a layer of another type in today\'s form, layer { type: "Name" ... }'):
        build(net, None)
    kept, (note,) = cut(net, ["r"], Options())
    assert "'f' (of no type that its form has)" in note
    assert build(kept, None).outputs == ("r",)


def test_what_an_output_needs_stays(tmp_path: Path) -> None:
    odd = 'layer { name: "odd" type: "Odd" bottom: "conv5" top: "conv5" }\n'
    net = definition(tmp_path, RPN + odd + PROPOSAL)
    names = [layer.name for layer in cut(net, ["score"], Options())[0].layers]
    assert names == ["data", "conv5", "score", "offset"]
    kept, (note,) = cut(net, ["conv5"], Options())
    assert "odd" in [layer.name for layer in kept.layers]  # it changes conv5 in place
    assert "'proposal' (Python)" in note
    assert cut(net, [], Options()) == (net, ())
