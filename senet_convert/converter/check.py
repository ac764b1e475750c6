"""The check: several engines compute the same inputs, and every blob of each is held against exact arithmetic.

The truth is the generic runner in float64. The generic runner in float32 says what error plain float32 arithmetic
makes; every engine may make `FACTOR` times that, and never less than `FLOOR`. One float32 run can be exact by luck on
a blob of few values, so there are two: as it is, and with one more rounding put on every value (Monte Carlo arithmetic,
Parker 1997). Errors are max-norm, relative to the largest value of the blob.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..deploy.session import Session
from ..errors import CheckError
from .families import Match, run_with_taps
from .graph import Graph
from .layers.base import times
from .reference import GraphModule, to_tensors

Array = NDArray[Any]

FACTOR, FLOOR = 4.0, 2e-6
ULP = 2.0**-23  # the largest relative change by one more rounding
MOST_BY_ULP = 2e-5  # what the second run may add: Caffe's own worst on the released nets; a jump (ArgMax) is no error
REFERENCE_FLOOR = 5e-5  # another build of Caffe sums in another order: its own float32 error is in the comparison too
GENERIC, FAMILY, ONNX, REFERENCE = "generic float32", "PyTorch net", "onnxruntime", "reference"


@dataclass(frozen=True)
class BlobCheck:
    """One blob: the error of every engine that gives it, against the budget.

    `scale` is the largest absolute value of the truth; `nonfinite` counts its NaNs and infinities, which are left out.
    """

    blob: str
    layer: str
    shape: tuple[int, ...]
    scale: float
    budget: float
    errors: Mapping[str, float]
    reference_budget: float
    nonfinite: int = 0

    def over(self) -> list[str]:
        """The engines that leave the budget."""
        return [name for name, error in self.errors.items() if not error <= self.budget_of(name)]

    def budget_of(self, engine: str) -> float:
        """A person's own Caffe has its own float32 error; everything else must keep the budget."""
        return self.reference_budget if engine == REFERENCE else self.budget


@dataclass(frozen=True)
class Check:
    """What the check found; `faults` is empty when everything holds."""

    inputs: str
    engines: tuple[str, ...]
    blobs: tuple[BlobCheck, ...]
    top5: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    first_divergence: str | None = None

    @property
    def passed(self) -> bool:
        """Whether every engine keeps every budget."""
        return not self.faults

    def worst(self, engine: str) -> BlobCheck | None:
        """The blob on which an engine comes nearest to its budget, or exceeds it most."""
        given = [blob for blob in self.blobs if engine in blob.errors]
        return max(given, key=lambda blob: blob.errors[engine] / blob.budget_of(engine), default=None)


@dataclass(frozen=True)
class Subject:
    """What is checked: the graph with its runner, the family net if there is one, and the ONNX files.

    `witness` computes every blob; `delivered` is what the user gets (the same file when all blobs were asked for).
    `fed` is what `delivered` takes where that is not what the graph takes: pictures, of which the inputs were made.
    """

    graph: Graph
    runner: GraphModule
    match: Match | None
    net: nn.Module
    witness: Path
    delivered: Path
    fed: Mapping[str, Array] | None = None


def compare(
    subject: Subject, inputs: Mapping[str, Array], described: str, reference: Mapping[str, Array] | None = None
) -> Check:
    """Run every engine on `inputs` and compare blob by blob; `reference` holds blobs of a person's own Caffe."""
    graph = subject.graph
    _require_memory(graph, inputs)
    # The delivered file first: the memory that its session leaves is what the next one needs.
    delivered = {} if subject.delivered == subject.witness else _run_onnx(subject.delivered, subject.fed or inputs)
    tensors = to_tensors(graph, inputs, torch.float32)
    engines = _engines(subject, inputs, tensors, reference)
    delivered = delivered or {name: engines[ONNX][graph.blobs[name]] for name in graph.outputs}
    blobs, outputs, faults = [], {}, []
    # Split and Dropout leave several names of one value: it is compared once, under the first.
    names = {value: blob for blob, value in reversed(list(graph.blobs.items())) if blob not in graph.inputs}
    for value, exact, plain, rounded in _lockstep(subject.runner, tensors):
        if value not in names:
            continue
        given = {engine: values.pop(value, None) for engine, values in engines.items()}
        checked, why = _blob(names[value], _writer(graph, value), exact, plain, rounded, given)
        blobs.append(checked)
        faults += why
        for name in (name for name in delivered if graph.blobs[name] == value):
            outputs[name] = exact
            faults += _delivered(name, exact, checked.budget, delivered)
    top5, disagreements = _top5(outputs, delivered, blobs)
    first = next((f"layer '{b.layer}', blob '{b.blob}' ({', '.join(b.over())})" for b in blobs if b.over()), None)
    return Check(described, (GENERIC, *engines), tuple(blobs), top5, (*faults, *disagreements), first)


