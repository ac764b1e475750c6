"""Connections of the gRPC port, as the operating system shows them: gRPC neither tells of them nor ends a single one.

gRPC bounds how many there are, how long a handshake takes and how long a connection without calls stays. It bounds
neither how many one address has, nor how long an answer lies there that nobody takes.
"""

from __future__ import annotations

import resource
import socket
import struct
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

SHARES = 2  # one address may have so much of all connections: a half
_RECEIVED = 128  # where tcpi_bytes_received stands in Linux' struct tcp_info
_OTHERS = 256  # open files that are no connections: models, libraries, sockets that listen

Peer = tuple[str, int]  # address and port


def most(wanted: int, files: int | None = None) -> int:
    """How many connections of `wanted` gRPC may have where `files` may be open (default: as the system has it).

    At most half of what is left for connections: the other half is HTTP's, its probes' among them.
    """
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if files is None else files
    if allowed == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, (allowed - _OTHERS) // 2))


def hang_up(port: int, share: int, stuck: Collection[Peer], known: Collection[Peer]) -> int:
    """End connections to `port`: those of `stuck`; of an address with more than `share`, the older that never called.

    `known` are those that have called. Gives how many were ended. Looks at every open file: not for the event loop.
    """
    files, ended = _files(), 0
    if len(files) <= share and not stuck:
        return 0
    per_address: Counter[str] = Counter()
    for one in _sockets(files):
        with suppress(OSError):
            peer = _peer(one, port)
            if peer is None:
                continue
            per_address[peer[0]] += 1
            if peer in stuck or (per_address[peer[0]] > share and peer not in known):
                one.shutdown(socket.SHUT_RDWR)
                ended += 1
    return ended


def received(port: int) -> dict[Peer, int]:
    """Bytes that have come in on every connection to `port`, as far as the system tells (Linux does)."""
    found: dict[Peer, int] = {}
    if not hasattr(socket, "TCP_INFO"):
        return found
    for one in _sockets(_files()):
        with suppress(OSError, struct.error):
            peer = _peer(one, port)
            if peer is not None:
                info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED + 8)
                found[peer] = struct.unpack_from("=Q", info, _RECEIVED)[0]
    return found


def _files() -> list[int]:
    """Every open file, the last opened first as far as their numbers tell."""
    return sorted((int(file.name) for file in Path("/dev/fd").iterdir()), reverse=True)


def _sockets(files: list[int]) -> Iterator[socket.socket]:
    """Those that are sockets, by their own numbers, which stay gRPC's to close.

    A second handle would keep a connection in gRPC's epoll set after gRPC has closed and forgotten it, and gRPC would
    crash. A number may mean another file by now; what is ended is looked at just before.
    """
    for number in files:
        try:
            one = socket.socket(fileno=number)
        except OSError:  # no socket, or closed in between
            continue
        try:
            yield one
        finally:
            one.detach()


def _peer(one: socket.socket, port: int) -> Peer | None:
    """Who is at the other end of a connection to `port`."""
    if one.family not in (socket.AF_INET, socket.AF_INET6) or one.getsockname()[1] != port:
        return None
    address, its_port = one.getpeername()[:2]
    return address.removeprefix("::ffff:"), its_port
