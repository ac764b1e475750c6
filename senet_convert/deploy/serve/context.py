"""What one request turned out to be: filled on its way, read by logs and traces at its end."""

from __future__ import annotations

import math
import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass, field

_SANE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")


def _fresh() -> str:
    return secrets.token_hex(8)


@dataclass
class RequestContext:
    """`client` is the name of the API key, or an address; times in nanoseconds; `rows` are items of an inference."""

    id: str = field(default_factory=_fresh)
    client: str = ""
    model: str = ""
    version: str = ""
    rows: int = 0
    queued: int = 0
    computed: int = 0
    held: int = 0  # bytes of its body and what was made of it
    due: float = math.inf  # when it must be answered, by the loop's clock

    @classmethod
    def opened(cls, given: str, client: str) -> RequestContext:
        """A new one, under the request's own id where that is fit for a log and a header."""
        return cls(given if _SANE.fullmatch(given) else _fresh(), client)

    def asked(self, model: str, version: str, rows: int) -> None:
        """It is an inference."""
        self.model, self.version, self.rows = model, version, rows

    def ran(self, queued: int, computed: int) -> None:
        """A model has answered; a request can ask several times."""
        self.queued += queued
        self.computed += computed


class _Current:
    """The context of the request that is being answered; outside of any, one that nobody reads."""

    def __init__(self) -> None:
        self._var: ContextVar[RequestContext] = ContextVar("request_context")

    def get(self) -> RequestContext:
        """Never fails."""
        return self._var.get(None) or RequestContext()

    def there(self) -> RequestContext | None:
        """None outside of any request."""
        return self._var.get(None)

    def set(self, one: RequestContext) -> None:
        """For this task and those it starts."""
        self._var.set(one)


current = _Current()
