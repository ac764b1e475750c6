"""Pictures that came with a request, as its whole body or as the files of a form, and what else it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping
from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from ....errors import listed
from ..faults import BAD, NO_IMAGE, WRONG_TYPE, RequestError
from ..hub import Hub
from ..web import packing

FORM = "multipart/form-data"
BYTES = "application/octet-stream"
MOST = 64  # pictures in one request

_FIELDS = 8
_FIELD_SIZE = 4096  # bytes
_PIECE = 2**20  # bytes that are parsed before other requests get their turn


@dataclass(frozen=True)
class Upload:
    """A picture as it came, with the name that its sender gave it."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Sent:
    """`options` are those of the query, and of the form, whose word counts more."""

    uploads: tuple[Upload, ...]
    options: Mapping[str, str]


async def receive(request: Request, hub: Hub, known: Collection[str]) -> Sent:
    """A request's pictures; `known` are the options that it may have.

    Raises RequestError: WRONG_TYPE, NO_IMAGE without any picture, BAD for a broken form or unknown options.
    """
    kind = request.headers.get("content-type", BYTES).partition(";")[0].strip().lower()
    if not (kind in (FORM, BYTES) or kind.startswith("image/")):
        raise RequestError(
            WRONG_TYPE,
            f"the body is '{kind[:80]}'; send a picture as image/jpeg, image/png, ... or {BYTES}, or several in {FORM} "
            "(curl: -F image=@FILE)",
        )
    data = await _body(request, hub)
    uploads, options = await _form(request, data) if kind == FORM else ((Upload("picture", data),), {})
    options = {**request.query_params, **options}
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise RequestError(BAD, f"unknown: {listed(unknown)}; a request may say {listed(sorted(known))}")
    if not uploads:
        raise RequestError(NO_IMAGE, "there is no file in the form: send each picture as a file (curl: -F image=@FILE)")
    return Sent(uploads, options)


async def _body(request: Request, hub: Hub) -> bytes:
    pieces = [piece async for piece in request.stream()]
    encoding = request.headers.get("content-encoding", "")
    if not encoding:
        return b"".join(pieces)
    limit = hub.settings.max_body
    data = await asyncio.get_running_loop().run_in_executor(hub.workers, packing.unpack, pieces, encoding, limit)
    hub.hold(len(data))
    return data


async def _form(request: Request, data: bytes) -> tuple[tuple[Upload, ...], dict[str, str]]:
    parser = MultiPartParser(
        request.headers, _stream(data), max_files=MOST, max_fields=_FIELDS, max_part_size=_FIELD_SIZE
    )
    parser.spool_max_size = len(data) + 1  # never to the disk: there may be none
    try:
        form = await parser.parse()
    except MultiPartException as fault:
        raise RequestError(BAD, f"the form cannot be read: {fault.message}") from fault
    uploads: list[Upload] = []
    options: dict[str, str] = {}
    for field, value in form.multi_items():
        if isinstance(value, UploadFile):
            uploads.append(Upload(value.filename or field or f"picture {len(uploads) + 1}", await value.read()))
        else:
            options[field] = value
    await form.close()
    return tuple(uploads), options


async def _stream(data: bytes) -> AsyncGenerator[bytes, None]:
    for at in range(0, len(data), _PIECE):
        yield data[at : at + _PIECE]
        await asyncio.sleep(0)
