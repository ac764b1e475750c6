"""From a network as written to the network that runs at inference: each pass takes a draft and gives the next.

The passes stand in `PASSES`, in their order. None of them looks at shapes or weights; `graph.py` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from ...errors import GraphError, Problems, listed
from ...proto import LayerDef, NetDef, Rule, State
from ...proto.netdef import named_by_solver
from ..layers import LAYERS
from .draft import Draft, Dropped, Options
from .inputs import data_to_inputs, shape_inputs

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
# Losses whose first two bottoms may be exchanged: the prediction is what comes of learned layers.
SYMMETRIC = frozenset({"EuclideanLoss", "L1Loss", "SmoothL1Loss", "SmoothL1LossOHEM"})
# Layers that measure, store, choose samples or discard, and give nothing that inference needs.
SINKS = frozenset({"Accuracy", "HDF5Output", "Silence"}) | frozenset(
    {"BoxAnnotatorOHEM", "DetectionEvaluate", "EltwiseAccuracy", "EvalDetection", "SegAccuracy"}  # of forks
)
# Caffe's name for the tops of the Split layers that it inserts itself: <blob>_<layer>_<index>_split_<number>
_INSERTED = re.compile(r".+_\d+_split_\d+")


def run(net: NetDef, options: Options, problems: Problems) -> Draft:
    """All passes over a network; what is wrong is added to `problems`.

    Raises GraphError at once for a file without layers: it is another one than was meant.
    """
    if not net.layers:
        problems.add(_no_layers(net))
        problems.raise_as(GraphError)
    draft = Draft(net, options, net.layers)
    for step in PASSES:
        draft = step(draft, problems)
    return draft


# ---- the passes ------------------------------------------------------------------------------------------------------


def select_state(draft: Draft, problems: Problems) -> Draft:
    """Keep the layers whose include and exclude rules admit the wanted phase, level and stages (Net::FilterNet).

    As in Caffe (Net::Net) the file's stages count beside the wanted ones; its level never does.
    """
    wanted = draft.options.state
    state = replace(wanted, stages=(*draft.net.state.stages, *wanted.stages))
    kept, excluded, dropped = [], [], []
    for layer in draft.layers:
        if layer.include and layer.exclude:
            problems.add(f"{layer.where} has both include and exclude rules; Caffe takes one of them")
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
        inserted = layer.type == "Split" and all(_INSERTED.fullmatch(top) for top in layer.tops)
        if inserted and layer.tops and len(bottoms) == 1:
            source.update(dict.fromkeys(layer.tops, bottoms[0]))
            dropped.append(Dropped(layer.name, layer.type, "inserted by Caffe where several layers read a blob"))
        else:
            kept.append(replace(layer, bottoms=bottoms))
    return replace(draft, layers=tuple(kept), dropped=(*draft.dropped, *dropped))


def prune_training(draft: Draft, problems: Problems) -> Draft:
    """Losses become their predictions or go; measures and sinks go; so does what only works on labels."""
    losses = [layer for layer in draft.layers if layer.type in LOSSES]
    predicted = {(layer.type, layer.bottoms[:1]) for layer in draft.layers if layer.type in LOSSES.values()}
    taken = {top for layer in draft.layers for top in layer.tops} | {item.blob for item in draft.inputs}
    labels = {item.blob for item in draft.inputs} & _only_for_labels(draft.layers, _learned(draft))
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


PASSES: Sequence[Callable[[Draft, Problems], Draft]] = (
    select_state,
    join_inserted_splits,
    data_to_inputs,
    prune_training,
    drop_unread_inputs,
    shape_inputs,
)


# ---- what they share -------------------------------------------------------------------------------------------------


def _no_layers(net: NetDef) -> str:
    named = named_by_solver(net)
    if named is None:
        return "it has no layers; give the network's prototxt"
    nets = listed([f"'{name}'" for name in named])
    return (
        f"it has no layers: it is a solver's prototxt; give the network's{f', which it names: {nets}' if nets else ''}"
    )


def _meets(rule: Rule, state: State) -> bool:
    """Net::StateMeetsRule."""
    return (
        rule.phase in (None, state.phase)
        and (rule.min_level is None or state.level >= rule.min_level)
        and (rule.max_level is None or state.level <= rule.max_level)
        and all(stage in state.stages for stage in rule.stages)
        and not any(stage in state.stages for stage in rule.not_stages)
    )


def _learned(draft: Draft) -> set[str]:
    """Blobs that layers with weights produce, and those that others make of them."""
    kinds = {**LAYERS, **draft.options.layers}
    found: set[str] = set()
    for layer in draft.layers:
        kind = kinds.get(layer.type)
        if layer.blobs or (kind and kind.weight_names) or found.intersection(layer.bottoms):
            found.update(layer.tops)
    return found


def _predictions(loss: LayerDef, learned: Collection[str]) -> tuple[str, ...]:
    """Those of a loss's bottoms that are predictions."""
    found = tuple(bottom for bottom in loss.bottoms[:2] if bottom in learned) if loss.type in SYMMETRIC else ()
    return found or loss.bottoms[: PREDICTIONS.get(loss.type, 1)]


def _only_for_labels(layers: Sequence[LayerDef], learned: Collection[str]) -> set[str]:
    """Blobs that reach losses and measures as labels (a bottom beside the predictions), and no other layer as data."""
    ends = [layer for layer in layers if layer.type in LOSSES or layer.type in SINKS]
    predicted = [(layer, _predictions(layer, learned)) for layer in ends]
    as_label = {bottom for layer, found in predicted for bottom in layer.bottoms if bottom not in found}
    discarded = {bottom for layer in ends if layer.type in SINKS for bottom in layer.bottoms}
    as_data = {bottom for layer, found in predicted if layer.type in LOSSES for bottom in found}
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
