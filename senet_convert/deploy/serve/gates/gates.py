"""What the excitation did to a picture: the factors of a network's SE blocks, stage by stage.

They come from a second session over the same file, with the factors as further outputs: loaded when first asked for, on
the CPU, and kept for the few models that were asked for last.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ....errors import ConvertError
from ...runtime.cores import usable_cores
from ...runtime.session import Session
from ..errors import AWAY, BAD, BUSY, FAULT, RequestError
from ..models import model_paths
from ..models.served import Served
from ..pictures import classifier_of
from ..pools import Pool
from . import excitation
from .excitation import Block

Array = NDArray[Any]
Json = dict[str, Any]

CLOSED = 0.1  # a gate below it lets next to nothing through

_KEPT = 2  # sessions, each with the weights of its model
_WAITING = 4  # requests that may wait for their turn; one runs at a time
_RETRY = 2  # seconds


@dataclass(frozen=True)
class Gated:
    """A session that gives the factors beside the model's output."""

    session: Session
    blocks: tuple[Block, ...]
    output: str

    def run(self, feeds: dict[str, Array]) -> tuple[Array, list[Array]]:
        """(The model's output, the factors of each block as float32 (channels,)) of a single picture."""
        names = [self.output, *(block.gate for block in self.blocks)]
        found = self.session.run(feeds, list(dict.fromkeys(names)))
        return found[self.output], [found[block.gate][0].astype(np.float32).ravel() for block in self.blocks]


class Gates:
    """The factors of all models that have some. Lives on one event loop; the work is done in the threads of `pool`.

    Half of the `threads` compute them (default: of the usable cores): the others are left to inference.
    """

    def __init__(self, pool: Pool, enabled: bool, threads: int | None) -> None:
        self.enabled = enabled
        self._pool = pool
        self._threads = max(1, (threads or usable_cores()) // 2)
        self._blocks: WeakKeyDictionary[Served, tuple[Block, ...]] = WeakKeyDictionary()
        self._loaded: WeakKeyDictionary[Served, Gated] = WeakKeyDictionary()
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def available(self, served: Served) -> bool:
        """Can the gates of this model be shown?"""
        if not self.enabled or served.classifier is None:
            return False
        try:
            return bool(await self.blocks(served))
        except RequestError:  # its file is being replaced
            return False

    async def check(self, served: Served) -> None:
        """Raises RequestError where there is nothing to show: BAD, or AWAY while the file is being replaced."""
        if not self.enabled:
            raise RequestError(BAD, "this server does not show gates: it was started with gates off")
        if not await self.blocks(served):
            raise RequestError(BAD, f"model '{served.name}' has no squeeze-and-excitation blocks: no gates to show")

    async def blocks(self, served: Served) -> tuple[Block, ...]:
        """The blocks of a model. Raises RequestError: AWAY while its file is being replaced."""
        if served not in self._blocks:
            self._blocks[served] = await self._pool.run(_look, served)
        return self._blocks[served]

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One request for gates at a time: those for answers are not kept waiting. Raises RequestError: BUSY."""
        if self._waiting > _WAITING:
            raise RequestError(BUSY, f"{self._waiting} requests for gates are waiting already; try again", _RETRY)
        self._waiting += 1
        try:
            async with self._turn:
                yield
        finally:
            self._waiting -= 1

    async def of(self, served: Served, feeds: dict[str, Array]) -> tuple[Array, list[Json]]:
        """(The model's output, the stages as `described`) of one picture, where `check` has nothing against it.

        Raises RequestError: FAULT, AWAY while the file is being replaced.
        """
        gated = self._loaded.get(served)
        if gated is None:
            found = await self.blocks(served)
            gated = await self._pool.run(_load, served, found, self._threads)
        self._keep(served, gated)
        output, factors = await self._pool.run(_run, gated, feeds)
        return output, described(gated.blocks, factors)

    def _keep(self, served: Served, gated: Gated) -> None:
        """As the one asked for last."""
        self._loaded.pop(served, None)
        self._loaded[served] = gated
        for old in list(self._loaded)[:-_KEPT]:
            del self._loaded[old]


def described(blocks: Sequence[Block], factors: Sequence[Array]) -> list[Json]:
    """The stages: runs of blocks whose maps have the same size, or as many channels where the size is not known."""
    pairs = list(zip(blocks, factors, strict=True))
    runs = [list(run) for _, run in groupby(pairs, lambda pair: pair[0].size or len(pair[1]))]
    return [
        {
            "name": f"stage {number}",
            "size": list(run[0][0].size) if run[0][0].size else None,
            "blocks": [_block(block, values) for block, values in run],
        }
        for number, run in enumerate(runs, 1)
    ]


def _block(block: Block, values: Array) -> Json:
    return {
        "name": block.name,
        "channels": len(values),
        "gates": [round(float(value), 6) for value in values],
        "mean": float(values.mean()),
        "min": float(values.min()),
        "max": float(values.max()),
        "closed": float((values < CLOSED).mean()),
    }


def _look(served: Served) -> tuple[Block, ...]:
    """The blocks in the file of a model. Raises RequestError when that is not what is served any more."""
    _check_unchanged(served)
    try:
        found = excitation.blocks(served.file)
    except ConvertError as fault:
        raise RequestError(AWAY, str(fault), _RETRY) from fault
    _check_unchanged(served)
    return found


def _check_unchanged(served: Served) -> None:
    if model_paths.signature(served.file) != served.signature:
        raise RequestError(
            AWAY,
            f"model '{served.name}': its file has been replaced since it was loaded; gates can be shown again when the "
            "new one is served",
            _RETRY,
        )


def _load(served: Served, found: tuple[Block, ...], threads: int) -> Gated:
    try:
        model = excitation.with_gates(excitation.read(served.file), found)
        session = Session(served.file, threads, arena=False, spin=False, model=model)
    except ConvertError as fault:
        raise RequestError(FAULT, f"model '{served.name}': its gates cannot be computed: {fault}") from fault
    _check_unchanged(served)
    return Gated(session, found, classifier_of(served).output)


def _run(gated: Gated, feeds: dict[str, Array]) -> tuple[Array, list[Array]]:
    try:
        return gated.run(feeds)
    except Exception as fault:  # onnxruntime raises a class for each kind of fault, without a common base
        raise RequestError(FAULT, f"the gates cannot be computed for this picture: {fault}") from fault
