"""Back to Caffe: a bundle's definition and the weights of its PyTorch net become a prototxt and a caffemodel.

What is written is read back and compared, byte by byte, with the weights that were given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ... import bundle
from ...errors import CheckError, ConvertError, GraphError, Problems, WeightsError, each, listed
from ...proto import Blob, LayerDef, NetDef, read_caffemodel, read_prototxt
from ...proto.netdef import Shape
from ...proto.write import write_caffemodel, write_prototxt
from .. import families, runner
from ..check.written_weights import same_bytes
from ..graph.build import build
from ..graph.draft import Options
from ..graph.graph import Graph
from ..graph.weights import Wanted
from ..layers.base import times
from ..state_dict import State, read_state
from .definition import inference, same_layers, settled
from .without_axpy import stock as without_axpy

LACKING = "its layers have fields that Caffe's format lacks"


@dataclass(frozen=True)
class Wishes:
    """What a person asks for beyond the source.

    `weights` are others than the bundle's, `definition` is another prototxt than the bundle's; `stock` is for a Caffe
    without Axpy. Of `options` the layer types count, and the fields to pass over.
    """

    weights: Path | None = None
    definition: Path | None = None
    stock: bool = False
    force: bool = False
    options: Options = Options()


@dataclass(frozen=True)
class Written:
    """What was written. `outputs` are the layers whose number of outputs the weights changed: (before, now)."""

    prototxt: Path
    caffemodel: Path
    layers: int
    values: int
    outputs: Mapping[str, tuple[int, int]]
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Filled:
    """A definition with the weights of a state_dict as its blobs.

    `net` holds both, `definition` is what was read; `names` leads from the weights' keys to the names in `state`.
    `outputs` are the layers whose number of outputs the weights changed: (before, now).
    """

    net: NetDef
    graph: Graph
    definition: NetDef
    names: Mapping[str, str]
    state: State
    outputs: Mapping[str, tuple[int, int]]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Fitted:
    """A definition that fits the weights."""

    net: NetDef
    graph: Graph
    outputs: Mapping[str, tuple[int, int]]


def fill(definition: Path, weights: Path, options: Options, stock: bool = False) -> Filled:
    """The network of a prototxt, with the weights of a file with a state_dict, as conversion names them.

    Raises ConvertError: files that cannot be read, or weights that do not fit, all of them listed.
    """
    read, (state, warnings) = each([lambda: read_prototxt(definition), lambda: read_state(weights)])
    net = inference(read, options)
    hollow = build(net, _hollow(net, settled(options)), settled(options))
    names = _state_names(hollow)
    fitted = _fit(net, hollow, names, state, weights, settled(options))
    written = without_axpy(fitted.net, fitted.graph) if stock else fitted.net
    filled = _filled(written, fitted.graph, hollow.accounts.keys, names, state)
    return Filled(filled, build(filled, None, settled(options)), net, names, state, fitted.outputs, warnings)


def to_caffe(source: Path, name: Path, wishes: Wishes, progress: Callable[[str], None]) -> Written:
    """Write NAME.prototxt and NAME.caffemodel from a bundle, or from a file with a state_dict.

    Raises ConvertError, with nothing written: no definition, or weights that do not fit it, all of them listed.
    """
    places = bundle.caffe_files(name)
    bundle.refuse_taken_files(places, wishes.force)
    definition, weights = _sources(source, wishes)
    progress(f"reading {definition.name} and {weights.name}")
    filled = fill(definition, weights, wishes.options, wishes.stock)
    options, warnings = settled(wishes.options), filled.warnings
    with bundle.writing_files(places, wishes.force) as (text, binary):
        progress(f"writing {places[0].name} and {places[1].name}")
        write_prototxt(filled.net, text)
        write_caffemodel(filled.net, binary)
        as_given = not wishes.stock and not filled.outputs and any(layer.faults for layer in filled.definition.layers)
        if as_given and not _says(text, filled.graph, options):
            text.write_bytes(definition.read_bytes())
            options = wishes.options
            warnings = (*warnings, f"{places[0].name} is {definition.name} as it is: {LACKING}")
        again = build(read_prototxt(text), read_caffemodel(binary), options)
        _verify(again, filled.graph, filled.names, filled.state)
    values = sum(array.size for array in again.accounts.arrays.values())
    return Written(*places, len(again.wanted), values, filled.outputs, (*warnings, *again.accounts.warnings))


def _says(text: Path, wanted: Graph, options: Options) -> bool:
    """Whether a prototxt that was written defines the network: of a fork's fields not all can be."""
    try:
        return same_layers(build(read_prototxt(text), None, options), wanted)
    except GraphError:
        return False


def _sources(source: Path, wishes: Wishes) -> tuple[Path, Path]:
    """The files with definition and weights."""
    folder = source if source.is_dir() else source.parent
    if wishes.weights and not source.is_dir():
        raise ConvertError(f"{source} and --weights {wishes.weights}: both are weights; give one of them, or a bundle")
    definition = wishes.definition or folder / bundle.DEFINITION
    weights = wishes.weights or (source / bundle.WEIGHTS if source.is_dir() else source)
    if not definition.is_file():
        raise ConvertError(
            f"{source}: there is no {bundle.DEFINITION} in {folder}, so that the network is not known. Convert the "
            "original again, which writes one, or give its deploy prototxt with --prototxt"
        )
    if not weights.is_file():
        raise ConvertError(f"{source}: there is no {bundle.WEIGHTS} in it; give the weights with --weights")
    return definition, weights


# ---- names -----------------------------------------------------------------------------------------------------------


