"""What every request handler needs, in one object: it hangs at `app.state.hub`, and the gRPC service holds it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ..cores import usable_cores
from .repository import Repository
from .settings import Settings


class Hub:
    """A server's state. Lives on one event loop.

    `workers` are threads for what takes longer than a moment and is no inference: decoding pictures. `draining` is set
    when the server is told to stop: it still answers, and is no longer ready.
    """

    def __init__(self, settings: Settings) -> None:
        """Nothing is loaded yet. Raises ConvertError: two models of one name."""
        self.settings = settings
        self.repository = Repository(
            settings.models, settings.repository, settings.engine, settings.limits, settings.grace
        )
        self.workers = ThreadPoolExecutor(usable_cores(), thread_name_prefix="decode")
        self.draining = False

    @property
    def ready(self) -> bool:
        """May traffic be sent here?"""
        return self.repository.ready and not self.draining
