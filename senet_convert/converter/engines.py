"""The caffemodel itself beside what was made of it: engines that compute in PyTorch, for `validate`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from .. import bundle
from ..deploy.images.preprocess import IMAGE
from ..deploy.labels.classes import Classes
from ..deploy.model import Compute, Model
from ..errors import ConvertError, listed
from . import runner
from .caffe.definition import settled
from .from_bundle import open_bundle
from .graph.draft import Options
from .graph.graph import Graph
from .layers import Layer
from .metadata import class_order
from .network import Loaded, find_prototxt, read, realise
from .report import conversion_options
from .report.released import identify

TORCH, GENERIC = "torch", "caffe-generic"


def engines(
    names: Sequence[str],
    model: Model,
    caffemodel: Path | None = None,
    prototxt: Path | None = None,
    layers: Mapping[str, type[Layer]] | None = None,
) -> list[Model]:
    """`model` computed by the engines TORCH (the readable family net, where there is one) and GENERIC (layer by layer).

    Without `caffemodel`, the file that the bundle was made from is looked for beside it; without `prototxt`, the
    bundle's own definition is taken. What was said of the network at its conversion holds again; only `layers`, types
    of a person's own, have to be given. Raises ConvertError: not found, another file than the one that the model was
    made from, layer types that lack, or a network without the model's output.
    """
    said = conversion_options.read(model.session)
    options = said.with_layers(layers or {}, str(model.path))
    loaded = _of_bundle(model, options) if caffemodel is None else None
    source = model.path
    if loaded is None:
        source, loaded = _of_caffemodel(model, caffemodel, prototxt, options, said.size)
    _require_output(source, loaded.graph, model)
    torch.set_num_threads(model.session.threads)
    return [model.with_engine(name, _fed(model, _compute(loaded, name, model.output))) for name in names]


def _of_bundle(model: Model, options: Options) -> Loaded | None:
    """Of a bundle that was made from tuned weights, which has no caffemodel: its own definition and weights."""
    if "tuned_from" not in model.session.metadata:
        return None
    return open_bundle(model.path.parent, None, options).loaded


def _of_caffemodel(
    model: Model, given: Path | None, prototxt: Path | None, options: Options, size: int | None
) -> tuple[Path, Loaded]:
    caffemodel, sources = _caffemodel(model, given)
    _require_same(model, caffemodel, sources)
    definition = model.path.with_name(bundle.DEFINITION)
    if prototxt is None and definition.is_file():
        found = read(caffemodel, definition, settled(options))
    else:
        found = read(caffemodel, prototxt or _named(caffemodel, sources), options, size)
    return caffemodel, _permuted(realise(*found), model)


def _named(caffemodel: Path, sources: Mapping[str, Mapping[str, Any]]) -> Path | None:
    """The prototxt beside the caffemodel: the one that the conversion read, else as for a conversion."""
    name = sources.get("prototxt", {}).get("name")
    if sources and name is None:
        return None  # it read none: the caffemodel's own definition was asked for, or there was no other
    return _beside(caffemodel, name) or find_prototxt(caffemodel)


def _caffemodel(model: Model, given: Path | None) -> tuple[Path, dict[str, dict[str, Any]]]:
    """The caffemodel, and what the model says of its sources, by role."""
    sources = {source["role"]: source for source in json.loads(model.session.metadata.get("sources", "[]"))}
    name = sources.get("caffemodel", {}).get("name")
    found = given or _beside(model.path.parent, name)
    if found is None:
        where = f"{name} is not beside {model.path.parent}" if name else "the model does not say what it was made from"
        raise ConvertError(
            f"{model.path}: the engines '{TORCH}' and '{GENERIC}' compute from the caffemodel, and {where}; name it "
            "with --caffemodel"
        )
    return found, sources


def _beside(place: Path, name: str | None) -> Path | None:
    """The file called `name` in the folder of `place`."""
    path = place.parent / name if name else None
    return path if path and path.is_file() else None


def _require_same(model: Model, caffemodel: Path, sources: dict[str, dict[str, Any]]) -> None:
    want = sources.get("caffemodel", {}).get("sha256")
    have = identify(caffemodel, "caffemodel").digests["sha256"]
    if want and have != want:
        raise ConvertError(
            f"{caffemodel}: {model.path} was not made from this file: its SHA-256 is {have[:12]}..., that of the "
            f"source {want[:12]}..."
        )


def _permuted(loaded: Loaded, model: Model) -> Loaded:
    """With the classes in the model's order, where the conversion changed it."""
    before = model.session.metadata.get("class_order_in_caffemodel")
    if before is None:
        return loaded
    graph, _ = class_order.speak(loaded.graph, Classes.ilsvrc2012(before), model.classes.order)
    return realise(loaded.net, graph)


def _require_output(caffemodel: Path, graph: Graph, model: Model) -> None:
    if model.output not in graph.blobs:
        raise ConvertError(f"{caffemodel}: has no blob '{model.output}', only {listed(list(graph.blobs))}")
    shape = graph.shapes[graph.blobs[model.output]]
    if shape[1:2] != (model.outputs,):
        raise ConvertError(f"{caffemodel}: its blob '{model.output}' is {list(shape)}, not of {model.outputs} classes")


def _fed(model: Model, compute: Compute) -> Compute:
    """From what the model's file takes: the network itself takes no pictures."""
    preprocess = model.preprocess
    if preprocess.any_size:
        outside = preprocess.outside()
        return lambda batch: compute(outside.batch([picture[:, :, ::-1] for picture in batch]))
    return compute if preprocess.input != IMAGE else lambda batch: compute(preprocess.planes(batch))


def _compute(loaded: Loaded, name: str, output: str) -> Compute:
    """A batch, float32 (N, C, H, W) -> the values of `output`; of a family net its logits."""
    module: nn.Module = loaded.module
    if name == GENERIC or output not in loaded.graph.outputs:
        module = module if isinstance(module, runner.GraphModule) else runner.lower(loaded.graph)
    value = loaded.graph.blobs[output]

    def compute(batch: NDArray[Any]) -> NDArray[Any]:
        with torch.inference_mode():
            x = torch.from_numpy(batch)
            if isinstance(module, runner.GraphModule):
                x = next(tensor for made, tensor in module.steps(x) if made == value)
            else:
                x = module(x)
            found: NDArray[Any] = x.numpy()
            return found

    return compute
