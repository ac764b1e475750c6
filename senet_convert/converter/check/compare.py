"""The check: several engines compute the same inputs, and every blob of each is held against exact arithmetic.

How far an engine may be off says `tolerance`; what it may add where much may come down, `local`; what holds where a
layer decides, `ties`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...errors import CheckError
from ..families import Match, run_with_taps
from ..graph.graph import Graph
from ..layers.base import times
from ..runner import GraphModule, to_tensors
from .local import judged_locally
from .runs import behind, jumping
from .ties import Side, by_value, exposed, run_onnx
from .tolerance import DELIVERED, FAMILY, GENERIC, ONNX, REFERENCE, BlobCheck, Judged, judged

Array = NDArray[Any]
Values = dict[str, Array]  # of one engine, by value of the graph


@dataclass(frozen=True)
class Check:
    """What the check found; `faults` is empty when everything holds.

    `ties` says, in words, where an engine decides otherwise than exact arithmetic and was judged from its own bottoms.
    """

    inputs: str
    engines: tuple[str, ...]
    blobs: tuple[BlobCheck, ...]
    top5: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    first_divergence: str | None = None
    ties: tuple[str, ...] = ()

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
    `fed` is what `delivered` takes where that is not what the graph takes: pictures, of which the inputs were made; one
    mapping for each run.
    """

    graph: Graph
    runner: GraphModule
    match: Match | None
    net: nn.Module
    witness: Path
    delivered: Path
    fed: Sequence[Mapping[str, Array]] | None = None


def compare(
    subject: Subject,
    inputs: Mapping[str, Array],
    described: str,
    reference: Mapping[str, Array] | None = None,
    done: Callable[[int, int], None] | None = None,
) -> Check:
    """Run every engine on `inputs` and compare blob by blob; `reference` holds blobs of the user's own Caffe.

    `done` is told how many blobs are compared, of how many.
    """
    graph, runner = subject.graph, subject.runner
    _require_memory(graph, inputs)
    feeds = {ONNX: [inputs], DELIVERED: subject.fed or [inputs]}
    engines: dict[str, Values] = {}
    outputs: Mapping[str, Array] = {}
    if subject.delivered != subject.witness:  # first: the memory that its session leaves is what the next one needs
        outputs = run_onnx(subject.delivered, graph, feeds[DELIVERED])
        engines[DELIVERED] = by_value(graph, outputs)
    tensors = to_tensors(graph, inputs, torch.float32)
    engines |= _engines(subject, inputs, tensors, reference)
    outputs = outputs or {name: engines[ONNX][graph.blobs[name]] for name in graph.outputs}
    given = {graph.blobs[name] for name in outputs}
    shadow = behind(graph, jumping(graph))
    found = judged(runner, tensors, engines, given, done=done)
    ties: list[str] = []
    for engine in [name for name in engines if any(name in found[value].faults for value in shadow & found.keys())]:
        values = engines[engine]
        if engine in feeds:
            path = subject.witness if engine == ONNX else subject.delivered
            values = exposed(path, graph, feeds[engine], values)
        side = Side(runner, engine, {**inputs, **values})
        again = judged(runner, tensors, {engine: engines[engine]}, given, side.decide, shadow)
        if side.ties:
            ties += side.ties
            found |= {value: found[value].with_engine(engine, again[value]) for value in again}
    for engine in (ONNX, FAMILY):
        if engine in engines:
            found |= judged_locally(runner, engine, {**inputs, **engines[engine]}, found)
    return _check(graph, described, [name for name in engines if name != DELIVERED], found, outputs, ties)


def _check(
    graph: Graph,
    described: str,
    engines: Sequence[str],
    found: Mapping[str, Judged],
    outputs: Mapping[str, Array],
    ties: Sequence[str],
) -> Check:
    blobs = [item.check for item in found.values()]
    faults = [fault for item in found.values() for fault in item.faults.values()]
    top5, disagreements = _top5(graph, found, outputs)
    first = next((f"layer '{b.layer}', blob '{b.blob}' ({', '.join(b.over())})" for b in blobs if b.over()), None)
    return Check(
        described, (GENERIC, *engines), tuple(blobs), top5, (*faults, *disagreements), first, tuple(dict.fromkeys(ties))
    )


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
) -> dict[str, Values]:
    """What every engine but the generic runner computes."""
    graph = subject.graph
    witness = by_value(graph, run_onnx(subject.witness, graph, [inputs]))
    engines = {}
    if subject.match is not None:
        engines[FAMILY] = _run_family(subject.net, subject.match, tensors[0])
    engines[ONNX] = witness
    if reference is not None:
        engines[REFERENCE] = {
            graph.blobs[blob]: array
            for blob, array in reference.items()
            if blob in graph.blobs and blob not in graph.inputs
        }
    return engines


def _run_family(net: nn.Module, match: Match, x: Tensor) -> dict[str, Array]:
    found: dict[str, Array] = {}
    with torch.inference_mode():
        run_with_taps(net, match.taps, x, lambda value, top: found.update({value: top.numpy()}))
    return found


def _top5(
    graph: Graph, found: Mapping[str, Judged], outputs: Mapping[str, Array]
) -> tuple[dict[str, list[list[int]]], list[str]]:
    """The five best classes of each classifying output, and where the ONNX file has others.

    Classes whose exact values differ by less than the budget are ties: either order is right.
    """
    top5: dict[str, list[list[int]]] = {}
    faults = []
    for name, given in outputs.items():
        item = found.get(graph.blobs[name])
        value = item.exact if item else None
        if item is None or value is None or value.ndim != 2 or value.shape[1] < 2 or item.check.nonfinite:
            continue
        best = np.argsort(-value, axis=1, kind="stable")[:, :5]
        top5[name] = best.tolist()
        if given.shape != value.shape:
            continue
        others = np.argsort(-given, axis=1, kind="stable")[:, :5]
        rows = np.arange(len(best))[:, None]
        gap = np.abs(value[rows, best] - value[rows, others]).max(axis=1)
        allowed = item.check.budget * item.check.scale
        faults += [
            f"output '{name}', picture {i}: best classes {best[i].tolist()}, the ONNX file has {others[i].tolist()}"
            for i in np.flatnonzero(gap > 2 * allowed)
        ]
    return top5, faults
