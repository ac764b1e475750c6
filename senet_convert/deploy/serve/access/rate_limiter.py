"""How often one client may ask: a token bucket for each, in bounded memory."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

CLIENTS = 10_000  # remembered at once; the one that was silent for longest is forgotten first


class RateLimiter:
    """Each client may ask `rate` times a second, and `burst` times at once; a rate of 0 is no limit."""

    def __init__(self, rate: float, burst: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """`burst` defaults to what comes in two seconds, at least 1."""
        self.rate = rate
        self.burst = max(1.0, 2 * rate if burst is None else burst)
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, when they were counted

    def wait(self, client: str) -> int:
        """0, and the request is counted; or the whole seconds after which another try makes sense."""
        if not self.rate:
            return 0
        now = self._clock()
        tokens, since = self._known.pop(client, (self.burst, now))
        tokens = min(self.burst, tokens + (now - since) * self.rate)
        allowed = tokens >= 1
        self._known[client] = (tokens - 1 if allowed else tokens, now)
        if len(self._known) > CLIENTS:
            self._known.popitem(last=False)
        return 0 if allowed else math.ceil((1 - tokens) / self.rate)
