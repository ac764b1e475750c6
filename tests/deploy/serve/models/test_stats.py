"""Counts of a version."""

from __future__ import annotations

from senet_convert.deploy.serve.models.errors import (
    DeadlineExceeded,
    InvalidInput,
    ModelUnavailable,
    QueueFull,
    RunFailed,
)
from senet_convert.deploy.serve.models.stats import BOUNDS, Spread, Stats


def test_a_run_counts_once_and_each_request_waits_for_itself() -> None:
    stats = Stats()
    stats.executed(3, [10, 20], {"compute_input": 1, "compute_infer": 5, "compute_output": 2})
    assert (stats.executions, stats.inferences) == (1, 3)
    assert (stats.stages["queue"].count, stats.stages["queue"].ns) == (2, 30)
    assert (stats.stages["compute_infer"].count, stats.stages["compute_infer"].ns) == (2, 10)
    assert stats.batches[3]["compute_infer"].count == 1
    assert stats.last_inference > 0


def test_why_requests_fail() -> None:
    stats = Stats()
    for why in (QueueFull, ModelUnavailable, RunFailed, DeadlineExceeded, InvalidInput):
        stats.failed(1, why)
    stats.canceled(1)
    assert stats.reasons == {"REJECTED": 2, "BACKEND": 1, "OTHER": 2, "CANCELED": 1}
    assert (stats.fail.count, stats.cancel.count) == (5, 1)


def test_bounds_belong_to_the_lower_bucket() -> None:
    spread = Spread()
    for seconds in (0.0, BOUNDS[0], BOUNDS[0] * 1.01, BOUNDS[-1], 1e9):
        spread.add(seconds)
    assert spread.counts[0] == 2
    assert spread.counts[1] == 1
    assert spread.counts[-2:] == [1, 1]
    assert sum(spread.counts) == 5
