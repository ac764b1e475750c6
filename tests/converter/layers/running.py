"""Runs layers through every engine: torch in float64 and float32, and onnxruntime in several opsets and batch sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from senet_convert.converter.export.onnx import OPSETS, all_blobs, export
from senet_convert.converter.graph.build import build
from senet_convert.converter.graph.graph import Graph
from senet_convert.converter.runner import lower, to_tensors
from senet_convert.deploy.runtime.session import Session, newest_opset
from senet_convert.proto import Blob, LayerDef, NetDef
from tests.nets import definition

Values = Mapping[str, np.ndarray]
One = Callable[..., "Outcome"]  # the fixture `one`
Refusal = Callable[..., str]  # the fixture `refusal`

EXACT, PLAIN = 1e-6, 2e-5  # of the largest value: parameters are float32 numbers; computed in float32
OPSETS_TRIED = (13, 17, 18, newest_opset(OPSETS[-1]))


@dataclass(frozen=True)
class Outcome:
    """What a network gives, blob by blob."""

    graph: Graph
    exact: Values  # torch, float64
    plain: Values  # torch, float32
    onnx: Values  # onnxruntime

    def check(self, blob: str, expected: np.ndarray, exact: float = EXACT, plain: float = PLAIN) -> None:
        """Hold every engine against a model's values."""
        for name, values, tolerance in (
            ("float64", self.exact, exact),
            ("float32", self.plain, plain),
            ("ONNX", self.onnx, plain),
        ):
            close(values[blob], expected, tolerance, f"{blob}, {name}")

    def check_exactly(self, blob: str, expected: np.ndarray) -> None:
        """The same for what only moves or counts values."""
        self.check(blob, expected, 0, 0)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Random values of a shape."""
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def f32(values: object) -> np.ndarray:
    """Values as a network takes them."""
    return np.asarray(values, np.float32)


def close(found: np.ndarray, expected: np.ndarray, tolerance: float, what: str = "") -> None:
    """Max-norm, relative to the largest expected value; NaN and infinities must stand in the same places."""
    expected = np.asarray(expected)
    assert found.shape == expected.shape, what
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(found[~finite], expected[~finite], what)
    scale = np.abs(expected[finite]).max(initial=0.0) or 1.0
    error = np.abs(found[finite].astype(np.float64) - expected[finite]).max(initial=0.0)
    assert error <= tolerance * scale, f"{what}: {error / scale:.2g} of the largest value"


def header(inputs: Values) -> str:
    """Input layers with the shapes of these arrays."""
    return "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
        f"{' '.join(f'dim: {dim}' for dim in array.shape)} }} }} }}\n"
        for name, array in inputs.items()
    )


def network(folder: Path, text: str, inputs: Values, blobs: Mapping[str, Sequence[np.ndarray]]) -> Graph:
    """The graph of layers behind inputs of these shapes, which old forms give themselves. Layers without `blobs` get
    random ones.
    """
    net = definition(folder, text if text.startswith("input:") else header(inputs) + text)
    random = np.random.default_rng(0)
    filled = {want.name: [random.normal(0, 0.5, shape) for shape in want.shapes] for want in build(net, None).wanted}
    filled.update({name: list(arrays) for name, arrays in blobs.items()})
    layers = tuple(
        LayerDef(name, "", blobs=tuple(Blob(array.shape, array.astype("<f4").ravel()) for array in arrays))
        for name, arrays in filled.items()
    )
    return build(net, NetDef("", "weights", layers))


def torch_values(graph: Graph, inputs: Values, dtype: torch.dtype) -> dict[str, np.ndarray]:
    """All blobs, by the generic runner."""
    with torch.no_grad():
        values = dict(lower(graph).steps(*to_tensors(graph, inputs, dtype)))
    return {blob: values[value].numpy() for blob, value in graph.blobs.items()}


def onnx_values(folder: Path, graph: Graph, inputs: Values, opset: int) -> dict[str, np.ndarray]:
    """All blobs, by onnxruntime; the model must satisfy ONNX's checker, and the shapes that it declares."""
    model = export(graph, opset, all_blobs(graph))
    model.check()
    path = folder / f"{opset}.onnx"
    model.write(path)
    return Session(path, threads=1).run(inputs)


def larger(graph: Graph, inputs: Values) -> dict[str, np.ndarray] | None:
    """The inputs with one image more; None where the network fixes the batch."""
    free = [name for name in graph.inputs if graph.batched[name] and graph.batched[name][0] is None]
    if not free:
        return None
    return {name: np.concatenate([array, array[:1]]) if name in free else array for name, array in inputs.items()}


def run(folder: Path, text: str, inputs: Values, blobs: Mapping[str, Sequence[np.ndarray]] | None = None) -> Outcome:
    """Every blob by every engine; all opsets must agree, and both engines on one image more if the batch is free."""
    graph = network(folder, text, inputs, blobs or {})
    exact = torch_values(graph, inputs, torch.float64)
    onnx = {opset: onnx_values(folder, graph, inputs, opset) for opset in OPSETS_TRIED}
    for opset, values in onnx.items():
        for blob, value in values.items():
            close(value, onnx[OPSETS_TRIED[0]][blob], 1e-6, f"{blob}, opset {opset}")
            declared = graph.shapes[graph.blobs[blob]]
            if None not in graph.batched[graph.blobs[blob]][1:]:  # lengths that only the data tell
                assert value.shape == declared
            assert len(value.shape) == len(declared)
    more = larger(graph, inputs)
    if more is not None:
        want = torch_values(graph, more, torch.float64)
        for blob, value in onnx_values(folder, graph, more, OPSETS_TRIED[1]).items():
            close(value, want[blob], PLAIN, f"{blob}, one image more")
    return Outcome(graph, exact, torch_values(graph, inputs, torch.float32), onnx[OPSETS_TRIED[0]])


SPOILT = np.asarray(np.float32(np.nan))
BESIDE = 'layer { name: "spoilt" type: "Scale" bottom: "x0" top: "spoilt" scale_param { axis: 0 num_axes: 0 } }\n'
"""A layer whose one weight may be SPOILT: the network then holds a value that is not finite."""


def layer(kind: str, params: str = "", bottoms: int = 1, tops: int = 1) -> str:
    """One layer named 'layer', from x0, x1, ... to y0, y1, ...: all that most tests need."""
    names = [f'bottom: "x{i}"' for i in range(bottoms)] + [f'top: "y{i}"' for i in range(tops)]
    return f'layer {{ name: "layer" type: "{kind}" {" ".join(names)} {params} }}\n'
