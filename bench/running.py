"""Servers as processes of their own: started, ready, put to sleep while others are measured, and stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

START = 120.0  # seconds until a server must be ready
COMMAND = (sys.executable, "-c", "from senet_convert.cli import main; main()")


@dataclass(frozen=True)
class Server:
    """A running server: the process leads a group of its own, so that its workers can be told too."""

    process: subprocess.Popen[bytes]
    port: int
    grpc_port: int
    log: Path

    def signal(self, number: signal.Signals) -> None:
        """To the whole group."""
        os.killpg(self.process.pid, number)

    @contextmanager
    def awake(self) -> Iterator[Server]:
        """Runs in the block, is stopped after it: it then takes no time from others."""
        self.signal(signal.SIGCONT)
        try:
            yield self
        finally:
            self.signal(signal.SIGSTOP)

    def memory(self) -> float:
        """What the process holds in memory, MiB."""
        words = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()
        return int(words[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def serving(*options: object, log: Path, command: Sequence[str] = COMMAND) -> Iterator[Server]:
    """`senet-convert serve` with `options`, on two free ports. Raises RuntimeError: it does not become ready."""
    port, grpc_port = free_ports(2)
    words = [*command, "serve", *map(str, options), "--port", str(port), "--grpc-port", str(grpc_port)]
    with started(words, port, "/v2/health/ready", log, grpc_port) as server:
        yield server


@contextmanager
def started(words: Sequence[str], port: int, ready: str, log: Path, grpc_port: int = 0) -> Iterator[Server]:
    """Any server whose `ready` path answers 200 when it is; `log` takes what it prints."""
    with log.open("wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True)
    server = Server(process, port, grpc_port, log)
    try:
        _wait(server, ready)
        yield server
    finally:
        if process.poll() is None:
            server.signal(signal.SIGKILL)
        process.wait()


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait(server: Server, path: str) -> None:
    end = time.monotonic() + START
    while time.monotonic() < end and server.process.poll() is None:
        try:
            connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except (OSError, HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.05)
    tail = server.log.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise RuntimeError(f"the server was not ready within {START:g} s (exit code {server.process.poll()}):\n{tail}")
