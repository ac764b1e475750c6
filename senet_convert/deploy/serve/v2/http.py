"""The Open Inference Protocol v2 over HTTP, as KServe and Triton speak it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from ..errors import AWAY, BAD, FAULT, FORBIDDEN, LATE, UNKNOWN, RequestError
from ..http import bodies, compression
from ..http.asgi import InPieces
from ..models import inference
from ..models.inference import Answer
from ..openapi.operation import Endpoint, Media, Operation, Parameter, json
from ..pools import drain
from ..state import ServerState
from . import control, encoded_pictures, json_tensors, messages, metadata, schemas
from .messages import HEADER, Asked

_SHORT = 64 * 1024  # bytes of JSON that are parsed, or of an answer that are packed, at once: in about a millisecond
_BULK = 1024 * 1024  # bytes of tensors that are copied at once
_JSON, _BINARY = "application/json", "application/octet-stream"
_EMPTY: Media = {}
_TAG, _MODELS, _CONTROL, _WITHOUT = "server", "models", "model repository", "not supported"
_RETRY = 5


def routes() -> list[BaseRoute]:
    """All of the protocol's paths."""
    return [
        *[_inference(path) for path in _paths("/infer")],  # first, because they are asked most and looked up in order
        Operation("GET", "/v2", _server, "Name, version and extensions", tag=_TAG, answers={200: json(schemas.SERVER)}),
        Operation("GET", "/v2/health/live", _live, "Is the server alive?", tag=_TAG, answers={200: _EMPTY}),
        Operation("GET", "/v2/health/ready", _ready, "May traffic be sent here?", tag=_TAG, answers={200: _EMPTY}),
        Operation("GET", "/v2/models", _models, "Names of models", tag=_MODELS, answers={200: json(schemas.MODELS)}),
        Operation(
            "GET",
            "/v2/models/stats",
            _statistics,
            "Counts and durations of all models",
            tag=_MODELS,
            answers={200: json(schemas.STATISTICS)},
        ),
        *_versioned("", _model, "Inputs and outputs", json(schemas.MODEL)),
        *_versioned("/ready", _model_ready, "Does the model answer?", _EMPTY),
        *_versioned("/config", _config, "Triton's configuration of the model", json(schemas.CONFIG)),
        *_versioned("/stats", _statistics, "Counts and durations", json(schemas.STATISTICS)),
        Operation(
            "POST",
            "/v2/repository/index",
            _index,
            "Versions that are known, and their states",
            tag=_CONTROL,
            answers={200: json(schemas.INDEX)},
            faults=(BAD,),
            body=json(schemas.INDEX_REQUEST),
            body_required=False,
        ),
        *[_change(word, endpoint) for word, endpoint in (("load", _load), ("unload", _unload))],
        *[_without(methods, path, what) for path, methods, what in _NOT_SUPPORTED],
    ]


_BOTH = ("GET", "POST")
_TRACING = "traces in Triton's form; see the server's own tracing"
_LOGGING = "changing the log while the server runs"
_SYSTEM, _CUDA = "system shared memory", "CUDA shared memory"
_NOT_SUPPORTED: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("/v2/trace/setting", _BOTH, _TRACING),
    ("/v2/models/{model}/trace/setting", _BOTH, _TRACING),
    ("/v2/logging", _BOTH, _LOGGING),
    *(
        (f"/v2/{memory}{path}", (method,), what)
        for memory, what in (("systemsharedmemory", _SYSTEM), ("cudasharedmemory", _CUDA))
        for path, method in (
            ("/status", "GET"),
            ("/region/{region}/status", "GET"),
            ("/region/{region}/register", "POST"),
            ("/unregister", "POST"),
            ("/region/{region}/unregister", "POST"),
        )
    ),
)


def _paths(tail: str) -> tuple[str, str]:
    return f"/v2/models/{{model}}{tail}", f"/v2/models/{{model}}/versions/{{version}}{tail}"


def _versioned(tail: str, endpoint: Endpoint, summary: str, answer: Media) -> list[Operation]:
    return [
        Operation("GET", path, endpoint, summary, tag=_MODELS, answers={200: answer}, faults=(BAD, UNKNOWN))
        for path in _paths(tail)
    ]


def _inference(path: str) -> Operation:
    return Operation(
        "POST",
        path,
        _infer,
        "Run the model",
        tag=_MODELS,
        description="Tensors stand in the JSON, or as bytes after it: then "
        f"'{HEADER}' says how long the JSON is. With 0 the whole body is the bytes of the only input.",
        answers={200: {_JSON: schemas.INFER_ANSWER, _BINARY: schemas.BYTES}},
        faults=(BAD, UNKNOWN, FAULT, LATE),
        body={_JSON: schemas.INFER_REQUEST, _BINARY: schemas.BYTES},
        parameters=(Parameter(HEADER, "bytes of JSON at the body's beginning", "header", {"type": "integer"}),),
    )


