"""What the port is held to before a call is ours: connections, their handshakes, streams, calls that wait, headers."""

from __future__ import annotations

from typing import Any

from ...settings.settings import Settings

STREAMS = 4096  # calls of one connection at the same time; more are refused by HTTP/2 itself, and may be tried again
HEAD = 16 * 1024  # bytes of metadata of a call, as gRPC has it where nothing is said; each costs more in memory
WAITING = 4 * STREAMS  # calls that wait to be taken, up to 30 KB each; gRPC cancels what comes beyond
KEEPALIVE = 60.0  # seconds without a word after which a client is asked whether it is still there
ANSWER = 20.0  # seconds that it has to say so

_ANY = -1  # gRPC's word for no limit


def options(settings: Settings, connections: int) -> list[tuple[str, Any]]:
    """The arguments of gRPC's core (https://grpc.github.io/grpc/core/group__grpc__arg__keys.html)."""
    head = min(settings.max_headers, HEAD)
    return [
        ("grpc.max_receive_message_length", settings.max_body),
        ("grpc.per_message_decompression", 0),  # it would unpack any number of messages at once: intake.py has bounds
        ("grpc.max_send_message_length", _ANY),
        ("grpc.max_metadata_size", head),
        ("grpc.absolute_max_metadata_size", head),
        ("grpc.max_allowed_incoming_connections", connections),
        ("grpc.server_handshake_timeout_ms", _ms(settings.header_timeout)),  # until TLS and HTTP/2 have begun
        ("grpc.max_connection_idle_ms", _ms(settings.header_timeout)),  # clients connect again by themselves
        ("grpc.keepalive_time_ms", _ms(KEEPALIVE)),
        ("grpc.keepalive_timeout_ms", _ms(ANSWER)),
        ("grpc.max_concurrent_streams", STREAMS),
        ("grpc.server.max_pending_requests", WAITING),  # by default it cancels at random from 1000 on
        ("grpc.server.max_pending_requests_hard_limit", WAITING),
        ("grpc.so_reuseport", 0),  # a port that is taken is an error
    ]


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))
