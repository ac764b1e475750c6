"""Why is the error so high? The classic faults of feeding a network, each undone in turn on a sample of the pictures.

Preprocessing is varied one property at a time, then on top of the best change again, as two faults may come together.
Other numberings of the labels cost no inference, so each is tried with every variation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConvertError
from ..images.images import Image, decode
from ..images.loader import Item
from ..images.preprocess import IMAGE, Preprocess
from ..labels.classes import DEVKIT, ORDERS, SORTED, Classes, renumbering
from ..model import Model
from .accuracy import TOP

BATCH = 32
ROUNDS = 3
IMAGENET_MEAN = (104.0, 117.0, 123.0)  # B, G, R
SCALES = (1.0, 1 / 255, 1 / 127.5, 0.017)  # as the bytes are; 0..1; -1..1; about the deviation of ImageNet's pixels
MARGINS = (8 / 7, 9 / 8, 1.0, 5 / 4)  # shorter side before the crop, by the crop's: 8/7 is 256 for 224
PER_CLASS = 10  # pictures of each class, on average, from which a renumbering can be learned
LEFT = (
    "What is left, the commonest first: labels of another list than the network was trained on; a mean of its own; "
    "weights that were never trained, or of another network; other classes than these."
)
SIGMAS = 1.64  # of an improvement: chance alone brings it in one case of twenty

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Fix:
    """A change that was tried: what it says of the fault, what to do about it, and the errors in % that it brings."""

    kind: str  # 'labels', 'color', 'mean', 'scale', 'resize' or 'resample'
    fault: str
    remedy: str
    top1_error: float
    top5_error: float
    gain: int = 0  # pictures more that are right
    changed: int = 0  # pictures that are right in one case and wrong in the other
    preprocess: Preprocess | None = field(default=None, repr=False)

    @property
    def significant(self) -> bool:
        """More than chance would bring, among the pictures whose verdict changes."""
        return self.gain >= max(2.0, SIGMAS * sqrt(self.changed))

    def plain(self) -> dict[str, Any]:
        """As data for JSON."""
        keys = ("kind", "fault", "remedy", "top1_error", "top5_error")
        return {key: getattr(self, key) for key in keys}


@dataclass(frozen=True)
class Diagnosis:
    """What the sample tells. `tried` are single changes, best first; `steps` those that together explain the error."""

    images: int
    expected: float | None
    top1_error: float
    top5_error: float
    tried: tuple[Fix, ...]
    steps: tuple[Fix, ...]

    @property
    def verdict(self) -> str:
        """In words."""
        if not self.steps:
            return (
                f"None of the {len(self.tried)} classic faults that were tried explains it: no change makes the top-1 "
                f"error on {self.images} images (now {self.top1_error:.1f} %) clearly smaller. {LEFT}"
            )
        faults = "; and ".join(step.fault for step in self.steps)
        remedies = "; ".join(dict.fromkeys(step.remedy for step in self.steps))
        return (
            f"Most likely: {faults}. Put right, the top-1 error on {self.images} images goes from "
            f"{self.top1_error:.1f} % to {self.steps[-1].top1_error:.1f} %. To do: {remedies}."
        )

    def plain(self) -> dict[str, Any]:
        """As data for JSON."""
        return {
            "images": self.images,
            "expected_top1_error": self.expected,
            "top1_error": self.top1_error,
            "top5_error": self.top5_error,
            "verdict": self.verdict,
            "steps": [step.plain() for step in self.steps],
            "tried": [fix.plain() for fix in self.tried],
        }


@dataclass(frozen=True)
class _Change:
    """A variation before it is tried: of the preprocessing, or (with a table) of the labels."""

    kind: str
    fault: str
    remedy: str
    preprocess: Preprocess | None = None
    table: Ints | None = None


def diagnose(model: Model, items: Sequence[Item], expected: float | None = None) -> Diagnosis:
    """Try the classic faults on `items`. `expected` is the top-1 error in % where looking further is not needed.

    Raises ConvertError when no picture of the sample can be used.
    """
    images, labels = _read(model, items)
    bench = _Bench(model, images, labels)
    start = bench.order(model.preprocess)
    first = bench.fixes(model.preprocess, start, ())
    steps: list[Fix] = []
    fixes = first
    while fixes and fixes[0].significant and len(steps) < ROUNDS:
        best = fixes[0]
        steps.append(best)
        bench.accept(best)
        near = expected is not None and best.top1_error <= expected + 1
        if near or best.top1_error == 0:
            break
        preprocess = best.preprocess or (bench.accepted or model.preprocess)
        fixes = bench.fixes(preprocess, bench.order(preprocess), tuple(step.kind for step in steps))
    top1, top5 = _errors(start, labels)
    return Diagnosis(len(labels), expected, top1, top5, tuple(first), tuple(steps))


class _Bench:
    """The sample, and what is accepted so far."""

    def __init__(self, model: Model, images: Sequence[Image], labels: Ints) -> None:
        self.model, self.images, self.labels = model, images, labels
        self.accepted: Preprocess | None = None
        self._tables: dict[str, Ints] = {}

    def order(self, preprocess: Preprocess) -> Ints:
        """The outputs from best to worst, int64 (N, classes)."""
        parts = []
        for at in range(0, len(self.images), BATCH):
            batch = preprocess.batch(self.images[at : at + BATCH])
            parts.append(np.argsort(-self.model.probabilities(batch), axis=1, kind="stable"))
        return np.concatenate(parts).astype(np.int64)

    def fixes(self, preprocess: Preprocess, start: Ints, done: Sequence[str]) -> list[Fix]:
        """Every change of a kind that is not `done`, tried; best first. One property is changed at a time."""
        found = []
        if "labels" not in done:
            changes = [*renumberings(self.model.classes, self.model.outputs), *_learned(start, self.labels)]
            found += [self._fix(change, start, start) for change in changes]
        for change in variations(preprocess, self.images):
            if change.kind not in done and change.preprocess is not None:
                try:
                    found.append(self._fix(change, start, self.order(change.preprocess)))
                except ConvertError:  # a crop that does not fit: not what the network was trained on either
                    continue
        return sorted(found, key=lambda fix: (fix.top1_error, fix.top5_error, -fix.gain))

    def accept(self, fix: Fix) -> None:
        """Go on from here."""
        if fix.preprocess is not None:
            self.accepted = fix.preprocess
        if fix.fault in self._tables:
            self.labels = _renumbered(self.labels, self._tables[fix.fault])

    def _fix(self, change: _Change, before: Ints, after: Ints) -> Fix:
        labels = self.labels
        if change.table is not None:
            self._tables[change.fault] = change.table
            labels = _renumbered(self.labels, change.table)
        was, now = before[:, 0] == self.labels, after[:, 0] == labels
        gain, changed = int(now.sum()) - int(was.sum()), int((was != now).sum())
        return Fix(change.kind, change.fault, change.remedy, *_errors(after, labels), gain, changed, change.preprocess)


def _read(model: Model, items: Sequence[Item]) -> tuple[list[Image], Ints]:
    images, labels = [], []
    for item in items:
        try:
            image = decode(item.read(), item.name, model.preprocess.channels)
            model.preprocess.apply(image)  # is left out too where it is too long for the crop
        except (ConvertError, OSError):  # told by the validation itself
            continue
        images.append(image)
        labels.append(item.label)
    if not images:
        raise ConvertError("no image of the sample can be used: there is nothing to diagnose on")
    return images, np.array(labels, np.int64)


def _errors(order: Ints, labels: Ints) -> tuple[float, float]:
    """Top-1 and top-5 error in %."""
    hits = order[:, :TOP] == labels[:, None]
    count = len(labels)
    return 100 * int((~hits[:, 0]).sum()) / count, 100 * int((~hits.any(axis=1)).sum()) / count


# ---- preprocessing ---------------------------------------------------------------------------------------------------


def variations(now: Preprocess, images: Sequence[Image]) -> list[_Change]:
    """Each property of the preprocessing as it is likelier to be, one at a time.

    Of a model that takes pictures only what happens outside of it: size and resampling, or nothing.
    """
    if now.any_size:
        return []
    inside = now.input == IMAGE
    found = [] if inside else [*(_colors(now) if now.channels == 3 else ()), *_means(now, images)]
    found += _sizes(now)
    for scale in SCALES:
        if not inside and not np.isclose(scale, now.scale, rtol=0.05):
            fault = f"the values are scaled by {now.scale:.4g}, the network expects {scale:.4g} (times 0..255)"
            found.append(_Change("scale", fault, f"convert with --scale {scale:.6g}", replace(now, scale=scale)))
    other = "pil" if now.resample == "opencv" else "opencv"
    fault = f"pictures are resized as {now.resample} does, the network expects {other}'s way"
    found.append(_Change("resample", fault, f"convert with --resample {other}", replace(now, resample=other)))
    return found


def _colors(now: Preprocess) -> list[_Change]:
    other = "rgb" if now.color == "bgr" else "bgr"
    fault = f"the channels come as {now.color.upper()}, the network expects {other.upper()}"
    swapped = replace(now, color=other)
    found = [_Change("color", fault, f"convert with --color {other}", swapped)]
    turned = now.mean[::-1]
    if len(turned) == 3 and turned != now.mean:
        both = f"{fault}, and the mean in that order"
        remedy = f"convert with --color {other} --mean {_numbers(turned)}"
        found.append(_Change("color", both, remedy, replace(swapped, mean=turned)))
        fault = f"the mean {_numbers(now.mean)} is in the wrong order of channels"
        found.append(_Change("mean", fault, f"convert with --mean {_numbers(turned)}", replace(now, mean=turned)))
    return found


def _means(now: Preprocess, images: Sequence[Image]) -> list[_Change]:
    raw = replace(now, mean=(), scale=1.0)
    own = np.mean([raw.apply(image).mean(axis=(1, 2)) for image in images], axis=0)
    usual: tuple[float, ...] = IMAGENET_MEAN if now.color == "bgr" else IMAGENET_MEAN[::-1]
    if now.channels == 1:
        usual = (float(np.mean(usual)),)
    now_is = f"the mean {_numbers(now.mean)} is subtracted" if any(now.mean) else "no mean is subtracted"
    choices = {
        "none": (0.0,),
        f"ImageNet's, {_numbers(usual)}": usual,
        f"that of these pictures, {_numbers(own)}": tuple(float(round(value)) for value in own),
    }
    current = np.broadcast_to(now.mean or 0.0, now.channels)
    found = []
    for words, mean in choices.items():
        if not np.allclose(np.broadcast_to(mean, now.channels), current, atol=1):
            fault, remedy = f"{now_is}, the network expects {words}", f"convert with --mean {_numbers(mean)}"
            found.append(_Change("mean", fault, remedy, replace(now, mean=mean)))
    return found


def _sizes(now: Preprocess) -> list[_Change]:
    is_now = f"cropped from a shorter side of {now.resize}" if now.resize else "squashed to the input's size, uncropped"
    found = []
    for resize in dict.fromkeys([round(max(now.size) * margin) for margin in MARGINS]):
        if resize != now.resize:
            fault = f"pictures are {is_now}; the network expects a crop from a shorter side of about {resize}"
            found.append(_Change("resize", fault, f"convert with --resize {resize}", replace(now, resize=resize)))
    if now.resize:
        fault = f"pictures are {is_now}; the network expects them squashed to the input's size"
        found.append(_Change("resize", fault, "convert without --resize", replace(now, resize=None)))
    return found


def _numbers(values: Sequence[float] | NDArray[Any]) -> str:
    return ",".join(f"{float(value):.4g}" for value in values) or "0"


# ---- labels ----------------------------------------------------------------------------------------------------------


def renumberings(classes: Classes, outputs: int) -> list[_Change]:
    """Other orders that the labels may be in: ILSVRC2012's two, the alphabet's, and numbers from 1."""
    found = []
    if outputs == len(renumbering(DEVKIT, SORTED)):
        for word, source in ORDERS.items():
            (target,) = set(ORDERS.values()) - {source}
            other = next(key for key, value in ORDERS.items() if value == target)
            found.append(
                _Change(
                    "labels",
                    f"the labels number the classes by {source}, the network's outputs by {target}",
                    f"validate with --label-order {word}, or if the labels are right, convert with --labels {other}",
                    table=np.array(renumbering(source, target)),
                )
            )
    if len(classes.labels) == outputs:
        alphabet = np.array(sorted(range(outputs), key=lambda index: classes.labels[index]))
        fault = "the labels number the classes in the alphabet's order, the network's outputs in that of its label file"
        found.append(_Change("labels", fault, "number the list as the label file does", table=alphabet))
        fault = "the network numbers its classes in the alphabet's order, the label file does not"
        found.append(_Change("labels", fault, "convert with a sorted --labels file", table=np.argsort(alphabet)))
    down = np.arange(outputs) - 1
    found.append(_Change("labels", "the labels count from 1", "subtract 1 from the numbers in the list", table=down))
    return [change for change in found if not np.array_equal(np.asarray(change.table), np.arange(outputs))]


def _learned(order: Ints, labels: Ints) -> list[_Change]:
    """A renumbering read off the sample itself: learned on one half of it, kept if the other half bears it out."""
    outputs = order.shape[1]
    if len(labels) < PER_CLASS * len(set(labels.tolist())):
        return []
    best = order[:, 0]
    table = _commonest(best, labels, outputs)
    kept = _every_second(labels)
    half = _commonest(best[~kept], labels[~kept], outputs)
    held, was = half[labels[kept]] == best[kept], labels[kept] == best[kept]
    distinct = len(set(table[table >= 0].tolist())) == int((table >= 0).sum())
    if not distinct or held.sum() <= was.sum() or (table == np.arange(outputs))[table >= 0].all():
        return []
    pairs = [f"{label} is output {output}" for label, output in enumerate(table.tolist()) if output not in (-1, label)]
    fault = "the labels and the outputs number the classes differently (" + ", ".join(pairs[:10]) + ")"
    remedy = "put the list, or the file given as --labels, in the network's order"
    return [_Change("labels", fault, remedy, table=table)]


def _every_second(labels: Ints) -> NDArray[np.bool_]:
    """Every second picture of each class, wherever they stand: classes may take turns."""
    found = np.zeros(len(labels), bool)
    for label in set(labels.tolist()):
        found[np.flatnonzero(labels == label)[1::2]] = True
    return found


def _commonest(predicted: Ints, labels: Ints, outputs: int) -> Ints:
    """For each label the output that its pictures get most often; -1 for labels that do not occur."""
    table = np.full(outputs, -1, np.int64)
    for label in set(labels.tolist()):
        table[label] = Counter(predicted[labels == label].tolist()).most_common(1)[0][0]
    return table


def _renumbered(labels: Ints, table: Ints) -> Ints:
    found: Ints = table[labels]
    return found
