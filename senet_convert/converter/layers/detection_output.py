"""DetectionOutput: SSD's boxes decoded, thinned out by non-maximum suppression, and listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, ClassVar

import numpy as np
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor

from .base import Array, Emitter, Layer, LayerFault, Shape, int64, scalar, times

NMS_THRESHOLD = float(np.float32(0.3))
OVERLAP_ERROR = 1e-5  # of an overlap computed in float32: two boxes, two areas, a difference that may cancel
ROW = 7  # image, label, score, xmin, ymin, xmax, ymax


@dataclass(frozen=True)
class DetectionOutput(Layer):
    """SSD's DetectionOutput (detection_output_layer.cpp, bbox_util.cpp), as it runs on the CPU.

    Bottoms: offsets (N, priors * classes * 4; one class where they `share_location`), scores (N, priors *
    `num_classes`), PriorBox's (1, 2, priors * 4). For each image and class but the background: the boxes with a score
    above `confidence_threshold`, the `nms_param.top_k` best of them, each kept unless it overlaps a better one that is
    kept by more than `nms_param.nms_threshold`; then for each image the `keep_top_k` best. The top, (1, 1, detections,
    7), lists them by image, label and score, best first; of equal scores the earlier prior. A batch without any gives
    a row (image, -1, -1, -1, -1, -1, -1) for each image.
    """

    num_classes: int
    share_location: bool = True
    background_label_id: int = 0
    nms_param: Mapping[str, Any] = field(default_factory=dict)
    code_type: str = "CORNER"
    keep_top_k: int = -1
    variance_encoded_in_target: bool = False
    confidence_threshold: float | None = None

    message: ClassVar[str] = "detection_output_param"
    takes: ClassVar[tuple[int, int | None]] = (3, 3)
    namesakes: ClassVar[str] = (
        "; forks for YOLO have another type of this name: end the network before it, see 'YOLO' in docs/layers.md"
    )
    in_place: ClassVar[bool] = False
    open_axes: ClassVar[tuple[int, ...]] = (2,)

    @property
    def nms_threshold(self) -> float:
        """The largest overlap of two boxes that are both kept."""
        return float(self.nms_param.get("nms_threshold", NMS_THRESHOLD))

    def validate(self) -> None:
        """Caffe's own checks, and what ONNX has no operators for."""
        eta, top_k = self.nms_param.get("eta", 1.0), self.nms_param.get("top_k", -1)
        if self.num_classes < 1:
            raise LayerFault(f"num_classes is {self.num_classes}; it must be at least 1")
        if self.nms_threshold < 0:
            raise LayerFault(f"nms_threshold {self.nms_threshold:g}; it must not be negative")
        if 0 in (top_k, self.keep_top_k):
            raise LayerFault(f"top_k {top_k}, keep_top_k {self.keep_top_k}: with 0 no detection is ever kept")
        if eta != 1:
            raise LayerFault(
                f"nms_param.eta is {eta:g}: ONNX has no suppression whose threshold adapts. Take the layer out of the "
                "prototxt, so that its three bottoms are outputs, and detect with the function in docs/layers.md"
            )

    def labels(self) -> list[int]:
        """The classes that are detected."""
        return [label for label in range(self.num_classes) if label != self.background_label_id]

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(1, 1, 1, 7), as Caffe before it runs: how many rows there are, only the data tell."""
        offsets, scores, priors = bottoms
        if len(priors) < 3 or priors[:2] != (1, 2) or priors[2] % 4 or prod(priors[3:]) != 1:
            raise LayerFault(f"the third bottom has shape {times(priors)}; it must be (1, 2, 4 * priors), of PriorBox")
        count = priors[2] // 4
        per_prior = 4 if self.share_location else 4 * self.num_classes
        wanted = {"first": (offsets, count * per_prior), "second": (scores, count * self.num_classes)}
        for which, (shape, length) in wanted.items():
            if len(shape) < 2 or shape[1] != length or prod(shape[2:]) != 1:
                raise LayerFault(
                    f"the {which} bottom has shape {times(shape)}; for {count} priors and {self.num_classes} classes "
                    f"it must be (N, {length})"
                )
        if offsets[0] != scores[0]:
            raise LayerFault(f"bottoms of {offsets[0]} and {scores[0]} images; they must be the same")
        return ((1, 1, 1, ROW),)

    def jumps(self) -> tuple[int, ...]:
        """Which boxes are kept depends on comparisons."""
        return (0,)

    def nearby(self) -> tuple[Layer, ...]:
        """Overlaps are computed in float32, so that one within its error of the threshold may fall on either side."""
        moved = (self.nms_threshold * (1 + sign * OVERLAP_ERROR) for sign in (1, -1))
        return (self, *(replace(self, nms_param={**self.nms_param, "nms_threshold": value}) for value in moved))

    def joined(self, tops: Sequence[Array]) -> Array:
        """The rows with the images numbered on; those that say that there are none, only where no image has any."""
        rows = [top.reshape(-1, ROW) + np.eye(1, ROW, dtype=top.dtype) * i for i, top in enumerate(tops)]
        together = np.concatenate(rows)
        found = together[:, 1] != -1
        return (together[found] if found.any() else together).reshape(1, 1, -1, ROW)

    # ---- PyTorch -----------------------------------------------------------------------------------------------------

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Box by box, as Caffe does it."""
        images, count = bottoms[0].shape[0], bottoms[2].shape[2] // 4
        offsets = bottoms[0].reshape(images, count, -1, 4)
        priors, variance = bottoms[2].reshape(2, count, 1, 4)
        boxes = self._decode(offsets, priors, variance)
        scores = bottoms[1].reshape(images, count, self.num_classes)
        rows = [row for image in range(images) for row in self._detect(image, scores[image], boxes[image])]
        if rows:
            return (torch.stack(rows).reshape(1, 1, -1, ROW),)
        none = torch.full((images, ROW), -1.0, dtype=bottoms[0].dtype)
        none[:, 0] = torch.arange(images)
        return (none.reshape(1, 1, images, ROW),)

    def _decode(self, offsets: Tensor, priors: Tensor, variance: Tensor) -> Tensor:
        """(N, priors, classes, 4), (priors, 1, 4) -> corners, (N, priors, classes, 4)."""
        scaled = offsets if self.variance_encoded_in_target else variance * offsets
        if self.code_type == "CORNER":
            return priors + scaled
        low, high = priors[..., :2], priors[..., 2:]
        side = high - low
        if self.code_type == "CORNER_SIZE":
            return priors + scaled * torch.cat([side, side], -1)
        shift, growth = scaled[..., :2], scaled[..., 2:]
        centre = shift * side + (low + high) / 2
        half = torch.exp(growth) * side / 2
        return torch.cat([centre - half, centre + half], -1)

    def _detect(self, image: int, scores: Tensor, boxes: Tensor) -> list[Tensor]:
        """The rows of one image, from (priors, num_classes) and (priors, classes, 4)."""
        found: list[tuple[int, int]] = []  # label, prior; best first in each label
        for label in self.labels():
            own = boxes[:, 0 if self.share_location else label]
            found += [(label, prior) for prior in self._suppress(own, scores[:, label])]
        if -1 < self.keep_top_k < len(found):
            kept = torch.stack([scores[prior, label] for label, prior in found])
            best = torch.sort(kept, descending=True, stable=True).indices[: self.keep_top_k]
            found = [found[i] for i in sorted(best.tolist())]
        head = boxes.new_tensor([[image, label] for label, _ in found]).reshape(-1, 2)
        return [
            torch.cat([head[i], scores[prior, label, None], boxes[prior, 0 if self.share_location else label]])
            for i, (label, prior) in enumerate(found)
        ]

    def _suppress(self, boxes: Tensor, scores: Tensor) -> list[int]:
        """The priors that are kept, best first."""
        order = torch.sort(scores, descending=True, stable=True).indices
        if self.confidence_threshold is not None:
            order = order[scores[order] > self.confidence_threshold]
        top_k = self.nms_param.get("top_k", -1)
        order = order[:top_k] if top_k > -1 else order
        kept = []
        while len(order):
            kept.append(int(order[0]))
            order = order[1:]
            order = order[_overlaps(boxes[kept[-1]], boxes[order]) <= self.nms_threshold]
        return kept

    # ---- ONNX --------------------------------------------------------------------------------------------------------

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """TopK, NonMaxSuppression and TopK again; each (image, class) is an image of its own to NonMaxSuppression.

        What it selects is put back to its place in the order of image, class and score: runtimes give it in others.
        """
        top_k = self.nms_param.get("top_k", -1)
        count = emit.shape(bottoms[2])[2] // 4
        best = min(top_k, count) if top_k > -1 else count
        scores, boxes = self._best(emit, bottoms, count, best)
        kept = self._selected(emit, scores, boxes, best)
        most = len(self.labels()) * best
        if -1 < self.keep_top_k < most:
            few = emit.constant(int64(self.keep_top_k))
            values, places = emit.several("TopK", [kept, few], 2, axis=1)
            nothing = _filled(emit, emit("Shape", [kept]), -np.inf)
            kept = emit("ScatterElements", [nothing, places, values], axis=1)
        rows = self._rows(emit, kept, emit("Reshape", [boxes, emit.constant(int64(-1, most, 4))]), best)
        return (self._or_none(emit, rows, bottoms[0]),)

    def _best(self, emit: Emitter, bottoms: Sequence[str], count: int, best: int) -> tuple[str, str]:
        """Scores (N, labels, best), in order, and their boxes (N, labels, best, 4)."""
        offsets, scores, priors = bottoms
        labels = self.labels()
        scores = emit("Reshape", [scores, emit.constant(int64(-1, count, self.num_classes))])
        scores = emit("Gather", [emit("Transpose", [scores], perm=[0, 2, 1]), emit.constant(int64(*labels))], axis=1)
        values, places = emit.several("TopK", [scores, emit.constant(int64(best))], 2, axis=2)
        offsets = emit("Reshape", [offsets, emit.constant(int64(-1, count, *self._classes(), 4))])
        boxes = self._decode_onnx(emit, offsets, priors, count)
        places = emit("Unsqueeze", [places, emit.constant(int64(3))])
        if self.share_location:
            return values, emit("GatherND", [boxes, places], batch_dims=1)
        boxes = emit("Gather", [emit("Transpose", [boxes], perm=[0, 2, 1, 3]), emit.constant(int64(*labels))], axis=1)
        return values, emit("GatherND", [boxes, places], batch_dims=2)

    def _classes(self) -> tuple[int, ...]:
        return () if self.share_location else (self.num_classes,)

    def _decode_onnx(self, emit: Emitter, offsets: str, priors: str, count: int) -> str:
        """As `_decode`, operator by operator."""
        ones = (1,) * len(self._classes())
        both = emit("Reshape", [priors, emit.constant(int64(2, count, *ones, 4))])
        prior, variance = (emit("Gather", [both, emit.constant(np.asarray(i, np.int64))], axis=0) for i in (0, 1))
        scaled = offsets if self.variance_encoded_in_target else emit("Mul", [variance, offsets])
        if self.code_type == "CORNER":
            return emit("Add", [prior, scaled])
        low, high = _halves(emit, prior)
        side = emit("Sub", [high, low])
        if self.code_type == "CORNER_SIZE":
            return emit("Add", [prior, emit("Mul", [scaled, emit("Concat", [side, side], axis=-1)])])
        shift, growth = _halves(emit, scaled)
        two = scalar(emit, 2)
        centre = emit("Add", [emit("Mul", [shift, side]), emit("Div", [emit("Add", [low, high]), two])])
        half = emit("Div", [emit("Mul", [emit("Exp", [growth]), side]), two])
        return emit("Concat", [emit("Sub", [centre, half]), emit("Add", [centre, half])], axis=-1)

    def _selected(self, emit: Emitter, scores: str, boxes: str, best: int) -> str:
        """(N, labels * best): the scores of what is kept, -inf elsewhere."""
        flat = emit("Reshape", [boxes, emit.constant(int64(-1, best, 4))])
        low, high = _halves(emit, flat)
        # Caffe: a box whose corners are crossed overlaps nothing. The operator would uncross them.
        flat = emit("Concat", [low, emit("Max", [low, high])], axis=-1)
        inputs = [
            flat,
            emit("Reshape", [scores, emit.constant(int64(-1, 1, best))]),
            emit.constant(int64(best)),
            emit.constant(np.asarray([min(self.nms_threshold, 1.0)], np.float32)),
        ]
        if self.confidence_threshold is not None:
            inputs.append(emit.constant(np.asarray([self.confidence_threshold], np.float32)))
        selected = emit("NonMaxSuppression", inputs)  # (kept, 3): which suppression, 0, which box
        which, box = (emit("Gather", [selected, emit.constant(np.asarray(i, np.int64))], axis=1) for i in (0, 2))
        places = emit("Add", [emit("Mul", [which, emit.constant(int64(best))]), box])
        values = emit("Reshape", [scores, emit.constant(int64(-1))])
        nothing = _filled(emit, emit("Shape", [values]), -np.inf)
        kept = emit("ScatterElements", [nothing, places, emit("Gather", [values, places])], axis=0)
        return emit("Reshape", [kept, emit.constant(int64(-1, len(self.labels()) * best))])

    def _rows(self, emit: Emitter, kept: str, boxes: str, best: int) -> str:
        """(detections, 7), from (N, labels * best) and (N, labels * best, 4)."""
        places = emit("NonZero", [emit("Greater", [kept, scalar(emit, -np.inf)])])  # (2, detections), in order
        image, place = emit.several("Split", [places, emit.constant(int64(1, 1))], 2, axis=0)
        labels = emit.constant(np.asarray(self.labels(), np.float32))
        columns = [
            emit("Cast", [image], to=TensorProto.FLOAT),
            emit("Gather", [labels, emit("Div", [place, emit.constant(int64(best))])], axis=0),
        ]
        pairs = emit("Transpose", [places], perm=[1, 0])
        score = emit("Unsqueeze", [emit("GatherND", [kept, pairs]), emit.constant(int64(1))])
        columns = [emit("Transpose", [column], perm=[1, 0]) for column in columns]
        return emit("Concat", [*columns, score, emit("GatherND", [boxes, pairs])], axis=1)

    def _or_none(self, emit: Emitter, rows: str, offsets: str) -> str:
        """(1, 1, detections, 7); of a batch without any a row for each image."""
        first, one = emit.constant(int64(0)), emit.constant(int64(1))
        found = emit("Slice", [emit("Shape", [rows]), first, one])
        images = emit("Slice", [emit("Shape", [offsets]), first, one])
        none = emit("Cast", [emit("Equal", [found, first])], to=TensorProto.INT64)
        end = emit("Squeeze", [emit("Mul", [images, none]), first])
        zero, step = (emit.constant(np.asarray(i, np.int64)) for i in (0, 1))
        numbers = emit("Unsqueeze", [emit("Range", [zero, end, step]), one])
        rest = _filled(emit, emit("Concat", [emit("Mul", [images, none]), emit.constant(int64(ROW - 1))], axis=0), -1)
        empty = emit("Concat", [emit("Cast", [numbers], to=TensorProto.FLOAT), rest], axis=1)
        rows = emit("Concat", [rows, empty], axis=0)
        return emit("Unsqueeze", [rows, emit.constant(int64(0, 1))])


def _overlaps(box: Tensor, others: Tensor) -> Tensor:
    """Intersection over union; 0 for a box whose corners are crossed, or of no area."""
    low = torch.maximum(box[:2], others[:, :2])
    high = torch.minimum(box[2:], others[:, 2:])
    sides = (high - low).clamp(min=0)
    shared = sides[:, 0] * sides[:, 1]
    areas = [(x[..., 2] - x[..., 0]) * (x[..., 3] - x[..., 1]) for x in (box, others)]
    return torch.where(shared > 0, shared / (areas[0] + areas[1] - shared), torch.zeros_like(shared))


def _halves(emit: Emitter, x: str) -> tuple[str, ...]:
    """The first and the last two values along the last axis."""
    return emit.several("Split", [x, emit.constant(int64(2, 2))], 2, axis=-1)


def _filled(emit: Emitter, shape: str, value: float) -> str:
    return emit("ConstantOfShape", [shape], value=numpy_helper.from_array(np.asarray([value], np.float32)))
