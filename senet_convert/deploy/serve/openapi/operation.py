"""A route together with its description: what /openapi.json and /docs tell of it stands where the route does.

Operation("GET", "/v1/models", models, "The models that are served", answers={200: json(SCHEMA)})
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Schema = Mapping[str, Any]  # JSON schema, as OpenAPI 3.1 has it


@dataclass(frozen=True)
class Named:
    """A schema that stands in the document once, under its name."""

    name: str
    schema: Schema


Media = Mapping[str, Schema | Named]  # content type -> schema; empty: no body
Endpoint = Callable[[Request], Awaitable[Response]]


def json(schema: Schema | Named) -> Media:
    """A body of JSON."""
    return {"application/json": schema}


def fields(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """The schema of a JSON object that may hold more than these."""
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def items(schema: Schema) -> Schema:
    """The schema of a list."""
    return {"type": "array", "items": schema}


@dataclass(frozen=True)
class Parameter:
    """A value in the query or a header of a request."""

    name: str
    description: str
    where: str = "query"
    schema: Schema | None = None  # default: a string
    required: bool = False


class Operation(Route):
    """A route with one way of use for all its methods.

    summary      a line; `description` may be longer
    tag          the heading that it stands under
    answers      status -> body, of what is no fault
    faults       statuses of faults, beyond those that any request can meet
    body         the request's body by content type, empty where there is none; `body_required` where it must be there
    parameters   in the query and headers; those of the path are known by their names
    """

    def __init__(
        self,
        methods: str | Sequence[str],
        path: str,
        endpoint: Endpoint,
        summary: str,
        *,
        tag: str,
        answers: Mapping[int, Media],
        faults: Sequence[int] = (),
        body: Media | None = None,
        body_required: bool = True,
        parameters: Sequence[Parameter] = (),
        description: str = "",
    ) -> None:
        """`methods` are one, or several that do the same."""
        self.verbs = (methods,) if isinstance(methods, str) else tuple(methods)
        super().__init__(path, endpoint, methods=list(self.verbs))
        self.summary = summary
        self.tag = tag
        self.answers = answers
        self.faults = faults
        self.body = body or {}
        self.body_required = body_required
        self.parameters = parameters
        self.description = description
