"""Every blob of the caffemodel lands exactly once, bit for bit, or stands in the report with the reason.

Blobs are matched as Caffe does it, by layer name; but what Caffe passes over in silence (layers left without weights,
names that stand twice) is refused here, all of it at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Problems, listed
from ..proto import LayerDef, NetDef
from ..proto.netdef import Blob, ParamSpec, Shape
from .layers.base import Layer, times
from .layers.convolution import InnerProduct

Array = NDArray[Any]


@dataclass(frozen=True)
class Wanted:
    """A layer of the graph that needs blobs: their shapes and names, and what it shares."""

    name: str
    layer: Layer
    shapes: tuple[Shape, ...]
    specs: tuple[ParamSpec, ...]


@dataclass(frozen=True)
class Accounts:
    """Where the blobs went. Keys of `arrays` are '<layer>/<weight>'."""

    arrays: Mapping[str, Array] = field(default_factory=dict)
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # layer -> its keys, in order
    unused: tuple[str, ...] = ()  # layers of the file with blobs that the network does not run
    unsound: frozenset[str] = frozenset()  # keys of the layers with a value that is NaN or infinite
    blobs: int = 0  # how many blobs of the file landed
    values: int = 0
    warnings: tuple[str, ...] = ()


def assign(wanted: Sequence[Wanted], file: NetDef, problems: Problems) -> Accounts:
    """The arrays of every layer that needs some. Unfitting, missing and ambiguous blobs are added to `problems`."""
    holders = [layer for layer in file.layers if layer.blobs]
    source = {layer.name: layer for layer in file.layers if layer.blobs or layer.name}
    _refuse_ambiguous(wanted, holders, problems)
    names = {want.name for want in wanted}
    unused = [layer.name for layer in holders if layer.name not in names]
    missing = [want.name for want in wanted if not (want.name in source and source[want.name].blobs)]
    if missing:
        problems.add(_missing(missing, unused, file))
    shared: dict[str, tuple[str, Array, str]] = {}
    arrays: dict[str, Array] = {}
    keys: dict[str, tuple[str, ...]] = {}
    warnings: list[str] = []
    unsound: set[str] = set()
    landed = values = 0
    for want in wanted:
        if want.name in missing:
            continue
        blobs = source[want.name].blobs
        fault = _misfit(want, blobs)
        if fault:
            problems.add(fault)
            continue
        flat = [_float32(blob, shape) for blob, shape in zip(blobs, want.shapes, strict=True)]
        landed, values = landed + len(blobs), values + sum(blob.data.size for blob in blobs)
        broken = _not_finite(want, flat)
        warnings += broken + _negative_variance(want, flat)
        prepared = want.layer.prepare(flat)
        own = tuple(f"{want.name}/{name}" for name in want.layer.names(len(want.shapes)))
        keys[want.name] = tuple(
            _share(want, i, key, array, shared, arrays, problems)
            for i, (key, array) in enumerate(zip(own, prepared, strict=True))
        )
        unsound.update(keys[want.name] if broken else ())
    if unused:
        warnings.append(f"{file.source} holds weights for layers that the network does not run: {listed(unused)}")
    return Accounts(arrays, keys, tuple(unused), frozenset(unsound), landed, values, tuple(warnings))


def _refuse_ambiguous(wanted: Sequence[Wanted], holders: Sequence[LayerDef], problems: Problems) -> None:
    for name, times_named in Counter(want.name for want in wanted).items():
        if not name:
            problems.add(
                f"{times_named} layers that need weights have no name; weights are matched by layer name: name them"
            )
        elif times_named > 1:
            problems.add(
                f"{times_named} layers that need weights are named '{name}'; Caffe fills only the first of them. "
                "Give each its own name, in the prototxt and in the caffemodel"
            )
    for name, times_named in Counter(layer.name for layer in holders).items():
        if times_named > 1 and name and name in {want.name for want in wanted}:
            problems.add(f"the caffemodel holds weights for layer '{name}' {times_named} times")


def _missing(missing: list[str], unused: list[str], file: NetDef) -> str:
    have = listed(unused) if unused else "none"
    return (
        f"{file.source} holds no weights for these layers of the network: {listed(missing)}; "
        f"it holds weights for these layers that the network lacks: {have}. "
        "Is it the prototxt of another network, or a download that stopped early?"
    )


def _misfit(want: Wanted, blobs: Sequence[Blob]) -> str | None:
    """What Caffe's CopyTrainedLayersFrom would refuse, in words."""
    have = " and ".join(times(blob.shape) for blob in blobs)
    need = " and ".join(times(shape) for shape in want.shapes)
    if len(blobs) != len(want.shapes):
        return (
            f"layer '{want.name}' ({type(want.layer).__name__}): the caffemodel holds {len(blobs)} blobs ({have}), "
            f"the network needs {len(want.shapes)} ({need})"
        )
    if all(blob.fits(shape) for blob, shape in zip(blobs, want.shapes, strict=True)):
        return None
    return (
        f"layer '{want.name}' ({type(want.layer).__name__}): the caffemodel holds blobs of shape {have}, "
        f"the network needs {need}{_likely_cause(want, blobs[0].shape)}"
    )


