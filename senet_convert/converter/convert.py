"""The whole way: files in, a verified bundle out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import bundle
from ..deploy.images.preprocess import BLOB, IMAGE
from ..deploy.labels.classes import ORDERS, Classes
from ..deploy.runtime.session import newest_opset
from ..errors import CheckError, ConvertError
from ..files import require_utf8
from .caffe.definition import write_definition
from .check import inputs, written_weights
from .check.compare import Check, Subject, compare
from .check.inputs import Trial
from .check.written_weights import Landed
from .export import image_input, onnx
from .from_bundle import open_bundle
from .graph.draft import Options
from .graph.graph import Graph
from .metadata import class_order, preprocessing
from .metadata.class_names import class_names
from .metadata.preprocessing import Resolved
from .network import Loaded, read, realise
from .report import conversion_options, report
from .report.released import Source, alike, identifying
from .runner import GraphModule, lower
from .state_dict import write_state

WITNESS = "witness.onnx"  # the model with every blob as an output, for the check only


@dataclass(frozen=True)
class Wishes:
    """What a person asks of a conversion, beyond the files."""

    options: Options = Options()
    opset: int = onnx.DEFAULT_OPSET
    all_blobs: bool = False
    outputs: tuple[str, ...] = ()
    check: bool = True
    keep_going: bool = False
    command: str | None = None  # the command line that asked for it, for the record
    strict: bool = False  # preprocessing that is assumed is an error
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
    any_size: bool = False  # with IMAGE: single pictures of any size, resized and cropped by the file

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What is asked of it; None for what is not."""
        return {name: getattr(self, name) for name in ("resize", "crop", "mean", "scale", "resample", "color")}


@dataclass(frozen=True)
class Result:
    """What a conversion gives back; `failure` says in words that the check failed, where --keep-going wrote it."""

    folder: Path
    report: Mapping[str, Any]
    check: Check | None
    warnings: tuple[str, ...] = field(default=())
    failure: str | None = None


@dataclass(frozen=True)
class _Subject:
    """What is converted: `path` is what messages name, `files` what was read, `said` how the network was asked for."""

    path: Path
    files: Sequence[Source]
    loaded: Loaded
    resolved: Resolved | None
    classes: Classes
    said: Mapping[str, Any]
    tuned_from: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()


def convert(
    caffemodel: Path, prototxt: Path | None, folder: Path, wishes: Wishes, progress: Callable[[str], None]
) -> Result:
    """Convert, check and write a bundle. Raises ConvertError, with nothing written.

    `progress` is told in a few words what happens next.
    """
    _refuse_early(folder, wishes)
    sources = [identifying(caffemodel, "caffemodel")]
    if prototxt:
        sources.append(identifying(prototxt, "prototxt"))
    progress(f"reading {caffemodel.name}" + (f" and {prototxt.name}" if prototxt else ""))
    loaded = realise(*read(caffemodel, prototxt, wishes.options, wishes.size, wishes.outputs))
    files = [source() for source in sources]
    release = next((source.release for source in files if source.release), None)
    alike = _alike(loaded) if release is None else None
    named = release.name if release else None
    resolved = preprocessing.resolve(loaded.net, loaded.graph, named, wishes.preprocessing, alike, loaded.trained_with)
    classes = class_names(loaded.graph, release is not None, wishes.labels)
    said = conversion_options.plain(wishes.options, wishes.size, loaded.graph)
    return _converted(_Subject(caffemodel, files, loaded, resolved, classes, said), folder, wishes, progress)


