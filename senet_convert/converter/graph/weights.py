"""Every blob of the caffemodel lands exactly once, bit for bit, or stands in the report with the reason.

Blobs are matched as Caffe does it, by layer name; but what Caffe passes over in silence (layers left without weights,
names that stand twice) is refused here, all of it at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import Problems, listed
from ...proto import LayerDef, NetDef
from ...proto.netdef import Blob, ParamSpec, Shape
from ..layers.base import Layer, times
from ..layers.convolution import InnerProduct

Array = NDArray[Any]


@dataclass(frozen=True)
class Wanted:
    """A layer of the graph that needs blobs: their shapes and names, and what it shares."""

    name: str
    layer: Layer
    shapes: tuple[Shape, ...]
    specs: tuple[ParamSpec, ...]
    bottoms: tuple[Shape, ...] = ()
    line: int | None = field(default=None, compare=False)

    @property
    def where(self) -> str:
        """What messages call it: "layer 'fc' (InnerProduct, line 12)"."""
        kind = type(self.layer).__name__
        return f"layer '{self.name}' ({kind}, line {self.line})" if self.line else f"layer '{self.name}' ({kind})"

    def complete(self, entry: LayerDef) -> bool:
        """Whether an entry of a caffemodel holds all blobs that the layer needs, in their shapes."""
        held = entry.blobs
        return len(held) == len(self.shapes) and self.fits(held)

    def fits(self, held: Sequence[Blob]) -> bool:
        """Whether as many blobs as the layer needs have its shapes."""
        return all(
            blob.fits(shape) or self.layer.alike(blob.shape, shape)
            for blob, shape in zip(held, self.shapes, strict=True)
        )

    def shared(self, index: int) -> str:
        """The name by which a blob is shared, of `param { name }`; '' where it is the layer's own."""
        return self.specs[index].name if index < len(self.specs) else ""


@dataclass(frozen=True)
class Accounts:
    """Where the blobs went. Keys of `arrays` are '<layer>/<weight>'."""

    arrays: Mapping[str, Array] = field(default_factory=dict)
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # layer -> its keys, in order
    unused: tuple[str, ...] = ()  # layers of the file with blobs that the network does not run
    sound: bool = True  # no value is NaN or infinite, nor a variance without a root
    blobs: int = 0  # how many blobs of the file landed
    values: int = 0
    warnings: tuple[str, ...] = ()


def assign(wanted: Sequence[Wanted], untold: Collection[str], file: NetDef, problems: Problems) -> Accounts:
    """The arrays of every layer that needs some. Unfitting, missing and ambiguous blobs are added to `problems`.

    `untold` are layers that may need some too: a problem hides what.
    """
    source = {layer.name: layer for layer in file.layers}
    names = {want.name for want in wanted}
    warnings: list[str] = []
    ambiguous = _refuse_ambiguous(wanted, file, problems, warnings)
    unused = [layer.name for layer in file.layers if layer.blobs and layer.name not in names.union(untold)]
    unlike = _refuse_unlike([want for want in wanted if want.name not in ambiguous], problems)
    told = [want for want in wanted if want.name not in ambiguous | unlike]
    found = _found(told, source)
    missing = {name for name, held in found.items() if not held}
    if missing:
        problems.add(_missing(missing, wanted, unused, file, no_match=not source.keys() & names.union(untold)))
    shared: dict[str, tuple[str, Array, str]] = {}
    arrays: dict[str, Array] = {}
    keys: dict[str, tuple[str, ...]] = {}
    strange: list[str] = []
    doubts: dict[str, list[str]] = {}  # what layers say of their blobs -> these layers
    landed = values = 0
    for want in told:
        if want.name in missing:
            continue
        held = source[want.name].blobs if want.name in source else ()
        fault = _misfit(want, found[want.name], file.source)
        if fault:
            problems.add(fault)
            continue
        flat = [_float32(found[want.name][i], shape) for i, shape in enumerate(want.shapes)]
        landed, values = landed + len(held), values + sum(blob.data.size for blob in held)
        strange += _not_finite(want, flat) + _negative_variance(want, flat)
        doubt = want.layer.doubt(flat)
        if doubt:
            doubts.setdefault(doubt, []).append(f"'{want.name}'")
        prepared = want.layer.prepare(flat)
        own = tuple(f"{want.name}/{name}" for name in want.layer.names(len(want.shapes)))
        keys[want.name] = tuple(
            _share(want, i, key, array, shared, arrays, file.source, problems)
            for i, (key, array) in enumerate(zip(own, prepared, strict=True))
        )
    if strange:
        warnings += [*strange, "with such weights each layer computes as Caffe's does; the network counts to no family"]
    warnings += [f"{doubt} {listed(layers)}" for doubt, layers in doubts.items()]
    if unused:
        warnings.append(f"{file.source} holds weights for layers that the network does not run: {_said(unused)}")
    return Accounts(arrays, keys, tuple(unused), not strange, landed, values, tuple(warnings))


