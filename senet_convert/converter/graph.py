"""The network as a graph of values: what every later step works on.

Caffe's blobs are memory that layers may overwrite in place; here each writing gives a new value. A value bears its
blob's name when it is what the blob holds at the end, and 'blob@layer' when a later layer overwrites it. Layers that do
nothing at inference (Split, Dropout) leave no node. Splits, reshapes and the like share memory in Caffe: when a layer
overwrites such memory in place, `View` nodes bring the other blobs up to date, so that the numbers are Caffe's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from ..errors import GraphError, Problems, listed
from ..proto import LayerDef, NetDef
from ..proto.netdef import MAX_COUNT
from . import passes
from .fields import Fields
from .layers import Layer, LayerFault, View
from .layers.base import Shape, times
from .layers.registry import Registry, merged
from .passes import Dropped, Options
from .weights import Accounts, Wanted, assign

DROPOUT_RATIO = 0.5  # Caffe's default
IDENTITIES = {"Split": "Caffe's copy of a blob for several readers", "Dropout": "does nothing in the TEST phase"}


@dataclass(frozen=True)
class Node:
    """One layer that runs: from values and weights to values, all by name."""

    name: str
    type: str
    layer: Layer
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graph:
    """A network at inference. `nodes` stand in the order in which Caffe runs them.

    shapes   of every value, for the batch size that the file declares
    batched  of every value with None for axes that grow with the batch; () where the network fixes the batch size
    blobs    Caffe's blobs, in its order, with the value that each holds at the end
    wanted   the layers that need weights, with the shapes that they need
    dropouts the values that a Dropout layer passes on, with its ratio: nothing at inference, but of use for fine-tuning
    """

    name: str
    source: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    shapes: Mapping[str, Shape]
    batched: Mapping[str, tuple[int | None, ...]]
    blobs: Mapping[str, str]
    wanted: tuple[Wanted, ...]
    accounts: Accounts
    dropped: tuple[Dropped, ...]
    warnings: tuple[str, ...]
    dropouts: Mapping[str, float] = field(default_factory=dict)

    @property
    def readers(self) -> dict[str, list[Node]]:
        """The nodes that read each value."""
        found: dict[str, list[Node]] = {name: [] for name in self.shapes}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                found[value].append(node)
        return found

    def needed_for(self, values: Sequence[str]) -> tuple[Node, ...]:
        """The nodes that these values depend on, in order."""
        wanted, kept = set(values), []
        for node in reversed(self.nodes):
            if wanted.intersection(node.outputs):
                kept.append(node)
                wanted.update(node.inputs)
        return tuple(reversed(kept))


def build(net: NetDef, weights: NetDef | None, options: Options | None = None) -> Graph:
    """The graph of `net` with the blobs of `weights` (None: a graph without weights, to look at).

    Raises GraphError with every problem of the definition and every blob that does not fit.
    """
    if net is weights and not any(layer.type for layer in net.layers):
        raise GraphError(
            f"{net.source}: it holds weights but no definitions of layers, as all HDF5 snapshots; "
            "give the network's prototxt with --prototxt"
        )
    problems = Problems(net.source)
    draft = passes.run(net, options or Options(), problems)
    reserved = {*IDENTITIES, *passes.DATA, *passes.LOSSES, *passes.SINKS}
    kinds = merged({layer.type for layer in draft.layers}, draft.options.layers, reserved)
    builder = _Builder(draft, problems, kinds)
    builder.run()
    accounts = Accounts()
    if weights is not None:
        accounts = assign(builder.wanted, weights, problems)
    problems.raise_as(GraphError, builder.advice())
    return builder.graph(accounts)


class _Builder:
    """Runs over the layers once, as Caffe's Net::Init does: names, versions of blobs, shapes, wanted weights."""

    def __init__(self, draft: passes.Draft, problems: Problems, kinds: Registry) -> None:
        self.draft = draft
        self.problems = problems
        self.kinds = kinds
        self.fields = Fields(kinds, draft.options.ignore_fields, problems)
        self.current: dict[str, str] = {}  # blob -> the value it holds now
        self.writers: dict[str, list[str]] = {}  # blob -> layers that wrote it, in order
        self.read_by: dict[str, list[str]] = {}  # blob -> layers that read it since it was last written
        self.shapes: dict[str, Shape | None] = {}  # value -> shape; None after a problem
        self.memory: dict[str, set[str]] = {}  # blob -> blobs in the same memory, itself among them
        self.unread: dict[str, None] = {}  # blobs that no layer has read yet: the outputs, at the end
        self.nodes: list[Node] = []
        self.wanted: list[Wanted] = []
        self.dropped: list[Dropped] = list(draft.dropped)
        self.warnings: list[str] = []
        self.dropouts: dict[str, float] = {}
        self.unsupported: dict[str, list[str]] = {}  # type -> its layers

    def run(self) -> None:
        self.fields.header(self.draft.net.faults)
        for item in self.draft.inputs:
            self._define(item.blob, item.by, item.shape)
            self.unread.pop(item.blob)
        for layer in self.draft.layers:
            where = f"layer '{layer.name}'" + (f" (line {layer.line})" if layer.line else "")
            params = self.fields.settle(layer, where)
            inputs = self._bottoms(layer, where)
            if not self._tops_are_free(layer, where):
                continue
            if layer.type in IDENTITIES:
                self._pass_through(layer, inputs)
            elif layer.type not in self.kinds:
                self.unsupported.setdefault(layer.type, []).append(where)
                self._outputs(layer, [None] * len(layer.tops))
            elif params is not None:
                self._add(replace(layer, params=params), where, inputs)
            else:
                self._outputs(layer, [None] * len(layer.tops))
        for kind, layers in self.unsupported.items():
            self.problems.add(f"layer type '{kind}' is not supported: {listed(layers)}")
        notes = {node.type: node.layer.note for node in self.nodes if node.layer.note}
        self.warnings[:0] = self.fields.all_warnings() + [f"layer type {kind}: {note}" for kind, note in notes.items()]
        if not self.nodes and not self.problems:
            self.problems.add("no layer is left to run at inference")

    def advice(self) -> str:
        """What to do about problems, beside what each of them says."""
        lines = [self.fields.advice()] if self.fields.unnamed else []
        if self.unsupported:
            lines.append(
                f"Supported layer types: {', '.join(sorted(self.kinds))}. Others can be added from outside, by a class "
                "each (--layers FILE.py): see docs/custom_layers.md."
            )
        return "\n".join(lines)

    # ---- one layer ---------------------------------------------------------------------------------------------------

    def _bottoms(self, layer: LayerDef, where: str) -> list[str | None]:
        inputs: list[str | None] = []
        for bottom in layer.bottoms:
            value = self.current.get(bottom)
            if value is None:
                later = next((other.name for other in self.draft.layers if bottom in other.tops), None)
                why = (
                    f"layer '{later}' produces it, but Caffe runs layers in the file's order"
                    if later
                    else "no layer does"
                )
                self.problems.add(f"{where} reads blob '{bottom}', which nothing before it produces: {why}")
            else:
                self.read_by[bottom].append(layer.name)
                self.unread.pop(bottom, None)
            inputs.append(value)
        return inputs

    def _tops_are_free(self, layer: LayerDef, where: str) -> bool:
        free = True
        for i, top in enumerate(layer.tops):
            if top not in self.current:
                continue
            if i >= len(layer.bottoms) or layer.bottoms[i] != top:
                first = self.writers[top][-1]
                self.problems.add(
                    f"{where} writes blob '{top}', which {first} already produces; blobs need different names"
                )
                free = False
            elif len(self.read_by[top]) > 1:
                self.problems.add(
                    f"{where} overwrites blob '{top}' in place after layer '{self.read_by[top][0]}' has read it. Caffe "
                    f"refuses that: give '{layer.name}' a top of its own"
                )
                free = False
            elif layer.type in self.kinds and not self.kinds[layer.type].in_place:
                self.problems.add(
                    f"{where}: layers of type {layer.type} cannot work in place; give it a top of its own"
                )
                free = False
        return free

    def _pass_through(self, layer: LayerDef, inputs: list[str | None]) -> None:
        self.dropped.append(Dropped(layer.name, layer.type, IDENTITIES[layer.type]))
        if not inputs:
            return
        if inputs[0] is None:  # a problem already
            self._outputs(layer, [None] * len(layer.tops))
            return
        if layer.type == "Dropout":
            self.dropouts[inputs[0]] = layer.params.get("dropout_param", {}).get("dropout_ratio", DROPOUT_RATIO)
        for top in layer.tops:
            self.current[top] = inputs[0]
            self.read_by[top] = []
            self.writers.setdefault(top, []).append(f"layer '{layer.name}'")
            self.memory.setdefault(top, {top})
            self.unread[top] = None
            if layer.type == "Split":
                self._share_memory(top, layer.bottoms[0])

    def _add(self, layer: LayerDef, where: str, inputs: list[str | None]) -> None:
        kind = self.kinds[layer.type]
        shapes: Sequence[Shape | None] = [None] * len(layer.tops)
        bottoms = [self.shapes[value] if value else None for value in inputs]
        try:
            _check_count(len(layer.bottoms), kind.takes, "bottoms")
            _check_count(len(layer.tops), kind.gives, "tops")
            parsed = kind.parse(layer.params, len(layer.tops))
            known = [shape for shape in bottoms if shape is not None]
            if len(known) == len(bottoms):
                shapes = parsed.shapes(known)
                if len(shapes) != len(layer.tops):
                    raise LayerFault(f"{len(layer.bottoms)} bottoms give {len(shapes)} tops, not {len(layer.tops)}")
                for top, shape in zip(layer.tops, shapes, strict=True):
                    if prod(shape) > MAX_COUNT:
                        raise LayerFault(
                            f"its top '{top}' would have {prod(shape)} values; Caffe has at most {MAX_COUNT}"
                        )
                wanted = parsed.weights(known)
                if wanted:
                    self.wanted.append(Wanted(layer.name, parsed, wanted, layer.specs))
        except LayerFault as fault:
            self.problems.add(f"{where}: {fault}")
            self._outputs(layer, [None] * len(layer.tops))
            return
        outputs = self._outputs(layer, shapes)
        node = Node(layer.name, layer.type, parsed, tuple(value or "" for value in inputs), tuple(outputs))
        self.nodes.append(node)
        if parsed.shares(len(layer.bottoms)) and inputs[0] is not None:
            self._share_memory(layer.tops[0], layer.bottoms[0])
        for top in layer.tops:
            if top in layer.bottoms:
                self._refresh_aliases(layer, top)

    def _outputs(self, layer: LayerDef, shapes: Sequence[Shape | None]) -> list[str]:
        return [
            self._define(top, f"layer '{layer.name}'", shape) for top, shape in zip(layer.tops, shapes, strict=True)
        ]

    # ---- blobs and memory --------------------------------------------------------------------------------------------

    def _define(self, blob: str, by: str, shape: Shape | None) -> str:
        writers = self.writers.setdefault(blob, [])
        value = f"{blob}\0{len(writers)}"
        writers.append(by)
        self.current[blob] = value
        self.shapes[value] = shape
        self.read_by[blob] = []
        self.memory.setdefault(blob, {blob})
        self.unread[blob] = None
        return value

    def _share_memory(self, one: str, other: str) -> None:
        both = self.memory[one] | self.memory[other]
        for blob in both:
            self.memory[blob] = both

    def _refresh_aliases(self, layer: LayerDef, top: str) -> None:
        """After an in-place layer, the other blobs in the same memory hold the new values too."""
        others = sorted(self.memory[top] - {top})
        if not others:
            return
        source = self.current[top]
        for blob in others:
            shape = self.shapes[self.current[blob]]
            readers, was_unread = self.read_by[blob], blob in self.unread
            value = self._define(blob, f"layer '{layer.name}'", shape)
            self.read_by[blob] = readers
            if not was_unread:
                self.unread.pop(blob)
            self.nodes.append(Node(f"{layer.name}/{blob}", "View", View(shape or ()), (source,), (value,)))
        names = ", ".join(f"'{blob}'" for blob in others)
        self.warnings.append(
            f"layer '{layer.name}' overwrites '{top}' in place, which shares its memory with {names}: as in Caffe, "
            "these change with it"
        )

    # ---- the result --------------------------------------------------------------------------------------------------

    def graph(self, accounts: Accounts) -> Graph:
        names = self._final_names()
        keys = accounts.keys or {
            want.name: tuple(f"{want.name}/{name}" for name in want.layer.names(len(want.shapes)))
            for want in self.wanted
        }
        shapes = {names[value]: shape for value, shape in self.shapes.items() if shape is not None}
        nodes = tuple(
            replace(
                node,
                inputs=tuple(names[value] for value in node.inputs),
                outputs=tuple(names[value] for value in node.outputs),
                weights=keys.get(node.name, ()) if node.layer.weight_names else (),
            )
            for node in self.nodes
        )
        inputs = tuple(item.blob for item in self.draft.inputs)
        # What shares a name with an input but was overwritten in place keeps its own value name.
        blobs = {
            blob: names[value] for blob, value in self.current.items() if blob not in inputs or names[value] == blob
        }
        outputs = tuple(blob if blob in blobs else names[self.current[blob]] for blob in self.unread)
        return Graph(
            name=self.draft.net.name,
            source=self.draft.net.source,
            inputs=inputs,
            outputs=outputs,
            nodes=nodes,
            shapes=shapes,
            batched=_batched(nodes, inputs, shapes),
            blobs={**blobs, **{name: name for name in outputs if name not in blobs}},
            wanted=tuple(self.wanted),
            accounts=accounts,
            dropped=tuple(self.dropped),
            warnings=(*self.warnings, *accounts.warnings),
            dropouts={names[value]: ratio for value, ratio in self.dropouts.items()},
        )

    def _final_names(self) -> dict[str, str]:
        """Internal value -> public name; see the module's docstring. An input keeps its blob's name."""
        inputs = {item.blob for item in self.draft.inputs}
        names: dict[str, str] = {}
        taken = set(self.writers)
        for value in self.shapes:
            blob, version = value.rsplit("\0", 1)
            last = self.current[blob] == value
            if (last and blob not in inputs) or (blob in inputs and version == "0"):
                names[value] = blob
                continue
            writer = self.writers[blob][int(version)].removeprefix("layer '").removesuffix("'")
            name, number = f"{blob}@{writer}", 1
            while name in taken:
                number += 1
                name = f"{blob}@{writer}#{number}"
            taken.add(name)
            names[value] = name
        return names


