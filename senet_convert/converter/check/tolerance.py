"""How far an engine may be off: every blob's error against its budget.

The truth is the generic runner in float64. The generic runner in float32 says what error plain float32 arithmetic
makes; every engine may make `FACTOR` times that, and never less than `FLOOR`. One float32 run can be exact by luck, so
there are two: as it is, and with one more rounding put on every value (Monte Carlo arithmetic, Parker 1997). On a blob
of few values, where both can be, errors are drawn besides (`runs.FewValues`), and a pointwise layer is allowed what its
bottom's error makes of it (`runs.Inherited`). Errors are max-norm, relative to the largest value of the blob. Before an
engine that is just over a budget is called wrong, float32's error is measured again, in more runs of the second kind.
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
from .local import Local, LocalErrors
from .runs import Decide, FewValues, Step, lockstep

Array = NDArray[Any]

FACTOR, FLOOR = 4.0, 2e-6
LARGEST = float(np.finfo(np.float32).max)
AGAIN = 8  # more such runs before an engine that is just over its budget is called wrong
MOST_BY_ULP = 2e-5  # what the second run may add: Caffe's own worst on the released nets
REFERENCE_FLOOR = 5e-5  # another build of Caffe sums in another order: its own float32 error is in the comparison too
GENERIC, FAMILY, ONNX, REFERENCE = "generic float32", "PyTorch net", "onnxruntime", "reference"
DELIVERED = "delivered"  # the file that the user gets; it is no engine of its own in a report


@dataclass(frozen=True)
class BlobCheck:
    """One blob: the error of every engine that gives it, against the budget.

    `scale` is the largest absolute value of the truth; `nonfinite` counts its NaNs, its infinities and what float32
    cannot hold, all of which are left out.
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
class Judged:
    """A blob with the errors of every engine, DELIVERED too; `misshapen` says in words who gives another shape, or
    computes it wrongly from its own bottoms (see local.py).

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
        return found

    def errors(self) -> dict[str, float]:
        """By engine, DELIVERED too."""
        return {**self.check.errors, **({} if self.delivered is None else {DELIVERED: self.delivered})}

    def with_budget(self, budget: float) -> Judged:
        """With a budget that is at least so wide."""
        budget = max(self.check.budget, budget)
        return replace(self, check=replace(self.check, budget=budget, reference_budget=max(budget, REFERENCE_FLOOR)))

    def with_local(self, apart: Mapping[str, Local]) -> Judged:
        """As a blob of few values: wrong are the engines that compute it wrongly from their own bottoms.

        Whoever computes it rightly may be off by what its bottoms, which were judged themselves, make of it.
        """
        blob = self.check
        said = {
            engine: f"blob '{blob.blob}' of layer '{blob.layer}': {engine} is off by {one.error:.2g} from what the "
            f"layer makes of its own bottoms, {one.allowed:.2g} are allowed"
            for engine, one in apart.items()
            if one.error > one.allowed
        }
        right = [one.inherited + one.allowed for one in apart.values() if one.error <= one.allowed]
        wider = self.with_budget(max(right, default=0.0) / (blob.scale or 1.0))
        return replace(wider, misshapen={**said, **self.misshapen})

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
    engines: Mapping[str, dict[str, Array]],
    outputs: Collection[str],
    keep: Collection[str],
    decide: Decide | None = None,
    only: Collection[str] | None = None,
    done: Callable[[int, int], None] | None = None,
) -> dict[str, Judged]:
    """Every blob (or those of the values `only`), by value of the graph.

    What `engines` hold, by value too, is let go once it is judged, except `keep`. `decide`: see `lockstep`. `done` is
    told how many blobs are judged, of how many.
    """
    graph = runner.graph
    # Split and Dropout leave several names of one value: it is compared once, under the first.
    names = {value: blob for blob, value in reversed(list(graph.blobs.items())) if blob not in graph.inputs}
    images = len(tensors[0]) if tensors[0].ndim else 1
    few, local = FewValues(runner, images), LocalErrors(runner, images)
    fed = {name: tensor.numpy() for name, tensor in zip(graph.inputs, tensors, strict=True)}
    for name, array in fed.items():
        local.see(name, dict.fromkeys((GENERIC, *engines), array))
    found: dict[str, Judged] = {}
    for step in lockstep(runner, tensors, decide):
        finite = _finite(step, graph.accounts.sound)
        scale = float(np.abs(step.exact[finite]).max(initial=0.0))
        budget = _budget(step, finite, scale, few)
        few.keep(step.value, step.exact, budget * (scale or 1.0))
        given = {engine: values[step.value] for engine, values in engines.items() if step.value in values}
        apart = local.of(step.value, step.exact, {GENERIC: step.plain, **given})
        local.see(step.value, {GENERIC: step.plain, **given})
        if step.value not in names or (only is not None and step.value not in only):
            continue
        if step.value not in keep:
            for values in engines.values():
                values.pop(step.value, None)
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
        item = _against(blob, step.exact, finite, given, step.exact if step.value in outputs else None)
        found[step.value] = item.with_local(apart) if only is None else item
    near = [value for value, item in found.items() if _near(item)]
    return {**found, **_measured_again(runner, tensors, {value: found[value] for value in near}, decide)}


def _near(item: Judged) -> bool:
    """Is an engine over a budget that luck may have made too narrow?"""
    errors = item.errors()
    return any(errors.get(engine, np.inf) <= FACTOR * MOST_BY_ULP for engine in item.faults)


def _measured_again(
    runner: GraphModule, tensors: Sequence[Tensor], found: Mapping[str, Judged], decide: Decide | None
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
                widest[step.value] = max(widest[step.value], error if step.moved else min(error, MOST_BY_ULP))
    return {value: item.with_budget(FACTOR * widest[value]) for value, item in found.items()}


def _finite(step: Step, sound: bool) -> Array:
    """Which values count: those that float32 can hold, and where weights are not finite, those that it arrives at too:
    which sums overflow on the way then depends on their order.
    """
    finite: Array = np.abs(step.exact) <= LARGEST  # no NaN either
    return finite if sound else finite & np.isfinite(step.plain)


def _budget(step: Step, finite: Array, scale: float, few: FewValues) -> float:
    by_ulp = _error(step.exact, finite, scale, step.rounded)
    by_ulp = by_ulp if step.moved else min(by_ulp, MOST_BY_ULP)
    measured = max(_error(step.exact, finite, scale, step.plain), by_ulp, step.inherited / (scale or 1.0))
    if not np.isfinite(measured):  # float32 overflows on the way to a value that it could hold: that allows nothing
        measured = 0.0
    return max(FACTOR * measured, FLOOR, few.error(step.value, step.exact) / (scale or 1.0))


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