def _refuse_ambiguous(wanted: Sequence[Wanted], file: NetDef, problems: Problems, warnings: list[str]) -> set[str]:
    """The names that do not tell which blobs belong to which layer.

    Of a layer that the file lists several times Caffe keeps the last (Net::CopyTrainedLayersFrom); each has to be
    complete for that.
    """
    repeated: list[str] = []
    by_name: dict[str, list[Wanted]] = {}
    for want in wanted:
        by_name.setdefault(want.name, []).append(want)
    entries: dict[str, list[LayerDef]] = {}
    for layer in file.layers:
        entries.setdefault(layer.name, []).append(layer)
    ambiguous: set[str] = set()
    for name, wants in by_name.items():
        places = listed([want.where for want in wants])
        if not name:
            ambiguous.add(name)
            problems.add(
                f"layers that need weights have no name, by which these are matched: {places}. Name them, in the "
                "prototxt and in the caffemodel"
            )
            continue
        if len(wants) > 1:
            ambiguous.add(name)
            problems.add(
                f"{len(wants)} layers that need weights have one name, {places}; Caffe fills only the first of them. "
                "Give each its own name, in the prototxt and in the caffemodel"
            )
        if len(entries.get(name, ())) > 1 and len(wants) == 1 and all(wants[0].complete(one) for one in entries[name]):
            repeated.append(f"'{name}' ({len(entries[name])} times)")
        elif len(entries.get(name, ())) > 1:
            ambiguous.add(name)
            counts = listed([str(len(entry.blobs)) for entry in entries[name]])
            problems.add(
                f"{file.source} names layer '{name}' {len(entries[name])} times, with {counts} blobs; Caffe wants each "
                "to have what the network's layer has, and keeps the last"
            )
    if repeated:
        warnings.append(
            f"{file.source} lists layers more than once, each time with all their blobs; the last one counts, as in "
            f"Caffe: {listed(repeated)}"
        )
    return ambiguous


def _refuse_unlike(wanted: Sequence[Wanted], problems: Problems) -> set[str]:
    """The layers whose blobs cannot be those that they share, which the first layer of that name owns."""
    owners: dict[str, tuple[str, Shape]] = {}
    unlike: set[str] = set()
    for want in wanted:
        for i, shape in enumerate(want.shapes):
            name = want.shared(i)
            owner, its = owners.setdefault(name, (want.name, shape)) if name else (want.name, shape)
            if shape == its or (want.specs[i].share_mode == "PERMISSIVE" and prod(shape) == prod(its)):
                continue
            unlike.add(want.name)
            problems.add(
                f"layers '{owner}' and '{want.name}' share the weight '{name}' with shapes {times(its)} and "
                f"{times(shape)}; that needs share_mode: PERMISSIVE and equal counts"
            )
    return unlike


def _found(wanted: Sequence[Wanted], source: Mapping[str, LayerDef]) -> dict[str, dict[int, Blob]]:
    """The blobs of each layer by number. What the file holds once counts for every layer that shares it: an HDF5
    snapshot leaves out blobs, other files whole layers; of some blobs without numbers nobody knows which they are.
    """
    found: dict[str, dict[int, Blob]] = {}
    once: dict[str, Blob] = {}
    for want in wanted:
        held = source[want.name].blobs if want.name in source else ()
        found[want.name] = {i if blob.number is None else blob.number: blob for i, blob in enumerate(held)}
        for i, blob in found[want.name].items():
            once.setdefault(want.shared(i), blob)
    once.pop("", None)
    for want in wanted:
        blobs = found[want.name]
        lacking = [i for i in range(len(want.shapes)) if i not in blobs]
        if all(want.shared(i) in once for i in lacking) and all(blob.number is not None for blob in blobs.values()):
            for i in lacking:
                blob, shape = once[want.shared(i)], want.shapes[i]
                blobs[i] = replace(blob, shape=shape) if blob.data.size == prod(shape) else blob
    return found


