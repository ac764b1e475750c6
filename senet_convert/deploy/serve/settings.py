"""Everything that can be set, in one table: the command line, environment and configuration file all read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..providers import AUTO, Tuning
from .batcher import Limits
from .places import Place
from .served import Engine

_MIB = 2**20


@dataclass(frozen=True)
class Settings:
    """How a server runs. Sizes in bytes, times in seconds."""

    models: tuple[Place, ...] = ()
    repository: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int | None = None
    provider: str = AUTO
    threads: int | None = None
    instances: int = 1
    max_batch: int = 16
    max_wait: float = 0.002
    queue: int = 128
    deadline: float = 30.0
    grace: float = 30.0
    reload: float = 2.0
    max_body: int = 64 * _MIB
    max_pixels: int = 50_000_000
    gates: bool = True

    @property
    def engine(self) -> Engine:
        """What the models run on."""
        return Engine(self.provider, self.threads, self.instances, self.max_batch, tuning=Tuning())

    @property
    def limits(self) -> Limits:
        """What requests are held to."""
        return Limits(self.max_wait, self.queue, self.deadline)
