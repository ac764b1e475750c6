"""How often the check is wrong: `python -m fuzz.check_rates --count 10000`.

Random networks of many kinds are built, exported and checked. Their engines are honest: float32 torch and onnxruntime
in several ways (graph optimisations, threads, kernels, memory layouts). `refused` counts the networks of which the
check calls any engine wrong. Then one fault at a time is put into each network, computed by onnxruntime and by torch.
It counts where it shows: where on some blob its effect in exact arithmetic is more than `ABOVE` times the largest error
that any honest engine makes there. `missed` are those that the check lets pass, in either engine. With each rate stands
the upper end of its 95 % interval (Wilson's). Networks are drawn by their number: each can be looked at alone, and
several of these may run side by side, from another `--first`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor

from senet_convert.converter.check.tolerance import ONNX, Judged, judged
from senet_convert.converter.graph.graph import Graph
from senet_convert.converter.runner import GraphModule, lower, to_tensors

from .faults import FAULTS
from .honest import honest, samples, session, steps, written
from .random_nets import KINDS, drawn

Values = dict[str, NDArray[Any]]

ABOVE = 8.0  # times the largest honest error, from where on a fault shows
LEAST = 5e-7  # an honest error is at least this: a quarter of the check's floor
TORCH = "torch float32"


@dataclass
class Case:
    """A network that has been drawn, in exact arithmetic too."""

    kind: str
    graph: Graph
    inputs: dict[str, NDArray[np.float32]]
    folder: Path
    tensors: list[Tensor] = field(init=False)
    runner: GraphModule = field(init=False)
    exact: Values = field(init=False)

    def __post_init__(self) -> None:
        self.tensors = to_tensors(self.graph, self.inputs, torch.float32)
        self.runner = lower(self.graph)
        self.exact = steps(self.graph, [tensor.double() for tensor in self.tensors])

    def judged(self, engines: Mapping[str, Values]) -> dict[str, Judged]:
        """What the check says of engines."""
        given = {name: dict(values) for name, values in engines.items()}
        return judged(self.runner, self.tensors, given, self.graph.blobs.values(), ())


def own_errors(case: Case, found: Mapping[str, Judged]) -> dict[str, float]:
    """What float32 makes of each value: the largest error of any honest engine, and of more samples of float32."""
    own = {value: max(LEAST, *item.errors().values()) for value, item in found.items()}
    for values in samples(case.graph, case.tensors):
        for value in own:
            own[value] = max(own[value], error(case.exact[value], values[value]))
    return own


def error(exact: NDArray[Any], value: NDArray[Any]) -> float:
    """As the check has it: max-norm, relative to the largest exact value."""
    finite = np.isfinite(exact) & np.isfinite(value)
    scale = float(np.abs(exact[finite]).max(initial=0.0)) or 1.0
    return float(np.abs(value[finite] - exact[finite]).max(initial=0.0)) / scale


def effect(case: Case, wrong: Values, own: Mapping[str, float]) -> tuple[float, str]:
    """By how many times a fault exceeds float32's own error, on the blob where it does so most; infinite for shapes."""
    found = {}
    for value, least in own.items():
        if value in wrong:
            same = wrong[value].shape == case.exact[value].shape
            found[value] = error(case.exact[value], wrong[value]) / least if same else float("inf")
    value = max(found, key=lambda name: found[name])
    return found[value], value


def passes(case: Case, other: Graph) -> list[str]:
    """The engines with a fault in them that the check lets pass."""
    engines = {TORCH: steps(other, case.tensors)}
    path = written(other, case.graph, case.folder)
    with suppress(Exception):  # onnxruntime does not take it, with a class for each reason: that is noticed
        engines[ONNX] = session(path, case.graph, case.inputs, ort.GraphOptimizationLevel.ORT_ENABLE_ALL, 1)
    found = case.judged(engines)
    return [engine for engine in engines if not any(engine in item.faults for item in found.values())]


@dataclass
class Rates:
    """What is counted."""

    drawn: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    nearest: list[float] = field(default_factory=list)  # of each network, the largest share of a budget that is used
    shown: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    by_missed: list[float] = field(default_factory=list)  # by how many times these exceeded float32's error

    def check(self, number: int, case: Case, faults: bool) -> None:
        """One network."""
        found = case.judged(honest(case.graph, case.inputs, case.tensors, case.folder))
        self.drawn[case.kind] += 1
        used = [e / i.check.budget_of(n) for i in found.values() for n, e in i.errors().items()]
        self.nearest.append(max(used))
        faulty = [fault for item in found.values() for fault in item.faults.values()]
        if faulty:
            self.refused[case.kind] += 1
            print(f"refused: network {number} ({case.kind}): {faulty[0]}", flush=True)
        if faults:
            self._faults(number, case, found)

    def _faults(self, number: int, case: Case, found: Mapping[str, Judged]) -> None:
        random, own = np.random.default_rng(number), own_errors(case, found)
        for fault in FAULTS:
            other = fault(case.graph, random)
            if other is None:
                continue
            try:
                above, where = effect(case, steps(other, [tensor.double() for tensor in case.tensors]), own)
            except RuntimeError:  # sizes that do not fit: nobody overlooks that
                continue
            if above > ABOVE:
                self.shown[fault.__name__] += 1
                if engines := passes(case, other):
                    self.missed[fault.__name__] += 1
                    self.by_missed.append(above)
                    budget = found[where].check.budget
                    said = f"on '{found[where].check.blob}' {above:.0f} times {own[where]:.1e}, allowed {budget:.1e}"
                    print(f"missed: network {number} ({case.kind}): {fault.__name__} in {engines}, {said}", flush=True)

    def tell(self) -> None:
        """Both rates."""
        total, refused = self.drawn.total(), self.refused.total()
        print(f"honest networks: {total}, refused: {refused}, at most {upper(refused, total):.1e} of all (95 %)")
        for kind, count in self.drawn.items():
            print(f"  {kind:20} {count:7}, refused {self.refused[kind]}")
        if self.nearest:
            shares = ", ".join(f"{np.quantile(self.nearest, q):.2f}" for q in (0.5, 0.9, 0.99, 0.999, 1))
            print(f"largest share of a budget that is used: {shares} (half, 90 %, 99 %, 99.9 %, all networks)")
        for name, count in self.shown.items():
            print(f"fault {name:20} shows in {count:6}, missed {self.missed[name]}")
        shown, missed = self.shown.total(), self.missed.total()
        print(f"faults: {shown}, missed: {missed}, at most {upper(missed, shown):.1e} of all (95 %)")
        if self.by_missed:
            print(f"the missed exceed float32's error by {np.median(self.by_missed):.0f} times, by the median")


def upper(count: int, total: int) -> float:
    """The upper end of Wilson's 95 % interval for a rate."""
    z, n = 1.96, max(1, total)
    p = count / n
    return (p + z * z / (2 * n) + z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)


def main() -> None:
    """Draw, check, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first network")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--kind", choices=sorted({kind.__name__ for kind in KINDS}), help="only networks of one kind")
    parser.add_argument("--no-faults", action="store_true", help="only honest engines")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message="TF32 acceleration")  # of kernels that no CPU has
    torch.set_num_threads(1)
    ends = time.monotonic() + args.seconds
    rates = Rates()
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(args.first, args.first + args.count):
            if time.monotonic() > ends:
                break
            if args.kind in (None, KINDS[number % len(KINDS)].__name__):
                rates.check(number, Case(*drawn(number, Path(scratch)), Path(scratch)), not args.no_faults)
    rates.tell()


if __name__ == "__main__":
    main()
