"""Hostile clients beside honest ones: every bound of the port, on a server that runs."""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelMetadataRequest

from senet_convert.deploy.serve.models.model_paths import ModelPath
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.v2.grpc import connections, limits
from senet_convert.deploy.serve.v2.grpc.handlers import STREAMS

from . import h2
from .conftest import Gate
from .live import PATIENCE, Live, rows, tensor, until

METADATA = "/inference.GRPCInferenceService/ModelMetadata"
INFER = "/inference.GRPCInferenceService/ModelInfer"
MIB = 2**20


def settings(plus: Path, **fields: Any) -> Settings:
    return Settings(models=(ModelPath("plus", plus),), threads=1, **fields)


def counted(live: Live, method: str) -> Counter[str]:
    """Answers of a method by their codes, as the metrics have them."""
    found: Counter[str] = Counter()
    for line in live.state.metrics.text().decode().splitlines():
        if line.startswith("senet_convert_grpc_responses_total") and f'method="{method}"' in line:
            found[line.partition('code="')[2].partition('"')[0]] = int(float(line.rpartition(" ")[2]))
    return found


def resident() -> int:
    """Bytes of memory that the process takes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    found: grpc.StatusCode = caught.value.code()
    return found


@contextmanager
def slowest(live: Live) -> Iterator[list[float]]:
    """How long the event loop lets others wait meanwhile, at most: all that is on it, HTTP's liveness too, waits so."""
    found, over = [0.0], threading.Event()

    async def look() -> None:
        while not over.is_set():
            begun = time.perf_counter()
            await asyncio.sleep(0.005)
            found[0] = max(found[0], time.perf_counter() - begun - 0.005)

    looking = asyncio.run_coroutine_threadsafe(look(), live.loop)
    try:
        yield found
    finally:
        over.set()
        looking.result(PATIENCE)


def raw(live: Live, method: str, message: bytes, **options: Any) -> bytes:
    """A call with bytes in place of a message."""
    with grpc.insecure_channel(live.address, options=[("grpc.max_send_message_length", -1)]) as channel:
        found: bytes = channel.unary_unary(method)(message, timeout=PATIENCE, **options)
    return found


@pytest.mark.parametrize(
    "part",
    [b"\x32\0", b"\x2a\0", b"\x22\0", b"\x3a\0", b"\x2a\x02\x2a\0", b"\xf8\x7f\0"],
    ids=["outputs", "inputs", "parameters", "raw", "contents", "unknown"],
)
def test_very_many_fields_cost_neither_time_nor_memory(live: Live, part: bytes) -> None:
    message = b"\x0a\x04plus" + part * (8 * MIB // len(part))
    gc.collect()
    before = resident()
    with slowest(live) as waited, ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(code_of, lambda: raw(live, INFER, message)) for _ in range(4)]
        assert {one.result(PATIENCE) for one in calls} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert waited[0] < 1  # clients share the interpreter here
    assert resident() - before < 200 * MIB
    until(lambda: live.state.held == 0)


def test_other_calls_are_weighed_too(live: Live) -> None:
    for method in (
        METADATA,
        "/inference.GRPCInferenceService/RepositoryModelLoad",
        "/inference.GRPCInferenceService/LogSettings",
        "/inference.GRPCInferenceService/ServerLive",
        "/grpc.health.v1.Health/Check",
    ):
        assert code_of(lambda method=method: raw(live, method, b"\x1a\0" * MIB)) is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_request_of_a_stream_is_weighed_and_the_stream_goes_on(live: Live) -> None:
    good = ModelInferRequest(model_name="plus", raw_input_contents=[bytes(12)])
    good.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    asked = [b"\x32\0" * MIB, b"\xff", good.SerializeToString()]
    with grpc.insecure_channel(live.address) as channel:
        stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        many, broken, fine = list(stream(iter(asked), timeout=PATIENCE))
    assert b"more than 5000 fields" in many
    assert b"cannot be parsed" in broken
    assert b"plus" in fine and b"error" not in fine
    until(lambda: live.state.held == 0)


def test_three_thousand_calls_at_once_are_all_told_how_they_ended(plus: Path) -> None:
    count = 3000
    with Live(settings(plus)) as live, grpc.insecure_channel(live.address) as channel:
        ask = channel.unary_unary(METADATA)
        message = ModelMetadataRequest(name="plus").SerializeToString()
        calls = [ask.future(message, timeout=2 * PATIENCE) for _ in range(count)]
        codes = Counter(one.code().name for one in calls)
        until(lambda: counted(live, METADATA) == codes)
    assert codes.total() == count
    assert set(codes) <= {"OK", "UNAVAILABLE"}


