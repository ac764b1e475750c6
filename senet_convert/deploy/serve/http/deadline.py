"""One deadline over a request, from the first byte of its head to the first of its answer."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from .. import context
from ..errors import LATE, RequestError
from .asgi import HttpMiddleware

BEGAN = "began"  # in the scope's state: when the head's first byte came, by the loop's clock

_NET = 0.1  # seconds past the deadline: what heeds it by itself says first, and better, what it waited for
_CONTROL = "/v2/repository/models/"  # loading takes as long as it takes, and only those who may ask for it


class Deadline(HttpMiddleware):
    """What a request needs is there by `Account.due`, or it is answered so; to take the answer has a time of its own.

    Reading the body and the queue of the model heed `due` themselves; whatever else waits, for threads say, ends here.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Raises RequestError: LATE."""
        if scope["path"].startswith(_CONTROL):
            await self.app(scope, receive, send)
            return
        seconds = self.state.settings.deadline
        began = scope.get("state", {}).get(BEGAN, asyncio.get_running_loop().time())
        one = context.current.get()
        one.due = began + seconds
        taken = False
        try:
            async with asyncio.timeout_at(one.due + _NET) as net:

                async def give(message: Message) -> None:
                    nonlocal taken
                    if message["type"] == "http.response.start":
                        net.reschedule(asyncio.get_running_loop().time() + self.state.settings.body_timeout)
                        taken = True
                    await send(message)

                await self.app(scope, receive, give)
        except TimeoutError:
            if not net.expired():
                raise
            if taken:
                raise ClientDisconnect from None  # who does not take its answer is gone
            raise RequestError(LATE, f"no answer within {seconds:g} s: the deadline has passed") from None
