from __future__ import annotations

from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from senet_convert.errors import GraphError

from .running import One, Refusal, layer, network, run

Box = tuple[float, float, float, float]


def decoded(code: str, target: bool, prior: np.ndarray, variance: np.ndarray, offset: np.ndarray) -> Box:
    """DecodeBBox."""
    v = [1.0] * 4 if target else [float(x) for x in variance]
    xmin, ymin, xmax, ymax = (float(x) for x in prior)
    a, b, c, d = (float(x) * y for x, y in zip(offset, v, strict=True))
    width, height = xmax - xmin, ymax - ymin
    if code == "CORNER":
        return xmin + a, ymin + b, xmax + c, ymax + d
    if code == "CORNER_SIZE":
        return xmin + a * width, ymin + b * height, xmax + c * width, ymax + d * height
    x, y = a * width + (xmin + xmax) / 2, b * height + (ymin + ymax) / 2
    w, h = exp(c) * width, exp(d) * height
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def area(box: Box) -> float:
    return 0.0 if box[2] < box[0] or box[3] < box[1] else (box[2] - box[0]) * (box[3] - box[1])


def overlap(one: Box, other: Box) -> float:
    """JaccardOverlap."""
    if other[0] > one[2] or other[2] < one[0] or other[1] > one[3] or other[3] < one[1]:
        return 0.0
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (area(one) + area(other) - shared)


def detections(
    offsets: np.ndarray,
    scores: np.ndarray,
    priors: np.ndarray,
    classes: int,
    share: bool = True,
    background: int = 0,
    code: str = "CORNER",
    target: bool = False,
    threshold: float | None = None,
    nms: float = 0.3,
    top_k: int = -1,
    keep: int = -1,
) -> np.ndarray:
    """DetectionOutputLayer::Forward_cpu with ApplyNMSFast, in double, stable where its sorts are."""
    images, count = len(offsets), priors.shape[2] // 4
    places = offsets.reshape(images, count, 1 if share else classes, 4)
    values = scores.reshape(images, count, classes)
    boxes, variances = priors.reshape(2, count, 4)
    rows: list[list[float]] = []
    for image in range(images):
        kept: dict[int, list[tuple[float, int, Box]]] = {}
        for label in range(classes):
            if label == background:
                continue
            own = [
                decoded(code, target, boxes[p], variances[p], places[image, p, 0 if share else label])
                for p in range(count)
            ]
            order = [p for p in range(count) if threshold is None or values[image, p, label] > np.float32(threshold)]
            order.sort(key=lambda p: -values[image, p, label])
            order = order[:top_k] if top_k > -1 else order
            chosen: list[int] = []
            for p in order:
                if all(overlap(own[p], own[q]) <= np.float32(nms) for q in chosen):
                    chosen.append(p)
            kept[label] = [(float(values[image, p, label]), p, own[p]) for p in chosen]
        found = [(score, label, p, box) for label, items in kept.items() for score, p, box in items]
        if -1 < keep < len(found):
            found = sorted(found, key=lambda item: -item[0])[:keep]
            found.sort(key=lambda item: item[1])
        rows += [[image, label, score, *box] for score, label, _, box in found]
    if not rows:
        rows = [[i, -1, -1, -1, -1, -1, -1] for i in range(images)]
    return np.asarray(rows)[None, None]


