"""Who produces a blob that a layer reads, and why nothing does before it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from graphlib import CycleError, TopologicalSorter

from ...errors import SHOWN, listed
from ...proto import LayerDef
from .draft import Draft


class Producers:
    """The layers of a draft by the blobs that they write; a layer goes by its place in the file's order."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._inputs = {item.blob for item in draft.inputs}
        self._writers: dict[str, list[int]] = {}
        for place, layer in enumerate(draft.layers):
            for top in dict.fromkeys(layer.tops):
                self._writers.setdefault(top, []).append(place)

    def why_not_before(self, place: int, blob: str) -> str:
        """Why nothing before the layer at `place` produces `blob`, which it reads."""
        source = self._source(place, blob)
        if source is not None:
            return self._why_later(place, source)
        if blob in self._excluded:
            phase = self._draft.options.state.phase
            return (
                f"{self._excluded[blob].where} produces it, but its rules leave it out in phase {phase}; --phase, "
                "--stage and --level choose other layers"
            )
        if blob in self._written:
            layer = self._written[blob]
            return f"{layer.where} of type {layer.type} produces it, which is left out at inference"
        return "it is only overwritten in place" if blob in self._writers else "no layer does"

    def _why_later(self, place: int, source: int) -> str:
        layers = self._draft.layers
        for cycle in self._cycles:
            if place in cycle and cycle[cycle.index(place) - 1] == source:
                turned = cycle[cycle.index(place) :] + cycle[: cycle.index(place) + 1]
                ring = listed([f"'{layers[i].name}'" for i in turned], " -> ")
                return f"the layers {ring} form a cycle"
        return f"{layers[source].where} produces it, but Caffe runs layers in the file's order"

    def _source(self, place: int, blob: str) -> int | None:
        """The layer whose result a layer reads: the last that writes the blob before it, else the first that makes it
        after it.
        """
        writers = self._writers.get(blob, [])
        before = bisect_left(writers, place)
        if before:
            return writers[before - 1]
        if blob in self._inputs:
            return None
        return next((i for i in writers if i != place and blob not in self._draft.layers[i].bottoms), None)

    @cached_property
    def _excluded(self) -> dict[str, LayerDef]:
        return _makers(self._draft.excluded)

    @cached_property
    def _written(self) -> dict[str, LayerDef]:
        return _makers(self._draft.net.layers)

    @cached_property
    def _cycles(self) -> list[list[int]]:
        """Layers that feed each other, in the order in which they do; as many such rings as a message can show."""
        found: list[list[int]] = []
        edges = {
            place: {self._source(place, blob) for blob in layer.bottoms} - {None}
            for place, layer in enumerate(self._draft.layers)
        }
        while len(found) < SHOWN:
            try:
                TopologicalSorter(edges).prepare()
            except CycleError as fault:
                cycle = fault.args[1][:-1]
                found.append(cycle)
                edges = {place: sources - set(cycle) for place, sources in edges.items() if place not in cycle}
            else:
                break
        return found


def _makers(layers: Sequence[LayerDef]) -> dict[str, LayerDef]:
    """The first layer that makes each blob: what overwrites it in place does not."""
    return {top: layer for layer in reversed(layers) for top in set(layer.tops) - set(layer.bottoms)}