def test_beyond_its_limit_it_refuses_and_counts_and_goes_on(plus: Path, gate: Gate) -> None:
    with Live(settings(plus, max_connections=20)) as live, live.client() as client, live.stub() as stub:
        gate.close()
        request = ModelInferRequest(model_name="plus", raw_input_contents=[bytes(12)])
        request.inputs.add(name="x", datatype="FP32", shape=[1, 3])
        calls = [stub.ModelInfer.future(request, timeout=PATIENCE) for _ in range(50)]
        until(lambda: counted(live, INFER)["UNAVAILABLE"] == 30)
        assert client.is_server_live(), "probes have a count of their own"
        gate.open()
        codes = Counter(one.code().name for one in calls)
        assert codes == {"OK": 20, "UNAVAILABLE": 30}
        assert "more than 20 calls at once" in next(one.details() for one in calls if one.code().name != "OK")
        assert counted(live, INFER) == codes
        assert client.infer("plus", [tensor("x", rows(1.0))]).as_numpy("y")[0, 0] == 3.0


def test_what_is_not_there_is_counted(plus: Path) -> None:
    with Live(settings(plus)) as live:
        assert code_of(lambda: raw(live, "/nothing/" + "x" * 1000, b"")) is grpc.StatusCode.UNIMPLEMENTED
        until(lambda: counted(live, "other") == {"UNIMPLEMENTED": 1})


def test_calls_that_come_while_the_server_stops_are_unavailable(plus: Path) -> None:
    with Live(settings(plus)) as live, grpc.insecure_channel(live.address) as channel:
        ask = channel.unary_unary(METADATA)
        message = ModelMetadataRequest(name="plus").SerializeToString()
        assert ask(message, timeout=PATIENCE)
        stopping = asyncio.run_coroutine_threadsafe(live.stop(PATIENCE), live.loop)
        until(lambda: live.server.handlers.leaving)
        calls = [ask.future(message, timeout=PATIENCE) for _ in range(500)]
        assert Counter(one.code().name for one in calls) == {"UNAVAILABLE": 500}
        stopping.result(PATIENCE)


def test_a_message_that_never_comes_is_not_awaited_for_ever(plus: Path) -> None:
    with Live(settings(plus, body_timeout=0.5, header_timeout=0.5)) as live, h2.Client(live.server.port) as client:
        names = ("ModelInfer", "ServerLive", "ModelStreamInfer", "ModelMetadata")
        client.send(b"".join(h2.call(2 * index + 1, h2.PATH + name) for index, name in enumerate(names)))
        until(lambda: sum(counted(live, h2.PATH + name)["DEADLINE_EXCEEDED"] for name in names) == len(names))


def test_messages_that_come_in_part_hold_only_so_much_together(plus: Path) -> None:
    with Live(settings(plus, max_inflight=256 * 1024)) as live, live.client() as honest, ExitStack() as opened:
        slow = [opened.enter_context(h2.Client(live.server.port)) for _ in range(8)]
        for one in slow:  # as much as it takes of a message before it has read of what length that is
            one.send(h2.call(1, INFER, bytes(MIB), last=False)[:60_000])
        until(lambda: sum(one.frames(0.05)[1] for one in slow) >= 3)
        assert honest.infer("plus", [tensor("x", rows(1.0))]).as_numpy("y")[0, 0] == 3.0
        assert sum(one.frames(0.05)[1] for one in slow) <= 5


def test_a_connection_that_takes_no_answer_is_ended(plus: Path) -> None:
    with (
        Live(settings(plus, body_timeout=0.5)) as live,
        live.client() as honest,
        h2.Client(live.server.port, 0) as client,
    ):
        client.send(b"".join(h2.call(2 * index + 1, h2.PATH + "ServerMetadata", b"") for index in range(100)))
        until(lambda: live.state.held > 0)
        until(lambda: client.frames(0.1)[1])
        until(lambda: live.state.held == 0)
        assert honest.is_server_live()


def test_a_stream_that_takes_no_answer_is_ended(plus: Path) -> None:
    method = h2.PATH + "ModelStreamInfer"
    with Live(settings(plus, body_timeout=0.5)) as live, h2.Client(live.server.port, 0) as client:
        client.send(h2.call(1, method, b"\x0a\x03nix"))
        until(lambda: client.frames(0.1)[1])
        until(lambda: counted(live, method)["DEADLINE_EXCEEDED"] == 1)


def test_idle_streams_make_room_for_others(plus: Path) -> None:
    method = h2.PATH + "ModelStreamInfer"
    with Live(settings(plus, max_connections=4, body_timeout=0.5)) as live, h2.Client(live.server.port) as idle:
        idle.send(b"".join(h2.call(stream, method, b"\x0a\x03nix", last=False) for stream in (1, 3)))
        until(lambda: live.server.handlers.full(STREAMS))
        until(lambda: counted(live, method)["UNAVAILABLE"] >= 1)
        assert not live.server.handlers.full(STREAMS)


