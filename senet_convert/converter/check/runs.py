"""The generic runner three times, side by side: in float64, in float32, and in float32 with one more rounding.

A pointwise layer inherits its bottom's error through its own steepness: f(x ± e) - f(x); it is never less than what
float32's approximations of f are off by. Where only few values feel it, behind a sigmoid that is saturated elsewhere,
say, two runs may both be lucky there. In the third run each of them is therefore moved by as much, to either side, and
what is computed from them shows what that makes.

Where a layer decides (an index, a comparison), the two float32 runs follow the exact one: what a layer decides by is
judged apart (`ties`), and their values stay comparable behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..graph.graph import Graph, Node
from ..layers.base import ULP
from ..runner import GraphModule

Array = NDArray[Any]
Decide = Callable[[str, Tensor], Tensor]  # a value that jumps, and what exact arithmetic makes of it -> what counts

FEW = 16  # of how many values on a blob says enough about errors
DRAWS = 16  # how often errors are drawn for one of fewer
FELT = 64  # by how many values an inherited error must be felt for two runs to show it


@dataclass(frozen=True)
class Step:
    """One value in all three runs."""

    value: str
    exact: Array
    plain: Array
    rounded: Array
    inherited: float = 0.0  # of a pointwise layer: what its bottom's error may make of the top, at most


def jumping(graph: Graph) -> dict[str, tuple[Node, int]]:
    """The values that jump: value -> the node and the number of its top."""
    return {node.outputs[i]: (node, i) for node in graph.nodes for i in node.layer.jumps()}


def lockstep(
    runner: GraphModule,
    tensors: Sequence[Tensor],
    decide: Decide | None = None,
    seed: int = 0,
) -> Iterator[Step]:
    """Each value as it is computed, so that no run's values pile up. `decide` may take another decision's side.

    `seed` is that of the additional rounding. Inputs have it too, for the rounding in the layers that read them, unless
    they are whole numbers, which may be indices.
    """
    dice = torch.Generator().manual_seed(seed)
    jumps = jumping(runner.graph)
    decided: dict[str, Tensor] = {}
    inherited = Inherited(runner)

    def exactly(value: str, top: Tensor) -> Tensor:
        if value in jumps:
            top = decided[value] = decide(value, top) if decide else top
        inherited.see_exact(value, top)
        return top

    def follow(value: str, top: Tensor) -> Tensor:
        top = decided[value].to(top.dtype) if value in jumps else top
        inherited.see_plain(value, top)
        return top

    def round_again(value: str, top: Tensor) -> Tensor:
        if value in jumps:
            return decided[value].to(top.dtype)
        return more(inherited.move(value, top, dice))

    def more(top: Tensor) -> Tensor:
        return top * (1 + ULP * (2 * torch.rand(top.shape, generator=dice) - 1))

    for name, tensor in zip(runner.graph.inputs, tensors, strict=True):
        inherited.see_exact(name, tensor.double())
    with torch.inference_mode():
        runs = (
            runner.steps(*(tensor.double() for tensor in tensors), adjust=exactly),
            runner.steps(*tensors, adjust=follow),
            runner.steps(*(more(tensor) if _broken(tensor) else tensor for tensor in tensors), adjust=round_again),
        )
        for (value, high), (_, low), (_, rounded) in zip(*runs, strict=True):
            yield Step(value, high.numpy(), low.numpy(), rounded.numpy(), inherited.of(value))


def _broken(tensor: Tensor) -> bool:
    return bool((tensor != tensor.round()).any())


class Inherited:
    """What pointwise layers make of their bottoms' errors."""

    def __init__(self, runner: GraphModule) -> None:
        self._runner = runner
        nodes = [node for node in runner.graph.nodes if node.layer.pointwise and len(node.inputs) == 1]
        self._nodes: dict[str, Node] = {node.outputs[0]: node for node in nodes}
        self._last = {node.inputs[0]: node.outputs[0] for node in nodes}  # bottom -> the last top made of it
        self._exact: dict[str, Tensor] = {}
        self._errors: dict[str, float] = {}
        self._most: dict[str, float] = {}

    def see_exact(self, value: str, top: Tensor) -> None:
        """A value in exact arithmetic."""
        if value in self._last or value in self._nodes:
            self._exact[value] = top

    def see_plain(self, value: str, top: Tensor) -> None:
        """The same in float32: how far it is off."""
        if value in self._last:
            difference = (top - self._exact[value]).abs()
            self._errors[value] = float(difference.nan_to_num(0.0, 0.0, 0.0).max()) if difference.numel() else 0.0

    def move(self, value: str, top: Tensor, dice: torch.Generator) -> Tensor:
        """The top in the third run, moved where few values feel what it inherits."""
        node = self._nodes.get(value)
        if node is not None:
            up, down = self._sides(node, value)
            spread = torch.maximum(up.abs(), down.abs())
            most = self._most[value] = float(spread.max()) if spread.numel() else 0.0
            if most and int((spread > most / 4).sum()) <= FELT:
                top = top + torch.where(torch.rand(top.shape, generator=dice) < 0.5, up, down).to(top.dtype)
        self._forget(value)
        return top

    def _sides(self, node: Node, value: str) -> tuple[Tensor, Tensor]:
        """By how much the top changes when all of its bottom is off to one side, or to the other."""
        x, weights = self._exact[node.inputs[0]], self._runner.weights_of(node, torch.float64)
        error, least = self._errors.get(node.inputs[0], 0.0), node.layer.resolution(x)
        sides = [node.layer.torch([x + side], weights)[0] - self._exact[value] for side in (error, -error)]
        up, down = (side.nan_to_num(0.0, 0.0, 0.0) for side in sides)
        return torch.where(up.abs() < least, least, up), torch.where(down.abs() < least, -least, down)

    def of(self, value: str) -> float:
        """What it inherits at most."""
        return self._most.pop(value, 0.0)

    def _forget(self, value: str) -> None:
        """Let go what nobody needs any more."""
        node = self._nodes.get(value)
        if node is not None and self._last[node.inputs[0]] == value:
            self._exact.pop(node.inputs[0], None)
        if value not in self._last:
            self._exact.pop(value, None)


