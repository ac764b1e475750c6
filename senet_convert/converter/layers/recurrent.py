"""LSTM and RNN: layers that run a small network over the first axis of their bottom, step by step.

Bottoms are x (T, N, ...), cont (T, N) and, optionally, x_static (N, ...), which every step sees; the top is (T, N, D)
with D = `num_output`. cont is 0 where a new sequence begins: the state before it does not count. Caffe keeps the last
state from one forward pass to the next; here every pass begins with zeros, as Caffe's first one does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from onnx import NodeProto, TensorProto, ValueInfoProto, helper
from torch import Tensor

from .base import Emitter, Layer, LayerFault, Shape, int64, times


class Body:
    """The nodes of a Scan's body; their values bear names that begin with `prefix`."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[NodeProto] = []

    def __call__(self, op: str, inputs: Sequence[str], **attributes: object) -> str:
        """Add a node with one output; gives the output's name."""
        return self.several(op, inputs, 1, **attributes)[0]

    def several(self, op: str, inputs: Sequence[str], count: int, **attributes: object) -> tuple[str, ...]:
        """Add a node with `count` outputs."""
        outputs = tuple(f"{self.prefix}/{op}{len(self.nodes)}.{i}" for i in range(count))
        self.nodes.append(helper.make_node(op, list(inputs), list(outputs), **attributes))  # type: ignore[arg-type]
        return outputs