def _check_count(have: int, limits: tuple[int, int | None], what: str) -> None:
    low, high = limits
    if have < low or (high is not None and have > high):
        wants = f"{low}" if low == high else f"{low} or more" if high is None else f"{low} to {high}"
        raise LayerFault(f"it has {have} {what}, its type takes {wants}")


def _batched(
    nodes: Sequence[Node], inputs: Sequence[str], shapes: Mapping[str, Shape]
) -> Mapping[str, tuple[int | None, ...]]:
    """Shapes with None where the first axis follows the batch; as they are where the network fixes its batch size.

    Found by trying: the shapes are inferred once more for a batch one larger. Where the batch ends up in another axis,
    the size counts as fixed: layers may take all axes but the first for constants.
    """
    fixed: dict[str, tuple[int | None, ...]] = dict(shapes)
    if not shapes.get(inputs[0]):
        return fixed
    size = shapes[inputs[0]][0]
    larger: dict[str, Shape] = {
        name: (size + 1, *shapes[name][1:]) if shapes[name] and shapes[name][0] == size else shapes[name]
        for name in inputs
    }
    try:
        for node in nodes:
            bottoms = [larger[value] for value in node.inputs]
            before = [shapes[value] for value in node.inputs]
            if node.layer.weights(bottoms) != node.layer.weights(before):
                return fixed
            larger.update(zip(node.outputs, node.layer.shapes(bottoms), strict=True))
    except LayerFault:
        return fixed
    if any(shape[1:] != larger[name][1:] for name, shape in shapes.items()):
        return fixed
    return {name: (None, *shape[1:]) if shape != larger[name] else shape for name, shape in shapes.items()}


def describe(graph: Graph) -> str:
    """'data 1x3x224x224 -> prob 1x1000', for messages."""
    ins = ", ".join(f"{name} {times(graph.shapes[name])}" for name in graph.inputs)
    outs = ", ".join(f"{name} {times(graph.shapes[graph.blobs[name]])}" for name in graph.outputs)
    return f"{ins} -> {outs}"
