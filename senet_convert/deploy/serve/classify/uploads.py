"""Pictures that came with a request, as its whole body or as the files of a form, and what else it says."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Generator, Mapping
from dataclasses import dataclass
from types import coroutine

from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from ....errors import listed
from ..errors import BAD, NO_IMAGE, WRONG_TYPE, RequestError
from ..http import bodies
from ..pools import Steps
from ..state import ServerState

FORM = "multipart/form-data"
BYTES = "application/octet-stream"
MOST = 64  # pictures in one request

_FIELDS = 8
_FIELD_SIZE = 4096  # bytes
_TYPE_SIZE = 1024  # characters of a Content-Type
_PIECE = 16 * 1024  # bytes that are parsed in one step


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


async def receive(request: Request, state: ServerState, known: Collection[str]) -> Sent:
    """A request's pictures; `known` are the options that it may have.

    Raises RequestError: WRONG_TYPE, NO_IMAGE without any picture, BAD for a broken form or unknown options.
    """
    kind = request.headers.get("content-type", BYTES)
    short = kind.partition(";")[0].strip().lower()
    if len(kind) > _TYPE_SIZE or not (short in (FORM, BYTES) or short.startswith("image/")):
        raise RequestError(
            WRONG_TYPE,
            f"the body is '{kind[:80]}'; send a picture as image/jpeg, image/png, ... or {BYTES}, or several in {FORM} "
            "(curl: -F image=@FILE)",
        )
    if request.scope["query_string"].count(b"&") >= _FIELDS:
        raise RequestError(BAD, f"the query has more than {_FIELDS} fields; a request may say {listed(sorted(known))}")
    data = await bodies.read(request, state)
    uploads: tuple[Upload, ...] = (Upload("picture", data),)
    options: Mapping[str, str] = {}
    if short == FORM:
        uploads, options = await state.pools.forms.finish(_form(request.headers, data), state.hold, at_once=1)
    options = {**request.query_params, **options}
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise RequestError(
            BAD, f"unknown: {listed([name[:80] for name in unknown])}; a request may say {listed(sorted(known))}"
        )
    if not uploads:
        raise RequestError(NO_IMAGE, "there is no file in the form: send each picture as a file (curl: -F image=@FILE)")
    return Sent(uploads, options)


def _form(headers: Headers, data: bytes) -> Steps[tuple[tuple[Upload, ...], dict[str, str]]]:
    """The files of a form, and its other fields."""
    yield 2 * len(data)  # the files as they are written, and as they are read again
    parser = MultiPartParser(headers, _stream(data), max_files=MOST, max_fields=_FIELDS, max_part_size=_FIELD_SIZE)
    parser.spool_max_size = len(data) + 1  # never to the disk, there may be none: so nothing of it waits for anything
    parsing = parser.parse()
    try:
        while True:
            parsing.send(None)
            yield 0
    except StopIteration as end:
        form: FormData = end.value
    except MultiPartException as fault:
        raise RequestError(BAD, f"the form cannot be read: {fault.message}") from fault
    finally:
        parsing.close()
    uploads: list[Upload] = []
    options: dict[str, str] = {}
    for field, value in form.multi_items():
        if isinstance(value, UploadFile):
            uploads.append(Upload(value.filename or field or f"picture {len(uploads) + 1}", value.file.read()))
            value.file.close()
        else:
            options[field] = value
    return tuple(uploads), options


async def _stream(data: bytes) -> AsyncGenerator[bytes, None]:
    for at in range(0, len(data), _PIECE):
        yield data[at : at + _PIECE]
        await _pause()


@coroutine
def _pause() -> Generator[None, None, None]:
    """Gives the word back to whoever drives the parser: no event loop does."""
    yield
