"""The application as a whole: its routes, and one form of faults."""

from __future__ import annotations

import pytest
from starlette.routing import Route
from starlette.testclient import TestClient

from senet_convert.deploy.serve.app import ROUTES, build
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.state import ServerState


def test_no_two_routes_answer_the_same() -> None:
    routes = [route for module in ROUTES for route in module.routes() if isinstance(route, Route)]
    pairs = [(route.path, method) for route in routes for method in route.methods or ()]
    assert len(pairs) == len(set(pairs))
    assert {"/", "/metrics", "/docs", "/openapi.json", "/v1/classify", "/v2/health/ready"} <= {
        path for path, _ in pairs
    }


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("DELETE", "/metrics", 405),
        ("GET", "/v2/models/none", 404),
        ("GET", "/static/../guard.py", 404),
        ("GET", "/static/%2e%2e/guard.py", 404),
        ("GET", "/" + "a" * 5000, 404),
    ],
)
def test_faults_have_one_form(method: str, path: str, status: int) -> None:
    with TestClient(build(ServerState(Settings())), base_url="http://localhost") as caller:
        told = caller.request(method, path)
    assert list(told.json()) == ["error"]
    assert len(told.json()["error"]) < 400
    assert told.status_code == status
