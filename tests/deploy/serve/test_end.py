"""Whatever hangs, a server that is told to stop is gone in time, and its exit code says how."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from bench.running import free_ports

from . import toys
from .process import Process

GRACE, LINGER = 1, 0.2
TIMES = ("--grace", GRACE, "--linger", LINGER)
LATEST = GRACE + LINGER + 2 + 4  # seconds: the watchdog's margin, and a slow machine's
ROUNDS = {"name": "rounds", "datatype": "INT64", "shape": [1], "data": [2**50]}
X = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}
# Programs in which something hangs, and then the server.
DEAF = """
import time
from senet_convert.deploy.serve.models.served import Served
Served.run = lambda *_: time.sleep(600)
"""
FROZEN = """
import time
from senet_convert.deploy.serve.v2 import metadata
metadata.server = lambda: time.sleep(600)
"""
MAIN = "from senet_convert.cli import main; main()"


def test_a_model_whose_run_does_not_end_by_itself(tmp_path: Path) -> None:
    model = toys.endless(tmp_path / "endless.onnx")
    with Process(model, *TIMES, "--deadline", 0.5) as server:
        infer = f"{server.url}/v2/models/endless/infer"
        answer = httpx.post(infer, json={"inputs": [ROUNDS, X]}, timeout=20)
        assert (answer.status_code, "deadline" in answer.json()["error"]) == (504, True)
        assert httpx.get(f"{server.url}/v2/models/endless/ready").status_code == 503
        assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200
        again = httpx.post(infer, json={"inputs": [{**ROUNDS, "data": [2]}, X]}, timeout=20)
        assert again.json()["outputs"][0]["data"] == [1]
        assert httpx.get(f"{server.url}/v2/models/endless/ready").status_code == 200
        server.signal(signal.SIGTERM)
        assert server.ended(LATEST) == 0
        assert "nobody waits any longer for a run of model 'endless' version 1" in server.log


@pytest.mark.parametrize(("hangs", "path"), [(DEAF, "infer"), (FROZEN, "metadata")])
def test_what_cannot_be_ended_holds_nothing_up(tmp_path: Path, hangs: str, path: str) -> None:
    """A run that does not heed that it is told to end; an event loop that stands still."""
    toys.endless(tmp_path / "endless.onnx")
    (port,) = free_ports(1)
    argv = [sys.executable, "-c", hangs + MAIN, "serve", str(tmp_path / "endless.onnx"), "--port", str(port)]
    argv += [*map(str, TIMES), "--deadline", "0.3", "--no-gates"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(400):
                try:
                    if httpx.get(f"{url}/v2/health/ready").status_code == 200:
                        break
                except httpx.HTTPError:
                    time.sleep(0.05)
            if path == "infer":
                body = json.dumps({"inputs": [{**ROUNDS, "data": [1]}, X]})
                assert httpx.post(f"{url}/v2/models/endless/infer", content=body, timeout=20).status_code == 504
            else:
                with pytest.raises(httpx.ReadTimeout):
                    httpx.get(f"{url}/v2", timeout=0.3)
            process.send_signal(signal.SIGTERM)
            assert process.wait(LATEST) == 1
        finally:
            process.kill()


def test_a_log_that_nobody_reads_holds_nothing_up(tmp_path: Path) -> None:
    toys.plus(tmp_path / "plus.onnx", 1)
    (port,) = free_ports(1)
    argv = [sys.executable, "-c", MAIN, "serve", str(tmp_path / "plus.onnx"), "--port", str(port), *map(str, TIMES)]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5) as client:
            for _ in range(400):
                try:
                    client.get("/v2/health/live")
                    break
                except httpx.HTTPError:
                    time.sleep(0.05)
            path = f"/v2/models/{'x' * 4000}"  # a line of the log is longer than this: 64 KiB are full after 16 of them
            assert {client.get(path).status_code for _ in range(300)} <= {404, 503}
        process.send_signal(signal.SIGTERM)
        assert process.wait(LATEST) == 0
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with Process(toys.plus(tmp_path / "plus.onnx", 1), "--grace", 60, "--linger", 60) as server:
        server.signal(signal.SIGTERM)
        server.wait_for("SIGTERM: not ready any more")
        server.signal(signal.SIGTERM)
        assert server.ended(5) == 128 + signal.SIGTERM
