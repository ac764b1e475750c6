"""From a network as written to the network that runs at inference: each pass takes a draft and gives the next.

The passes stand in `PASSES`, in their order. None of them looks at shapes or weights; `graph.py` does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..errors import Problems
from ..proto import LayerDef, NetDef, Rule, State
from ..proto.netdef import MAX_COUNT, Shape

if TYPE_CHECKING:
    from .layers.base import Layer

# Layers that bring data in. At inference their tops are the network's inputs.
DATA = frozenset({"Input", "Data", "DummyData", "HDF5Data", "ImageData", "MemoryData", "WindowData"}) | frozenset(
    {"AnnotatedData", "DenseImageData", "ImageLabelmapData", "ImageSegData", "SegData", "VideoData"}  # of forks
)
# Losses, with the layer that gives a loss's predictions at inference (None: its bottom is the prediction).
LOSSES: Mapping[str, str | None] = {
    "ContrastiveLoss": None,
    "EuclideanLoss": None,
    "HingeLoss": None,
    "InfogainLoss": "Softmax",
    "MultinomialLogisticLoss": None,
    "SigmoidCrossEntropyLoss": "Sigmoid",
    "SoftmaxWithLoss": "Softmax",
    # Of forks.
    "L1Loss": None,
    "MultiBoxLoss": None,
    "SmoothL1Loss": None,
    "SmoothL1LossOHEM": None,
    "SoftmaxWithLossOHEM": "Softmax",
}
# How many of a loss's first bottoms are predictions, where it is not one; the others are labels, targets, weights.
PREDICTIONS: Mapping[str, int] = {"ContrastiveLoss": 2, "MultiBoxLoss": 3}
# Layers that measure, store, choose samples or discard, and give nothing that inference needs.
SINKS = frozenset({"Accuracy", "HDF5Output", "Silence"}) | frozenset(
    {"BoxAnnotatorOHEM", "DetectionEvaluate", "EvalDetection", "SegAccuracy"}  # of forks
)
# Caffe's name for the tops of the Split layers that it inserts itself: <blob>_<layer>_<index>_split_<number>
_INSERTED = re.compile(r".+_\d+_split_\d+")


@dataclass(frozen=True)
class Options:
    """What a person says about the network: its state, and the shapes of inputs that the files leave open.

    The key None of `input_shapes` is a shape given without a name: for every input that lacks one. `layers` are layer
    types of the person's own, beside ours and those of installed packages. `ignore_fields` names fields of the
    definition to pass over, for which the person takes the responsibility.
    """

    state: State = State()
    input_shapes: Mapping[str | None, Shape] = field(default_factory=lambda: MappingProxyType({}))
    layers: Mapping[str, type[Layer]] = field(default_factory=lambda: MappingProxyType({}))
    ignore_fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Input:
    """One input of the network. `shape` is None where neither file nor person gives it."""

    blob: str
    shape: Shape | None
    by: str  # who brings it: "layer 'data' (HDF5Data)", or the header


@dataclass(frozen=True)
class Dropped:
    """A layer or blob of the file that inference does not run, and why."""

    name: str
    type: str
    reason: str


@dataclass(frozen=True)
class Draft:
    """A network between two passes."""

    net: NetDef
    options: Options
    layers: tuple[LayerDef, ...]
    excluded: tuple[LayerDef, ...] = ()
    inputs: tuple[Input, ...] = ()
    dropped: tuple[Dropped, ...] = ()


def run(net: NetDef, options: Options, problems: Problems) -> Draft:
    """All passes over a network; what is wrong is added to `problems`."""
    draft = Draft(net, options, net.layers)
    for step in PASSES:
        draft = step(draft, problems)
    return draft


# ---- the passes ------------------------------------------------------------------------------------------------------


def select_state(draft: Draft, problems: Problems) -> Draft:
    """Keep the layers whose include and exclude rules admit the wanted phase, level and stages (Net::FilterNet)."""
    wanted, written = draft.options.state, draft.net.state
    state = State(wanted.phase, wanted.level or written.level, (*written.stages, *wanted.stages))
    kept, excluded, dropped = [], [], []
    for layer in draft.layers:
        if layer.include and layer.exclude:
            problems.add(
                f"layer '{layer.name}'{_line(layer)} has both include and exclude rules; Caffe takes one of them"
            )
        runs = any(_meets(rule, state) for rule in layer.include) if layer.include else True
        if any(_meets(rule, state) for rule in layer.exclude):
            runs = False
        if runs:
            kept.append(layer)
        else:
            excluded.append(layer)
            dropped.append(Dropped(layer.name, layer.type, f"its rules exclude the {state.phase} phase given"))
    return replace(draft, layers=tuple(kept), excluded=tuple(excluded), dropped=(*draft.dropped, *dropped))


def join_inserted_splits(draft: Draft, problems: Problems) -> Draft:
    """Caffe inserts a Split where several layers read a blob, and saves it: its readers read the blob itself again."""
    source: dict[str, str] = {}
    kept, dropped = [], []
    for layer in draft.layers:
        bottoms = tuple(source.get(bottom, bottom) for bottom in layer.bottoms)
        if layer.type == "Split" and all(_INSERTED.fullmatch(top) for top in layer.tops):
            source.update(dict.fromkeys(layer.tops, *bottoms[:1]))
            dropped.append(Dropped(layer.name, layer.type, "inserted by Caffe where several layers read a blob"))
        else:
            kept.append(replace(layer, bottoms=bottoms))
    return replace(draft, layers=tuple(kept), dropped=(*draft.dropped, *dropped))


def data_to_inputs(draft: Draft, problems: Problems) -> Draft:
    """Tops of data layers and names of the old header become inputs.

    A snapshot of a training net has only the TRAIN phase's data layers: where nothing else brings a blob that is read,
    an excluded data layer does.
    """
    brought = {name for name, _ in draft.net.inputs} | {top for layer in draft.layers for top in layer.tops}
    read = {bottom for layer in draft.layers for bottom in layer.bottoms}
    restored = [
        layer for layer in draft.excluded if _is_data(layer) and any(top in read - brought for top in layer.tops)
    ]
    inputs = [Input(name, shape, "the header's input") for name, shape in draft.net.inputs]
    kept = []
    for layer in [*restored, *draft.layers]:
        if not _is_data(layer):
            kept.append(layer)
            continue
        shapes = _data_shapes(layer)
        if shapes and len(shapes) not in (1, len(layer.tops)):
            problems.add(f"layer '{layer.name}'{_line(layer)} gives {len(shapes)} shapes for {len(layer.tops)} tops")
        for i, top in enumerate(layer.tops):
            shape = (shapes[0] if len(shapes) == 1 else shapes[i]) if i < len(shapes) or len(shapes) == 1 else None
            inputs.append(Input(top, shape, f"layer '{layer.name}' ({layer.type})"))
    names = {layer.name for layer in restored}
    dropped = tuple(item for item in draft.dropped if item.name not in names)
    return replace(draft, layers=tuple(kept), inputs=tuple(inputs), dropped=dropped)


def prune_training(draft: Draft, problems: Problems) -> Draft:
    """Losses become their predictions or go; measures and sinks go; so does what only works on labels."""
    losses = [layer for layer in draft.layers if layer.type in LOSSES]
    predicted = {(layer.type, layer.bottoms[:1]) for layer in draft.layers if layer.type in LOSSES.values()}
    taken = {top for layer in draft.layers for top in layer.tops} | {item.blob for item in draft.inputs}
    labels = {item.blob for item in draft.inputs} & _only_for_labels(draft.layers)
    kept: list[LayerDef] = []
    dropped: list[Dropped] = []
    for layer in draft.layers:
        if layer.type in SINKS:
            dropped.append(Dropped(layer.name, layer.type, "gives nothing that inference needs"))
        elif layer.type in LOSSES:
            prediction = LOSSES[layer.type]
            if prediction is None or not layer.bottoms or (prediction, layer.bottoms[:1]) in predicted:
                dropped.append(Dropped(layer.name, layer.type, "a loss; its bottom is the prediction"))
                continue
            predicted.add((prediction, layer.bottoms[:1]))
            top = _prediction_name(layer, taken, alone=len(losses) == 1)
            taken.add(top)
            kept.append(replace(layer, type=prediction, bottoms=layer.bottoms[:1], tops=(top,), params=_of(layer)))
            dropped.append(
                Dropped(layer.name, layer.type, f"a loss; {prediction} gives its prediction as blob '{top}'")
            )
        elif layer.bottoms and all(bottom in labels for bottom in layer.bottoms):
            labels.update(layer.tops)
            dropped.append(Dropped(layer.name, layer.type, "works on labels only"))
        else:
            kept.append(layer)
    return replace(draft, layers=tuple(kept), dropped=(*draft.dropped, *dropped))


def drop_unread_inputs(draft: Draft, problems: Problems) -> Draft:
    """Inputs that no layer reads any more: labels, mostly."""
    read = {bottom for layer in draft.layers for bottom in layer.bottoms}
    unread = [item for item in draft.inputs if item.blob not in read]
    dropped = [Dropped(item.blob, "input", "no layer of the inference network reads it") for item in unread]
    inputs = tuple(item for item in draft.inputs if item.blob in read)
    return replace(draft, inputs=inputs, dropped=(*draft.dropped, *dropped))


def shape_inputs(draft: Draft, problems: Problems) -> Draft:
    """Apply the shapes that a person gives; name the inputs that still have none."""
    for name, brought in Counter(item.blob for item in draft.inputs).items():
        if brought > 1:
            problems.add(f"blob '{name}' is brought in by {brought} layers; choose one by --phase, --stage, --level")
    given = draft.options.input_shapes
    for name in sorted(str(key) for key in given if key is not None and key not in {i.blob for i in draft.inputs}):
        have = ", ".join(f"'{item.blob}'" for item in draft.inputs) or "none"
        problems.add(f"--input-shape names the input '{name}', the network's inputs are: {have}")
    inputs = []
    for item in draft.inputs:
        shape = given.get(item.blob, item.shape if item.shape is not None else given.get(None))
        if len(draft.inputs) == 1 and None in given:
            shape = given[None]
        if shape is None:
            problems.add(
                f"input '{item.blob}' has no shape: {item.by} does not give it. "
                f"Give it, for example --input-shape {item.blob}=1,3,224,224"
            )
        elif any(dim < 1 for dim in shape) or prod(shape) > MAX_COUNT:
            problems.add(f"input '{item.blob}' has the impossible shape {list(shape)}")
        inputs.append(replace(item, shape=shape))
    if not inputs:
        problems.add("it has no inputs: no Input or data layer, and no input header, brings a blob that a layer reads")
    return replace(draft, inputs=tuple(inputs))


PASSES: Sequence[Callable[[Draft, Problems], Draft]] = (
    select_state,
    join_inserted_splits,
    data_to_inputs,
    prune_training,
    drop_unread_inputs,
    shape_inputs,
)


# ---- what they share -------------------------------------------------------------------------------------------------


def _line(layer: LayerDef) -> str:
    return f" (line {layer.line})" if layer.line else ""


def _meets(rule: Rule, state: State) -> bool:
    """Net::StateMeetsRule."""
    return (
        rule.phase in (None, state.phase)
        and (rule.min_level is None or state.level >= rule.min_level)
        and (rule.max_level is None or state.level <= rule.max_level)
        and all(stage in state.stages for stage in rule.stages)
        and not any(stage in state.stages for stage in rule.not_stages)
    )


def _is_data(layer: LayerDef) -> bool:
    return layer.type in DATA or (layer.type == "Python" and not layer.bottoms)


def _data_shapes(layer: LayerDef) -> list[Shape]:
    """The shapes that a data layer's parameters give for its tops; [] where they leave them open."""
    if layer.type == "Input":
        return [tuple(shape.get("dim", ())) for shape in layer.params.get("input_param", {}).get("shape", ())]
    if layer.type == "DummyData":
        param = layer.params.get("dummy_data_param", {})
        if "shape" in param:
            return [tuple(shape.get("dim", ())) for shape in param["shape"]]
        sides = [param.get(key, ()) for key in ("num", "channels", "height", "width")]
        return [tuple(dims) for dims in zip(*sides, strict=False)]
    if layer.type == "MemoryData":
        param = layer.params.get("memory_data_param", {})
        dims = tuple(param.get(key, 0) for key in ("batch_size", "channels", "height", "width"))
        return [dims, dims[:1]]
    return []