def given(
    classes: int = 3, share: bool = True, count: int = 24, images: int = 2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets, scores and priors whose boxes overlap in all degrees."""
    random = np.random.default_rng(seed)
    centre = random.uniform(0.25, 0.75, (count, 2))
    half = random.uniform(0.1, 0.25, (count, 2))
    variance = np.tile([0.1, 0.1, 0.2, 0.2], (count, 1))
    priors = np.stack([np.concatenate([centre - half, centre + half], 1), variance]).reshape(1, 2, -1)
    offsets = random.normal(0, 0.7, (images, count * (1 if share else classes) * 4))
    logits = random.normal(0, 2, (images, count, classes))
    scores = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    return offsets.astype(np.float32), scores.reshape(images, -1).astype(np.float32), priors.astype(np.float32)


def params(text: str, classes: int = 3) -> str:
    return f"detection_output_param {{ num_classes: {classes} {text} }}"


CASES: list[tuple[str, dict[str, Any]]] = [
    ("", {}),
    ("code_type: CENTER_SIZE", {"code": "CENTER_SIZE"}),
    ("code_type: CORNER_SIZE", {"code": "CORNER_SIZE"}),
    ("code_type: CORNER variance_encoded_in_target: true", {"target": True}),
    ("code_type: CENTER_SIZE variance_encoded_in_target: true", {"code": "CENTER_SIZE", "target": True}),
    ("code_type: CORNER_SIZE variance_encoded_in_target: true", {"code": "CORNER_SIZE", "target": True}),
    ("share_location: false code_type: CENTER_SIZE", {"share": False, "code": "CENTER_SIZE"}),
    ("background_label_id: 1", {"background": 1}),
    ("share_location: false background_label_id: 2", {"share": False, "background": 2}),
    ("background_label_id: -1", {"background": -1}),
    ("confidence_threshold: 0.4", {"threshold": 0.4}),
    ("nms_param { nms_threshold: 0.6 }", {"nms": 0.6}),
    ("nms_param { nms_threshold: 0 }", {"nms": 0.0}),
    ("nms_param { nms_threshold: 1.5 }", {"nms": 1.5}),
    ("nms_param { top_k: 5 }", {"top_k": 5}),
    ("nms_param { top_k: 100 }", {"top_k": 100}),
    ("nms_param { top_k: -1 }", {}),
    ("keep_top_k: 4", {"keep": 4}),
    ("keep_top_k: 1000", {"keep": 1000}),
    (
        "code_type: CENTER_SIZE nms_param { nms_threshold: 0.45 top_k: 10 } keep_top_k: 7 confidence_threshold: 0.01",
        {"code": "CENTER_SIZE", "nms": 0.45, "top_k": 10, "keep": 7, "threshold": 0.01},
    ),
    ("confidence_threshold: 2", {"threshold": 2.0}),
]


@pytest.mark.parametrize(("text", "model"), CASES)
def test_detection_output(one: One, text: str, model: dict[str, Any]) -> None:
    blobs = given(share=bool(model.get("share", True)))
    expected = detections(*blobs, classes=3, **model)
    one("DetectionOutput", params(text), *blobs).check("y0", expected)


@pytest.mark.parametrize("seed", range(20))
def test_many_boxes_of_many_classes(one: One, seed: int) -> None:
    blobs = given(classes=6, share=seed % 2 == 0, count=60, images=3, seed=seed)
    text = f"share_location: {str(seed % 2 == 0).lower()} code_type: CENTER_SIZE keep_top_k: {5 + 5 * seed}"
    text += " nms_param { nms_threshold: 0.45 top_k: 30 } confidence_threshold: 0.1"
    model: dict[str, Any] = {"share": seed % 2 == 0, "code": "CENTER_SIZE", "nms": 0.45, "top_k": 30, "threshold": 0.1}
    expected = detections(*blobs, classes=6, keep=5 + 5 * seed, **model)
    assert expected.shape[2] > 3
    one("DetectionOutput", params(text, 6), *blobs).check("y0", expected)


def test_crossed_boxes_overlap_nothing(one: One) -> None:
    """CORNER can move a box's right side beyond its left one."""
    offsets, scores, priors = given(count=40)
    offsets *= 10
    model = detections(offsets, scores, priors, 3)
    crossed = (model[..., 5] < model[..., 3]) | (model[..., 6] < model[..., 4])
    assert crossed.any()
    one("DetectionOutput", params(""), offsets, scores, priors).check("y0", model)


def test_of_equal_scores_the_earlier_prior_comes_first(one: One) -> None:
    offsets, scores, priors = given(count=16)
    scores = np.round(scores, 1)
    for text, top_k in (("nms_param { top_k: 4 }", 4), ("", -1)):
        expected = detections(offsets, scores, priors, 3, top_k=top_k)
        one("DetectionOutput", params(text), offsets, scores, priors).check("y0", expected)


def test_an_image_without_detections_has_no_row_beside_one_that_has_some(one: One) -> None:
    offsets, scores, priors = given()
    scores[0] = 0
    expected = detections(offsets, scores, priors, 3, threshold=0.5)
    assert set(expected[0, 0, :, 0]) == {1}
    one("DetectionOutput", params("confidence_threshold: 0.5"), offsets, scores, priors).check("y0", expected)


def test_the_length_of_the_top_is_open(tmp_path: Path) -> None:
    offsets, scores, priors = given()
    graph = network(tmp_path, layer("DetectionOutput", params(""), 3), {"x0": offsets, "x1": scores, "x2": priors}, {})
    assert graph.shapes["y0"] == (1, 1, 1, 7)
    assert graph.batched["y0"] == (1, 1, None, 7)


def test_what_reads_detections_is_refused(tmp_path: Path) -> None:
    text = layer("DetectionOutput", params(""), 3)
    text += 'layer { name: "late" type: "Power" bottom: "y0" top: "late" }\n'
    offsets, scores, priors = given()
    with pytest.raises(GraphError, match=r"'late' \(Power\) reads the top of layer 'layer' \(DetectionOutput\), whose"):
        run(tmp_path, text, {"x0": offsets, "x1": scores, "x2": priors})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("num_classes: 0", "num_classes is 0"),
        ("", "detection_output_param lacks num_classes"),
        ("num_classes: 3 nms_param { nms_threshold: -0.5 }", "nms_threshold -0.5"),
        ("num_classes: 3 nms_param { top_k: 0 }", "top_k 0, keep_top_k -1"),
        ("num_classes: 3 keep_top_k: 0", "with 0 no detection is ever kept"),
        ("num_classes: 3 nms_param { eta: 0.9 }", "eta is 0.9: ONNX has no suppression whose threshold adapts"),
        ("num_classes: 4", "the second bottom has shape 2x72; for 24 priors and 4 classes it must be (N, 96)"),
        ("num_classes: 3 share_location: false", "the first bottom has shape 2x96; .* must be (N, 288)"),
        ("num_classes: 3 objectness_score: 0.1", "unknown field 'objectness_score'"),
    ],
)
def test_what_no_detection_output_can_be(refusal: Refusal, text: str, words: str) -> None:
    message = refusal("DetectionOutput", f"detection_output_param {{ {text} }}", (2, 96), (2, 72), (1, 2, 96))
    assert all(part in message for part in words.split(" .* "))


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((2, 96), (2, 72), (1, 96)), "the third bottom has shape 1x96; it must be (1, 2, 4 * priors)"),
        (((2, 96), (3, 72), (1, 2, 96)), "bottoms of 2 and 3 images"),
        (((2, 96, 2), (2, 72), (1, 2, 96)), "the first bottom has shape 2x96x2"),
    ],
)
def test_bottoms_must_fit(refusal: Refusal, shapes: tuple[tuple[int, ...], ...], words: str) -> None:
    assert words in refusal("DetectionOutput", params(""), *shapes)


def test_fields_that_save_and_show_detections_change_nothing(one: One) -> None:
    text = 'save_output_param { output_directory: "results" label_map_file: "map" resize_param { prob: 1 } }'
    text += " visualize: true visualize_threshold: 0.3"
    blobs = given()
    one("DetectionOutput", params(text), *blobs).check("y0", detections(*blobs, classes=3))
