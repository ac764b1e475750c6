"""grpc.health.v1: what Kubernetes' gRPC probes and load balancers ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from grpc_health.v1.health_pb2 import HealthCheckResponse

from ...errors import UNKNOWN, RequestError
from ...state import ServerState

SERVICES = ("", "inference.GRPCInferenceService")  # the server as a whole, and what it is for

_LOOK = 0.5  # seconds between two looks at the state for who watches it


class Health:
    """SERVING while the state is ready. `stopping` ends what watches."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self.stopping = asyncio.Event()

    async def Check(self, request: Any, context: Any) -> Any:
        """The state now."""
        if request.service not in SERVICES:
            raise RequestError(UNKNOWN, f"no service is called '{request.service[:200]}'; there is {SERVICES[1]}")
        return HealthCheckResponse(status=self._status(request.service))

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """The state now and whenever it changes."""
        last = None
        while True:
            status = self._status(request.service)
            if status != last:
                yield HealthCheckResponse(status=status)
                last = status
            if self.stopping.is_set():
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), _LOOK)

    def _status(self, service: str) -> int:
        if service not in SERVICES:
            return int(HealthCheckResponse.SERVICE_UNKNOWN)
        ready = self._state.ready and not self.stopping.is_set()
        return int(HealthCheckResponse.SERVING if ready else HealthCheckResponse.NOT_SERVING)
