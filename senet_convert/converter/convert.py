"""The whole way: files in, a verified bundle out."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from .. import bundle
from ..deploy.classes import DEVKIT, ORDERS, Classes, read_labels
from ..deploy.preprocess import BLOB, IMAGE, Preprocess, read_image
from ..deploy.session import newest_opset
from ..errors import CheckError, ConvertError
from ..proto import NetDef, read_caffemodel, read_prototxt
from . import (
    class_order,
    families,
    graph,
    image_input,
    landed,
    onnx_export,
    pictures,
    preprocessing,
    reference,
    report,
    resize,
)
from .check import Check, Subject, compare, read_reference
from .definition import write_definition
from .families import Match
from .graph import Graph
from .landed import Landed
from .passes import Options
from .released import Source, identify

Array = NDArray[Any]
Progress = Callable[[str], None]

# What the published errors of the released networks were measured with; a caffemodel alone does not say it.
RELEASED_RESIZE, RELEASED_SIZE, RELEASED_MEAN = 256, 224, (104.0, 117.0, 123.0)
ILSVRC_CLASSES = 1000
WITNESS = "witness.onnx"  # the model with every blob as an output, for the check only


@dataclass(frozen=True)
class Wishes:
    """What a person asks of a conversion, beyond the files."""

    options: Options = Options()
    opset: int = onnx_export.DEFAULT_OPSET
    all_blobs: bool = False
    outputs: tuple[str, ...] = ()
    check: bool = True
    keep_going: bool = False
    force: bool = False
    images: tuple[Path, ...] = ()
    reference: Path | None = None
    size: int | None = None  # of the input, another one than the network's own
    resize: int | None = None
    crop: int | None = None
    mean: tuple[float, ...] | Path | None = None  # values, or a mean.binaryproto
    scale: float | None = None
    resample: str | None = None
    color: str | None = None
    labels: Path | str | None = None  # a file, or 'devkit' or 'sorted'
    class_order: str | None = None  # 'devkit' or 'sorted'
    input: str = BLOB  # what the ONNX file takes: BLOB, or IMAGE for pictures as uint8


@dataclass(frozen=True)
class Loaded:
    """A network with its weights, as a torch module: a readable family net where the structure is known."""

    net: NetDef
    graph: Graph
    match: Match | None
    module: nn.Module
    names: Mapping[str, str]  # weight key of the graph -> name in the state_dict


@dataclass(frozen=True)
class Result:
    """What a conversion gives back."""

    folder: Path
    report: Mapping[str, Any]
    check: Check | None
    warnings: tuple[str, ...] = field(default=())


def find_prototxt(caffemodel: Path) -> Path | None:
    """The prototxt beside a caffemodel: of the same stem, else deploy.prototxt; None when there is neither."""
    places = (caffemodel.with_suffix(".prototxt"), caffemodel.parent / "deploy.prototxt")
    return next((place for place in places if place.is_file()), None)


def read(caffemodel: Path, prototxt: Path | None, options: Options, size: int | None = None) -> tuple[NetDef, Graph]:
    """The network's definition and its graph with weights; without a prototxt, the caffemodel defines itself.

    `size` is another one of the input, see `resize`.
    """
    weights = read_caffemodel(caffemodel)
    net = read_prototxt(prototxt) if prototxt else weights
    if size is None:
        return net, graph.build(net, weights, options)
    net, options, notes = resize.resized(net, options, size)
    built = graph.build(net, weights, options)
    return net, replace(built, warnings=(*built.warnings, *notes))


def realise(net: NetDef, built: Graph) -> Loaded:
    """The graph as a torch module, float32, in evaluation mode."""
    match = families.match(built)
    if match is not None:
        return Loaded(net, built, match, families.build(match, built), match.names)
    module = reference.lower(built)
    return Loaded(net, built, None, module, module.names)


def convert(caffemodel: Path, prototxt: Path | None, folder: Path, wishes: Wishes, progress: Progress) -> Result:
    """Convert, check and write a bundle. Raises ConvertError, with nothing written.

    `progress` is told in a few words what happens next.
    """
    bundle.refuse_taken(folder, wishes.force)
    if wishes.opset > onnx_export.DEFAULT_OPSET and wishes.opset > newest_opset(onnx_export.OPSETS[-1]):
        raise ConvertError(
            f"--opset {wishes.opset}: the installed onnxruntime takes at most {newest_opset(onnx_export.OPSETS[-1])}"
        )
    with ThreadPoolExecutor(1) as hasher:  # hashing leaves the interpreter free for the rest
        sources = [hasher.submit(identify, caffemodel, "caffemodel")]
        if prototxt:
            sources.append(hasher.submit(identify, prototxt, "prototxt"))
        progress(f"reading {caffemodel.name}" + (f" and {prototxt.name}" if prototxt else ""))
        loaded = realise(*read(caffemodel, prototxt, wishes.options, wishes.size))
        digests = [source.result() for source in sources]
    preprocess = _preprocess(loaded, digests, wishes)
    if wishes.input == IMAGE:
        if wishes.reference:
            raise ConvertError(
                "--reference: holds what the network takes, not pictures; it cannot go with --input image"
            )
        preprocess = image_input.preprocess_for(loaded.graph, preprocess)
    classes = before = _classes(loaded.graph, digests, wishes.labels)
    if wishes.class_order:
        loaded, classes = _reordered(loaded, classes, wishes)
    with bundle.writing(folder, wishes.force) as temporary:
        progress("writing the ONNX model and the PyTorch weights")
        metadata = report.metadata(digests, loaded, preprocess, classes)
        if classes.order != before.order:
            metadata["class_order_in_caffemodel"] = before.order
        if wishes.size:
            metadata["input_size"] = str(wishes.size)
        model = _export(loaded.graph, wishes, metadata)
        if preprocess and preprocess.input == IMAGE:
            model = image_input.take_images(model, preprocess)
        model.check()
        model.write(temporary / bundle.ONNX)
        _write_weights(loaded, temporary / bundle.WEIGHTS)
        notes = write_definition(loaded.net, _options(loaded, wishes), loaded.graph, temporary / bundle.DEFINITION)
        check: Check | None = None
        weights: tuple[Landed, ...] = ()
        if wishes.check:
            weights = _weights(loaded, model, temporary)
            check = _check(loaded, wishes, preprocess, temporary, progress)
        made = report.make(digests, loaded, preprocess, classes, model, check, weights)
        faults = [*(check.faults if check else ()), *(fault for item in weights for fault in item.faults)]
        if faults and not wishes.keep_going:
            raise CheckError(_failed(caffemodel, check, faults))
        progress("writing the report")
        bundle.write_report(temporary, made)
        report.write_page(temporary / bundle.PAGE, made)
    return Result(folder, made, check, (*loaded.graph.warnings, *notes, *faults))


def _options(loaded: Loaded, wishes: Wishes) -> Options:
    """Those that the graph was made with: with --size its input has another shape than the files and the person say."""
    if wishes.size is None:
        return wishes.options
    return replace(wishes.options, input_shapes={name: loaded.graph.shapes[name] for name in loaded.graph.inputs})


def _export(built: Graph, wishes: Wishes, metadata: Mapping[str, str]) -> onnx_export.OnnxModel:
    outputs: Sequence[str] | None = wishes.outputs or None
    if wishes.all_blobs:
        outputs = onnx_export.all_blobs(built)
    return onnx_export.export(built, wishes.opset, outputs, metadata)


def _write_weights(loaded: Loaded, path: Path) -> None:
    """model.safetensors: the state_dict. Weights that are shared under two names are written under both."""
    state = loaded.module.state_dict()
    seen: set[int] = set()
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        tensors[name] = tensor.clone() if tensor.data_ptr() in seen and tensor.numel() else tensor
        seen.add(tensor.data_ptr())
    try:
        safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
    except safetensors.SafetensorError as fault:  # it tells the system's error number only in its text
        number = re.search(r"os error (\d+)", str(fault))
        if number is None:
            raise
        raise OSError(int(number.group(1)), os.strerror(int(number.group(1)))) from fault


def _weights(loaded: Loaded, model: onnx_export.OnnxModel, folder: Path) -> tuple[Landed, ...]:
    return (
        landed.in_onnx(loaded.graph, folder / bundle.ONNX, set(model.initializers)),
        landed.in_safetensors(loaded.graph, folder / bundle.WEIGHTS, loaded.names),
    )


def _check(loaded: Loaded, wishes: Wishes, preprocess: Preprocess | None, folder: Path, progress: Progress) -> Check:
    delivered = witness = folder / bundle.ONNX
    if not wishes.all_blobs or wishes.input == IMAGE:
        witness = folder / WITNESS
        everything = onnx_export.export(loaded.graph, wishes.opset, onnx_export.all_blobs(loaded.graph))
        everything.write(witness)
    runner = loaded.module if isinstance(loaded.module, reference.GraphModule) else reference.lower(loaded.graph)
    blobs = read_reference(wishes.reference, loaded.graph) if wishes.reference else None
    inputs, described = _inputs(loaded, wishes, preprocess, blobs)
    fed = None
    if preprocess and preprocess.input == IMAGE:
        (name,) = loaded.graph.inputs
        fed = {IMAGE: inputs[name]}
        inputs = {name: preprocess.planes(inputs[name])}
    subject = Subject(loaded.graph, runner, loaded.match, loaded.module, witness, delivered, fed)
    progress(f"checking every blob on {described}")
    try:
        return compare(subject, inputs, described, blobs)
    finally:
        if witness != delivered:
            witness.unlink()
            onnx_export.data_file(witness).unlink(missing_ok=True)


def _inputs(
    loaded: Loaded, wishes: Wishes, preprocess: Preprocess | None, blobs: Mapping[str, Array] | None
) -> tuple[dict[str, Array], str]:
    """What the check computes on: the reference's own inputs, a person's images, or smooth pictures.

    As the ONNX file takes them, but under the names of the network's inputs; and what they are, in words.
    """
    if blobs is not None:
        return {name: blobs[name] for name in loaded.graph.inputs}, f"the inputs of {wishes.reference}"
    if wishes.images:
        if preprocess is None:
            raise ConvertError("--images needs a network with one image input (N, C, H, W) of 1 or 3 channels")
        images = [read_image(path, preprocess.channels) for path in wishes.images]
        (name,) = loaded.graph.inputs
        batch = preprocess.batch(images)
        if loaded.graph.batched[name][0] not in (None, len(batch)):
            raise ConvertError(f"the network takes batches of {loaded.graph.shapes[name][0]} images, not {len(batch)}")
        return {name: batch}, f"{len(images)} images"
    if preprocess and preprocess.input == IMAGE:
        return image_input.samples(loaded.graph), "smooth synthetic pictures"
    mean, scale = (preprocess.mean, preprocess.scale) if preprocess else ((), 1.0)
    made = pictures.inputs(loaded.graph, mean, scale)
    return dict(made), "smooth synthetic pictures" if preprocess else "synthetic inputs"


def _preprocess(loaded: Loaded, sources: Sequence[Source], wishes: Wishes) -> Preprocess | None:
    """What the files state, completed by what is known of a release, overruled by what a person says."""
    found = preprocessing.stated(loaded.net, loaded.graph)
    asked: dict[str, Any] = {
        "resize": wishes.resize,
        "size": (wishes.crop, wishes.crop) if wishes.crop else None,
        "mean": preprocessing.channel_means(wishes.mean) if isinstance(wishes.mean, Path) else wishes.mean,
        "scale": wishes.scale,
        "resample": wishes.resample,
        "color": wishes.color,
    }
    asked = {key: value for key, value in asked.items() if value is not None}
    if found is None:
        if asked:
            raise ConvertError(f"--{', --'.join(asked)}: only for a network with one image input of 1 or 3 channels")
        return None
    if any(source.release for source in sources):
        shorter = round(RELEASED_RESIZE * max(found.size) / RELEASED_SIZE)
        found = replace(found, resize=shorter, mean=found.mean or RELEASED_MEAN)
    return replace(found, **asked)


def _classes(built: Graph, sources: Sequence[Source], wanted: Path | str | None) -> Classes:
    """What the outputs stand for: as a person says, else the devkit's classes where the caffemodel is a release."""
    released = any(source.release for source in sources)
    counts = {built.shapes[built.blobs[name]][1] for name in built.outputs if len(built.shapes[built.blobs[name]]) > 1}
    if wanted is None:
        return Classes.ilsvrc2012(DEVKIT) if released and counts == {ILSVRC_CLASSES} else Classes()
    if isinstance(wanted, Path):
        classes, said = read_labels(wanted), str(wanted)
    else:
        classes, said = Classes.ilsvrc2012(ORDERS[wanted]), f"--labels {wanted}"
    if counts and len(classes.labels) not in counts:
        outputs = ", ".join(f"'{name}' {list(built.shapes[built.blobs[name]])}" for name in built.outputs)
        raise ConvertError(f"{said}: {len(classes.labels)} labels, but the network's outputs are {outputs}")
    if released and classes.order in set(ORDERS.values()) - {DEVKIT}:
        raise ConvertError(
            f"{said}: lists the classes by {classes.order}, but the released networks number them by {DEVKIT}. Leave "
            "--labels away: the right names are known"
        )
    return classes


def _reordered(loaded: Loaded, classes: Classes, wishes: Wishes) -> tuple[Loaded, Classes]:
    permuted, found = class_order.speak(loaded.graph, classes, ORDERS[wishes.class_order or ""])
    if permuted is loaded.graph:
        return loaded, classes
    if wishes.reference:
        raise ConvertError("--reference: holds the classes in the caffemodel's order; it cannot go with --class-order")
    return realise(loaded.net, permuted), found


def _failed(caffemodel: Path, check: Check | None, faults: Sequence[str]) -> str:
    first = f"\nThe first layer that diverges: {check.first_divergence}." if check and check.first_divergence else ""
    shown = "\n".join(f"  - {fault}" for fault in faults[:10])
    more = f"\n  ... and {len(faults) - 10} more" if len(faults) > 10 else ""
    return (
        f"{caffemodel}: the check failed, nothing was written ({len(faults)} faults):\n{shown}{more}{first}\n"
        "--keep-going writes the bundle all the same, with the report."
    )


def load(caffemodel: Path, prototxt: Path | None = None, options: Options | None = None) -> nn.Module:
    """See senet_convert.load."""
    return realise(*read(caffemodel, prototxt or find_prototxt(caffemodel), options or Options())).module
