"""One layer of a graph."""

from __future__ import annotations

from dataclasses import dataclass

from ..layers import Layer


@dataclass(frozen=True)
class Node:
    """One layer that runs: from values and weights to values, all by name."""

    name: str
    type: str
    layer: Layer
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[str, ...] = ()