class FewValues:
    """What the errors of its bottoms make of a blob of few values.

    On a blob of few values, measured errors say little: a sum that cancels is exact by luck in one run, and off in the
    next. What an engine may make of such a blob is therefore drawn: every value of its bottoms is changed, at random,
    by as much as the budget of that bottom allows, and the layer computed from them in float64.
    """

    def __init__(self, runner: GraphModule) -> None:
        """For one run."""
        self._runner = runner
        jumps = jumping(runner.graph)
        self._makers = {
            value: (node, i)
            for node in runner.graph.nodes
            for i, value in enumerate(node.outputs)
            if value not in jumps
        }
        self._last = {value: node.outputs[-1] for node in runner.graph.nodes for value in node.inputs}
        self._bottoms: dict[str, tuple[Tensor, Tensor]] = {}
        self._dice = torch.Generator().manual_seed(0)

    def error(self, value: str, exact: Array) -> float:
        """The largest absolute error that was drawn for a value; 0 where it holds many, or none was drawn."""
        if value not in self._makers or exact.size >= FEW:
            return 0.0
        node, i = self._makers[value]
        weights = self._runner.weights_of(node, torch.float64)
        found = 0.0
        with torch.inference_mode():
            for _ in range(DRAWS):
                top = node.layer.torch([self._changed(*self._bottoms[name]) for name in node.inputs], weights)[i]
                difference = np.abs(top.numpy() - exact)
                found = max(found, float(difference[np.isfinite(difference)].max(initial=0.0)))
        return found

    def keep(self, value: str, exact: Array, allowed: float | Array) -> None:
        """Remember a value and its budget, an absolute error, for as long as others are computed from it."""
        if value in self._last:
            self._bottoms[value] = torch.from_numpy(exact), torch.as_tensor(allowed)
        for name in [name for name, last in self._last.items() if last == value]:
            self._bottoms.pop(name, None)

    def _changed(self, values: Tensor, allowed: Tensor) -> Tensor:
        return values + allowed * (2 * torch.rand(values.shape, generator=self._dice, dtype=torch.float64) - 1)


def behind(graph: Graph, values: Mapping[str, object]) -> frozenset[str]:
    """These values, and all that are computed from them."""
    found = set(values)
    for node in graph.nodes:
        if found.intersection(node.inputs):
            found.update(node.outputs)
    return frozenset(found)
