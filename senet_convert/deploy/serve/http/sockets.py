"""Listening: sockets and certificates, with faults in words."""

from __future__ import annotations

import errno
import fcntl
import socket
import ssl
import struct
import termios
from contextlib import suppress
from pathlib import Path
from typing import Any

from ....errors import ConvertError

_BACKLOG = 2048


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to every address of `host`, all on one port; 0 is any free one. Raises ConvertError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as fault:
        raise ConvertError(f"'{host}' is no address of this machine: {fault}") from fault
    opened: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            if opened and port == 0:
                address = (address[0], opened[0].getsockname()[1], *address[2:])
            opened.append(_bound(family, address))
    except OSError as fault:
        for one in opened:
            one.close()
        raise ConvertError(_words(fault, host, port)) from fault
    return opened


def unix(path: Path) -> list[socket.socket]:
    """A socket that is a file, for its owner and group. One that nobody listens on is replaced. Raises ConvertError."""
    one = _Unix(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket() and _abandoned(path):
            path.unlink()
        one.bind(str(path))
        one.path, one.made = path, _identity(path)
        path.chmod(0o660)
        one.listen(_BACKLOG)
        one.setblocking(False)
    except OSError as fault:
        one.close()
        taken = (
            "it is taken by another program, or is no socket"
            if fault.errno == errno.EADDRINUSE
            else fault.strerror or str(fault)
        )
        raise ConvertError(f"{path}: cannot listen on this Unix socket: {taken}") from fault
    return [one]


def remove(one: socket.socket) -> None:
    """Take the file of a Unix socket away, unless another server has put its own there; for others nothing is done."""
    if isinstance(one, _Unix):
        with suppress(OSError):
            if _identity(one.path) == one.made:
                one.path.unlink()


class _Unix(socket.socket):
    """A Unix socket that knows its file."""

    path: Path
    made: tuple[int, int]


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


def _abandoned(path: Path) -> bool:
    """Does nobody listen on it? One that is only too busy to answer is listened on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        return client.connect_ex(str(path)) == errno.ECONNREFUSED


def certificate(cert: Path, key: Path) -> ssl.SSLContext:
    """What TLS needs. Raises ConvertError: the files cannot be read, or do not belong together."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key, _no_password)
    except ssl.SSLError as fault:
        raise ConvertError(
            f"{cert} and {key} are no certificate and its private key in PEM form: {fault.reason or fault}"
        ) from fault
    except (OSError, ValueError) as fault:
        raise ConvertError(f"{cert}, {key}: {fault}") from fault
    return context


def url(host: str, port: int, scheme: str = "http") -> str:
    """Where a server is found; what listens everywhere is found here too."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"{scheme}://{name}:{port}"


def unread(number: int) -> int:
    """Bytes that have arrived on a socket, by its file number, and were not read yet; 0 for a closed one."""
    try:
        answer: bytes = fcntl.ioctl(number, termios.FIONREAD, b"\0\0\0\0")
    except (OSError, ValueError):  # closed: its number is -1
        return 0
    return int(struct.unpack("i", answer)[0])


def _bound(family: int, address: Any) -> socket.socket:
    # Named, the protocol lets asyncio switch Nagle's algorithm off: an answer's second packet does not wait 40 ms.
    one = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)
        one.listen(_BACKLOG)
        one.setblocking(False)
    except OSError:
        one.close()
        raise
    return one


def _words(fault: OSError, host: str, port: int) -> str:
    where = f"port {port} of {host}"
    if fault.errno == errno.EADDRINUSE:
        return f"{where} is taken by another program; choose another port, 0 for any free one"
    if fault.errno in (errno.EACCES, errno.EPERM):
        return f"{where} needs a privilege that this process does not have; choose a port from 1024 on"
    if fault.errno == errno.EADDRNOTAVAIL:
        return f"'{host}' is no address of this machine"
    return f"cannot listen on {where}: {fault.strerror}"


def _no_password() -> str:
    raise ValueError("the private key is encrypted; give one that is not, readable by this user alone")
