"""What the server costs beside the bare session: `python -m bench.serve BUNDLE`.

BUNDLE holds an ONNX model with one uint8 input, as `senet-convert --input image` makes it. Everything runs in one go
and in turn; figures are medians over the rounds. In each round:

- latency: one client, images one by one; some runs of the bare session, some requests over HTTP and some over gRPC, and
  again. The aim: at most 2 ms more than the bare session.
- throughput: 16 clients that each ask as soon as they have their answer, over HTTP and over gRPC; then the bare session
  at the batch sizes that the server ran, in the same mix. The aim: at least 0.95 of the bare session.
- the same of another version of senet-convert, where --baseline COMMAND starts it, and the ratios between the two.
- peers, where --peers DIR has their environments; they compute with the same threads:

      python -m venv DIR/litserve && DIR/litserve/bin/pip install litserve onnxruntime
      python -m venv DIR/kserve && DIR/kserve/bin/pip install kserve onnxruntime

The bare session is set up as the server's own, and as onnxruntime does by default: its threads spin. One whose threads
wait quietly, as `--no-spin` has it, is shown beside it. Clients take part of the same cores: that is in the figures.
Options that it does not know go to the server.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import shlex
import signal
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from senet_convert.deploy.runtime.cores import usable_cores
from senet_convert.deploy.runtime.session import Session
from senet_convert.deploy.serve.models.served import model_file

from . import wire
from .running import Server, free_ports, serving, started

Ask = Callable[[], Awaitable[None]]
Connect = Callable[[Server], Awaitable[Ask]]

MODEL = "bench"
METHOD = "/inference.GRPCInferenceService/ModelInfer"
FEW = 0.01  # batch sizes of a smaller share of the images are left out of the mix
PEERS = {  # name -> path that answers when it is ready, and options beside model, port and threads
    "litserve": ("/health", ()),
    "kserve": ("/v2/health/ready", ("--http_port={port}", "--enable_grpc=false")),
}
BASELINE = "baseline_"  # before the names of its figures
NAMED = [("server", "http"), ("server", "grpc"), ("baseline", f"{BASELINE}http"), ("baseline", f"{BASELINE}grpc")]
STRETCH, WARM = 20, 3  # requests of one kind, one after the other
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


@dataclass
class Figures:
    """Figures by name, one for each round."""

    found: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, **figures: float) -> None:
        """Figures of this round."""
        for name, figure in figures.items():
            self.found[name].append(figure)

    def show(self, text: str, name: str, unit: str) -> None:
        """A line: the median, and the range over the rounds."""
        if name in self.found:
            low, high = min(self.found[name]), max(self.found[name])
            print(f"  {text:46} {statistics.median(self.found[name]):8.2f} {unit:9} ({low:.2f} .. {high:.2f})")


class Bare:
    """The session without a server, on one picture repeated."""

    def __init__(self, file: Path, threads: int, spin: bool) -> None:
        self.session = Session(file, threads, spin=spin)
        (self.name,) = self.session.inputs
        self.output = self.session.outputs[-1]
        sides = [dim for dim in self.session.shapes[self.name][1:] if isinstance(dim, int)]
        self.image = np.random.RandomState(0).randint(0, 256, (1, *sides)).astype(np.uint8)
        self.session.warm_up([1, 16])

    def seconds(self, size: int, runs: int = 1) -> float:
        """Mean seconds of a run at a batch size."""
        batch = np.repeat(self.image, size, axis=0)
        start = time.perf_counter()
        for _ in range(runs):
            self.session.run({self.name: batch}, [self.output])
        return (time.perf_counter() - start) / runs

    def speed(self, sizes: dict[int, int], runs: int) -> float:
        """Images/s where `sizes` says how many runs of each batch size there were."""
        images = sum(size * count for size, count in sizes.items())
        kept = {size: count for size, count in sizes.items() if size * count >= FEW * images}
        took = sum(count * self.seconds(size, runs) for size, count in kept.items())
        return sum(size * count for size, count in kept.items()) / took


def main() -> None:
    """Run the rounds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=100, help="of each kind in a round of latencies")
    parser.add_argument("--seconds", type=float, default=10.0, help="of load in a round")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--runs", type=int, default=3, help="of the bare session at each batch size in a round")
    parser.add_argument("--baseline", metavar="COMMAND", help="another senet-convert, to compare with")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="folder of the peers' environments")
    args, options = parser.parse_known_args()
    file = model_file(args.bundle).resolve()
    bare, quiet = Bare(file, usable_cores(), spin=True), Bare(file, usable_cores(), spin=False)
    figures = Figures()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = f"{MODEL}={args.bundle}"
        servers = {"": stack.enter_context(serving(model, *options, log=folder / "own.log"))}
        if args.baseline:
            command = shlex.split(args.baseline)
            servers[BASELINE] = stack.enter_context(serving(model, *options, log=folder / "old.log", command=command))
        peers = {name: stack.enter_context(peer) for name, peer in _peers(args.peers, file, folder)}
        for server in peers.values():
            server.signal(signal.SIGSTOP)  # asleep, but in its turn
        print(f"{usable_cores()} cores, {file}, {args.clients} clients, median of {args.rounds} rounds")
        for _ in range(args.rounds):
            asyncio.run(_round(args, bare, quiet, servers, figures))
            for name, server in peers.items():
                with server.awake():
                    asyncio.run(_peer_round(args, name, server, bare, figures))
    _report(figures, peers)


