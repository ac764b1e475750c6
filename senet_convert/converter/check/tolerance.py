"""How far an engine may be off: every blob's error against its budget.

The truth is the generic runner in float64. The generic runner in float32 says what error plain float32 arithmetic
makes; every engine may make `FACTOR` times that, and never less than `FLOOR`. One float32 run can be exact by luck, so
there are two: as it is, and with one more rounding put on every value (Monte Carlo arithmetic, Parker 1997). On a blob
of few values, where both can be, errors are drawn besides (`runs.FewValues`), and a pointwise layer is allowed what its
bottom's error makes of it (`runs.Inherited`). Errors are max-norm, relative to the largest value of the blob. Before an
engine that is just over a budget is called wrong, float32's error is measured again, in more runs of the second kind.
What a wide budget may hide is judged besides, by local errors (`local.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..graph.graph import Graph
from ..layers.base import times
from ..runner import GraphModule
from .runs import Decide, FewValues, Step, lockstep

Array = NDArray[Any]

FACTOR, FLOOR = 4.0, 2e-6
LARGEST = float(np.finfo(np.float32).max)
SMALLEST = float(np.finfo(np.float32).tiny) / FLOOR  # of a largest value: below, what float32 flushes to 0 shows
AGAIN = 8  # more such runs before an engine that is just over its budget is called wrong
LUCK = 100.0  # times its budget: an error beyond is none that more runs could explain
REFERENCE_FLOOR = 5e-5  # another build of Caffe sums in another order: its own float32 error is in the comparison too
GENERIC, FAMILY, ONNX, REFERENCE = "generic float32", "PyTorch net", "onnxruntime", "reference"
DELIVERED = "delivered"  # the file that the user gets; it is no engine of its own in a report


@dataclass(frozen=True)
class Local:
    """By how much an engine differs from what exact arithmetic makes of its own values above, and what is allowed."""

    error: float
    budget: float

    @property
    def over(self) -> bool:
        """Whether that is too much."""
        return not self.error <= self.budget


@dataclass(frozen=True)
class BlobCheck:
    """One blob: the error of every engine that gives it, against the budget.

    `scale` is the largest absolute value of the truth; `nonfinite` counts its NaNs, its infinities and what float32
    cannot hold, all of which are left out. `local` holds, by engine, what was judged apart, see `local.py`.
    """

    blob: str
    layer: str
    shape: tuple[int, ...]
    scale: float
    budget: float
    errors: Mapping[str, float]
    reference_budget: float
    nonfinite: int = 0
    local: Mapping[str, Local] = field(default_factory=dict)

    def over(self) -> list[str]:
        """The engines that leave the budget."""
        return [name for name, error in self.errors.items() if not self._keeps(name, error)]

    def _keeps(self, engine: str, error: float) -> bool:
        return error <= self.budget_of(engine) and (engine not in self.local or not self.local[engine].over)

    def budget_of(self, engine: str) -> float:
        """A person's own Caffe has its own float32 error; everything else must keep the budget."""
        return self.reference_budget if engine == REFERENCE else self.budget


@dataclass(frozen=True)
class Judged:
    """A blob with the errors of every engine, DELIVERED too; `misshapen` says in words who gives another shape.

    `exact` is there for outputs of the ONNX file.
    """

    check: BlobCheck
    misshapen: Mapping[str, str] = field(default_factory=dict)
    delivered: float | None = None
    exact: Array | None = None

    @property
    def faults(self) -> dict[str, str]:
        """In words, by engine, what is wrong."""
        blob = self.check
        found = dict(self.misshapen)
        for engine, error in self.errors().items():
            if not error <= blob.budget_of(engine):
                where = f"blob '{blob.blob}' of layer '{blob.layer}': {engine}"
                where = f"output '{blob.blob}' of the ONNX file" if engine == DELIVERED else where
                off, allowed = f"{error:.2g} of the largest value", f"{blob.budget_of(engine):.2g}"
                found[engine] = f"{where} is off by {off}, {allowed} are allowed"
        for engine, local in blob.local.items():
            if local.over and engine not in found:
                found[engine] = (
                    f"blob '{blob.blob}' of layer '{blob.layer}': {engine} is off by {local.error:.2g} of the largest "
                    f"value from what its own values above make, {local.budget:.2g} are allowed"
                )
        return found

    def errors(self) -> dict[str, float]:
        """By engine, DELIVERED too."""
        return {**self.check.errors, **({} if self.delivered is None else {DELIVERED: self.delivered})}

    def with_budget(self, budget: float) -> Judged:
        """With a budget that is at least so wide."""
        budget = max(self.check.budget, budget)
        return replace(self, check=replace(self.check, budget=budget, reference_budget=max(budget, REFERENCE_FLOOR)))

    def with_engine(self, engine: str, other: Judged) -> Judged:
        """With one engine as `other` judges it."""
        errors = {name: error for name, error in self.check.errors.items() if name != engine}
        errors |= {name: error for name, error in other.check.errors.items() if name == engine}
        misshapen = {name: text for name, text in self.misshapen.items() if name != engine}
        misshapen |= {name: text for name, text in other.misshapen.items() if name == engine}
        delivered = other.delivered if engine == DELIVERED else self.delivered
        found = Judged(replace(self.check, errors=errors), misshapen, delivered, other.exact)
        return found.with_budget(other.check.budget)


