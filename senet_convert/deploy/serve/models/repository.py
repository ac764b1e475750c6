"""The models that are served: loading, replacing and unloading them while requests run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ....errors import ConvertError, listed
from . import model_paths
from .batcher import Batcher, Limits
from .errors import ModelNotFound, ModelNotLoaded, ModelNotReady
from .model_paths import ModelPath, Signature
from .served import Engine, Served
from .stats import Stats

READY, LOADING, UNAVAILABLE = "READY", "LOADING", "UNAVAILABLE"  # the protocol's words

_RETRY = 5  # seconds after which a model that is loading may be there
_log = logging.getLogger("senet_convert.serve")


@dataclass(frozen=True)
class Running:
    """A version that answers: the model, the queue before it, and what it has done."""

    served: Served
    batcher: Batcher
    stats: Stats

    @property
    def ready(self) -> bool:
        """May requests be sent? Not while a run that was told to end has not."""
        return not self.batcher.stuck


@dataclass
class _Slot:
    """A version that is known, loaded or not."""

    state: str = UNAVAILABLE
    reason: str = "not loaded"
    file: Path | None = None
    running: Running | None = None
    signature: Signature = ()
    seen: Signature = ()  # at the last look; what changes from look to look is still being written
    stats: Stats = field(default_factory=Stats)


class Repository:
    """Models by name and version. Lives on one event loop; loading is done in threads."""

    def __init__(
        self,
        models: Sequence[ModelPath] = (),
        root: Path | None = None,
        engine: Engine | None = None,
        limits: Limits | None = None,
        grace: float = 30.0,
    ) -> None:
        """`models` are served whatever happens; `root` is a folder whose models may come and go.

        `grace` is how many seconds a model that goes may use to finish its requests. Raises ConvertError: two models of
        one name.
        """
        names = [place.name for place in models]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ConvertError(f"several models are called {listed(doubled)}; tell them apart with NAME=PATH")
        self.engine = engine or Engine()
        self.limits = limits or Limits()
        self._root = root
        self._grace = grace
        self._places = {place.name: place for place in models}
        self._slots: dict[str, dict[str, _Slot]] = {}
        self._held: set[str] = set()  # unloaded on request: they stay so until they are asked for
        self._complaints: dict[str, str] = {}  # what was said of a model last
        self._changing = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self.ready = False

    async def start(self) -> None:
        """Load everything. Raises ConvertError for the first model that cannot be served: nothing starts by halves."""
        for name in self.names():
            await self.load(name)
        self.ready = True

    def names(self) -> list[str]:
        """The models that there are, loaded or not."""
        return sorted({**self._look(), **self._slots})

    def get(self, name: str, version: str = "") -> Running:
        """A version that answers; by default the highest. Raises ModelNotFound, ModelNotReady, ModelNotLoaded."""
        slots = self._slots.get(name)
        if slots is None and not self.ready and name in self.names():
            raise ModelNotReady(f"model '{name}' is being loaded", _RETRY)
        if not slots:
            raise ModelNotFound(f"no model is called '{name}'; there is {listed(sorted(self._slots)) or 'none'}")
        if version:
            if version not in slots:
                raise ModelNotFound(f"model '{name}' has no version '{version}'; it has {listed(list(slots))}")
            return self._answering(name, version, slots[version])
        ready = [number for number, slot in slots.items() if slot.running]
        number = max(ready or slots, key=int)
        return self._answering(name, number, slots[number])

    def versions(self, name: str) -> list[str]:
        """The versions of a model that answer, lowest first. Raises ModelNotFound."""
        self.get(name)
        return sorted((number for number, slot in self._slots[name].items() if slot.running), key=int)

    def index(self) -> list[dict[str, str]]:
        """All versions that are known: name, version, state, reason."""
        return [
            {"name": name, "version": number, "state": slot.state, "reason": slot.reason}
            for name, slots in sorted(self._slots.items())
            for number, slot in sorted(slots.items(), key=lambda item: int(item[0]))
        ]

    def all(self) -> list[Running]:
        """Every version that answers."""
        return [slot.running for slots in self._slots.values() for slot in slots.values() if slot.running]

    def totals(self) -> list[tuple[str, str, Stats]]:
        """(name, version, counts) of everything that has ever been loaded."""
        return [(name, number, slot.stats) for name, slots in self._slots.items() for number, slot in slots.items()]

    async def load(self, name: str) -> None:
        """Load a model's versions, anew where they are loaded. Raises ConvertError; what answered before still does.

        Raises ModelNotFound.
        """
        async with self._changing:
            there = await asyncio.to_thread(self._look)
            if name not in there:
                raise ModelNotFound(f"no model is called '{name}'; there is {listed(sorted(there)) or 'none'}")
            self._held.discard(name)
            found = await asyncio.to_thread(there[name].versions)
            faults = []
            for number, file in found.items():
                try:
                    await self._replace(name, number, file)
                except ConvertError as fault:
                    faults.append(fault)
            for number in [number for number in self._slots.get(name, {}) if number not in found]:
                self._drop(name, number, "its file is gone")
            if faults:
                raise faults[0]

    async def unload(self, name: str) -> None:
        """Take a model away; its requests are finished. Raises ModelNotFound."""
        async with self._changing:
            if name not in self._slots:
                raise ModelNotFound(f"no model is called '{name}'; there is {listed(sorted(self._slots)) or 'none'}")
            self._held.add(name)
            for number in self._slots[name]:
                self._drop(name, number, "unloaded")

    async def watch(self, seconds: float) -> None:
        """Look every so many seconds for what was added, replaced or taken away, until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.refresh()
            except (ConvertError, OSError) as fault:
                self._complain("", f"the repository cannot be read: {fault}")
            else:
                self._complaints.pop("", None)

    async def refresh(self) -> None:
        """Load what has changed since the last look and is complete: the same in two looks that follow each other.

        What is wrong with one model is said in the log, and hinders no other. Raises ConvertError: no repository there.
        """
        async with self._changing:
            there = await asyncio.to_thread(self._look)
            for name in sorted({*there, *self._slots} - self._held):
                try:
                    found = await asyncio.to_thread(there[name].versions) if name in there else {}
                    await self._renew(name, found)
                except ConvertError as fault:
                    self._complain(name, str(fault))
                else:
                    self._complaints.pop(name, None)

    async def _renew(self, name: str, found: Mapping[str, Path]) -> None:
        known = self._slots.setdefault(name, {})
        for number in sorted({*found, *known}, key=int):
            slot = known.setdefault(number, _Slot())
            now = model_paths.signature(found[number]) if number in found else ()
            settled, slot.seen = now == slot.seen, now
            if now == slot.signature or not settled:
                continue
            if not now:
                self._drop(name, number, "its file is gone")
                continue
            with suppress(ConvertError):  # said in the log and in the index; the old one goes on
                await self._replace(name, number, found[number])

    def _complain(self, name: str, reason: str) -> None:
        """Say it once, not at every look."""
        if self._complaints.get(name) != reason:
            self._complaints[name] = reason
            _log.error("%s", reason)

    async def close(self, grace: float | None = None) -> None:
        """Readiness ends; every request that was taken is answered, within `grace` seconds."""
        self.ready = False
        grace = self._grace if grace is None else grace
        async with asyncio.TaskGroup() as group:
            for running in self.all():
                group.create_task(running.batcher.close(grace))
        if self._closing:
            await asyncio.wait(self._closing, timeout=grace)

    def _look(self) -> dict[str, ModelPath]:
        """The models that lie there now."""
        found = model_paths.scan(self._root) if self._root else {}
        return {**found, **self._places}

    def _answering(self, name: str, number: str, slot: _Slot) -> Running:
        if slot.running:
            return slot.running
        if slot.state == LOADING:
            raise ModelNotReady(f"model '{name}' version {number} is being loaded", _RETRY)
        raise ModelNotLoaded(f"model '{name}' version {number} is not available: {slot.reason}")

    async def _replace(self, name: str, number: str, file: Path) -> None:
        """The new one is loaded and warm before the old one goes."""
        slot = self._slots.setdefault(name, {}).setdefault(number, _Slot())
        old = slot.running
        slot.state = READY if old else LOADING
        slot.file = file
        slot.signature = slot.seen = model_paths.signature(file)
        try:
            served = await asyncio.to_thread(Served.open, name, number, file, self.engine)
        except Exception as fault:  # whatever is wrong with a file, or onnxruntime says when it first runs
            told = str(fault) if isinstance(fault, ConvertError) else f"{file}: it cannot be run: {fault}"
            slot.reason = f"not loaded: {told}"
            slot.state = READY if old else UNAVAILABLE
            _log.error("model '%s' version %s: %s", name, number, told)
            raise ConvertError(told) from fault
        batcher = Batcher(served, self.engine.instances, self.limits, slot.stats)
        slot.running, slot.state, slot.reason = Running(served, batcher, slot.stats), READY, ""
        _log.info("model '%s' version %s: %s on %s", name, number, "replaced" if old else "loaded", file)
        if old:
            self._close_later(old)

    def _drop(self, name: str, number: str, reason: str) -> None:
        slot = self._slots[name][number]
        old, slot.running = slot.running, None
        slot.state, slot.reason, slot.signature, slot.seen = UNAVAILABLE, reason, (), ()
        if old:
            _log.info("model '%s' version %s: %s", name, number, reason)
            self._close_later(old)

    def _close_later(self, old: Running) -> None:
        task = asyncio.create_task(old.batcher.close(self._grace))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
