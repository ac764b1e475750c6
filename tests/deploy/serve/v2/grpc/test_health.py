"""The health service that Kubernetes' probes ask."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from senet_convert.deploy.serve.models.model_paths import ModelPath
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.v2.grpc.health import SERVICES

from .live import PATIENCE, Live

SERVING, NOT_SERVING, UNKNOWN = (
    HealthCheckResponse.SERVING,
    HealthCheckResponse.NOT_SERVING,
    HealthCheckResponse.SERVICE_UNKNOWN,
)


def test_it_serves_until_it_is_told_to_stop(plus: Path) -> None:
    settings = Settings(models=(ModelPath("plus", plus),), threads=1, api_key=("0123456789abcdef",))
    with Live(settings) as live, grpc.insecure_channel(live.address) as channel:
        stub = HealthStub(channel)
        for service in SERVICES:
            assert stub.Check(HealthCheckRequest(service=service)).status == SERVING
        live.state.draining = True
        assert stub.Check(HealthCheckRequest()).status == NOT_SERVING


def test_unknown_services(live: Live) -> None:
    with grpc.insecure_channel(live.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            HealthStub(channel).Check(HealthCheckRequest(service="nix"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watching = HealthStub(channel).Watch(HealthCheckRequest(service="nix"), timeout=PATIENCE)
        assert next(watching).status == UNKNOWN
        watching.cancel()


def test_watchers_hear_of_changes_and_do_not_hold_the_server_up(plus: Path) -> None:
    settings = Settings(models=(ModelPath("plus", plus),), threads=1)
    with Live(settings) as live, grpc.insecure_channel(live.address) as channel:
        watching = HealthStub(channel).Watch(HealthCheckRequest(), timeout=PATIENCE)
        assert next(watching).status == SERVING
        live.state.draining = True
        assert next(watching).status == NOT_SERVING
        live.run(asyncio.wait_for(live.stop(PATIENCE), PATIENCE / 3))
        with pytest.raises(StopIteration):
            next(watching)