def judged(
    runner: GraphModule,
    tensors: Sequence[Tensor],
    engines: Mapping[str, Mapping[str, Array]],
    outputs: Collection[str],
    decide: Decide | None = None,
    only: Collection[str] | None = None,
    done: Callable[[int, int], None] | None = None,
) -> dict[str, Judged]:
    """Every blob (or those of the values `only`), by value of the graph, as `engines` have it, by value too.

    `decide`: see `lockstep`. `done` is told how many blobs are judged, of how many.
    """
    graph = runner.graph
    # Split and Dropout leave several names of one value: it is compared once, under the first.
    names = {value: blob for blob, value in reversed(list(graph.blobs.items())) if blob not in graph.inputs}
    few = FewValues(runner)
    found: dict[str, Judged] = {}
    for step in lockstep(runner, tensors, decide):
        finite = _finite(step, graph.accounts.sound)
        scale = float(np.abs(step.exact[finite]).max(initial=0.0))
        budget = _budget(step, finite, scale, few)
        # Inputs are exact: what counts is the rounding of each of them in the layers that read them.
        allowed = FLOOR * np.abs(step.exact) if step.value in graph.inputs else budget * _unit(scale)
        few.keep(step.value, step.exact, allowed)
        if step.value not in names or (only is not None and step.value not in only):
            continue
        given = {engine: values[step.value] for engine, values in engines.items() if step.value in values}
        if only is None:
            given = {GENERIC: step.plain, **given}
        blob = BlobCheck(
            blob=names[step.value],
            layer=_writer(graph, step.value),
            shape=step.exact.shape,
            scale=scale,
            budget=budget,
            errors={},
            reference_budget=max(budget, REFERENCE_FLOOR),
            nonfinite=int(step.exact.size - finite.sum()),
        )
        if done:
            done(len(found), len(names))
        found[step.value] = _against(blob, step.exact, finite, given, step.exact if step.value in outputs else None)
    near = [value for value, item in found.items() if _near(item)]
    return {**found, **_measured_again(runner, tensors, {value: found[value] for value in near}, decide)}


def _near(item: Judged) -> bool:
    """Is an engine over a budget that luck may have made too narrow?"""
    errors = item.errors()
    return any(errors.get(engine, np.inf) <= LUCK * item.check.budget_of(engine) for engine in item.faults)


def _measured_again(
    runner: GraphModule,
    tensors: Sequence[Tensor],
    found: Mapping[str, Judged],
    decide: Decide | None,
) -> dict[str, Judged]:
    """Before it is called a fault, float32's own error is measured in `AGAIN` more runs.

    Where only a few values of a blob count, behind a sigmoid that is saturated elsewhere, two runs can be lucky.
    """
    widest = dict.fromkeys(found, 0.0)
    for seed in range(1, AGAIN + 1) if found else ():
        for step in lockstep(runner, tensors, decide, seed):
            if step.value in found:
                finite = _finite(step, runner.graph.accounts.sound)
                error = _error(step.exact, finite, found[step.value].check.scale, step.rounded)
                widest[step.value] = max(widest[step.value], error)
    return {value: item.with_budget(FACTOR * widest[value]) for value, item in found.items()}


def _finite(step: Step, sound: bool) -> Array:
    """Which values count: those that float32 can hold, and where weights are not finite, those that it arrives at too:
    which sums overflow on the way then depends on their order.
    """
    finite: Array = np.abs(step.exact) <= LARGEST  # no NaN either
    return finite if sound else finite & np.isfinite(step.plain)


def _budget(step: Step, finite: Array, scale: float, few: FewValues) -> float:
    by_ulp = _error(step.exact, finite, scale, step.rounded)
    measured = max(_error(step.exact, finite, scale, step.plain), by_ulp, step.inherited / _unit(scale))
    if not np.isfinite(measured):  # float32 overflows on the way to a value that it could hold: that allows nothing
        measured = 0.0
    return max(FACTOR * measured, FLOOR, few.error(step.value, step.exact) / _unit(scale))


def _against(blob: BlobCheck, exact: Array, finite: Array, given: Mapping[str, Array], kept: Array | None) -> Judged:
    """The errors of all engines on one blob."""
    errors, misshapen = {}, {}
    for engine, value in given.items():
        if value.shape == exact.shape:
            errors[engine] = _error(exact, finite, blob.scale, value)
            continue
        where = f"output '{blob.blob}' of the ONNX file" if engine == DELIVERED else f"blob '{blob.blob}': {engine}"
        misshapen[engine] = f"{where} gives shape {times(value.shape)}, the graph {times(exact.shape)}"
    delivered = errors.pop(DELIVERED, None)
    return Judged(replace(blob, errors=errors), misshapen, delivered, kept)


def _error(exact: Array, finite: Array, scale: float, value: Array) -> float:
    """Max-norm error relative to the largest value; infinite where an engine is not finite in a blob that is."""
    if finite.all():
        if not np.isfinite(value).all():
            return float("inf")
        difference = np.abs(value - exact).max(initial=0.0)
    else:  # NaNs spread differently where a layer skips its zero padding; what both can tell is compared
        both = finite & np.isfinite(value)
        difference = np.abs(value[both] - exact[both]).max(initial=0.0)
    return float(difference) / _unit(scale)


def _unit(scale: float) -> float:
    """What errors of a blob are relative to, by its largest value: 1 where all is 0."""
    return max(scale, SMALLEST) if scale else 1.0


def _writer(graph: Graph, value: str) -> str:
    return next((node.name for node in graph.nodes if value in node.outputs), value)
