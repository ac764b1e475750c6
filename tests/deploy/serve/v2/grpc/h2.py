"""HTTP/2 by hand: for what no client would send."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from types import TracebackType

HEADERS, DATA, RST, SETTINGS, PING, GOAWAY = 1, 0, 3, 4, 6, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
PATH = "/inference.GRPCInferenceService/"

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    """One frame."""
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + body


def head(method: str, more: Sequence[tuple[str, str]] = ()) -> bytes:
    """The headers of a call, each spelt out."""
    fields = [(":method", "POST"), (":scheme", "http"), (":path", method), (":authority", "x"), ("te", "trailers")]
    fields += [("content-type", "application/grpc"), *more]
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)


def call(stream: int, method: str, message: bytes | None = None, packed: bool = False, last: bool = True) -> bytes:
    """A call; without a message, or where that is not its `last` one, it is left open."""
    begun = frame(HEADERS, END_HEADERS, stream, head(method, [("grpc-encoding", "gzip")] if packed else ()))
    if message is None:
        return begun
    body = bytes([packed]) + struct.pack(">I", len(message)) + message
    cuts = [body[at : at + 16384] for at in range(0, len(body), 16384)]
    return begun + b"".join(frame(DATA, END_STREAM * (last and one is cuts[-1]), stream, one) for one in cuts)


class Client:
    """A connection that reads when it is told to; `window` are the bytes that it takes of an answer."""

    def __init__(self, port: int, window: int = 65535) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 10)
        settings = struct.pack(">HI", 4, window)
        self._socket.sendall(_PREFACE + frame(SETTINGS, 0, 0, settings))
        self._read = self._socket.recv(9, socket.MSG_WAITALL)  # the server's own settings: they are taken as they are
        self._read += self._socket.recv(int.from_bytes(self._read[:3], "big"), socket.MSG_WAITALL)
        self.send(frame(SETTINGS, ACK, 0))

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def frames(self, timeout: float) -> tuple[list[tuple[int, int]], bool]:
        """(kind, stream) of each frame that comes before it is quiet for `timeout` seconds; was the connection ended?

        Pings are answered.
        """
        found: list[tuple[int, int]] = []
        self._socket.settimeout(timeout)
        while True:
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                return found, False
            except ConnectionError:
                return found, True
            if not data:
                return found, True
            self._read += data
            while len(self._read) >= 9 + int.from_bytes(self._read[:3], "big"):
                size, kind, flags = int.from_bytes(self._read[:3], "big"), self._read[3], self._read[4]
                found.append((kind, struct.unpack(">I", self._read[5:9])[0]))
                if kind == PING and not flags & ACK:
                    self.send(frame(PING, ACK, 0, self._read[9:17]))
                self._read = self._read[9 + size :]

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()


def _text(words: str) -> bytes:
    assert len(words) < 127
    return bytes([len(words)]) + words.encode()
