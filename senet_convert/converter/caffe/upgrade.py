"""Networks of 2013 and 2014 in today's form: files in, files out. The upgrade of layers is the readers' work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from ... import bundle
from ...errors import ConvertError, each, listed
from ...proto import LayerDef, NetDef, is_text, read_caffemodel, read_prototxt
from ...proto.write import write_caffemodel, write_prototxt

_TEXT, _BINARY = ".prototxt", ".caffemodel"
_INPUT = "input"  # Caffe's name for the layer that it makes of the header


@dataclass(frozen=True)
class Upgraded:
    """What was written: the files, and the layers and blobs of the first of them."""

    files: tuple[Path, ...]
    layers: int
    blobs: int
    warnings: tuple[str, ...] = field(default=())


def upgrade(file: Path, prototxt: Path | None, out: Path, force: bool, progress: Callable[[str], None]) -> Upgraded:
    """Write `file`, a prototxt or a caffemodel, to `out` in today's form, and `prototxt` beside it.

    A caffemodel that is written to a .prototxt gives its definition. Raises ConvertError, with nothing written.
    """
    text = is_text(file) or out.suffix == _TEXT
    if is_text(file) and out.suffix == _BINARY:
        raise ConvertError(f"{file}: it is a text prototxt; name a {_TEXT} with -o instead of {out}")
    if prototxt and text:
        raise ConvertError(f"--prototxt {prototxt}: only for a caffemodel that is written as one; upgrade it by itself")
    bundle.refuse_taken_files([out, out.with_suffix(_TEXT)] if prototxt else [out], force)
    progress(f"reading {file.name}")
    reads = {out: partial(read_prototxt if is_text(file) else read_caffemodel, file)}
    if prototxt:
        reads[out.with_suffix(_TEXT)] = partial(read_prototxt, prototxt)
    nets = {place: modern(net) for place, net in zip(reads, each(reads.values()), strict=True)}
    with bundle.writing_files(list(nets), force) as places:
        for place, net in zip(places, nets.values(), strict=True):
            progress(f"writing {place.name}")
            if text or place.suffix == _TEXT:
                write_prototxt(net, place)
            else:
                write_caffemodel(net, place)
    blobs = 0 if text else sum(len(layer.blobs) for layer in nets[out].layers)
    warnings = [fault for net in nets.values() for fault in _left_out(net)]
    if is_text(file):
        warnings += _blobs_left_out(nets[out])
    if prototxt:
        warnings += _strangers(*nets.values())
    return Upgraded(tuple(nets), len(nets[out].layers), blobs, tuple(warnings))


def modern(net: NetDef) -> NetDef:
    """The old header as the Input layer that Caffe makes of it; kept where it gives no shapes."""
    if not net.inputs or any(shape is None for _, shape in net.inputs):
        return net
    params = {"input_param": {"shape": [{"dim": shape} for _, shape in net.inputs]}}
    layer = LayerDef(_INPUT, "Input", tops=tuple(name for name, _ in net.inputs), params=MappingProxyType(params))
    return replace(net, inputs=(), layers=(layer, *net.layers))


def _left_out(net: NetDef) -> list[str]:
    """Fields that Caffe's format does not know, and that are therefore not in what was written."""
    found = [("", fault) for fault in net.faults]
    for layer in net.layers:
        found += [(f"layer '{layer.name}': ", fault) for fault in (*layer.rule_faults, *layer.faults)]
    return [
        f"{net.source}{f':{fault.line}' if fault.line else ''}: {where}{fault.text}; it was left out"
        for where, fault in found
    ]


def _blobs_left_out(net: NetDef) -> list[str]:
    holders = [layer.name for layer in net.layers if layer.blobs]
    return [f"{net.source}: the blobs in it were left out, of layers {listed(holders)}"] if holders else []


def _strangers(weights: NetDef, definition: NetDef) -> list[str]:
    """Layers with weights that the definition lacks: the two files are hardly of one network."""
    known = {layer.name for layer in definition.layers}
    lacking = [layer.name for layer in weights.layers if layer.blobs and layer.name not in known]
    said = f"{definition.source} lacks layers that {weights.source} has weights for: {listed(lacking)}"
    return [f"{said}. Are they of one network?"] if lacking else []
