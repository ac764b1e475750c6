"""What a version of a model has done since it was loaded: counts and durations, as the protocol reports them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

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
class Stats:
    """Counts of one version; changed on the event loop only.

    inferences  items that were computed (a request of three images counts three)
    executions  runs of the session
    batches     runs by their number of items, with the time of each stage
    pending     requests that are waiting now
    watchers    called with each answered request's seconds in all and in the queue: histograms
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
    watchers: list[Callable[[float, float], None]] = field(default_factory=list)

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
        for watch in self.watchers:
            watch(ns / 1e9, queued_ns / 1e9)

    def failed(self, ns: int) -> None:
        """A request did not."""
        self.fail.add(ns)
