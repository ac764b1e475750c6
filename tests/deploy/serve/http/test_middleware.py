"""What stands around every request, over an application of a few toys."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from senet_convert.deploy.serve.errors import BAD, RequestError
from senet_convert.deploy.serve.http import middleware
from senet_convert.deploy.serve.observe import logs
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.state import ServerState

KEY = "a-key-of-many-characters"


async def echo(request: Request) -> Response:
    return JSONResponse({"length": len(await request.body())})


async def page(_: Request) -> Response:
    return HTMLResponse("<p>hello")


async def broken(_: Request) -> Response:
    raise ZeroDivisionError("a secret of the inside")


async def bad(_: Request) -> Response:
    raise RequestError(BAD, "no such thing", 7)


async def deaf(_: Request) -> Response:
    return PlainTextResponse("not listening")


def toys(settings: Settings) -> tuple[Starlette, ServerState]:
    state = ServerState(settings)
    routes = [
        Route("/", page),
        Route("/v2/health/live", deaf),
        Route("/metrics", deaf),
        Route("/echo", echo, methods=["GET", "POST"]),
        Route("/broken", broken),
        Route("/bad", bad),
        Route("/deaf", deaf, methods=["POST"]),
    ]
    app = Starlette(routes=routes, middleware=middleware.middleware(state))
    app.state.server = state
    state.metrics.learn(routes)
    return app, state


def client(**settings: Any) -> TestClient:
    return TestClient(toys(Settings(**settings))[0], base_url="http://localhost")


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the server's loggers say, as JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.Json())
    logger = logging.getLogger("senet_convert")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(before)


def test_the_order_is_the_one_that_is_needed() -> None:
    names = [kind.__name__ for kind in middleware.MIDDLEWARE]
    assert names.index("Identity") == 0  # everything that is said carries the id
    assert names.index("Record") < names.index("Faults")  # refusals are counted
    assert names.index("Unread") < names.index("Faults")  # refusals do not cut off who still sends
    assert names.index("Key") < names.index("Rate") < names.index("Limits")  # a key's rate; no body is read before


def test_a_request_id_is_kept_or_made() -> None:
    with client() as caller:
        assert caller.get("/echo", headers={"X-Request-ID": "trace-1.a"}).headers["x-request-id"] == "trace-1.a"
        made = [caller.get("/echo").headers["x-request-id"] for _ in range(2)]
        assert len(set(made)) == 2
        for insane in ("a b", "x" * 129, "<script>", ""):
            assert caller.get("/echo", headers={"X-Request-ID": insane}).headers["x-request-id"] != insane


def test_headers_for_browsers() -> None:
    with client() as caller:
        answer = caller.get("/")
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "content-security-policy" not in caller.get("/echo").headers


def test_draining_closes_connections() -> None:
    app, state = toys(Settings())
    with TestClient(app, base_url="http://localhost") as caller:
        assert "connection" not in caller.get("/echo").headers
        state.draining = True
        assert caller.get("/echo").headers["connection"] == "close"


def test_an_unexpected_fault_is_told_in_the_log_alone(log: io.StringIO) -> None:
    with client() as caller:
        answer = caller.get("/broken", headers={"X-Request-ID": "id-of-it"})
    assert answer.status_code == 500
    assert list(answer.json()) == ["error"]
    assert "id-of-it" in answer.json()["error"]
    assert "secret" not in answer.text
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    told = next(line for line in lines if "traceback" in line)
    assert "a secret of the inside" in told["traceback"]
    assert told["request"] == "id-of-it"


def test_each_request_has_a_line_without_keys_and_bodies(log: io.StringIO, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(KEY)
    with client(api_keys=tmp_path / "keys") as caller:
        caller.post("/echo", content="what is in it", headers={"X-API-Key": KEY})
    [line] = [json.loads(line) for line in log.getvalue().splitlines()]
    assert line["message"] == "POST /echo"
    assert (line["status"], line["bytes"], line["protocol"]) == (200, 13, "http")
    assert line["client"].startswith("key-")
    assert KEY not in log.getvalue()
    assert "what is in it" not in log.getvalue()


def test_probes_are_logged_for_debugging_only(log: io.StringIO) -> None:
    with client() as caller:
        caller.get("/v2/health/live")
    [line] = [json.loads(line) for line in log.getvalue().splitlines()]
    assert line["level"] == "debug"


def test_a_body_that_is_too_large() -> None:
    with client(max_body=1024) as caller:
        assert caller.post("/echo", content=b"x" * 1024).json() == {"length": 1024}
        told = caller.post("/echo", content=b"x" * 1025)
        assert (told.status_code, told.json()) == (413, {"error": "the body has 1025 bytes; at most 1024 are taken"})
        streamed = caller.post("/echo", content=(b"x" * 600 for _ in range(2)))
        assert (streamed.status_code, "more than 1024" in streamed.json()["error"]) == (413, True)


def test_bodies_together_and_that_they_are_let_go() -> None:
    app, state = toys(Settings(max_body=1024, max_inflight=1500))
    with TestClient(app, base_url="http://localhost") as caller:
        state.held = 1000  # another request's
        told = caller.post("/echo", content=b"x" * 600)
        assert (told.status_code, told.headers["retry-after"]) == (503, "1")
        assert state.held == 1000
        assert caller.post("/echo", content=b"x" * 500).status_code == 200
        assert state.held == 1000


def test_a_body_that_stalls() -> None:
    app, _ = toys(Settings(body_timeout=0.1))

    async def ask() -> list[Any]:
        sent: list[Any] = []
        messages = [{"type": "http.request", "body": b"x", "more_body": True}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            return await asyncio.sleep(60)

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/echo",
            "raw_path": b"/echo",
            "query_string": b"",
            "headers": [(b"content-length", b"10")],
            "client": ("127.0.0.1", 1),
        }
        async with asyncio.timeout(5):
            await app(scope, receive, send)
        return sent

    sent = asyncio.run(ask())
    assert sent[0]["status"] == 408
    assert b"did not arrive within 0.1 s" in b"".join(message.get("body", b"") for message in sent)


def test_an_answer_before_a_large_body_has_ended_closes() -> None:
    with client() as caller:
        assert "connection" not in caller.post("/deaf", content=b"x" * 100).headers
        assert caller.post("/deaf", content=b"x" * 100_000).headers["connection"] == "close"


@pytest.mark.parametrize(
    "given", [{"Authorization": f"Bearer {KEY}"}, {"X-API-Key": KEY}, {"Authorization": f"bearer {KEY}"}]
)
def test_a_key_opens(given: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"another-key-of-many\n{KEY}\n")
    with client(api_keys=tmp_path / "keys") as caller:
        assert caller.get("/echo", headers=given).status_code == 200


@pytest.mark.parametrize(
    "given",
    [{}, {"X-API-Key": KEY[:-1]}, {"Authorization": KEY}, {"Authorization": f"Basic {KEY}"}, {"X-API-Key": "é"}],
)
def test_without_it_there_is_a_401(given: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(KEY)
    with client(api_keys=tmp_path / "keys") as caller:
        told = caller.get("/echo", headers=[(name.encode(), value.encode()) for name, value in given.items()])
        assert told.status_code == 401
        assert told.headers["www-authenticate"] == "Bearer"
        assert "API key" in told.json()["error"]


def test_what_is_open_without_a_key(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(KEY)
    with client(api_keys=tmp_path / "keys") as caller:
        assert [caller.get(path).status_code for path in ("/", "/v2/health/live", "/metrics")] == [200, 200, 200]
        assert caller.get("/nowhere").status_code == 401
    with client(api_keys=tmp_path / "keys", open_metrics=False) as caller:
        assert caller.get("/metrics").status_code == 401


def test_a_client_that_asks_too_often() -> None:
    with client(rate=0.5) as caller:
        assert caller.get("/echo").status_code == 200
        told = caller.get("/echo")
        assert (told.status_code, told.headers["retry-after"]) == (429, "2")
        assert caller.get("/v2/health/live").status_code == 200


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://public.example"}, 200),  # a proxy has changed Host
    ],
)
def test_pages_of_other_sites_change_nothing(given: dict[str, str], status: int) -> None:
    with client() as caller:
        assert caller.post("/echo", headers=given).status_code == status
        assert caller.get("/echo", headers=given).status_code == 200


def test_refusals_say_when_to_come_again() -> None:
    answer = middleware.answer(RequestError(BAD, "no such thing", 7))
    assert (answer.status_code, answer.headers["retry-after"]) == (400, "7")
    with client() as caller:
        assert caller.get("/bad").json() == {"error": "no such thing"}
