"""What people and small programs use: a picture in, its labels out, and what the network's gates did to it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from ...images.origins import described
from .. import context
from ..errors import BAD, FAULT, LATE, NO_IMAGE, UNKNOWN, WRONG_TYPE, RequestError
from ..gates.gates import CLOSED
from ..http.asgi import InPieces
from ..models.repository import Running
from ..models.served import Served
from ..openapi.operation import Operation, Parameter, json
from ..state import ServerState
from . import classification, schemas, uploads, webpage
from .classification import Answer, Find
from .uploads import BYTES, FORM

Json = dict[str, Any]

MODEL, VERSION, TOP = "model", "version", "top"
BEST = 5  # classes that are told where a request does not say

_TAG = "pictures"
_SHORT = 200  # classes that are told at once, within a millisecond
_FAULTS = (UNKNOWN, WRONG_TYPE, NO_IMAGE, FAULT, LATE)
_CHOICE = (
    Parameter(MODEL, "a model's name; by default the one that /v1/models calls so"),
    Parameter(VERSION, "its version; by default the highest that answers"),
)
_TOP = Parameter(TOP, f"how many classes to tell, best first; {BEST} by default", schema=schemas.TOP)
_PICTURE = dict.fromkeys(("image/*", BYTES), schemas.BYTES)


def routes() -> list[BaseRoute]:
    """Classification, gates, and the page that shows both."""
    return [
        Operation(
            "POST",
            "/v1/classify",
            _classify,
            "What is in these pictures?",
            tag=_TAG,
            answers={200: json(schemas.CLASSIFIED)},
            faults=_FAULTS,
            body={FORM: schemas.SEVERAL, **_PICTURE},
            parameters=(*_CHOICE, _TOP),
            description="One picture as the body, or several as files of a form, which may hold the parameters too. A "
            "picture that cannot be read is answered by its error; when none can, the request fails.",
        ),
        Operation(
            "POST",
            "/v1/gates",
            _gates,
            "What did the squeeze-and-excitation gates do to this picture?",
            tag=_TAG,
            answers={200: json(schemas.GATES)},
            faults=_FAULTS,
            body={FORM: schemas.ONE, **_PICTURE},
            parameters=_CHOICE,
        ),
        Operation(
            "GET",
            "/v1/models",
            _models,
            "The models that are served, and which of them take pictures",
            tag=_TAG,
            answers={200: json(schemas.MODELS)},
        ),
        *webpage.routes(),
    ]


async def _classify(request: Request) -> Response:
    state: ServerState = request.app.state.server
    sent = await uploads.receive(request, state, (MODEL, VERSION, TOP))
    started = time.perf_counter()
    top = _whole(sent.options)
    answer = await classification.classify(state, _finder(state, sent.options), sent.uploads)
    if top * len(answer.found) <= _SHORT:
        return _answered(answer, top, started)
    return await state.pools.json.run(_answered, answer, top, started)


def _answered(answer: Answer, top: int, started: float) -> Response:
    """Each picture is written by itself: of many with all their classes, one call would keep everybody waiting."""
    plain = answer.plain(top)
    images = b",".join(bytes(JSONResponse(one).body) for one in plain["images"])
    plain["images"] = []
    plain["milliseconds"]["total"] = 1000 * (time.perf_counter() - started)
    content = bytes(JSONResponse(plain).body).replace(b'"images":[]', b'"images":[' + images + b"]", 1)
    return InPieces(content, media_type=JSONResponse.media_type)


async def _gates(request: Request) -> Response:
    state: ServerState = request.app.state.server
    sent = await uploads.receive(request, state, (MODEL, VERSION))
    started = time.perf_counter()
    if len(sent.uploads) != 1:
        raise RequestError(BAD, f"{len(sent.uploads)} pictures; gates are shown for one at a time")
    served = _finder(state, sent.options)().served
    context.current.get().asked(served.name, served.version, 1)
    async with state.gates.turn():
        await state.gates.check(served)
        feeds = await classification.prepare(state, served, sent.uploads[0])
        _, stages = await state.gates.of(served, feeds)
    return JSONResponse(
        {
            "model": served.name,
            "version": served.version,
            "closed_below": CLOSED,
            "stages": stages,
            "milliseconds": {"total": 1000 * (time.perf_counter() - started)},
        }
    )


async def _models(request: Request) -> Response:
    state: ServerState = request.app.state.server
    there = _answering(state)
    found = [await _described(state, name, versions) for name, versions in there.items()]
    return JSONResponse({"ready": state.ready, "default": _default(there) if there else None, "models": found})


async def _described(state: ServerState, name: str, versions: Sequence[Served]) -> Json:
    """By its highest version."""
    served = versions[-1]
    plain: Json = {"name": name, "versions": [one.version for one in versions]}
    classifier = served.classifier
    if classifier is None:
        return plain | {"classifies": False, "reason": served.unfit}
    return plain | {
        "classifies": True,
        "classes": classifier.outputs,
        "class_order": classifier.classes.order,
        "size": list(classifier.preprocess.size),
        "preprocessing": described(classifier.preprocess, classifier.origins),
        "assumed": list(classifier.origins.assumed) if classifier.origins else None,
        "gates": await state.gates.available(served),
    }


def _answering(state: ServerState) -> dict[str, list[Served]]:
    """Versions by model, lowest first: the models of the command line in their order, then those of the repository."""
    running = sorted((one.served for one in state.repository.all()), key=lambda served: int(served.version))
    names = [place.name for place in state.settings.models]
    names += sorted({served.name for served in running} - set(names))
    found = {name: [served for served in running if served.name == name] for name in names}
    return {name: versions for name, versions in found.items() if versions}


def _default(there: Mapping[str, Sequence[Served]]) -> str:
    """The first that takes pictures, else the first."""
    return next((name for name, versions in there.items() if versions[-1].classifier), next(iter(there)))


def _finder(state: ServerState, options: Mapping[str, str]) -> Find:
    """Gives the model that is asked for, as it is at that moment."""
    there = _answering(state)
    if not there:
        raise RequestError(UNKNOWN, "no model is served")
    name = options.get(MODEL) or _default(there)
    version = options.get(VERSION, "")

    def find() -> Running:
        return state.repository.get(name, version)

    return find


def _whole(options: Mapping[str, str]) -> int:
    word = options.get(TOP, "") or str(BEST)
    if not (word.isascii() and word.isdecimal() and 0 < len(word) < 10 and int(word) > 0):
        raise RequestError(BAD, f"'{TOP}' is '{word[:40]}'; it is a number of classes, 1 or more")
    return int(word)