def _require_memory(graph: Graph, inputs: Mapping[str, Array]) -> None:
    """Refuse what the kernel would end by killing the process: two engines hold every blob, the runs the largest."""
    declared, given = graph.shapes[graph.inputs[0]], inputs[graph.inputs[0]].shape
    grown = given[0] / declared[0] if declared else 1
    sizes = [4 * prod(graph.shapes[value]) * grown for value in dict.fromkeys(graph.blobs.values())]
    needed, free = 2 * sum(sizes) + 8 * max(sizes), usable_memory()
    if free is not None and needed > free:
        raise CheckError(
            f"checking every blob of this network on inputs of {times(given)} needs about {needed / 2**30:.1f} GiB, "
            f"{free / 2**30:.1f} GiB are free. Give a smaller --input-shape, or leave the check out with --no-check"
        )


def usable_memory() -> int | None:
    """Bytes that the system could give this process now; None where it does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _engines(
    subject: Subject, inputs: Mapping[str, Array], tensors: Sequence[Tensor], reference: Mapping[str, Array] | None
) -> dict[str, dict[str, Array]]:
    """What every engine but the generic runner computes, by value of the graph."""
    value_of = {blob: value for blob, value in subject.graph.blobs.items() if blob not in subject.graph.inputs}
    witness = _run_onnx(subject.witness, inputs)
    engines = {}
    if subject.match is not None:
        engines[FAMILY] = _run_family(subject.net, subject.match, tensors[0])
    engines[ONNX] = {value_of[blob]: array for blob, array in witness.items()}
    if reference is not None:
        engines[REFERENCE] = {value_of[blob]: array for blob, array in reference.items() if blob in value_of}
    return engines


def _run_onnx(path: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    return Session(path, arena=False).run(inputs)


def _run_family(net: nn.Module, match: Match, x: Tensor) -> dict[str, Array]:
    found: dict[str, Array] = {}
    with torch.inference_mode():
        run_with_taps(net, match.taps, x, lambda value, top: found.update({value: top.numpy()}))
    return found


def _lockstep(runner: GraphModule, tensors: Sequence[Tensor]) -> Iterator[tuple[str, Array, Array, Array]]:
    """Each value in float64, in float32, and in float32 rounded once more, side by side: no run's values pile up."""
    dice = torch.Generator().manual_seed(0)

    def round_again(tensor: Tensor) -> Tensor:
        return tensor * (1 + ULP * (2 * torch.rand(tensor.shape, generator=dice) - 1))

    with torch.inference_mode():
        runs = (
            runner.steps(*(tensor.double() for tensor in tensors)),
            runner.steps(*tensors),
            runner.steps(*tensors, adjust=round_again),
        )
        for (value, high), (_, low), (_, rounded) in zip(*runs, strict=True):
            yield value, high.numpy(), low.numpy(), rounded.numpy()


def _blob(
    blob: str, layer: str, exact: Array, plain: Array, rounded: Array, given: Mapping[str, Array | None]
) -> tuple[BlobCheck, list[str]]:
    """The errors of all engines on one blob, and in words what is wrong with it."""
    finite = np.isfinite(exact)
    scale = float(np.abs(exact[finite]).max(initial=0.0))
    errors, faults = {}, []
    for engine, value in {GENERIC: plain, **given}.items():
        if value is None:
            continue
        if value.shape != exact.shape:
            faults.append(f"blob '{blob}': {engine} gives shape {times(value.shape)}, the graph {times(exact.shape)}")
            continue
        errors[engine] = _error(exact, finite, scale, value)
    by_ulp = min(_error(exact, finite, scale, rounded), MOST_BY_ULP)
    budget = max(FACTOR * max(errors.get(GENERIC, 0.0), by_ulp), FLOOR)
    checked = BlobCheck(
        blob, layer, exact.shape, scale, budget, errors, max(budget, REFERENCE_FLOOR), int(exact.size - finite.sum())
    )
    faults += [
        f"blob '{blob}' of layer '{layer}': {engine} is off by {errors[engine]:.2g} of the largest value, "
        f"{checked.budget_of(engine):.2g} are allowed"
        for engine in checked.over()
    ]
    return checked, faults