def convert_bundle(
    source: Path, weights: Path | None, folder: Path, wishes: Wishes, progress: Callable[[str], None]
) -> Result:
    """The same for a bundle with `weights` in the place of its own: preprocessing and labels are its, unless asked.

    The report says what was tuned from what. Raises ConvertError, with nothing written.
    """
    _refuse_early(folder, wishes)
    for name in ("size", "outputs"):
        if getattr(wishes, name):
            raise ConvertError(
                f"--{name}: {source} is a bundle, whose network is as it is; convert the original with that"
            )
    progress(f"reading {source.name}" + (f" and {weights.name}" if weights else ""))
    opened = open_bundle(source, weights, wishes.options)
    files = [identifying(opened.weights, "weights")(), identifying(opened.definition, "prototxt")()]
    resolved = opened.resolved.overruled(wishes.preprocessing) if opened.resolved else None
    classes = class_names(opened.loaded.graph, False, wishes.labels) if wishes.labels else opened.classes
    origin = {"bundle": source.name, **{key: opened.report.get(key) for key in ("created", "sources", "release")}}
    said = opened.report.get("options") or conversion_options.plain(wishes.options, None, opened.loaded.graph)
    subject = _Subject(opened.weights, files, opened.loaded, resolved, classes, said, origin, opened.warnings)
    kept = opened.resolved.preprocess if opened.resolved else None
    if kept and wishes.input == BLOB:
        wishes = replace(wishes, input=kept.input, any_size=kept.any_size)
    return _converted(subject, folder, wishes, progress)


def _refuse_early(folder: Path, wishes: Wishes) -> None:
    require_utf8(folder)
    bundle.refuse_taken(folder, wishes.force)
    fault = opset_fault(wishes.opset)
    if fault:
        raise ConvertError(f"--opset: {fault}")


def _converted(subject: _Subject, folder: Path, wishes: Wishes, progress: Callable[[str], None]) -> Result:
    """Export, check, and write the bundle."""
    loaded, classes = subject.loaded, subject.classes
    doubts = _doubts(subject.path, subject.resolved, wishes.strict)
    resolved = _taken(loaded, subject.resolved, wishes)
    preprocess = resolved.preprocess if resolved else None
    if wishes.class_order:
        loaded, classes = _reordered(loaded, classes, wishes)
    tried = inputs.prepare(loaded.graph, preprocess, wishes.images, wishes.reference) if wishes.check else None
    with bundle.writing(folder, wishes.force) as temporary:
        progress("writing the ONNX model and the PyTorch weights")
        metadata = report.metadata(subject.files, loaded, resolved, classes)
        metadata |= {conversion_options.KEY: json.dumps(subject.said)}
        if subject.tuned_from:
            metadata["tuned_from"] = json.dumps(subject.tuned_from)
        if classes.order != subject.classes.order:
            metadata["class_order_in_caffemodel"] = subject.classes.order
        model = _export(loaded.graph, wishes, metadata)
        if preprocess and preprocess.input == IMAGE:
            model = image_input.take_images(model, preprocess)
        model.check()
        with ThreadPoolExecutor(1) as beside:  # both files at once: writing leaves the interpreter free
            state = beside.submit(write_state, loaded.module.state_dict(), temporary / bundle.WEIGHTS)
            model.write(temporary / bundle.ONNX)
            state.result()
        definition = temporary / bundle.DEFINITION
        notes = write_definition(loaded.net, _options(loaded, wishes), loaded.graph, definition, wishes.check)
        warnings = (*loaded.graph.warnings, *subject.warnings, *notes, *doubts)
        check: Check | None = None
        weights: tuple[Landed, ...] = ()
        if tried:
            weights = _weights(loaded, model, temporary)
            check = _check(loaded, wishes, tried, temporary, progress)
        made = report.make(subject.files, loaded, resolved, classes, model, check, weights, warnings, subject.said)
        made |= {"tuned_from": subject.tuned_from, "command": wishes.command}
        faults = [*(check.faults if check else ()), *(fault for item in weights for fault in item.faults)]
        failure = _failed(subject.path, check, faults, folder if wishes.keep_going else None) if faults else None
        if failure and not wishes.keep_going:
            raise CheckError(failure)
        progress("writing the report")
        bundle.write_report(temporary, made)
        report.write_page(temporary / bundle.PAGE, made)
    return Result(folder, made, check, warnings, failure)


def opset_fault(opset: int) -> str | None:
    """Why no file of this ONNX opset can be written and run, in words; None where it can."""
    if opset == onnx.DEFAULT_OPSET:
        return None
    oldest, newest = onnx.OPSETS[0], newest_opset(onnx.OPSETS[-1])
    if oldest <= opset <= newest:
        return None
    return f"{opset} is not between {oldest} and {newest}, the newest that the installed onnxruntime takes"