def test_a_compressed_bomb_unpacks_no_further_than_it_may(plus: Path) -> None:
    packing = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    bomb = packing.compress(b"\x3a\x80\x80\x80\x18") + packing.compress(bytes(48 * MIB)) + packing.flush()
    before = resident()
    highest = before
    with Live(settings(plus, max_inflight=64 * MIB)) as live, ExitStack() as opened:
        with slowest(live) as waited:
            for _ in range(40):
                opened.enter_context(h2.Client(live.server.port)).send(h2.call(1, INFER, bomb, packed=True))

            def answered() -> bool:
                nonlocal highest
                highest = max(highest, resident())
                return counted(live, INFER).total() == 40

            until(answered)
        assert set(counted(live, INFER)) <= {"NOT_FOUND", "UNAVAILABLE", "RESOURCE_EXHAUSTED"}
    assert waited[0] < 1
    assert highest - before < 400 * MIB


def test_what_begins_like_something_packed_and_is_not_is_refused(live: Live) -> None:
    for start in (b"\x1f\x8b", b"\x78\x9c"):
        assert code_of(lambda start=start: raw(live, INFER, start + b"nothing")) is grpc.StatusCode.INVALID_ARGUMENT
    torn = zlib.compress(bytes(1000))[:-6]
    assert code_of(lambda: raw(live, INFER, torn)) is grpc.StatusCode.INVALID_ARGUMENT


def test_metadata_is_bounded(live: Live) -> None:
    many = tuple((f"k{number}", "v" * 40) for number in range(limits.HEAD // 40))
    assert code_of(lambda: raw(live, METADATA, b"", metadata=many)) is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("kind", ["reset", "settings", "ping"])
def test_floods_of_frames_keep_nobody_waiting(live: Live, kind: str) -> None:
    over = threading.Event()

    def flood() -> None:
        stream = 1
        with h2.Client(live.server.port) as client:
            while not over.is_set():
                data = b""
                for _ in range(100):
                    if kind == "reset":
                        data += h2.call(stream, METADATA) + h2.frame(h2.RST, 0, stream, struct.pack(">I", 8))
                        stream += 2
                    else:
                        data += h2.frame(h2.SETTINGS, 0, 0) if kind == "settings" else h2.frame(h2.PING, 0, 0, bytes(8))
                try:
                    client.send(data)
                    client.frames(0.001)
                except OSError:  # it was hung up on
                    return

    with slowest(live) as waited, ThreadPoolExecutor(1) as pool, live.client() as honest:
        flooding = pool.submit(flood)
        ends = time.monotonic() + 2
        while time.monotonic() < ends:
            assert honest.is_server_live(client_timeout=5)
        over.set()
        flooding.result(PATIENCE)
    assert waited[0] < 1  # clients share the interpreter here


@contextmanager
def silent(live: Live, count: int, word: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that say nothing more."""
    with ExitStack() as opened:
        found = []
        for _ in range(count):
            found.append(opened.enter_context(socket.create_connection(("127.0.0.1", live.server.port), PATIENCE)))
            with suppress(ConnectionError):  # one too many
                found[-1].sendall(word)
        yield found


def closed(one: socket.socket) -> bool:
    """Whatever was said before."""
    one.setblocking(False)
    try:
        while one.recv(65536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + h2.frame(h2.SETTINGS, 0, 0)


@pytest.mark.parametrize("word", [b"", b"PRI *", HELLO], ids=["nothing", "half a greeting", "a greeting"])
def test_connections_that_say_nothing_are_ended(plus: Path, word: bytes) -> None:
    with Live(settings(plus, header_timeout=1)) as live, silent(live, 30, word) as held:
        until(lambda: all(map(closed, held)))
        with live.client() as client:
            assert client.is_server_live()


def test_there_are_only_so_many_connections_and_an_address_has_only_its_share(plus: Path) -> None:
    with Live(settings(plus, max_connections=40, header_timeout=30)) as live, silent(live, 120) as held:
        until(lambda: sum(map(closed, held)) >= 100)
        with live.client() as client:
            assert client.is_server_live(client_timeout=PATIENCE)
            assert client.infer("plus", [tensor("x", rows(1.0))]).as_numpy("y")[0, 0] == 3.0
        assert sum(not closed(one) for one in held) <= 20


def test_connections_that_call_are_left_alone(plus: Path) -> None:
    with Live(settings(plus, max_connections=40, header_timeout=30)) as live, live.client() as client:
        assert client.is_server_live()
        with silent(live, 120) as held:
            until(lambda: sum(map(closed, held)) >= 100)
            assert client.is_server_live(client_timeout=0.5), "on the connection that it has"


def test_grpc_leaves_half_of_the_files_to_others() -> None:
    assert connections.most(1000, 1024) == 384
    assert connections.most(1000, 20_000) == 1000
    assert connections.most(1000, 100) == 1