async def _round(
    args: argparse.Namespace, bare: Bare, quiet: Bare, servers: Mapping[str, Server], figures: Figures
) -> None:
    """Latency and throughput of the servers, beside the bare session."""
    ways: dict[str, Connect] = {"http": _http(_v2(bare)), "grpc": _grpc(bare)}
    spinning, waiting = await _latencies(args.requests, [_bare(bare), _bare(quiet)])
    each = [(f"{name}{way}", connect, server) for name, server in servers.items() for way, connect in ways.items()]
    alone, *others = await _latencies(
        args.requests, [_bare(bare), *[await connect(server) for _, connect, server in each]]
    )
    figures.add(bare_p50=_ms(spinning, 50), quiet_p50=_ms(waiting, 50))
    figures.add(beside_p50=_ms(alone, 50), beside_p99=_ms(alone, 99))
    for (way, _, _), took in zip(each, others, strict=True):
        figures.add(**{f"{way}_p50": _ms(took, 50), f"{way}_p99": _ms(took, 99)})
        figures.add(**{f"{way}_extra": _ms(took, 50) - _ms(alone, 50)})
    for way, connect, server in each:
        figures.add(
            **{f"{way}_{name}": value for name, value in (await _throughput(args, bare, connect, server)).items()}
        )
    if BASELINE in servers:
        for way in ways:
            for kind in ("p50", "speed"):
                ours, theirs = (figures.found[f"{name}{way}_{kind}"][-1] for name in ("", BASELINE))
                figures.add(**{f"{way}_{kind}_against": ours / theirs})
    figures.add(bare_1=1 / bare.seconds(1, 5 * args.runs), quiet_1=1 / quiet.seconds(1, 5 * args.runs))
    figures.add(bare_16=16 / bare.seconds(16, args.runs), quiet_16=16 / quiet.seconds(16, args.runs))


async def _throughput(args: argparse.Namespace, bare: Bare, connect: Connect, server: Server) -> dict[str, float]:
    """Images/s of many clients, what ran for them, and the bare session at the same batch sizes."""
    asks = [await connect(server) for _ in range(args.clients)]
    (before, ran), start = await _runs(server), time.perf_counter()
    speed = await _load(asks, args.seconds)
    (after, running), elapsed = await _runs(server), time.perf_counter() - start
    sizes = {size: count - before.get(size, 0) for size, count in after.items() if count > before.get(size, 0)}
    same = bare.speed(sizes, args.runs)
    mean = sum(size * count for size, count in sizes.items()) / sum(sizes.values())
    busy = (running - ran) / elapsed
    return {"speed": speed, "same": same, "ratio": speed / same, "mean": mean, "busy": busy}


async def _peer_round(args: argparse.Namespace, name: str, server: Server, bare: Bare, figures: Figures) -> None:
    """The same of another server, in the encoding that is its fastest for bytes."""
    connect = _http(_v2(bare) if name == "kserve" else _base64(bare))
    (took,) = await _latencies(args.requests, [await connect(server)])
    speed = await _load([await connect(server) for _ in range(args.clients)], args.seconds)
    figures.add(**{f"{name}_p50": _ms(took, 50), f"{name}_p99": _ms(took, 99), f"{name}_speed": speed})