def _missing(missing: set[str], wanted: Sequence[Wanted], unused: list[str], file: NetDef, no_match: bool) -> str:
    lacking = listed([want.name for want in wanted if want.name in missing])
    have = _said(unused) or "none"
    if no_match:
        return (
            f"no layer name matches: {file.source} holds weights for {have}; the network needs them for {lacking}. "
            "Is it the prototxt of another network?"
        )
    return (
        f"{file.source} holds no weights for these layers of the network: {lacking}; "
        f"it holds weights for these layers that the network lacks: {have}. "
        "Is it the prototxt of another network, or a download that stopped early?"
    )


def _said(names: Sequence[str]) -> str:
    return listed([name or "(one without a name)" for name in names])


def _misfit(want: Wanted, held: Mapping[int, Blob], source: str) -> str | None:
    """What Caffe's CopyTrainedLayersFrom would refuse, in words."""
    blobs = [held[i] for i in sorted(held)]
    have = " and ".join(times(blob.shape) for blob in blobs)
    need = " and ".join(times(shape) for shape in want.shapes)
    if held.keys() != set(range(len(want.shapes))):
        lacking = [str(i) for i in range(len(want.shapes)) if i not in held and blobs[0].number is not None]
        which = f"; it lacks blob {listed(lacking)}, which no layer with blobs shares by its name" if lacking else ""
        return (
            f"{want.where}: {source} holds {len(blobs)} blobs ({have}), the network needs {len(want.shapes)} "
            f"({need}){which}{want.layer.cause([blob.shape for blob in blobs])}"
        )
    if want.fits(blobs):
        return None
    return (
        f"{want.where}: {source} holds blobs of shape {have}, the network needs {need}"
        f"{_likely_cause(want, blobs[0].shape)}{want.layer.cause([blob.shape for blob in blobs])}"
    )


def _likely_cause(want: Wanted, have: Shape) -> str:
    """What most often is behind an InnerProduct that does not fit."""
    need, layer = want.shapes[0], want.layer
    if not isinstance(layer, InnerProduct) or len(have) < 2 or have[-2:] == need:
        return ""
    if have[-2:] == need[::-1]:
        wrong = "is transpose: true meant" if layer.transpose else "does the layer lack transpose: true"
        return f". The weights are stored the other way round: {wrong}?"
    outputs, k = reversed(have[-2:]) if layer.transpose else have[-2:]
    channels = _channels(want)
    if channels and outputs == layer.num_output and k % channels == 0:
        return ". Has the input another height or width than the one that the network was trained for?"
    return ""


def _channels(want: Wanted) -> int | None:
    """Of an InnerProduct over whole maps, (N, C, H, W): C. None where its bottom no longer tells."""
    bottom = want.bottoms[0] if want.bottoms else ()
    return bottom[1] if isinstance(want.layer, InnerProduct) and want.layer.axis == 1 and len(bottom) > 2 else None


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
    source: str,
    problems: Problems,
) -> str:
    """The key that holds this weight: its own, or that of the first layer that shares it by `param { name }`."""
    name = want.shared(index)
    if not name:
        arrays[key] = array
        return key
    if name not in shared:
        shared[name] = (key, array, want.name)
        arrays[key] = array
        return key
    owner_key, owner, owner_layer = shared[name]
    if array.tobytes() != owner.tobytes():
        problems.add(
            f"layers '{owner_layer}' ({times(owner.shape)}) and '{want.name}' ({times(array.shape)}) share the weight "
            f"'{name}', but {source} holds different values for them"
        )
    if array.shape == owner.shape:
        return owner_key
    arrays[key] = array  # the same values in another shape
    return key
