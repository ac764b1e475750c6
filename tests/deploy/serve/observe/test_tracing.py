"""Spans, into memory."""

from __future__ import annotations

import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from senet_convert.deploy.serve.app import build
from senet_convert.deploy.serve.models.model_paths import parse
from senet_convert.deploy.serve.observe.tracing import Traces
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.state import ServerState
from senet_convert.errors import ConvertError
from tests.deploy.serve.process import Process

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_span_for_each_request_below_its_callers(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    memory = InMemorySpanExporter()
    state = ServerState(Settings(models=(parse(str(bundle)),), gates=False))
    state.traces = Traces(SimpleSpanProcessor(memory))
    image = {"name": "data", "datatype": "FP32", "shape": [2, 3, 32, 32], "data": np.zeros(6144).tolist()}
    with TestClient(build(state), base_url="http://localhost") as caller:
        caller.portal.call(state.repository.start)  # type: ignore[union-attr]
        caller.post(
            "/v2/models/digits/infer",
            json={"inputs": [image]},
            headers={"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-ID": "an-id"},
        )
        caller.get("/v2/models/nothing")
        caller.get("/v2/health/live")
        caller.portal.call(state.repository.close)  # type: ignore[union-attr]
    state.traces.close()
    infer, unknown = memory.get_finished_spans()
    assert infer.name.startswith("POST /v2/models/{")
    assert infer.context is not None
    assert infer.parent is not None
    assert f"{infer.context.trace_id:032x}" == TRACE
    assert f"{infer.parent.span_id:016x}" == PARENT
    found = dict(infer.attributes or {})
    assert (found["model.name"], found["model.version"], found["model.rows"]) == ("digits", "1", 2)
    assert (found["request.id"], found["http.response.status_code"]) == ("an-id", 200)
    assert isinstance(found["model.compute_ms"], float)
    assert found["model.compute_ms"] > 0
    assert (unknown.parent, dict(unknown.attributes or {})["http.response.status_code"]) == (None, 404)


def test_without_the_packages_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConvertError, match=r"senet-convert\[otel\]"):
        ServerState(Settings(otel=True))


class Collector(BaseHTTPRequestHandler):
    """Takes what is exported."""

    def do_POST(self) -> None:
        taken.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Nothing."""


taken: list[tuple[str, bytes]] = []


def test_what_is_left_is_sent_at_the_end(bundle: Path) -> None:
    pytest.importorskip("opentelemetry.sdk")
    taken.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}"}
        try:
            with Process(bundle, "--otel", "--no-gates", "--linger", 0, environ=environ) as server:
                httpx.get(f"{server.url}/v2/models/digits")
                assert server.stop() == 0
        finally:
            collector.shutdown()
            thread.join()
    [(path, spans)] = taken
    assert path == "/v1/traces"
    assert b"GET /v2/models/{model}" in spans
    assert b"senet-convert" in spans


def test_a_collector_that_is_not_there_holds_nobody(bundle: Path) -> None:
    pytest.importorskip("opentelemetry.sdk")
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    with Process(bundle, "--otel", "--no-gates", "--linger", 0, environ=environ) as server:
        assert httpx.get(f"{server.url}/v2/models/digits").status_code == 200
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 15