def _likely_cause(want: Wanted, have: Shape) -> str:
    """What most often is behind an InnerProduct that does not fit."""
    need = want.shapes[0]
    if not isinstance(want.layer, InnerProduct) or len(have) < 2:
        return ""
    if have[-2:] == need[::-1] and need[0] != need[1]:
        return ". They are stored the other way round: does the layer lack transpose: true?"
    if not want.layer.transpose and have[-2] == need[0]:
        return ". Has the input another height or width than the one that the network was trained for?"
    return ""


def _float32(blob: Blob, shape: Shape) -> Array:
    return blob.data.astype("<f4", copy=False).reshape(shape)


def _not_finite(want: Wanted, blobs: Sequence[Array]) -> list[str]:
    """Values that a trained network does not have: Caffe runs on with them, and so do we, but not silently."""
    found = []
    for i, blob in enumerate(blobs):
        with np.errstate(over="ignore", invalid="ignore"):
            finite = np.isfinite(blob.sum(dtype=np.float32))  # one pass; a NaN or infinity always shows in the sum
        if finite:
            continue
        nan, inf = int(np.isnan(blob).sum()), int(np.isinf(blob).sum())
        if nan or inf:
            found.append(f"layer '{want.name}', blob {i}: {nan} values are NaN and {inf} infinite, of {blob.size}")
    return found


def _negative_variance(want: Wanted, blobs: Sequence[Array]) -> list[str]:
    """The same, of channels whose variance has no root."""
    names = want.layer.names(len(blobs))
    if "variance" not in want.layer.statistics.intersection(names):
        return []
    variance = dict(zip(names, want.layer.prepare(blobs), strict=True))["variance"]
    negative = int((variance < -getattr(want.layer, "eps", 0.0)).sum())
    if not negative:
        return []
    return [
        f"layer '{want.name}': the variance of {negative} of {variance.size} channels is negative; "
        "its root is NaN, here as in Caffe"
    ]


def _share(
    want: Wanted,
    index: int,
    key: str,
    array: Array,
    shared: dict[str, tuple[str, Array, str]],
    arrays: dict[str, Array],
    problems: Problems,
) -> str:
    """The key that holds this weight: its own, or that of the first layer that shares it by `param { name }`."""
    name = want.specs[index].name if index < len(want.specs) else ""
    if not name:
        arrays[key] = array
        return key
    if name not in shared:
        shared[name] = (key, array, want.name)
        arrays[key] = array
        return key
    owner_key, owner, owner_layer = shared[name]
    if array.size != owner.size or array.tobytes() != owner.tobytes():
        problems.add(
            f"layers '{owner_layer}' ({times(owner.shape)}) and '{want.name}' ({times(array.shape)}) share the weight "
            f"'{name}', but the caffemodel holds different values for them"
        )
    if array.shape == owner.shape:
        return owner_key
    if want.specs[index].share_mode != "PERMISSIVE" or prod(array.shape) != prod(owner.shape):
        problems.add(
            f"layers '{owner_layer}' and '{want.name}' share the weight '{name}' with shapes {times(owner.shape)} and "
            f"{times(array.shape)}; that needs share_mode: PERMISSIVE and equal counts"
        )
    arrays[key] = array  # the same values in another shape
    return key