def _change(word: str, endpoint: Endpoint) -> Operation:
    return Operation(
        "POST",
        f"/v2/repository/models/{{model}}/{word}",
        endpoint,
        f"{word.capitalize()} a model",
        tag=_CONTROL,
        answers={200: _EMPTY},
        faults=(BAD, FORBIDDEN, UNKNOWN),
        body=json(schemas.CONTROL_REQUEST),
        body_required=False,
    )


def _without(methods: Sequence[str], path: str, what: str) -> Operation:
    async def refuse(_: Request) -> Response:
        raise RequestError(BAD, f"not supported: {what}")

    return Operation(methods, path, refuse, f"Not supported: {what}", tag=_WITHOUT, answers={}, faults=(BAD,))


def _state(request: Request) -> ServerState:
    state: ServerState = request.app.state.server
    return state


def _which(request: Request) -> tuple[str, str]:
    """Model and version that the path names; an empty version means the highest."""
    found = request.path_params
    return found.get("model", ""), found.get("version", "")


async def _server(_: Request) -> Response:
    return JSONResponse(metadata.server())


async def _live(_: Request) -> Response:
    return Response()


async def _ready(request: Request) -> Response:
    if not _state(request).ready:
        raise RequestError(AWAY, "the server is starting or shutting down", _RETRY)
    return Response()


async def _models(request: Request) -> Response:
    answering = metadata.index(_state(request).repository, ready=True)
    return JSONResponse({"models": list(dict.fromkeys(entry["name"] for entry in answering))})


async def _model(request: Request) -> Response:
    repository, which = _state(request).repository, _which(request)
    found = metadata.model(repository, *which)
    parameters = metadata.parameters(repository.get(*which).served)
    return JSONResponse(found | ({"parameters": parameters} if parameters else {}))


async def _model_ready(request: Request) -> Response:
    state = _state(request)
    if not state.repository.get(*_which(request)).ready:
        raise RequestError(AWAY, "a run of the model did not end by its deadline and is being ended", _RETRY)
    if state.draining:
        raise RequestError(AWAY, "the server is shutting down", _RETRY)
    return Response()


async def _config(request: Request) -> Response:
    return JSONResponse(metadata.config(_state(request).repository, *_which(request)))


async def _statistics(request: Request) -> Response:
    return JSONResponse(metadata.statistics(_state(request).repository, *_which(request)))


async def _index(request: Request) -> Response:
    ready = (await _small_json(request)).get("ready", False)
    if not isinstance(ready, bool):
        raise RequestError(BAD, "'ready' must be true or false")
    return JSONResponse(metadata.index(_state(request).repository, ready))


async def _load(request: Request) -> Response:
    await control.load(_state(request), _which(request)[0], await _parameters(request))
    return Response()


async def _unload(request: Request) -> Response:
    await control.unload(_state(request), _which(request)[0], await _parameters(request))
    return Response()


async def _infer(request: Request) -> Response:
    state = _state(request)
    name, version = _which(request)
    served = state.repository.get(name, version).served
    body = await bodies.read(request, state)
    header = request.headers.get(HEADER)
    decoding = messages.decode(body, header, served, version, state.settings.max_depth)
    short = len(body) <= _BULK and messages.json_bytes(header, len(body)) <= _SHORT
    asked = drain(decoding, state.hold) if short else await state.pools.json.finish(decoding, state.hold)
    answer = await inference.infer(state.repository, await encoded_pictures.decoded(state, served, asked.question))
    return await _respond(state, answer, asked, request.headers.get("accept-encoding", ""))


async def _respond(state: ServerState, answer: Answer, asked: Asked, accept: str) -> Response:
    effort = messages.effort(answer, asked)
    state.hold(effort // 2)  # JSON takes up to eight times the tensor's bytes: pieces, then the whole
    form = (
        messages.encode(answer, asked)
        if effort <= _BULK
        else await state.pools.json.run(messages.encode, answer, asked)
    )
    headers = {} if form.header is None else {HEADER: str(form.header)}
    content = form.content
    name = compression.chosen(accept, len(content))
    if name:
        short = len(content) <= _SHORT
        content = (
            compression.pack(content, name) if short else await state.pools.packing.run(compression.pack, content, name)
        )
        headers |= {"Content-Encoding": name, "Vary": "Accept-Encoding"}
    return InPieces(content, headers=headers, media_type=_JSON if form.header is None else _BINARY)


async def _small_json(request: Request) -> dict[str, Any]:
    """A JSON object that may be missing."""
    state = _state(request)
    body = await bodies.read(request, state, json_tensors.MOST)
    if not body.strip():
        return {}
    parse = partial(json_tensors.parse, body, depth=state.settings.max_depth)
    found = parse() if len(body) <= _SHORT else await state.pools.json.run(parse)
    if not isinstance(found, dict):
        raise RequestError(BAD, "the body must be a JSON object")
    return found


async def _parameters(request: Request) -> dict[str, Any]:
    parameters = (await _small_json(request)).get("parameters", {})
    if not isinstance(parameters, dict):
        raise RequestError(BAD, "'parameters' must be a JSON object")
    return parameters
