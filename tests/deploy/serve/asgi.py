"""The application asked without a socket, and pictures to ask it about."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import cv2
import httpx
import numpy as np

from senet_convert.deploy.serve.app import build
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.state import ServerState

Use = Callable[[httpx.AsyncClient, ServerState], Awaitable[None]]


def talk(settings: Settings, use: Use) -> None:
    """Run `use` with a client of the application."""

    async def go() -> None:
        state = ServerState(settings)
        await state.repository.start()
        transport = httpx.ASGITransport(build(state), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            await use(client, state)
        await state.repository.close()

    asyncio.run(go())


def encoded(width: int, height: int, suffix: str = ".png") -> bytes:
    """A picture's bytes; its pixels are noise."""
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    done, data = cv2.imencode(suffix, pixels)
    assert done
    return data.tobytes()
