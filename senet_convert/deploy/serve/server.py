"""Running it: load, listen, and stop without losing a request."""

from __future__ import annotations

import asyncio

import uvicorn

from .app import build
from .hub import Hub
from .settings import Settings


async def serve(settings: Settings) -> None:
    """Serve until told to stop. Raises ConvertError: a model that cannot be loaded."""
    hub = Hub(settings)
    await hub.repository.start()
    server = uvicorn.Server(uvicorn.Config(build(hub), settings.host, settings.port, log_config=None))
    await server.serve()
    await hub.repository.close()


def run(settings: Settings) -> None:
    """The same, for who has no event loop."""
    asyncio.run(serve(settings))
