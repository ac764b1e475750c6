"""Nodes in front of a network, with their constants: what an ONNX model does to pictures before its first layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

Array = NDArray[Any]


class Front:
    """Collects nodes in the order in which they run. Values and nodes are named '<prefix>:<operator>'."""

    def __init__(self, prefix: str) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, Array] = {}
        self._prefix = prefix
        self._count: dict[str, int] = {}

    def __call__(self, op: str, *operands: str | Array, result: str | None = None, **attributes: object) -> str:
        """Add a node with one output, called `result` where that is given; an operand is a value or a constant."""
        name = self._fresh(op)
        inputs = [operand if isinstance(operand, str) else self._constant(name, operand) for operand in operands]
        value = result or name
        self.nodes.append(helper.make_node(op, inputs, [value], name=name, **attributes))  # type: ignore[arg-type]
        return value

    def _constant(self, node: str, array: Array) -> str:
        name = self._fresh(f"{node.removeprefix(f'{self._prefix}:')}:constant")
        self.constants[name] = np.ascontiguousarray(array).reshape(array.shape)
        return name

    def _fresh(self, name: str) -> str:
        number = self._count[name] = self._count.get(name, 0) + 1
        return f"{self._prefix}:{name}" + (f"{number}" if number > 1 else "")
