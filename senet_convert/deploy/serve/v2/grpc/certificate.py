"""The certificate that gRPC shows, and its renewal while the server runs."""

from __future__ import annotations

import ssl
from collections import deque
from pathlib import Path
from typing import Any

import grpc

from .....errors import ConvertError


class Certificate:
    """A chain and its private key, in PEM. gRPC asks at every handshake and is told only of what is new.

    Answered with the same certificate each time, gRPC 1.85 builds its TLS context anew at each handshake and loses
    count of who holds the old one: with a thousand handshakes under way the process ends.
    """

    def __init__(self, chain: Path, key: Path) -> None:
        """Read both. Raises ConvertError."""
        self._files = (chain, key)
        self._first = self._read()
        self._new: deque[Any] = deque()

    def renew(self) -> None:
        """Read both again. Raises ConvertError; what was shown before still is."""
        self._new.append(self._read())

    def credentials(self) -> Any:
        """As a server takes them."""
        return grpc.dynamic_ssl_server_credentials(self._first, self._newest)

    def _newest(self) -> Any:
        """What was read since gRPC last asked, or None where that still stands."""
        try:
            return self._new.popleft()
        except IndexError:
            return None

    def _read(self) -> Any:
        chain, key = self._files
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(chain, key)  # gRPC itself says nothing
            return grpc.ssl_server_certificate_configuration([(key.read_bytes(), chain.read_bytes())])
        except (OSError, ssl.SSLError) as fault:
            raise ConvertError(f"{chain}, {key}: no certificate chain and its private key in PEM: {fault}") from fault
