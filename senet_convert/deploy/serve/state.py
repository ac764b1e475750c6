"""What every request handler needs, in one object: it hangs at `app.state.server`, and the gRPC service holds it."""

from __future__ import annotations

from collections.abc import Mapping

from ..runtime.cores import usable_cores
from . import context
from .access.keys import Keys, presented
from .access.rate_limiter import RateLimiter
from .context import RequestContext
from .errors import AWAY, BUSY, NO_KEY, RequestError
from .gates.gates import Gates
from .models.repository import Repository
from .observe.metrics import Metrics
from .observe.tracing import Traces
from .pictures import Pictures
from .pools import Pools
from .settings.settings import Settings


class ServerState:
    """A server's state. Lives on one event loop.

    `pools` are threads for what takes longer than a moment and is no inference. `draining` is set when the server is
    told to stop: it still answers, and is no longer ready.
    """

    def __init__(self, settings: Settings) -> None:
        """Nothing is loaded yet. Raises ConvertError: two models of one name, API keys that cannot be read, traces
        without the package for them."""
        self.settings = settings
        self.keys = Keys.of(settings)
        self.rate_limiter = RateLimiter(settings.rate)
        self.repository = Repository(
            settings.models, settings.repository, settings.engine, settings.limits, settings.grace
        )
        self.metrics = Metrics(self.repository)
        self.pools = Pools(usable_cores(), settings.queue)
        self.traces = Traces() if settings.otel else None
        self.pictures = Pictures(self.pools.pictures, settings.max_pixels)
        self.gates = Gates(self.pools.gates, settings.gates, settings.threads)
        self.draining = False
        self.held = 0  # bytes of all requests that are being answered

    @property
    def ready(self) -> bool:
        """May traffic be sent here?"""
        hopeless = any(running.batcher.hopeless for running in self.repository.all())
        return self.repository.ready and not self.draining and not hopeless

    def admit(self, headers: Mapping[str, str]) -> None:
        """Look at the API key in `headers`, whose names are in lower case. Raises RequestError: NO_KEY."""
        if not self.keys:
            return
        key = presented(headers)
        if key is None:
            raise RequestError(NO_KEY, "an API key is needed: send 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
        name = self.keys.find(key)
        if name is None:
            raise RequestError(NO_KEY, "this API key is not known here")
        context.current.get().client = name

    def limit_rate(self) -> None:
        """Count a request of this client. Raises RequestError: BUSY, it asks more often than it may."""
        wait = self.rate_limiter.wait(context.current.get().client)
        if wait:
            raise RequestError(
                BUSY, f"more than {self.rate_limiter.rate:g} requests a second; try again in {wait} s", wait
            )

    def hold(self, size: int) -> None:
        """Keep so many more bytes in memory for this request. Raises RequestError: AWAY, all together hold too many."""
        context.current.get().held += size
        self.held += size
        if self.held > self.settings.max_inflight:
            raise RequestError(AWAY, "too many large requests are being answered; try again", 1)

    def release(self, one: RequestContext) -> None:
        """A request is answered: its bytes are free."""
        self.held -= one.held
        one.held = 0
