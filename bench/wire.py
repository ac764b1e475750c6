"""A light client, for load on cores that the server needs too: kept connections, requests encoded beforehand."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST_HEAD = 2**16  # bytes of an answer's head


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: names of the headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        """Does the server end the connection after this answer?"""
        return self.headers.get("connection", "").lower() == "close"

    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class Connection:
    """One HTTP/1.1 connection that is kept between requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int, host: str = "127.0.0.1") -> Connection:
        """Raises OSError: nobody listens."""
        return cls(*await asyncio.open_connection(host, port, limit=_MOST_HEAD))

    async def ask(self, request: bytes) -> Answer:
        """Send, and wait for the answer. Raises OSError or asyncio.IncompleteReadError: there is none."""
        await self.send(request)
        return await self.answer()

    async def send(self, data: bytes) -> None:
        """Bytes of a request, all or a part."""
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> Answer:
        """The next answer; its body is of the length it says, or in chunks."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        start, *lines = head.decode("latin-1").rstrip().split("\r\n")
        headers = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        if headers.get("transfer-encoding") == "chunked":
            body = b"".join([chunk async for chunk in self._chunks()])
        else:
            body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(start.split()[1]), headers, body)

    async def _chunks(self) -> Any:
        while size := int(await self._reader.readline(), 16):
            yield await self._reader.readexactly(size)
            await self._reader.readline()
        await self._reader.readline()

    def close(self) -> None:
        """At once, whatever is under way."""
        self._writer.transport.abort()


class Kept:
    """A connection that is opened again where the server has closed it meanwhile, as servers do with idle ones."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: Connection | None = None

    async def ask(self, request: bytes) -> Answer:
        """Send, and wait for the answer. Raises OSError or asyncio.IncompleteReadError: a new connection gives none."""
        if self._connection is not None:
            try:
                return await self._connection.ask(request)
            except (OSError, asyncio.IncompleteReadError):
                self._connection.close()
        self._connection = await Connection.open(self._port)
        return await self._connection.ask(request)


def encode(path: str, body: bytes = b"", method: str = "", **headers: object) -> bytes:
    """A request as it goes over the wire; header names with _ for -. The method is POST where there is a body."""
    lines = [f"{method or ('POST' if body else 'GET')} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{key.replace('_', '-')}: {value}" for key, value in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def binary(model: str, name: str, datatype: str, array: NDArray[Any], output: str, timeout_us: int = 0) -> bytes:
    """An inference request of the v2 protocol, one input and one output, both in the binary extension."""
    head: dict[str, Any] = {
        "inputs": [_tensor(name, datatype, array) | {"parameters": {"binary_data_size": array.nbytes}}],
        "outputs": [{"name": output, "parameters": {"binary_data": True}}],
    }
    if timeout_us:
        head["parameters"] = {"timeout": timeout_us}
    words = json.dumps(head).encode()
    body = words + np.ascontiguousarray(array).tobytes()
    path = f"/v2/models/{model}/infer"
    return encode(path, body, Inference_Header_Content_Length=len(words), Content_Type="application/octet-stream")


def plain(model: str, name: str, datatype: str, array: NDArray[Any]) -> bytes:
    """An inference request of the v2 protocol in JSON alone."""
    body = json.dumps({"inputs": [_tensor(name, datatype, array) | {"data": array.ravel().tolist()}]}).encode()
    return encode(f"/v2/models/{model}/infer", body, Content_Type="application/json")


def values(answer: Answer) -> NDArray[np.float32]:
    """The first output of an answer, FP32, whichever way it is encoded."""
    length = answer.headers.get("inference-header-content-length")
    head = json.loads(answer.body[: int(length)] if length else answer.body)
    output = head["outputs"][0]
    if length:
        return np.frombuffer(answer.body, np.float32, offset=int(length)).reshape(output["shape"])
    return np.array(output["data"], np.float32).reshape(output["shape"])


def _tensor(name: str, datatype: str, array: NDArray[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(array.shape)}
