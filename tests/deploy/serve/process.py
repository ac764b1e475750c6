"""A server in a process of its own, as people start it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from signal import SIGHUP, SIGTERM
from types import TracebackType

_START = [sys.executable, "-c", "from senet_convert.cli import main; main()", "serve"]
_READY = re.compile(r"serving (.*) on https?://[^ ]*:(\d+)(?: and grpcs?://[^ ]*?:(\d+))?")


class Process:
    """`with Process(bundle, "--queue", 2) as server:`; it is ready inside, and ended after."""

    def __init__(self, *args: object, environ: Mapping[str, str] | None = None, wait: bool = True) -> None:
        """`wait` False is for one that is not to become ready."""
        self.lines: list[str] = []
        self.port = self.grpc_port = 0
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            [*_START, "--port", "0", *map(str, args)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **(environ or {})},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if wait:
            self._ready.wait(60)
            if not self.port:
                self.kill()
                raise AssertionError(f"not ready: {self.log}")

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return "".join(self.lines)

    @property
    def memory(self) -> int:
        """Bytes that it holds now."""
        pages = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGESIZE")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def ended(self, timeout: float = 30) -> int:
        """Its exit code, once it has ended."""
        code = self._process.wait(timeout)
        self._reader.join(10)
        return code

    def stop(self) -> int:
        self.signal(SIGTERM)
        return self.ended()

    def hang_up(self) -> None:
        self.signal(SIGHUP)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(10)
        if self._process.stderr is not None:
            self._process.stderr.close()

    def wait_for(self, text: str) -> None:
        """Until the log says it."""
        ends = time.monotonic() + 20
        while text not in self.log:
            assert time.monotonic() < ends, f"no '{text}' in: {self.log}"
            time.sleep(0.02)

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.lines.append(line)
            found = _READY.search(line)
            if found:
                self.port, self.grpc_port = int(found[2]), int(found[3] or 0)
                self._ready.set()
        self._ready.set()
