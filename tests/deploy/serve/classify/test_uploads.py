"""Bodies of pictures and forms: what they may cost."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import pytest
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartParser

from senet_convert.deploy.serve.classify import uploads
from senet_convert.deploy.serve.errors import RequestError
from senet_convert.deploy.serve.pools import drain
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.state import ServerState
from tests.deploy.serve.asgi import talk

FORM = "multipart/form-data; boundary=xx"
HEAD = b'--xx\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n'
END = b"\r\n--xx--\r\n"


def parse(body: bytes, kind: str = FORM) -> tuple[tuple[uploads.Upload, ...], dict[str, str]]:
    return drain(uploads._form(Headers({"content-type": kind}), body))


def test_files_and_fields() -> None:
    field = b'--xx\r\nContent-Disposition: form-data; name="top"\r\n\r\n3\r\n'
    found, options = parse(field + HEAD + b"\x00\r\n--x" * 100_000 + END)
    assert found == (uploads.Upload("b", b"\x00\r\n--x" * 100_000),)
    assert options == {"top": "3"}


@pytest.mark.parametrize(
    "body",
    [
        b"--xx\r\n" * 10_000,
        b"--xx\r\na: " + b"a" * 100_000,
        b"--xx\r\n" + b"a: b\r\n" * 10_000,
        (HEAD + b"\r\n") * 10_000,
        b"".join(b'--xx\r\nContent-Disposition: form-data; name="%d"\r\n\r\n\r\n' % one for one in range(1000)),
        b'--xx\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"a" * 100_000,
        HEAD + END + b"\r\n" * 10 + b"x" * 100_000 + HEAD,
        b"",
        b"-" * 100_000,
    ],
)
def test_forms_that_are_floods(body: bytes) -> None:
    """Refused, or read without what stands behind them; never more than so many files and fields."""
    try:
        found, options = parse(body)
    except RequestError as fault:
        assert fault.status == 400
        assert len(fault.message) < 200
        return
    assert len(found) <= 1
    assert not options


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=" + "b" * 900])
def test_boundaries_that_are_none(kind: str) -> None:
    with pytest.raises(RequestError, match="the form cannot be read"):
        parse(HEAD, kind)


def test_a_step_of_a_form_is_short() -> None:
    """16 KB, of which the worst take a few milliseconds; and memory is told before it is taken."""
    body = HEAD + b"\r\n--xx-" * 50_000 + END
    sizes = list(uploads._form(Headers({"content-type": FORM}), body))
    assert sizes[0] == 2 * len(body)
    assert len(sizes) > len(body) / (17 * 1024)


def test_a_form_that_is_given_up_is_closed() -> None:
    steps = uploads._form(Headers({"content-type": FORM}), HEAD + bytes(1_000_000))
    for _ in range(5):
        next(steps)
    steps.close()
    with pytest.raises(StopIteration):
        next(steps)


def test_forms_are_parsed_in_threads_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    parse = MultiPartParser.parse

    async def told(self: Any) -> Any:
        threads.append(threading.current_thread().name)
        return await parse(self)

    monkeypatch.setattr(MultiPartParser, "parse", told)

    async def use(client: httpx.AsyncClient, _: ServerState) -> None:
        answer = await client.post("/v1/classify", content=HEAD + b"x" + END, headers={"Content-Type": FORM})
        assert answer.json()["error"] == "no model is served"

    talk(Settings(), use)
    assert threads
    assert all(name.startswith("forms") for name in threads)


def test_heads_that_are_floods() -> None:
    async def use(client: httpx.AsyncClient, _: ServerState) -> None:
        answer = await client.post("/v1/classify?" + "a&" * 10_000, content=b"x", headers={"Content-Type": "image/png"})
        assert answer.status_code == 400
        assert "the query has more than 8 fields; a request may say model, top, version" in answer.json()["error"]
        answer = await client.post("/v1/classify?" + "a" * 9000, content=b"x", headers={"Content-Type": "image/png"})
        assert answer.status_code == 400
        assert len(answer.content) < 300
        kind = "multipart/form-data" + ";" * 30_000
        answer = await client.post("/v1/classify", content=b"x", headers={"Content-Type": kind})
        assert answer.status_code == 415
        assert len(answer.content) < 400

    talk(Settings(), use)