def _hollow(net: NetDef, options: Options) -> NetDef:
    """Blobs of the right shapes that take no memory: what is shared, and how weights are called, shows with them."""
    wanted = build(net, None, options).wanted
    return NetDef("", net.source, tuple(LayerDef(want.name, "", blobs=_zeros(want.shapes)) for want in wanted))


def _zeros(shapes: Sequence[Shape]) -> tuple[Blob, ...]:
    return tuple(Blob(shape, np.broadcast_to(np.zeros((), "<f4"), (prod(shape),))) for shape in shapes)


def _state_names(hollow: Graph) -> Mapping[str, str]:
    """Weight key -> name in the state_dict of the net that conversion gives."""
    match = families.match(hollow)
    return match.names if match else runner.state_names(hollow.accounts.arrays)


# ---- fitting ---------------------------------------------------------------------------------------------------------


def _fit(net: NetDef, hollow: Graph, names: Mapping[str, str], state: State, source: Path, options: Options) -> _Fitted:
    """The definition with the numbers of outputs that the weights have. Raises WeightsError with every misfit."""
    problems = Problems(str(source))
    unknown = sorted(set(state) - set(names.values()))
    if unknown:
        problems.add(f"it holds weights that the network lacks: {listed(unknown)}")
    keys = hollow.accounts.keys
    outputs = _outputs(hollow, names, state)
    fitted = _with_outputs(net, hollow, outputs)
    try:
        found = build(fitted, None, options)
    except GraphError as fault:
        changed = ", ".join(f"'{name}' {now} instead of {before}" for name, (before, now) in outputs.items())
        problems.add(f"with the outputs that the weights have ({changed}) the network is not valid: {fault}")
        found = hollow
    for want in found.wanted:
        _compare(want, [names[key] for key in keys[want.name]], state, problems)
    problems.raise_as(WeightsError, f"The network is that of {net.source}; are these the weights of another one?")
    return _Fitted(fitted, found, outputs)


def _outputs(hollow: Graph, names: Mapping[str, str], state: State) -> dict[str, tuple[int, int]]:
    """Layers whose weights have another number of outputs than the definition: (before, now)."""
    found = {}
    for want in hollow.wanted:
        first = state.get(names[hollow.accounts.keys[want.name][0]])
        if first is None or first.ndim != len(want.shapes[0]):
            continue
        before, now = want.layer.outputs(want.shapes[0]), want.layer.outputs(first.shape)
        if before is not None and now is not None and before != now:
            found[want.name] = (before, now)
    return found


def _with_outputs(net: NetDef, hollow: Graph, outputs: Mapping[str, tuple[int, int]]) -> NetDef:
    messages = {(node.name, node.type): node.layer.message for node in hollow.nodes if node.name in outputs}
    layers = list(net.layers)
    for i, layer in enumerate(layers):
        message = messages.get((layer.name, layer.type))
        if message:
            changed = {**layer.params.get(message, {}), "num_output": outputs[layer.name][1]}
            layers[i] = replace(layer, params=MappingProxyType({**layer.params, message: changed}))
    return replace(net, layers=tuple(layers))


def _compare(want: Wanted, names: Sequence[str], state: State, problems: Problems) -> None:
    for name, shape in zip(names, _prepared(want), strict=True):
        if name not in state:
            problems.add(f"it lacks '{name}', {times(shape)}, for layer '{want.name}'")
        elif state[name].shape != shape:
            problems.add(
                f"'{name}' has shape {times(state[name].shape)}, layer '{want.name}' ({type(want.layer).__name__}) "
                f"needs {times(shape)}"
            )


def _prepared(want: Wanted) -> tuple[Shape, ...]:
    """Shapes of the arrays that the layer computes with, which torch's net has: not always those of its blobs."""
    blobs = [np.broadcast_to(np.zeros((), "<f4"), shape) for shape in want.shapes]
    return tuple(array.shape for array in want.layer.prepare(blobs))


# ---- writing ---------------------------------------------------------------------------------------------------------


def _filled(
    net: NetDef, fitted: Graph, keys: Mapping[str, tuple[str, ...]], names: Mapping[str, str], state: State
) -> NetDef:
    """The definition with its blobs."""
    types = {node.name: node.type for node in fitted.nodes if node.weights}
    blobs = {
        (want.name, types[want.name]): _blobs(want, [state[names[key]] for key in keys[want.name]])
        for want in fitted.wanted
    }
    layers = (replace(layer, blobs=blobs.get((layer.name, layer.type), ())) for layer in net.layers)
    return replace(net, layers=tuple(layers))


def _blobs(want: Wanted, arrays: Sequence[np.ndarray]) -> tuple[Blob, ...]:
    arrays = want.layer.to_blobs(arrays)
    if [array.size for array in arrays] != [prod(shape) for shape in want.shapes]:
        raise ConvertError(
            f"layer '{want.name}' ({type(want.layer).__name__}) computes with other arrays than its blobs, and "
            "its type has no to_blobs, which says how they become blobs again"
        )
    return tuple(Blob(shape, array.reshape(-1)) for shape, array in zip(want.shapes, arrays, strict=True))


def _verify(again: Graph, wanted: Graph, names: Mapping[str, str], state: State) -> None:
    """Raise CheckError where the files, read again, are another network, or hold a weight that was not given."""
    if not same_layers(again, wanted):
        raise CheckError(
            f"{wanted.source}: it cannot be written, because {LACKING}; without them they compute something else"
        )
    arrays = again.accounts.arrays
    wrong = [f"'{names[key]}'" for key in arrays if not same_bytes(arrays[key], state[names[key]])]
    if wrong:
        raise CheckError(f"{wanted.source}: after writing, these weights differ from those given: {listed(wrong)}")
