"""What a version of a model has done since it was loaded: counts and durations, as the protocol reports them."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from .errors import InstancesStuck, ModelError, ModelUnavailable, QueueFull, RunFailed

REJECTED, CANCELED, BACKEND, OTHER = "REJECTED", "CANCELED", "BACKEND", "OTHER"  # why requests fail, as Triton says
REASONS: Mapping[type[ModelError], str] = {
    QueueFull: REJECTED,
    InstancesStuck: REJECTED,
    ModelUnavailable: REJECTED,
    RunFailed: BACKEND,
}
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds
STAGES = ("queue", "compute_input", "compute_infer", "compute_output")  # parts of a request's time


@dataclass
class Duration:
    """How often, and nanoseconds in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        """One more, or `count` more that took `ns` each."""
        self.count += count
        self.ns += ns * count


@dataclass
class Spread:
    """How many durations lie up to each of BOUNDS and above the one before; the last count is of those above all."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


@dataclass
class Stats:
    """Counts of one version; changed on the event loop only.

    inferences  items that were computed (a request of three images counts three)
    executions  runs of the session
    batches     runs by their number of items, with the time of each stage
    pending     requests that are waiting now
    reasons     why requests failed, by Triton's words
    latency     seconds that answered requests took, `waits` those in the queue
    """

    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    cancel: Duration = field(default_factory=Duration)
    stages: dict[str, Duration] = field(default_factory=lambda: {stage: Duration() for stage in STAGES})
    batches: dict[int, dict[str, Duration]] = field(default_factory=dict)
    inferences: int = 0
    executions: int = 0
    pending: int = 0
    last_inference: float = 0.0  # seconds since 1970
    reasons: Counter[str] = field(default_factory=Counter)
    latency: Spread = field(default_factory=Spread)
    waits: Spread = field(default_factory=Spread)

    def executed(self, rows: int, waits: list[int], took: dict[str, int]) -> None:
        """A run of `rows` items for requests that had waited `waits` ns; `took` is ns of the compute stages."""
        self.executions += 1
        self.inferences += rows
        self.last_inference = time.time()
        for wait in waits:
            self.stages["queue"].add(wait)
        batch = self.batches.setdefault(rows, {stage: Duration() for stage in STAGES[1:]})
        for stage, ns in took.items():
            self.stages[stage].add(ns, len(waits))
            batch[stage].add(ns)

    def answered(self, ns: int, queued_ns: int) -> None:
        """A request came to its result."""
        self.success.add(ns)
        self.latency.add(ns / 1e9)
        self.waits.add(queued_ns / 1e9)

    def failed(self, ns: int, why: type[ModelError]) -> None:
        """A request did not."""
        self.fail.add(ns)
        self.reasons[REASONS.get(why, OTHER)] += 1

    def canceled(self, ns: int) -> None:
        """Nobody waits for a request any longer."""
        self.cancel.add(ns)
        self.reasons[CANCELED] += 1
