"""What Prometheus is told."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from senet_convert.deploy.serve.app import build
from senet_convert.deploy.serve.models.errors import DeadlineExceeded, QueueFull, RunFailed
from senet_convert.deploy.serve.models.repository import Running
from senet_convert.deploy.serve.models.stats import BOUNDS, Stats
from senet_convert.deploy.serve.observe.metrics import Metrics
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.state import ServerState


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def counted() -> Stats:
    """Three requests answered in two runs, three that failed."""
    stats = Stats()
    took = {"compute_input": 1000, "compute_infer": 5_000_000, "compute_output": 2000}
    stats.executed(3, [2_000_000, 4_000_000], took)
    stats.executed(1, [0], took)
    for ns, queued in ((9_000_000, 2_000_000), (11_000_000, 4_000_000), (40_000_000_000, 0)):
        stats.answered(ns, queued)
    stats.failed(0, QueueFull)
    stats.failed(1000, DeadlineExceeded)
    stats.failed(1000, RunFailed)
    stats.canceled(1000)
    stats.pending = 2
    return stats


class Fixed:
    """A repository of one model with these counts."""

    def __init__(self, stats: Stats) -> None:
        self.stats = stats

    def totals(self) -> list[tuple[str, str, Stats]]:
        return [("digits", "2", self.stats)]

    def all(self) -> list[Running]:
        return []

    def index(self) -> list[dict[str, str]]:
        return [
            {"name": "digits", "version": version, "state": state, "reason": ""}
            for version, state in (("1", "UNAVAILABLE"), ("2", "READY"))
        ]


def told(stats: Stats) -> str:
    return Metrics(Fixed(stats)).text().decode()  # type: ignore[arg-type]


MODEL = {"model": "digits", "version": "2"}
WHO = 'model="digits",version="2"'


def test_tritons_names() -> None:
    lines = told(counted()).splitlines()
    expected = {
        "nv_inference_request_success": "3.0",
        "nv_inference_count": "4.0",
        "nv_inference_exec_count": "2.0",
        "nv_inference_request_duration_us": "4.002e+07",
        "nv_inference_queue_duration_us": "6000.0",
        "nv_inference_compute_input_duration_us": "3.0",
        "nv_inference_compute_infer_duration_us": "15000.0",
        "nv_inference_compute_output_duration_us": "6.0",
        "nv_inference_pending_request_count": "2.0",
    }
    for name, value in expected.items():
        assert f"{name}{{{WHO}}} {value}" in lines
    assert "# TYPE nv_inference_count counter" in lines
    for reason in ("REJECTED", "OTHER", "BACKEND", "CANCELED"):
        labels = f'model="digits",reason="{reason}",version="2"'
        assert f"nv_inference_request_failure{{{labels}}} 1.0" in lines
    assert f"senet_convert_model_ready{{{WHO}}} 1.0" in lines
    assert 'senet_convert_model_ready{model="digits",version="1"} 0.0' in lines


def test_histograms_count_up() -> None:
    found = samples(told(counted()))
    name = "senet_convert_request_seconds_bucket"
    below = [found[name, frozenset({**MODEL, "le": str(bound)}.items())] for bound in (*BOUNDS, "+Inf")]
    assert below == sorted(below)
    assert [below[BOUNDS.index(0.01)], below[BOUNDS.index(0.025)], below[-2], below[-1]] == [1, 2, 2, 3]
    assert found["senet_convert_request_seconds_sum", frozenset(MODEL.items())] == 40.02
    waits = found["senet_convert_queue_seconds_bucket", frozenset({**MODEL, "le": "0.0025"}.items())]
    assert waits == 2


def test_answers_by_route_and_status_and_no_names_of_clients(bundle: Path) -> None:
    state = ServerState(Settings())
    with TestClient(build(state), base_url="http://localhost") as caller:
        for path in ("/v2/health/live", "/v2/models/a/ready", "/v2/models/b/ready", "/a", "/b", "/b"):
            caller.get(path)
        caller.request("MADEUP", "/a")
        answer = caller.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    text = answer.text
    counts = {
        labels: value for (name, labels), value in samples(text).items() if name == "senet_convert_http_responses_total"
    }
    by = {
        (dict(labels)["route"], dict(labels)["method"], dict(labels)["status"]): value
        for labels, value in counts.items()
    }
    assert by["/v2/health/live", "GET", "200"] == 1
    assert by["other", "GET", "404"] == 3
    assert by["other", "other", "404"] == 1
    assert "MADEUP" not in text
    assert len({route for route, _, _ in by}) == 3
    assert "process_resident_memory_bytes" in text