def _only_for_labels(layers: Sequence[LayerDef]) -> set[str]:
    """Blobs that reach losses and measures as labels (a bottom behind the predictions), and no other layer as data."""
    ends = [layer for layer in layers if layer.type in LOSSES or layer.type in SINKS]
    as_label = {bottom for layer in ends for bottom in layer.bottoms[PREDICTIONS.get(layer.type, 1) :]}
    discarded = {bottom for layer in ends if layer.type in SINKS for bottom in layer.bottoms}
    as_data = {
        bottom for layer in ends if layer.type in LOSSES for bottom in layer.bottoms[: PREDICTIONS.get(layer.type, 1)]
    }
    for layer in reversed(layers):
        if layer.type in LOSSES or layer.type in SINKS:
            continue
        tops = set(layer.tops)
        if tops & as_label and tops <= as_label | discarded and not tops & as_data:
            as_label.update(layer.bottoms)
        else:
            as_data.update(layer.bottoms)
    return as_label - as_data


def _prediction_name(layer: LayerDef, taken: set[str], alone: bool) -> str:
    """A loss's second top is its prediction; else 'prob', as in the released networks."""
    if len(layer.tops) > 1:
        return layer.tops[1]
    if alone and "prob" not in taken:
        return "prob"
    return f"{layer.name}/prob"


def _of(layer: LayerDef) -> Mapping[str, Mapping[str, object]]:
    return MappingProxyType({key: value for key, value in layer.params.items() if key == "softmax_param"})
