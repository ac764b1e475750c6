"""Good and hostile load on a real server: `python -m bench.soak BUNDLE --minutes 30`.

BUNDLE takes uint8 pictures (`senet-convert --input image`). Clients of every protocol ask about pictures whose answers
are known and all different: a lost answer, a swapped one, or a status that should not be is a fault. Others send what
`bench/hostile.py` lists, hang up, or are slow. Meanwhile the model is replaced, and a version comes and goes. At the
end SIGTERM comes under load: what is asked while the server lingers must be answered too. Memory must stay flat, and
liveness, asked from another process, take less than `--liveness` seconds all the time. The exit code is 1 where there
was a fault; the same runs in the tests for less than a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from senet_convert import demo

from . import hostile, wire
from .running import Server, serving
from .soak_pictures import MODEL, Picture, known

METHOD = "/inference.GRPCInferenceService/ModelInfer"
LINGER = 3.0  # seconds that the server goes on after SIGTERM; clients stop a second before
OPTIONS = ("--linger", LINGER, "--queue", 12, "--max-body", "8M", "--reload", 0.5, "--max-pixels", 10_000_000)
BUSY = (429, grpc.StatusCode.UNAVAILABLE)
SLOW = 20.0  # seconds without an answer are a fault
WARM = 1 / 3  # share of the time after which memory must stay flat
LIVENESS = 0.1  # seconds, on a machine that does nothing else
GROWTH = (1.10, 16.0)  # what memory may still grow then: a factor, and MiB

Ask = Callable[[Picture], Awaitable[Any]]


@dataclass
class Tally:
    """What happened: answers by kind and outcome, faults in words, memory in MiB at each second."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    liveness: tuple[float, float, int] = (0.0, 0.0, 0)  # the slowest, the 99th percentile (seconds), how many

    def fault(self, text: str) -> None:
        """What must not happen."""
        if len(self.faults) < 50:
            self.faults.append(text)

    def settled(self) -> tuple[float, float]:
        """Highest memory in the first part after the warm-up, and in the last part of the same length."""
        after = self.memory[int(len(self.memory) * WARM) :]
        half = max(1, len(after) // 2)
        return max(after[:half]), max(after[half:] or after)

    def lines(self) -> list[str]:
        """A table, and the faults."""
        rows = [f"{count:9}  {kind:32} {outcome}" for (kind, outcome), count in sorted(self.outcomes.items())]
        step = max(1, len(self.memory) // 20)
        course = " ".join(f"{max(self.memory[at : at + step]):.0f}" for at in range(0, len(self.memory), step))
        slowest, most, count = self.liveness
        rows.append(f"liveness: {slowest:.3f} s at most, 99 % within {most:.3f} s, of {count}")
        return [*rows, f"memory in MiB, as time went on: {course}", *(f"FAULT {one}" for one in self.faults)]


def run(bundle: Path, images: Path, seconds: float, pause: float, folder: Path, liveness: float = LIVENESS) -> Tally:
    """Start, load, SIGTERM, end. `pause` is how long a client waits between requests; `folder` is for scratch.

    `liveness` is how many seconds liveness may take.
    """
    root = folder / "models"
    place = root / MODEL / "1"
    shutil.copytree(bundle, place)
    pictures = known(place, images)
    tally = Tally()
    with serving("--repository", root, *OPTIONS, log=folder / "server.log") as server:
        words = [sys.executable, "-m", "bench.liveness", str(server.port)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as asking:
            load = Load(server, pictures, tally, pause, root)
            asyncio.run(load.run(seconds))
            _ended(server, tally)
            asking.terminate()
            slowest, most, count = asking.communicate()[0].split()
        tally.liveness = float(slowest), float(most), int(count)
        log = server.log.read_text(encoding="utf-8", errors="replace")
    if " replaced " not in log and seconds >= 10:
        tally.fault("the model was never replaced")
    if "Traceback" in log:
        tally.fault(f"a traceback in the log: {log[log.index('Traceback') :][:3000]}")
    if not 0 < tally.liveness[0] < liveness:
        tally.fault(f"liveness took {tally.liveness[0]:.3f} s; {liveness:g} s are allowed")
    before, after = tally.settled()
    if after > before * GROWTH[0] + GROWTH[1]:
        tally.fault(f"memory grows: {before:.0f} MiB, later {after:.0f} MiB")
    return tally


class Load:
    """All clients of one server."""

    def __init__(self, server: Server, pictures: Sequence[Picture], tally: Tally, pause: float, root: Path) -> None:
        self.server = server
        self.pictures = pictures
        self.tally = tally
        self.pause = pause
        self.root = root
        self.ends = 0.0
        self.told = False  # SIGTERM has been sent
        self.chance = random.Random(0)  # the same load each time

    async def run(self, seconds: float) -> None:
        """Load, and at the end of `seconds` SIGTERM under it."""
        now = time.monotonic()
        self.ends = now + seconds + LINGER - 1
        clients = [
            *[self._good("binary", self._http(lambda one: one.binary), wire.values) for _ in range(4)],
            *[self._good("json", self._http(lambda one: one.json), wire.values) for _ in range(2)],
            *[self._good("classify", self._http(lambda one: one.classify), _top) for _ in range(2)],
            *[self._good("grpc", self._grpc(), lambda found: found) for _ in range(2)],
            self._good("deadline of 1 ms", self._http(lambda one: one.hurried), wire.values, (504,)),
            *[self._hostile() for _ in range(3)],
            *[self._mannerless() for _ in range(3)],
            self._hostile_grpc(),
            self._replace(seconds),
            self._watch(),
        ]
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client)
            await asyncio.sleep(seconds)
            self.told = True
            self.server.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            await self._not_ready()

    @property
    def going(self) -> bool:
        """Is there more to ask?"""
        return time.monotonic() < self.ends

    async def _good(self, kind: str, ask: Ask, read: Callable[[Any], Any], also: tuple[object, ...] = ()) -> None:
        """Ask about pictures; every answer must be that picture's. `also` are statuses that are right beside 200."""
        while self.going:
            picture = self.chance.choice(self.pictures)
            try:
                async with asyncio.timeout(SLOW):
                    status, found = await ask(picture)
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as fault:
                self.tally.fault(f"{kind}: no answer{' while stopping' if self.told else ''}: {fault!r}")
                continue
            self.tally.outcomes[kind, str(status)] += 1
            if status in (200, grpc.StatusCode.OK):
                wrong = picture.differs(read(found))
                if wrong:
                    self.tally.fault(f"{kind}: not the answer for this picture: {wrong}")
            elif status not in (*BUSY, *also):
                self.tally.fault(f"{kind}: {status} {_text(found)}")
            await asyncio.sleep(self.pause * self.chance.random() * 2)

    def _http(self, request: Callable[[Picture], bytes]) -> Ask:
        """Over a connection that is kept as long as the server keeps it."""
        connection: wire.Connection | None = None

        async def ask(picture: Picture) -> tuple[int, wire.Answer]:
            nonlocal connection
            connection = connection or await wire.Connection.open(self.server.port)
            current, connection = connection, None
            answer = await current.ask(request(picture))
            if answer.closes:
                current.close()
            else:
                connection = current
            return answer.status, answer

        return ask

    def _grpc(self) -> Ask:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.server.grpc_port}")
        call = channel.unary_unary(METHOD)

        async def ask(picture: Picture) -> tuple[grpc.StatusCode, Any]:
            try:
                return grpc.StatusCode.OK, picture.from_grpc(await call(picture.grpc))
            except grpc.aio.AioRpcError as fault:
                return fault.code(), fault.details()

        return ask

    async def _hostile(self) -> None:
        """Each kind of bad request in turn, each on a connection of its own."""
        kinds = list(self.pictures[0].hostile())
        self.chance.shuffle(kinds)
        while self.going:
            for kind in kinds:
                if not self.going:
                    return
                try:
                    async with asyncio.timeout(SLOW):
                        connection = await wire.Connection.open(self.server.port)
                        answer = await _answer(connection, kind.request)
                except (OSError, asyncio.IncompleteReadError, TimeoutError) as fault:
                    self.tally.fault(f"{kind.name}: no answer: {fault!r}")
                    continue
                connection.close()
                self.tally.outcomes[kind.name, str(answer.status)] += 1
                if answer.status not in (*kind.answers, 429):
                    self.tally.fault(f"{kind.name}: {answer.status} {_text(answer)}")
                await asyncio.sleep(self.pause)

    async def _mannerless(self) -> None:
        """Clients that hang up, or are slow."""
        while self.going:
            manner = self.chance.choice(hostile.MANNERS)
            try:
                await manner(self.server.port, self.chance.choice(self.pictures).binary)
                self.tally.outcomes[manner.__name__, "done"] += 1
            except ConnectionError:  # the server is quicker in hanging up
                self.tally.outcomes[manner.__name__, "hung up"] += 1

    async def _hostile_grpc(self) -> None:
        """Bad messages of gRPC, each with the code that answers it."""
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.server.grpc_port}")
        call = channel.unary_unary(METHOD)
        kinds = self.pictures[0].hostile_grpc()
        while self.going:
            for name, message, timeout, codes in kinds:
                try:
                    await call(message, timeout=timeout)
                    code = grpc.StatusCode.OK
                except grpc.aio.AioRpcError as fault:
                    code = fault.code()
                self.tally.outcomes[f"grpc {name}", str(code)] += 1
                if code not in (*codes, grpc.StatusCode.UNAVAILABLE):
                    self.tally.fault(f"grpc {name}: {code}")
                await asyncio.sleep(self.pause * 5)

    async def _replace(self, seconds: float) -> None:
        """Put a new file in the model's place, and let a second version come and go."""
        one, two = self.root / MODEL / "1", self.root / MODEL / "2"
        for _ in range(max(1, int(seconds // 60))):
            await asyncio.sleep(min(seconds, 60) / 4)
            fresh = self.root / ".fresh"
            shutil.copytree(one, fresh)
            (fresh / "model.onnx").replace(one / "model.onnx")
            shutil.rmtree(fresh)
            await asyncio.sleep(min(seconds, 60) / 4)
            shutil.copytree(one, fresh)
            fresh.rename(two)
            await asyncio.sleep(min(seconds, 60) / 4)
            two.rename(fresh)
            shutil.rmtree(fresh)

    async def _watch(self) -> None:
        while self.going and self.server.process.poll() is None:
            self.tally.memory.append(self.server.memory())
            await asyncio.sleep(1)

    async def _not_ready(self) -> None:
        """While it lingers, it says so."""
        connection = await wire.Connection.open(self.server.port)
        answer = await connection.ask(wire.encode("/v2/health/ready"))
        connection.close()
        self.tally.outcomes["ready after SIGTERM", str(answer.status)] += 1
        if answer.status != 503:
            self.tally.fault(f"after SIGTERM readiness is {answer.status}")


async def _answer(connection: wire.Connection, request: bytes) -> wire.Answer:
    """The answer may come, and the connection end, before all of the request is sent."""
    task = asyncio.create_task(connection.send(request))
    try:
        return await connection.answer()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _top(answer: wire.Answer) -> Any:
    return {one["index"]: one["probability"] for one in answer.json()["images"][0]["top"]}


def _text(found: Any) -> str:
    return repr(found.body[:300] if isinstance(found, wire.Answer) else found)


def _ended(server: Server, tally: Tally) -> None:
    try:
        code = server.process.wait(40)
    except subprocess.TimeoutExpired:
        tally.fault("the server did not end")
        return
    tally.outcomes["exit code", str(code)] += 1
    if code:
        log = server.log.read_text(encoding="utf-8", errors="replace")
        tally.fault(f"the exit code is {code}: {log[-1500:]}")


def main() -> None:
    """Load as long as wished, and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--pause", type=float, default=0.01, help="seconds between a client's requests, on average")
    parser.add_argument("--liveness", type=float, default=LIVENESS, help="seconds that liveness may take")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="work in this folder, and leave the server's log there"
    )
    args = parser.parse_args()
    with demo.files() as digits, tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        tally = run(args.bundle, digits / "images", args.minutes * 60, args.pause, folder, args.liveness)
    print("\n".join(tally.lines()))
    sys.exit(1 if tally.faults else 0)


if __name__ == "__main__":
    main()