@dataclass(frozen=True)
class Recurrent(Layer):
    """What LSTM and RNN share (recurrent_layer.cpp)."""

    num_output: int
    expose_hidden: bool = False
    debug_info: bool = False

    message: ClassVar[str] = "recurrent_param"
    takes: ClassVar[tuple[int, int | None]] = (2, 3)
    in_place: ClassVar[bool] = False
    gates: ClassVar[int] = 1  # blocks of num_output values that a step computes of its inputs
    states: ClassVar[int] = 1  # blobs that go from step to step

    def validate(self) -> None:
        """A size, and no state as bottoms and tops."""
        if self.num_output < 1:
            raise LayerFault(f"num_output is {self.num_output}; it must be at least 1")
        if self.expose_hidden:
            raise LayerFault("expose_hidden: true, which makes bottoms and tops of the state, is not supported")

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(T, N, ...) -> (T, N, num_output)."""
        x, cont, *static = bottoms
        if len(x) < 3 or cont != x[:2]:
            raise LayerFault(
                f"bottoms of shapes {times(x)} and {times(cont)}; {type(self).__name__} takes (T, N, ...) and (T, N)"
            )
        if static and (len(static[0]) < 2 or static[0][0] != x[1]):
            raise LayerFault(
                f"the third bottom has shape {times(static[0])}; its first axis must be the {x[1]} sequences"
            )
        return ((*x[:2], self.num_output),)

    def index_limits(self, bottoms: Sequence[Shape]) -> Mapping[int, int]:
        """A sequence goes on, or it does not."""
        return {1: 2}

    def inputs_weights(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """Weight and bias of x, and the weight of x_static where there is one."""
        rows = self.gates * self.num_output
        static = tuple((rows, prod(shape[1:])) for shape in bottoms[2:])
        return ((rows, prod(bottoms[0][2:])), (rows,), *static)

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Step by step."""
        x, cont, *static = bottoms
        own = len(static) + 2
        given = F.linear(x.flatten(2), weights[0], weights[1])
        if static:
            given = given + F.linear(static[0].flatten(1), weights[2])
        state = (x.new_zeros(x.shape[1], self.num_output),) * self.states
        tops = []
        for step, goes_on in zip(given, cont, strict=True):
            top, state = self.step(step, goes_on[:, None], state, weights[own:])
            tops.append(top)
        return (torch.stack(tops),)

    def step(
        self, given: Tensor, cont: Tensor, state: tuple[Tensor, ...], weights: Sequence[Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The top and the new state of one step; `given` is (N, gates * D), `cont` (N, 1)."""
        raise NotImplementedError

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """Everything that does not depend on the state at once, then a Scan: ONNX's own LSTM knows no `cont`."""
        x, cont, *static = bottoms
        shape, size = emit.shape(x), self.num_output
        if len(shape) > 3:
            x = emit("Reshape", [x, emit.constant(int64(0, 0, -1))])
        given = emit("Add", [emit("MatMul", [x, _transposed(emit, weights[0])]), weights[1]])
        if static:
            flat = emit("Flatten", [static[0]], axis=1)
            given = emit("Add", [given, emit("MatMul", [flat, _transposed(emit, weights[2])])])
        cont = emit("Unsqueeze", [cont, emit.constant(int64(2))])
        start = emit.constant(np.zeros((shape[1], size), np.float32))
        body = Body(f"{given}/step")
        names = [f"{body.prefix}/{name}" for name in ("given", "cont", *(f"state{i}" for i in range(self.states)))]
        top, state = self.scan_step(emit, body, names[0], names[1], names[2:], weights[len(static) + 2 :])
        widths = (self.gates * size, 1, *(size,) * self.states)
        before = [_value(name, (shape[1], width)) for name, width in zip(names, widths, strict=True)]
        after = [_value(name, (shape[1], size)) for name in (*state, top)]
        graph = helper.make_graph(body.nodes, body.prefix, [*before[2:], *before[:2]], after)
        inputs = [*[start] * self.states, given, cont]
        return emit.several("Scan", inputs, self.states + 1, body=graph, num_scan_inputs=2)[-1:]

    def scan_step(
        self, emit: Emitter, body: Body, given: str, cont: str, state: Sequence[str], weights: Sequence[str]
    ) -> tuple[str, tuple[str, ...]]:
        """The same as `step`, as nodes of a Scan's body."""
        raise NotImplementedError

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Each step and sequence meets every weight once."""
        return prod(bottoms[0][:2]) * sum(prod(shape) for shape in self.weights(bottoms) if len(shape) == 2)


def _transposed(emit: Emitter, weight: str) -> str:
    return emit("Transpose", [weight], perm=[1, 0])


def _value(name: str, shape: Shape) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


@dataclass(frozen=True)
class LSTM(Recurrent):
    """Caffe's LSTM (lstm_layer.cpp, lstm_unit_layer.cpp), with the gates in the order i, f, o, g.

    c = cont * f * c + i * g and h = o * tanh(c), where the gates see W_xc x + b_c + W_hc (cont * h).
    """

    weight_names: ClassVar[tuple[str, ...]] = ("W_xc", "b_c", "W_xc_static", "W_hc")
    gates: ClassVar[int] = 4
    states: ClassVar[int] = 2

    def weights(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(4D, K), (4D,), for x_static (4D, K'), and (4D, D)."""
        return (*self.inputs_weights(bottoms), (4 * self.num_output, self.num_output))

    def names(self, count: int) -> tuple[str, ...]:
        """Three without x_static."""
        return self.weight_names if count == 4 else tuple(n for n in self.weight_names if n != "W_xc_static")[:count]

    def step(
        self, given: Tensor, cont: Tensor, state: tuple[Tensor, ...], weights: Sequence[Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See the class."""
        h, c = state
        i, f, o, g = (given + F.linear(cont * h, weights[0])).chunk(4, 1)
        c = cont * torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, (h, c)

    def scan_step(
        self, emit: Emitter, body: Body, given: str, cont: str, state: Sequence[str], weights: Sequence[str]
    ) -> tuple[str, tuple[str, ...]]:
        """See the class."""
        h, c = state
        seen = body("MatMul", [body("Mul", [cont, h]), _transposed(emit, weights[0])])
        sizes = emit.constant(int64(*[self.num_output] * 4))
        i, f, o, g = body.several("Split", [body("Add", [given, seen]), sizes], 4, axis=1)
        kept = body("Mul", [body("Mul", [cont, body("Sigmoid", [f])]), c])
        c = body("Add", [kept, body("Mul", [body("Sigmoid", [i]), body("Tanh", [g])])])
        h = body("Mul", [body("Sigmoid", [o]), body("Tanh", [c])])
        return body("Identity", [h]), (h, c)


@dataclass(frozen=True)
class RNN(Recurrent):
    """Caffe's RNN (rnn_layer.cpp): h = tanh(W_xh x + b_h + W_hh (cont * h)); the top is tanh(W_ho h + b_o)."""

    weight_names: ClassVar[tuple[str, ...]] = ("W_xh", "b_h", "W_xh_static", "W_hh", "W_ho", "b_o")

    def weights(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """(D, K), (D,), for x_static (D, K'), (D, D), (D, D) and (D,)."""
        square = (self.num_output, self.num_output)
        return (*self.inputs_weights(bottoms), square, square, (self.num_output,))

    def names(self, count: int) -> tuple[str, ...]:
        """Five without x_static."""
        return self.weight_names if count == 6 else tuple(n for n in self.weight_names if n != "W_xh_static")[:count]

    def step(
        self, given: Tensor, cont: Tensor, state: tuple[Tensor, ...], weights: Sequence[Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See the class."""
        h = torch.tanh(given + F.linear(cont * state[0], weights[0]))
        return torch.tanh(F.linear(h, weights[1], weights[2])), (h,)

    def scan_step(
        self, emit: Emitter, body: Body, given: str, cont: str, state: Sequence[str], weights: Sequence[str]
    ) -> tuple[str, tuple[str, ...]]:
        """See the class."""
        seen = body("MatMul", [body("Mul", [cont, state[0]]), _transposed(emit, weights[0])])
        h = body("Tanh", [body("Add", [given, seen])])
        linear = body("Add", [body("MatMul", [h, _transposed(emit, weights[1])]), weights[2]])
        return body("Tanh", [linear]), (h,)
