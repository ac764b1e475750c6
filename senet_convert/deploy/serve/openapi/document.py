"""The server's description of itself: /openapi.json, made from the routes, and /docs, the same for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from ....version import __version__
from ..errors import AWAY, BAD, BUSY, FAULT, FORBIDDEN, LATE, NO_IMAGE, NO_KEY, SLOW, TOO_LARGE, UNKNOWN, WRONG_TYPE
from . import docs
from .operation import Media, Named, Operation, Parameter, Schema, fields, json

Json = dict[str, Any]

ERROR = Named("Error", fields({"error": {"type": "string"}}))
FAULTS = {
    BAD: "The request is wrong; the answer says what was expected",
    NO_KEY: "An API key is wanted, and none or a wrong one was given",
    FORBIDDEN: "Not allowed as the server is set up",
    UNKNOWN: "No such model or version",
    SLOW: "The body did not arrive in time",
    TOO_LARGE: "The body is too large",
    WRONG_TYPE: "The body's content type is not one that is taken",
    NO_IMAGE: "A picture cannot be read",
    BUSY: "Too many requests wait, or came in a short time; Retry-After says when to come again",
    FAULT: "The model cannot be run on this input",
    AWAY: "Not ready: loading, or shutting down; Retry-After says when to come again",
    LATE: "The deadline has passed",
}
TAGS = {  # in the order in which pages show them
    "pictures": "Pictures in, labels out",
    "models": "Tensors in, tensors out: the Open Inference Protocol v2",
    "model repository": "Models that come and go",
    "server": "The server, and whether it may be asked",
    "not supported": "Parts of the protocol that this server does not have",
    "operation": "Metrics",
    "description": "This description",
}
ALWAYS = (BAD, NO_KEY, FORBIDDEN, SLOW, TOO_LARGE, BUSY, AWAY)  # what any request can meet
PATH: Mapping[str, Schema] = {  # what stands in paths
    "model": {"type": "string", "description": "a model's name"},
    "version": {"type": "string", "description": "a version's number"},
    "region": {"type": "string", "description": "a memory region's name"},
}
_RETRIED = (BUSY, AWAY)


def routes() -> list[BaseRoute]:
    """The document, and its page."""
    return [
        Operation(
            "GET",
            "/openapi.json",
            _document,
            "This description",
            tag="description",
            answers={200: json({"type": "object"})},
        ),
        *docs.routes(),
    ]


def document(routes: Iterable[BaseRoute], base: str = "") -> Json:
    """The OpenAPI 3.1 document of all Operations among `routes`; `base` is the path that stands before theirs."""
    schemas: dict[str, Schema] = {}
    paths: dict[str, Json] = {}
    for route in routes:
        if isinstance(route, Operation):
            for verb in route.verbs:
                paths.setdefault(route.path_format, {})[verb.lower()] = _operation(route, verb, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "senet-convert",
            "version": __version__,
            "description": "Image classification and tensor inference with converted networks",
        },
        "servers": [{"url": base or "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "security": [{}, {"bearer": []}, {"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _operation(route: Operation, verb: str, schemas: dict[str, Schema]) -> Json:
    statuses = sorted({*ALWAYS, *route.faults})
    known = [_path_parameter(name) for name in route.param_convertors]
    found: Json = {
        "operationId": "_".join(
            [verb.lower(), *route.path_format.translate(str.maketrans("/.-", "   ", "{}")).split()]
        ),
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": [*known, *map(_parameter, route.parameters)],
        "responses": {
            **{str(status): _response("As asked", media, schemas) for status, media in route.answers.items()},
            **{str(status): _fault(status, schemas) for status in statuses},
        },
    }
    if route.description:
        found["description"] = route.description
    if route.body:
        found["requestBody"] = {"required": route.body_required, "content": _content(route.body, schemas)}
    return found


def _path_parameter(name: str) -> Json:
    schema = dict(PATH[name])
    description = schema.pop("description")
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def _parameter(parameter: Parameter) -> Json:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.required,
        "description": parameter.description,
        "schema": parameter.schema or {"type": "string"},
    }


def _fault(status: int, schemas: dict[str, Schema]) -> Json:
    found = _response(FAULTS[status], json(ERROR), schemas)
    if status in _RETRIED:
        found["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return found


def _response(description: str, media: Media, schemas: dict[str, Schema]) -> Json:
    found: Json = {"description": description}
    if media:
        found["content"] = _content(media, schemas)
    return found


def _content(media: Media, schemas: dict[str, Schema]) -> Json:
    return {kind: {"schema": _schema(schema, schemas)} for kind, schema in media.items()}


def _schema(schema: Schema | Named, schemas: dict[str, Schema]) -> Schema:
    if not isinstance(schema, Named):
        return schema
    schemas[schema.name] = schema.schema
    return {"$ref": f"#/components/schemas/{schema.name}"}


async def _document(request: Request) -> Response:
    kept = request.app.state
    if not hasattr(kept, "openapi"):  # it never changes, and costs milliseconds
        kept.openapi = JSONResponse(document(request.app.routes, kept.server.settings.root_path)).body
    return Response(kept.openapi, media_type="application/json")
