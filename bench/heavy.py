"""Bodies that are made to cost a server more than they cost their sender: `python -m bench.heavy [NAME ...]`.

Each is sent twice at the same time to a server of its own process; meanwhile an honest client asks whether it lives.
Printed are the slowest of those answers, what the bodies were answered by and after how long, and what memory grew by.
The exit code is 1 where liveness took longer than `--liveness` seconds (0.1, on a machine that does nothing else).
"""

from __future__ import annotations

import argparse
import gzip
import json
import socket
import statistics
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import onnx

from .running import Server, serving
from .wire import encode

_FORM = "multipart/form-data; boundary=xx"
_PART = b'--xx\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n'
_REPOSITORY = "/v2/repository/index"


@dataclass(frozen=True)
class Heavy:
    """A request as bytes, and the statuses that answer it."""

    name: str
    request: bytes
    answers: tuple[int, ...] = (400,)


def bodies(model: str, size: int) -> list[Heavy]:
    """Requests of some `size` bytes to a server of `model`, whose input x takes float32 of any shape [n, k]."""
    return [*_tensors(model, size), *_envelopes(model, size), *_packed(model, size), *_forms(size), *_heads(model)]


def _tensors(model: str, size: int) -> list[Heavy]:
    infer = f"/v2/models/{model}/infer"

    def data(text: bytes, rows: int, columns: int) -> bytes:
        head = {"name": "x", "datatype": "FP32", "shape": [rows, columns]}
        tail = b',"outputs":[{"name":"y","parameters":{"binary_data":true}}]}'
        return encode(infer, b'{"inputs":[' + json.dumps(head)[:-1].encode() + b',"data":' + text + b"}]" + tail)

    half, third, quarter = size // 2, size // 3, size // 4
    return [
        Heavy("tiny numbers", data(b"[" + b"1," * (half - 1) + b"1]", 1, half), (200, 503)),
        Heavy("rows of one", data(b"[" + b"[1]," * (quarter - 1) + b"[1]]", quarter, 1), (400,)),  # more than max_batch
        Heavy("a row of rows", data(b"[[" + b"[1]," * quarter + b"1]]", 1, quarter)),
        Heavy("empty arrays", data(b"[" + b"[]," * third + b"1]", 1, third)),
        Heavy("deep data", data(b"[" * half + b"]" * half, 1, 1)),
        Heavy("deep data without end", data(b"[" * size, 1, 1)),
        Heavy("spaces in data", data(b"[" + b" " * size + b"1]", 1, 1)),
        Heavy("a number of many digits", data(b"[" + b"1" * size + b"]", 1, 1)),
        Heavy("numbers of 4,000 digits", data(b"[" + (b"0." + b"9" * 4000 + b",") * (size // 4003) + b"1]", 1, 9)),
        Heavy("words in data", data(b"[" + b'"",' * third + b'""]', 1, third)),
        Heavy("objects in data", data(b"[" + b"{}," * third + b"{}]", 1, third)),
    ]


def _envelopes(model: str, size: int) -> list[Heavy]:
    infer = f"/v2/models/{model}/infer"
    keys = b",".join(b'"%x":0' % number for number in range(size // 9))
    one = b'{"name":"x","datatype":"FP32","shape":[1,1],"data":[1]}'
    short = min(size, 250_000)
    return [
        Heavy("many keys", encode(_REPOSITORY, b"{" + keys + b"}"), (400, 413)),
        Heavy("many keys, one twice", encode(_REPOSITORY, b"{" + keys[:short].rpartition(b",")[0] + b',"0":0}')),
        Heavy("many keys of a model", encode(infer, b"{" + keys[:short].rpartition(b",")[0] + b"}")),
        Heavy("many inputs", encode(infer, b'{"inputs":[' + (one + b",") * (size // len(one)) + one + b"]}")),
        Heavy("many outputs", encode(infer, b'{"inputs":[' + one + b'],"outputs":[' + _outputs(short) + b"]}")),
        Heavy("many empty inputs", encode(infer, b'{"inputs":[' + b"{}," * (short // 3) + b"{}]}")),
        Heavy("escapes", encode(infer, b'{"id":"' + b"\\ud83d\\ude00" * (short // 12) + b'"}')),
        Heavy("lone surrogates", encode(infer, b'{"id":"' + b"\\ud800" * (short // 6) + b'"}')),
        Heavy("a number without end", encode(infer, b'{"id":' + b"1" * size + b"}")),
        Heavy("empty arrays besides data", encode(infer, b'{"x":[' + b"[]," * (short // 3) + b"1]}")),
        Heavy("spaces", encode(infer, b" " * size)),
        Heavy("data upon data", encode(infer, b"{" + b'"data":[1],' * (size // 11) + b'"x":1}')),
        Heavy("data in data", encode(infer, b'{"data":' * (size // 8))),
    ]


def _outputs(size: int) -> bytes:
    one = b'{"name":"y"}'
    return (one + b",") * (size // len(one)) + one


def _packed(model: str, size: int) -> list[Heavy]:
    infer = f"/v2/models/{model}/infer"

    def packed(body: bytes, name: str) -> bytes:
        return encode(infer, body, Content_Encoding=name)

    members = gzip.compress(b"") * (size // 20)
    return [
        Heavy("gzip bomb", packed(gzip.compress(bytes(16 * size)), "gzip"), (400, 413)),
        Heavy("deflate bomb", packed(zlib.compress(bytes(16 * size)), "deflate"), (400, 413)),
        Heavy("gzip of many members", packed(members, "gzip")),
        Heavy("gzip of spaces", packed(gzip.compress(b" " * size), "gzip")),
        Heavy("pieces of a byte", _chunked(infer, size // 6)),
    ]


def _chunked(path: str, count: int) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"1\r\n[\r\n" * count + b"0\r\n\r\n"


def _forms(size: int) -> list[Heavy]:
    def form(body: bytes, kind: str = _FORM) -> bytes:
        return encode("/v1/classify", body, Content_Type=kind)

    line, broken = _PART + b"\r\n", (400, 422)
    return [
        Heavy("form: ends that are none", form(_PART + b"\r\n--xx-" * (size // 7)), broken),
        Heavy("form: line ends", form(_PART + b"\r\n" * (size // 2)), broken),
        Heavy("form: returns", form(_PART + b"\r" * size), broken),
        Heavy("form: almost boundaries", form(_PART + b"\r\n--x" * (size // 5)), broken),
        Heavy("form: boundaries", form(b"--xx\r\n" * (size // 6)), broken),
        Heavy("form: many parts", form(line * (size // len(line))), broken),
        Heavy("form: a header without end", form(b"--xx\r\na: " + b"a" * size), broken),
        Heavy("form: many headers", form(b"--xx\r\n" + b"a: b\r\n" * (size // 6)), broken),
        Heavy("form: something before", form(b"\r\n" * (size // 2) + _PART), broken),
        Heavy("form: something behind", form(_PART + b"\r\n--xx--\r\n" + b"\r\n" * (size // 2)), broken),
        Heavy("form: a long boundary", form(b"-" * size, "multipart/form-data; boundary=" + "b" * 900), broken),
        Heavy("form: a long type", form(b"-" * size, "multipart/form-data" + ";" * 30_000), (415,)),
    ]


def _heads(model: str) -> list[Heavy]:
    infer = f"/v2/models/{model}/infer"
    one = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 999], "data": [0.125] * 999}]}).encode()
    return [
        Heavy("many fields in a query", encode("/v1/classify?" + "a&" * 15_000, b"x", Content_Type="image/png")),
        Heavy("many packings", encode(infer, one, Accept_Encoding="," * 30_000), (200,)),
        Heavy("a long packing", encode(infer, one, Accept_Encoding="gzip;" + " " * 30_000), (200,)),
        Heavy("a long encoding", encode(infer, one, Content_Encoding=" " * 30_000 + "x")),
    ]


def send(port: int, request: bytes, timeout: float = 60.0) -> int:
    """The status that answers `request`; 0 where the connection ends without one."""
    with socket.create_connection(("127.0.0.1", port), timeout) as connection:
        threading.Thread(target=_send_all, args=(connection, request), daemon=True).start()
        found = b""
        while b"\r\n" not in found:
            piece = connection.recv(4096)
            if not piece:
                return 0
            found += piece
        return int(found.split()[1])


def _send_all(connection: socket.socket, request: bytes) -> None:
    try:
        connection.sendall(request)
    except OSError:  # answered, and closed, before all of it was sent
        return


def watched(port: int, work: Callable[[], object], every: float = 0.01) -> list[float]:
    """Seconds that liveness took to answer, over and over while `work` is done."""
    took: list[float] = []
    thread = threading.Thread(target=work)
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    thread.start()
    while thread.is_alive() or not took:
        started = time.perf_counter()
        connection.request("GET", "/v2/health/live")
        connection.getresponse().read()
        took.append(time.perf_counter() - started)
        time.sleep(every)
    connection.close()
    return took


def _try(server: Server, one: Heavy, at_once: int) -> float:
    before, statuses = server.memory(), []
    peak = [before]
    started = time.perf_counter()

    def work() -> None:
        threads = [
            threading.Thread(target=lambda: statuses.append(send(server.port, one.request))) for _ in range(at_once)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            peak.append(server.memory())
            time.sleep(0.01)

    took = watched(server.port, work)
    total = time.perf_counter() - started
    wrong = "" if set(statuses) <= set(one.answers) else f"  EXPECTED {one.answers}"
    print(
        f"{one.name:26s} {len(one.request) / 1e6:6.1f} MB  {statuses} in {total:5.2f} s  liveness {max(took):.3f} s "
        f"(median {statistics.median(took):.4f})  memory +{max(peak) - before:.0f} MiB{wrong}",
        flush=True,
    )
    return max(took)


def any_shape(file: Path) -> Path:
    """A model that gives back what it takes: x and y, float32 [n, k]."""
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", "k"]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "any", [x], [y])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10), file)
    return file


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="of the bodies; default: all")
    parser.add_argument("--size", type=int, default=60_000_000, help="bytes of a body")
    parser.add_argument("--at-once", type=int, default=2, help="how many of one kind are sent together")
    parser.add_argument("--liveness", type=float, default=0.1, help="seconds that it may take")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        model = f"any={any_shape(place / 'any.onnx')}"
        with serving(model, log=place / "log") as server:
            chosen = [one for one in bodies("any", options.size) if one.name in options.names or not options.names]
            slowest = max(_try(server, one, options.at_once) for one in chosen)
            print(f"liveness: {slowest:.3f} s at most, {options.liveness:g} s allowed")
    return int(slowest > options.liveness)


if __name__ == "__main__":
    sys.exit(main())
