"""What a graph is made of: found by running over the layers once, as Caffe's Net::Init does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import cast

from ...errors import SHOWN, Problems, did_you_mean, listed, nearest
from ...proto import LayerDef
from ...proto.netdef import MAX_AXES, MAX_COUNT
from ..layers import Layer, LayerFault, View
from ..layers.base import Shape
from ..layers.registry import Registry
from ..layers.select import Crop
from .coordinates import Coordinates
from .draft import Draft, Dropped
from .fields import PYTHON, Fields, kind_of
from .inputs import DATA
from .layer_types import IDENTITIES, RECIPES, goes_on_as, misfit, param_str, python_code
from .missing import Producers
from .node import Node
from .weights import Wanted

DROPOUT_RATIO = 0.5  # Caffe's default


class Builder:
    """Names, versions of blobs, shapes and wanted weights, layer by layer; what is wrong goes to `problems`.

    Until the last layer has run, nobody knows which value a blob holds at the end; so values have names of their own
    here, 'blob\\0version', and `final_names` gives the public ones.
    """

    def __init__(self, draft: Draft, problems: Problems, kinds: Registry) -> None:
        self.draft = draft
        self.problems = problems
        self.kinds = kinds
        self.producers = Producers(draft)
        self.fields = Fields(kinds, draft.options.ignore_fields, problems, IDENTITIES)
        self.current: dict[str, str] = {}  # blob -> the value it holds now
        self.writers: dict[str, list[str]] = {}  # blob -> layers that wrote it, in order
        self.read_by: dict[str, list[str]] = {}  # blob -> layers that read it since it was last written
        self.shapes: dict[str, Shape | None] = {}  # value -> shape; None after a problem
        self.memory: dict[str, set[str]] = {}  # blob -> blobs in the same memory, itself among them
        self.unread: dict[str, None] = {}  # blobs that no layer has read yet: the outputs, at the end
        self.nodes: list[Node] = []
        self.wanted: list[Wanted] = []
        self.untold: set[str] = set()  # layers of which, after a problem, nobody knows what weights they need
        self.dropped: list[Dropped] = list(draft.dropped)
        self.warnings: list[str] = []
        self.dropouts: dict[str, float] = {}
        self.unsupported: dict[str, list[str]] = {}  # type -> its layers
        self.unlisted = False  # whether a layer of the old form has a type that this form does not know
        self.meant: dict[str, str | None] = {}  # an unknown type -> the one that it is a misspelling of
        self.coordinates = Coordinates(self.nodes, self.shapes)
        self.known = (*IDENTITIES, *DATA, *kinds)  # types, for those that are misspelt

    def run(self) -> None:
        """Over all layers, once."""
        self.fields.header(self.draft.net.faults)
        self.fields.rules(self.draft.net.layers)
        for item in self.draft.inputs:
            if not item.blob:
                self.problems.add(f"{item.by} brings a blob without a name; name it, here and where it is read")
            self._define(item.blob, item.by, item.shape)
            self.unread.pop(item.blob)
        for place, layer in enumerate(self.draft.layers):
            self._layer(place, layer)
        for i, (kind, layers) in enumerate(self.unsupported.items()):
            if kind in RECIPES:
                way = f"; end the network before it: see '{RECIPES[kind]}' in docs/layers.md"
            else:
                way = did_you_mean(kind, self.known) if i < SHOWN else ""
            self.problems.add(f"layer type '{kind}' is not supported: {listed(layers)}{way}")
        notes = {node.type: node.layer.note for node in self.nodes if node.layer.note}
        self.warnings[:0] = self.fields.all_warnings() + [f"layer type {kind}: {note}" for kind, note in notes.items()]
        cautions: dict[str, list[str]] = {}
        for node in self.nodes:
            cautions.setdefault(node.layer.caution(), []).append(f"'{node.name}'")
        self.warnings += [f"{caution} {listed(names)}" for caution, names in cautions.items() if caution]
        if not self.nodes and not self.problems:
            self.problems.add("no layer is left to run at inference")
        elif not self.draft.inputs and not self.problems:
            self.problems.add("no layer that runs at inference reads an input")

    def advice(self) -> str:
        """What to do about problems, beside what each of them says."""
        lines = [self.fields.advice()] if self.fields.unnamed else []
        if self.unlisted:
            lines.append(
                "The old form, layers { }, knows the types of its list only: write a layer of another type in today's "
                'form, layer { type: "Name" ... }, and all layers with it (senet-convert upgrade).'
            )
        if self.unsupported or self.unlisted:
            lines.append(
                "Supported layer types stand in docs/layers.md. Others can be added from outside, by a class each "
                "(--layers FILE.py): see docs/custom_layers.md. Or end the network before them: --outputs BLOB,..."
            )
        return "\n".join(lines)

    # ---- one layer ---------------------------------------------------------------------------------------------------

    def _layer(self, place: int, layer: LayerDef) -> None:
        where = layer.where
        layer, known = self._recognised(layer)
        params = self.fields.settle(layer, where)
        inputs = self._bottoms(place, layer, where)
        free = self._tops_are_free(layer, where)
        if not known or not free or not self._counts_fit(layer, where):
            self._give_up(layer)
        elif layer.type in IDENTITIES:
            self._pass_through(layer, inputs)
        elif params is None:
            self._give_up(layer)
        else:
            self._add(replace(layer, params=params), where, inputs)

    def _recognised(self, layer: LayerDef) -> tuple[LayerDef, bool]:
        """The layer, and whether its type is known. One of an unknown type is a problem; where it is another one's
        misspelling it goes on as that, so that what else is wrong is told too.
        """
        if layer.type in IDENTITIES or kind_of(layer, self.kinds) is not None:
            return layer, True
        if layer.type == PYTHON:
            self.problems.add(python_code(layer), f"{layer.where}{param_str(layer)}")
        elif not layer.type:  # a fault of its fields says so
            self.unlisted = self.unlisted or any(" 'type' has no value" in fault.text for fault in layer.faults)
        else:
            self.unsupported.setdefault(layer.type, []).append(layer.where)
            if layer.type not in self.meant and len(self.meant) < SHOWN:
                self.meant[layer.type] = nearest(layer.type, self.known)
            name = self.meant.get(layer.type)
            if name is not None and goes_on_as(layer, name, self.kinds):
                return replace(layer, type=name), True
        return layer, False

    def _give_up(self, layer: LayerDef) -> None:
        """After a problem: what reads its tops is not to be blamed for that, nor are its weights."""
        self.untold.add(layer.name)
        self._outputs(layer, [None] * len(layer.tops))

    def _bottoms(self, place: int, layer: LayerDef, where: str) -> list[str | None]:
        inputs: list[str | None] = []
        for bottom in layer.bottoms:
            value = self.current.get(bottom)
            if value is None:
                why = self.producers.why_not_before(place, bottom)
                self.problems.add(f"{where} reads blob '{bottom}', which nothing before it produces: {why}")
            else:
                self.read_by[bottom].append(layer.name)
                self.unread.pop(bottom, None)
            inputs.append(value)
        return inputs

    def _tops_are_free(self, layer: LayerDef, where: str) -> bool:
        free = True
        kind = kind_of(layer, self.kinds)
        several = {top for top, named in Counter(layer.tops).items() if named > 1}
        for i, top in enumerate(layer.tops):
            if not top:
                self.problems.add(f"{where} has a top without a name; name it, here and where it is read")
                free = False
            elif top in several:
                self.problems.add(f"{where} names the top '{top}' more than once; blobs need different names")
                free = False
            elif top not in self.current:
                continue
            elif i >= len(layer.bottoms) or layer.bottoms[i] != top:
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
            elif not (kind.works_in_place(layer.params) if kind else layer.type != "Split"):
                self.problems.add(
                    f"{where}: layers of type {layer.type} cannot work in place; give it a top of its own"
                )
                free = False
        return free

    def _counts_fit(self, layer: LayerDef, where: str) -> bool:
        wrong = misfit(layer, kind_of(layer, self.kinds), layer.type)
        if wrong:
            self.problems.add(wrong, where)
        return not wrong

    def _pass_through(self, layer: LayerDef, inputs: list[str | None]) -> None:
        self.dropped.append(Dropped(layer.name, layer.type, IDENTITIES[layer.type]))
        if layer.specs:
            self.problems.add(f"{layer.where}: {_too_many(layer, 0)}")
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
        kind = cast(type[Layer], kind_of(layer, self.kinds))  # a layer without one is given up before
        shapes: Sequence[Shape | None] = [None] * len(layer.tops)
        bottoms = [self.shapes[value] if value else None for value in inputs]
        try:
            parsed = kind.parse(layer.params, len(layer.tops))
            known = [shape for shape in bottoms if shape is not None]
            if len(known) == len(bottoms):
                if parsed.by_coordinates:
                    parsed = parsed.shifted(self.coordinates.offset(*map(str, inputs)))
                elif kind is Crop and not layer.params:
                    self._name_forks_crop(where, *map(str, inputs))
                shapes = parsed.shapes(known)
                if len(shapes) != len(layer.tops):
                    raise LayerFault(f"{len(layer.bottoms)} bottoms give {len(shapes)} tops, not {len(layer.tops)}")
                for top, shape in zip(layer.tops, shapes, strict=True):
                    if len(shape) > MAX_AXES:
                        raise LayerFault(f"its top '{top}' would have {len(shape)} axes; Caffe has at most {MAX_AXES}")
                    if prod(shape) > MAX_COUNT:
                        raise LayerFault(
                            f"its top '{top}' would have {prod(shape)} values; Caffe has at most {MAX_COUNT}"
                        )
                wanted = parsed.weights(known)
                if len(layer.specs) > len(wanted):
                    raise LayerFault(_too_many(layer, len(wanted)))
                if wanted:
                    self.wanted.append(Wanted(layer.name, parsed, wanted, layer.specs, tuple(known), layer.line))
            else:
                self.untold.add(layer.name)
        except LayerFault as fault:
            self.problems.add(f"{fault}{self._scalars(layer, bottoms)}", where)
            self._give_up(layer)
            return
        outputs = self._outputs(layer, shapes)
        node = Node(layer.name, layer.type, parsed, tuple(value or "" for value in inputs), tuple(outputs))
        self.nodes.append(node)
        if parsed.shares(len(layer.bottoms)) and inputs[0] is not None:
            self._share_memory(layer.tops[0], layer.bottoms[0])
        for top in layer.tops:
            if top in layer.bottoms:
                self._refresh_aliases(layer, top)

    def _name_forks_crop(self, where: str, source: str, target: str) -> None:
        """A Crop without parameters means something else in the forks of FCN and HED."""
        try:
            rows, columns = self.coordinates.offset(source, target)
        except LayerFault:
            return  # in these forks too
        if rows or columns:
            self.warnings.append(
                f"{where}: a Crop without crop_param takes the first cells, as in Caffe; the forks of FCN and HED put "
                f"the cells of both bottoms on each other, here with offset {rows} and {columns}. If the network is "
                f"of such a fork, add crop_param {{ axis: 2 offset: {rows} offset: {columns} }}"
            )

    def _scalars(self, layer: LayerDef, bottoms: Sequence[Shape | None]) -> str:
        """Names bottoms without dimensions: a `shape { }` does its harm in other layers."""
        named = [blob for blob, shape in zip(layer.bottoms, bottoms, strict=True) if shape == ()]
        return "".join(
            f"; blob '{blob}' of {self.writers[blob][-1]} has no dimensions" for blob in dict.fromkeys(named)
        )

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
        few, many = sorted((self.memory[one], self.memory[other]), key=len)
        if few is not many:
            many |= few
            for blob in few:
                self.memory[blob] = many

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

    def final_names(self) -> dict[str, str]:
        """Internal value -> public name; as the docstring of `graph` has it. An input keeps its blob's name."""
        inputs = {item.blob for item in self.draft.inputs}
        names: dict[str, str] = {}
        taken = set(self.writers)
        numbers: dict[str, int] = {}  # name -> the last number that told another value of it apart
        for value in self.shapes:
            blob, version = value.rsplit("\0", 1)
            last = self.current[blob] == value
            if (last and blob not in inputs) or (blob in inputs and version == "0"):
                names[value] = blob
                continue
            writer = self.writers[blob][int(version)].removeprefix("layer '").removesuffix("'")
            name = written = f"{blob}@{writer}"
            while name in taken:
                numbers[written] = numbers.get(written, 1) + 1
                name = f"{written}#{numbers[written]}"
            taken.add(name)
            names[value] = name
        return names


def _too_many(layer: LayerDef, blobs: int) -> str:
    """Settings of blobs that a layer lacks, which Net::Init refuses too."""
    return f"it has {len(layer.specs)} param {{ }} for {blobs} blobs; take out those behind them"
