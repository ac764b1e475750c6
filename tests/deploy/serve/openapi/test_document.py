from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from senet_convert.deploy.serve.app import build
from senet_convert.deploy.serve.openapi import document as openapi
from senet_convert.deploy.serve.openapi.operation import Named, Operation, Parameter
from senet_convert.deploy.serve.openapi.operation import json as as_json
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.state import ServerState

FILES = ("/static/", "/docs/")  # what pages are made of is no request that anybody else makes


async def nothing(_: Request) -> Response:
    return Response()


@pytest.fixture(scope="module")
def app() -> Any:
    return build(ServerState(Settings()))


@pytest.fixture(scope="module")
def document(app: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(openapi.document(app.routes)))
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            yield path, verb, operation


def test_every_route_stands_there_and_nothing_else(app: Any, document: dict[str, Any]) -> None:
    routes = [route for route in app.routes if isinstance(route, Route)]
    assert len(routes) == len(app.routes)
    served = {
        (route.path_format, method.lower())
        for route in routes
        if not route.path.startswith(FILES)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert served == {(path, verb) for path, verb, _ in operations(document)}
    assert len(served) > 40


def test_names_are_unique_and_references_lead_somewhere(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for *_, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in names)
    wanted = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert wanted == set(document["components"]["schemas"])
    assert {"InferRequest", "InferAnswer", "Error"} <= wanted


def test_paths_parameters_and_faults_are_told(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        given = [one["name"] for one in operation["parameters"] if one["in"] == "path"]
        assert sorted(given) == sorted(re.findall(r"\{(\w+)\}", path))
        assert {"400", "413", "429", "503"} <= set(operation["responses"])
        for status in ("429", "503"):
            assert "Retry-After" in operation["responses"][status]["headers"]
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert response["content"]["application/json"]["schema"]["$ref"].endswith("/Error")
    infer = document["paths"]["/v2/models/{model}/infer"]["post"]
    assert {"200", "404", "504"} <= set(infer["responses"])
    assert set(infer["requestBody"]["content"]) == {"application/json", "application/octet-stream"}


def test_an_operation_says_all_that_it_is_told() -> None:
    route = Operation(
        ["GET", "POST"],
        "/a/{model}/b.c",
        nothing,
        "summary",
        tag="tag",
        answers={200: as_json(Named("Thing", {"type": "object"})), 204: {}},
        faults=(404,),
        body={"image/*": {"type": "string"}},
        body_required=False,
        parameters=(Parameter("top", "how many", schema={"type": "integer"}, required=True),),
        description="text",
    )
    found = openapi.document([route, Route("/unseen", nothing)], "/base")
    assert found["servers"] == [{"url": "/base"}]
    assert list(found["paths"]) == ["/a/{model}/b.c"]
    assert set(found["paths"]["/a/{model}/b.c"]) == {"get", "post"}
    operation = found["paths"]["/a/{model}/b.c"]["post"]
    assert operation["operationId"] == "post_a_model_b_c"
    assert (operation["summary"], operation["description"], operation["tags"]) == ("summary", "text", ["tag"])
    assert [one["name"] for one in operation["parameters"]] == ["model", "top"]
    assert operation["parameters"][1]["required"]
    assert operation["requestBody"] == {"required": False, "content": {"image/*": {"schema": {"type": "string"}}}}
    assert "content" not in operation["responses"]["204"]
    assert "404" in operation["responses"]
    assert found["components"]["schemas"]["Thing"] == {"type": "object"}


def test_requests_stand_under_known_headings_pictures_first(document: dict[str, Any]) -> None:
    used = {tag for *_, operation in operations(document) for tag in operation["tags"]}
    assert used == {tag["name"] for tag in document["tags"]}
    assert document["tags"][0]["name"] == document["paths"]["/v1/classify"]["post"]["tags"][0]


def test_the_page_loads_nothing_from_elsewhere(app: Any, document: dict[str, Any]) -> None:
    async def look() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            response = await client.get("/docs")
            assert response.headers["content-type"].startswith("text/html")
            assert "unsafe" not in response.headers["content-security-policy"]
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", response.text)
            links = re.findall(r'(?:src|href)="([^"]+)"', response.text)
            assert sorted(links) == ["docs/start.js", "docs/swagger-ui.css", "docs/swagger-ui.js", "static/icon.svg"]
            for link in links:
                assert (await client.get(f"/{link}")).status_code == 200
            script = await client.get("/docs/start.js")
            assert 'url: "openapi.json"' in script.text
            assert "SwaggerUIBundle" in (await client.get("/docs/swagger-ui.js")).text
            assert (await client.get("/openapi.json")).json() == document

    asyncio.run(look())