def _taken(loaded: Loaded, found: Resolved | None, wishes: Wishes) -> Resolved | None:
    """The preprocessing outside of the file, as its input wants it."""
    if wishes.input != IMAGE:
        if wishes.any_size:
            raise ConvertError("--input-size any: only a model that takes pictures resizes them; add --input image")
        return found
    if wishes.reference:
        raise ConvertError("--reference: holds what the network takes, not pictures; it cannot go with --input image")
    taken = image_input.preprocess_for(loaded.graph, found.preprocess if found else None, wishes.any_size)
    return replace(found, preprocess=taken) if found else None


def _alike(loaded: Loaded) -> str | None:
    """The name of the release whose structure the network has."""
    if loaded.match is None:
        return None
    learned = [count for count, _ in report.parameters(loaded.graph).values()]
    release = alike(sum(learned), learned[-1], loaded.match.config.num_classes)
    return release.name if release else None


def _doubts(path: Path, resolved: Resolved | None, strict: bool) -> tuple[str, ...]:
    """What is not known of the preprocessing. Raises ConvertError where that must not be."""
    doubt = resolved.origins.warning(resolved.preprocess) if resolved else None
    if doubt and strict:
        raise ConvertError(f"{path}: {doubt}")
    return (doubt,) if doubt else ()


def _options(loaded: Loaded, wishes: Wishes) -> Options:
    """Those that the graph was made with: with --size its input has another shape than the files and the person say."""
    if wishes.size is None:
        return wishes.options
    return replace(wishes.options, input_shapes={name: loaded.graph.shapes[name] for name in loaded.graph.inputs})


def _export(built: Graph, wishes: Wishes, metadata: Mapping[str, str]) -> onnx.OnnxModel:
    outputs: Sequence[str] | None = wishes.outputs or None
    if wishes.all_blobs:
        outputs = onnx.all_blobs(built)
    return onnx.export(built, wishes.opset, outputs, metadata)


def _weights(loaded: Loaded, model: onnx.OnnxModel, folder: Path) -> tuple[Landed, ...]:
    return (
        written_weights.in_onnx(loaded.graph, folder / bundle.ONNX, set(model.initializers)),
        written_weights.in_safetensors(loaded.graph, folder / bundle.WEIGHTS, loaded.names),
    )


def _check(loaded: Loaded, wishes: Wishes, tried: Trial, folder: Path, progress: Callable[[str], None]) -> Check:
    delivered = witness = folder / bundle.ONNX
    if not wishes.all_blobs or tried.fed is not None:
        witness = folder / WITNESS
        everything = onnx.export(loaded.graph, wishes.opset, onnx.all_blobs(loaded.graph))
        everything.write(witness)
    runner = loaded.module if isinstance(loaded.module, GraphModule) else lower(loaded.graph)
    subject = Subject(loaded.graph, runner, loaded.match, loaded.module, witness, delivered, tried.fed)
    progress(f"checking every blob on {tried.described}")
    try:
        return compare(
            subject,
            tried.inputs,
            tried.described,
            tried.reference,
            lambda done, blobs: progress(f"checking on {tried.described}: blob {done + 1} of {blobs}"),
        )
    finally:
        if witness != delivered:
            witness.unlink()
            onnx.data_file(witness).unlink(missing_ok=True)


def _reordered(loaded: Loaded, classes: Classes, wishes: Wishes) -> tuple[Loaded, Classes]:
    permuted, found = class_order.speak(loaded.graph, classes, ORDERS[wishes.class_order or ""])
    if permuted is loaded.graph:
        return loaded, classes
    if wishes.reference:
        raise ConvertError("--reference: holds the classes in the caffemodel's order; it cannot go with --class-order")
    return realise(loaded.net, permuted), found


def _failed(caffemodel: Path, check: Check | None, faults: Sequence[str], written: Path | None) -> str:
    first = f"\nThe first layer that diverges: {check.first_divergence}." if check and check.first_divergence else ""
    shown = "\n".join(f"  - {fault}" for fault in faults[:10])
    more = f"\n  ... and {len(faults) - 10} more" if len(faults) > 10 else ""
    done = f"{written} was written all the same" if written else "nothing was written"
    advice = "--keep-going writes the bundle all the same, with the report."
    advice = f"All of them are in {written / bundle.PAGE}." if written else advice
    return f"{caffemodel}: the check failed, {done} ({len(faults)} faults):\n{shown}{more}{first}\n{advice}"