def _error(exact: Array, finite: Array, scale: float, value: Array) -> float:
    """Max-norm error relative to `scale`; infinite where an engine is not finite in a blob that is."""
    if finite.all():
        if not np.isfinite(value).all():
            return float("inf")
        difference = np.abs(value - exact).max(initial=0.0)
    else:  # NaNs spread differently where a layer skips its zero padding; what both can tell is compared
        both = finite & np.isfinite(value)
        difference = np.abs(value[both] - exact[both]).max(initial=0.0)
    return float(difference) / scale if scale else float(difference)


def _writer(graph: Graph, value: str) -> str:
    return next((node.name for node in graph.nodes if value in node.outputs), value)


def _delivered(name: str, exact: Array, budget: float, delivered: Mapping[str, Array]) -> list[str]:
    """What the file that the user gets computes at its outputs."""
    if name not in delivered:
        return []
    finite = np.isfinite(exact)
    error = _error(exact, finite, float(np.abs(exact[finite]).max(initial=0.0)), delivered[name])
    return (
        [] if error <= budget else [f"output '{name}' of the ONNX file is off by {error:.2g}, {budget:.2g} are allowed"]
    )


def _top5(
    exact: Mapping[str, Array], delivered: Mapping[str, Array], blobs: Sequence[BlobCheck]
) -> tuple[dict[str, list[list[int]]], list[str]]:
    """The five best classes of each classifying output, and where the ONNX file has others.

    Classes whose exact values differ by less than the budget are ties: either order is right.
    """
    top5: dict[str, list[list[int]]] = {}
    faults = []
    budgets = {blob.blob: blob.budget * blob.scale for blob in blobs}
    for name, value in exact.items():
        if value.ndim != 2 or value.shape[1] < 2 or not np.isfinite(value).all():
            continue
        best = np.argsort(-value, axis=1, kind="stable")[:, :5]
        top5[name] = best.tolist()
        if name not in delivered:
            continue
        others = np.argsort(-delivered[name], axis=1, kind="stable")[:, :5]
        rows = np.arange(len(best))[:, None]
        gap = np.abs(value[rows, best] - value[rows, others]).max(axis=1)
        faults += [
            f"output '{name}', picture {i}: best classes {best[i].tolist()}, the ONNX file has {others[i].tolist()}"
            for i in np.flatnonzero(gap > 2 * budgets.get(name, FLOOR))
        ]
    return top5, faults


def read_reference(path: Path, graph: Graph) -> dict[str, Array]:
    """Blobs of a person's own Caffe, from `numpy.savez`. Raises CheckError where inputs are missing or do not fit."""
    try:
        with np.load(path, allow_pickle=False) as file:
            blobs: dict[str, Array] = {name: file[name].astype(np.float32, copy=False) for name in file.files}
    except (OSError, ValueError, EOFError) as fault:
        raise CheckError(f"{path}: not a file that numpy.savez wrote: {fault}") from fault
    for name in graph.inputs:
        if name not in blobs:
            raise CheckError(f"{path}: it lacks the input '{name}'; it has {', '.join(sorted(blobs)) or 'nothing'}")
        if any(value.startswith(f"{name}@") for node in graph.nodes for value in node.outputs):
            raise CheckError(
                f"{path}: the network overwrites its input '{name}' in place, so after a forward pass the blob no "
                "longer holds what was fed in; check with --images instead"
            )
        shape, free = blobs[name].shape, graph.batched[name]
        if len(shape) != len(free) or any(
            have != want for have, want in zip(shape, free, strict=True) if want is not None
        ):
            raise CheckError(
                f"{path}: input '{name}' has shape {times(shape)}, the network takes {times(graph.shapes[name])}"
            )
    if not set(blobs) & set(graph.blobs) - set(graph.inputs):
        raise CheckError(
            f"{path}: none of its arrays bears the name of a blob of the network: {', '.join(sorted(blobs))}"
        )
    return blobs
