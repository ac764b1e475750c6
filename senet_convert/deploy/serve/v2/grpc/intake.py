"""How messages come in and go out: within a time, weighed before they are parsed, and never in front of other calls."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...errors import AWAY, BAD, TOO_LARGE, RequestError
from ...state import ServerState
from . import wire
from .peers import Peers
from .wire import BROKEN, TooManyFieldsError

# How gzip and zlib begin. No message of ours does: 1f is a wire type that there is not, 78 a field 15 that none has.
PACKED = (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_EITHER = zlib.MAX_WBITS | 32  # zlib's word for what the header says


@dataclass(frozen=True)
class Form:
    """What a call takes: how its message is parsed, and weighed before."""

    parse: Callable[[bytes], Any]
    schema: wire.Schema

    @classmethod
    def of(cls, message: Any) -> Form:
        """For a class of messages."""
        return cls(message.FromString, wire.schema(message.DESCRIPTOR))


class Intake:
    """Reads, parses and writes for every call. Weighing messages of very many fields has one thread for all of them."""

    def __init__(self, state: ServerState, peers: Peers) -> None:
        self._state = state
        self._peers = peers
        self._unpacking = asyncio.Lock()
        self._weighing = ThreadPoolExecutor(1, thread_name_prefix="grpc-weigh")

    def close(self) -> None:
        """Weigh no more."""
        self._weighing.shutdown(wait=False, cancel_futures=True)

    async def message(self, context: Any, form: Form, within: float) -> Any:
        """The only message of a call. Raises RequestError: not there `within` seconds, too heavy, none of this call."""
        data = await self._peers.read(context, within)
        if data is None:
            raise RequestError(BAD, "the call ended without a message")
        return await self.parse(data, form)

    async def parse(self, data: bytes, form: Form) -> Any:
        """Weigh and parse; the request's context holds what the message takes. Raises RequestError."""
        self._state.hold(len(data))
        if data[:2] in PACKED:
            data = await self._unpacked(data)
        try:
            weight = wire.weigh(data, form.schema, wire.FEW)
        except TooManyFieldsError:
            weight = await self.aside(wire.weigh, data, form.schema)
        if weight.fields > wire.FEW or weight.numbers > wire.TEXT:
            self._state.hold(weight.held)
        try:
            return form.parse(data)
        except Exception:  # protobuf's DecodeError, whose room this is not
            raise RequestError(BAD, BROKEN) from None

    async def _unpacked(self, data: bytes) -> bytes:
        """One message after the other, and no more bytes than there is room for."""
        settings = self._state.settings
        async with self._unpacking:
            room = min(settings.max_body, max(0, settings.max_inflight - self._state.held))
            found = await asyncio.to_thread(_unpack, data, room)
            if len(found) > settings.max_body:
                raise RequestError(TOO_LARGE, f"the message has more than {settings.max_body} bytes when unpacked")
            if len(found) > room:
                raise RequestError(AWAY, "too many large requests are being answered; try again", 1)
            self._state.hold(len(found))
        return found

    async def aside(self, work: Callable[..., Any], *given: Any) -> Any:
        """Do something off the event loop, within the call's time."""
        return await asyncio.get_running_loop().run_in_executor(self._weighing, partial(work, *given))


def _unpack(data: bytes, room: int) -> bytes:
    """gzip or zlib; a byte more than there is room for where it does not fit. Raises RequestError: it is neither."""
    stream = zlib.decompressobj(_EITHER)
    try:
        found = stream.decompress(data, room + 1)
    except zlib.error:
        raise RequestError(BAD, BROKEN) from None
    if len(found) <= room and not stream.eof:
        raise RequestError(BAD, BROKEN)
    return found
