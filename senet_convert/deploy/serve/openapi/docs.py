"""The page at /docs: what /openapi.json says, for people, with a form to try each request. Nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from importlib import resources
from itertools import groupby
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

Json = Mapping[str, Any]

_FILES = {"docs.css": "text/css", "docs.js": "text/javascript"}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: requests</title>
<link rel="icon" href="static/icon.svg">
<link rel="stylesheet" href="docs/docs.css">
<script src="docs/docs.js" defer></script>
</head>
<body>
<header>
<h1>{title} {version}</h1>
<p>{description}. For programs: <a href="openapi.json">openapi.json</a>.</p>
<p><label>API key, where one is needed <input id="key" type="password" autocomplete="off"></label></p>
</header>
<main>
{sections}
</main>
</body>
</html>
"""


def routes() -> list[BaseRoute]:
    """The page's style sheet and script."""
    return [_file(name, kind) for name, kind in _FILES.items()]


def page(document: Json) -> str:
    """HTML of an OpenAPI document."""
    operations = [
        (operation["tags"][0], verb, path, operation)
        for path, verbs in document["paths"].items()
        for verb, operation in verbs.items()
    ]
    order = list(dict.fromkeys(tag for tag, *_ in operations))
    operations.sort(key=lambda entry: order.index(entry[0]))
    sections = [
        f"<section><h2>{escape(tag)}</h2>{''.join(_operation(document, *entry[1:]) for entry in group)}</section>"
        for tag, group in groupby(operations, key=lambda entry: entry[0])
    ]
    info = {key: escape(value) for key, value in document["info"].items()}
    return _PAGE.format(**info, sections="\n".join(sections))


def _file(name: str, kind: str) -> Route:
    content = resources.files(__package__).joinpath("assets", name).read_text(encoding="utf-8")

    async def send(_: Request) -> Response:
        return Response(content, media_type=kind)

    return Route(f"/docs/{name}", send)


def _operation(document: Json, verb: str, path: str, operation: Json) -> str:
    answers = "".join(
        f"<li><b>{escape(status)}</b> {escape(answer['description'])}{_schemas(document, answer)}</li>"
        for status, answer in operation["responses"].items()
    )
    text = operation.get("description")
    return (
        f'<details class="operation"><summary><b class="verb">{verb.upper()}</b> <code>{escape(path)}</code> '
        f"<span>{escape(operation['summary'])}</span></summary>"
        + (f"<p>{escape(text)}</p>" if text else "")
        + _form(document, verb, path, operation)
        + f"<h3>Answers</h3><ul>{answers}</ul></details>"
    )


def _form(document: Json, verb: str, path: str, operation: Json) -> str:
    fields = "".join(map(_input, operation["parameters"]))
    body = operation.get("requestBody")
    if body:
        kinds = "".join(f"<option>{escape(kind)}</option>" for kind in body["content"])
        fields += (
            f'<label>Content type<select name="kind" data-in="kind">{kinds}</select></label>'
            '<label>Body as text<textarea name="text" data-in="text" rows="6" spellcheck="false"></textarea></label>'
            '<label>or a file<input name="file" data-in="file" type="file"></label>'
            f"{_schemas(document, body)}"
        )
    return (
        f'<form data-verb="{verb.upper()}" data-path="{escape(path)}">{fields}<button>Send</button>'
        '<output aria-live="polite"></output></form>'
    )


def _input(parameter: Json) -> str:
    name = escape(parameter["name"])
    required = " required" if parameter["required"] else ""
    return (
        f"<label>{name} <small>{escape(parameter['description'])}</small>"
        f'<input name="{name}" data-in="{parameter["in"]}"{required}></label>'
    )


def _schemas(document: Json, holder: Json) -> str:
    found = ""
    for kind, media in holder.get("content", {}).items():
        schema = media["schema"]
        name = schema.get("$ref", "").rpartition("/")[2]
        if name:
            schema = document["components"]["schemas"][name]
        text = escape(json.dumps(schema, indent=1))
        found += f"<details><summary>{escape(kind)} {escape(name)}</summary><pre>{text}</pre></details>"
    return found