def _report(figures: Figures, peers: dict[str, Server]) -> None:
    print("Latency of one image, one client")
    figures.show("bare session", "bare_p50", "ms p50")
    figures.show("bare session, quiet threads", "quiet_p50", "ms p50")
    figures.show("bare session, between requests", "beside_p50", "ms p50")
    figures.show("bare session, between requests", "beside_p99", "ms p99")
    for name, way in NAMED:
        for share in ("p50", "p99"):
            figures.show(f"{name}, {way[-4:]}", f"{way}_{share}", f"ms {share}")
        figures.show(f"{name}, {way[-4:]}, beyond the bare session", f"{way}_extra", "ms p50")
    for way in ("http", "grpc"):
        figures.show(f"server / baseline, {way}", f"{way}_p50_against", "")
    print("Throughput")
    for kind in ("bare", "quiet"):
        for size in (1, 16):
            words = f"{'bare session' if kind == 'bare' else 'bare session, quiet threads'}, batch {size}"
            figures.show(words, f"{kind}_{size}", "images/s")
    for name, way in NAMED:
        figures.show(f"{name}, {way[-4:]}", f"{way}_speed", "images/s")
        figures.show(f"{name}, {way[-4:]}: images in a run", f"{way}_mean", "on average")
        figures.show("  share of the time that the model runs", f"{way}_busy", "")
        figures.show("  bare session, the same batch sizes", f"{way}_same", "images/s")
        figures.show(f"  {name} / bare session", f"{way}_ratio", "")
    for way in ("http", "grpc"):
        figures.show(f"server / baseline, {way}", f"{way}_speed_against", "")
    for name in PEERS:
        if name not in peers:
            print(f"  {name}: no environment; see --help")
        figures.show(name, f"{name}_p50", "ms p50")
        figures.show(name, f"{name}_p99", "ms p99")
        figures.show(name, f"{name}_speed", "images/s")


def _bare(bare: Bare) -> Ask:
    async def ask() -> None:
        bare.seconds(1)

    return ask


def _http(request: bytes) -> Connect:
    async def connect(server: Server) -> Ask:
        connection = wire.Kept(server.port)

        async def ask() -> None:
            answer = await connection.ask(request)
            if answer.status != 200:
                raise RuntimeError(f"{answer.status}: {answer.body[:300]!r}")

        return ask

    return connect


def _grpc(bare: Bare) -> Connect:
    request = service_pb2.ModelInferRequest(model_name=MODEL, raw_input_contents=[bare.image.tobytes()])
    request.inputs.add(name=bare.name, datatype="UINT8", shape=bare.image.shape)
    encoded = request.SerializeToString()

    async def connect(server: Server) -> Ask:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=_UNLIMITED)
        call = channel.unary_unary(METHOD)  # bytes both ways: encoded beforehand, and not decoded

        async def ask() -> None:
            await call(encoded)

        return ask

    return connect


def _v2(bare: Bare) -> bytes:
    return wire.binary(MODEL, bare.name, "UINT8", bare.image, bare.output)


def _base64(bare: Bare) -> bytes:
    body = json.dumps({"image": base64.b64encode(bare.image.tobytes()).decode()}).encode()
    return wire.encode("/predict", body, Content_Type="application/json")


async def _latencies(count: int, asks: Sequence[Ask]) -> list[list[float]]:
    """Seconds of each kind, asked in turn, `STRETCH` times each.

    The first few of a stretch do not count: threads of the kind before, in another process, still spin.
    """
    took: list[list[float]] = [[] for _ in asks]
    for _ in range(0, count, STRETCH):
        for ask, column in zip(asks, took, strict=True):
            for number in range(WARM + STRETCH):
                start = time.perf_counter()
                await ask()
                if number >= WARM:
                    column.append(time.perf_counter() - start)
    return took


async def _load(asks: Sequence[Ask], seconds: float) -> float:
    """Answers per second: each asks again as soon as it is answered. All begin and end together."""
    await asyncio.gather(*[ask() for ask in asks])
    start = time.perf_counter()

    async def client(ask: Ask) -> int:
        count = 0
        while time.perf_counter() - start < seconds:
            await ask()
            count += 1
        return count

    counts = await asyncio.gather(*[client(ask) for ask in asks])
    return sum(counts) / (time.perf_counter() - start)


async def _runs(server: Server) -> tuple[dict[int, int], float]:
    """As the server counts them: batch size -> runs, and the seconds of all runs together."""
    connection = await wire.Connection.open(server.port)
    answer = await connection.ask(wire.encode(f"/v2/models/{MODEL}/stats"))
    connection.close()
    found = [(int(row["batch_size"]), row["compute_infer"]) for row in answer.json()["model_stats"][0]["batch_stats"]]
    return {size: int(run["count"]) for size, run in found}, sum(int(run["ns"]) for _, run in found) / 1e9


def _ms(seconds: Sequence[float], percentile: float) -> float:
    return float(np.percentile(seconds, percentile)) * 1e3


def _peers(folder: Path | None, file: Path, logs: Path) -> list[tuple[str, Any]]:
    """Those whose environment is there, each as a context that starts it."""
    found = []
    for name, (ready, more) in PEERS.items():
        python = folder / name / "bin" / "python" if folder else Path()
        if not python.is_file():
            continue
        (port,) = free_ports(1)
        script = Path(__file__).parent / "peers" / f"on_{name}.py"
        words = [str(python), str(script), str(file), str(port), str(usable_cores())]
        words += [word.format(port=port) for word in more]
        found.append((name, started(words, port, ready, logs / f"{name}.log")))
    return found


if __name__ == "__main__":
    main()
