"""The gRPC server: services, limits, TLS, start and stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from tritonclient.grpc.service_pb2_grpc import add_GRPCInferenceServiceServicer_to_server

from ....errors import ConvertError
from ..hub import Hub
from .certificate import Certificate
from .guard import Guard
from .health import Health
from .service import Service

_ANY = -1  # gRPC's word for no limit
_LAST = 1.0  # seconds for answers to go out


@dataclass(frozen=True)
class GrpcServer:
    """A server that listens on `port`."""

    server: Any
    port: int
    guard: Guard
    service: Service
    health: Health
    certificate: Certificate | None

    @classmethod
    async def start(cls, hub: Hub, host: str, port: int) -> GrpcServer:
        """Listen. Raises ConvertError: the port is taken, the certificate cannot be read."""
        settings = hub.settings
        guard = Guard(hub)
        server = grpc.aio.server(
            interceptors=[guard],
            options=[
                ("grpc.max_receive_message_length", settings.max_body),
                ("grpc.max_send_message_length", _ANY),
                ("grpc.max_metadata_size", settings.max_headers),
                ("grpc.absolute_max_metadata_size", settings.max_headers),
                ("grpc.so_reuseport", 0),  # a port that is taken is an error
            ],
            maximum_concurrent_rpcs=settings.max_connections,
        )
        service, health = Service(hub), Health(hub)
        add_GRPCInferenceServiceServicer_to_server(service, server)
        add_HealthServicer_to_server(health, server)
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        certificate = None
        if settings.tls_cert and settings.tls_key:
            certificate = Certificate(settings.tls_cert, settings.tls_key)
        try:
            if certificate:
                bound = server.add_secure_port(address, certificate.credentials())
            else:
                bound = server.add_insecure_port(address)
        except RuntimeError as fault:
            raise ConvertError(f"gRPC cannot listen on {address}; is the port taken? ({fault})") from fault
        await server.start()
        return cls(server, bound, guard, service, health, certificate)

    async def stop(self, grace: float) -> None:
        """Take no more calls, answer those that were taken within `grace` seconds, cancel the rest.

        gRPC itself is stopped last: a call that reaches it while it stops is neither taken nor refused, but waits for
        the end of the grace and is cancelled without a word (https://github.com/grpc/grpc/issues/41785).
        """
        self.health.stopping.set()
        self.service.end_streams()
        await self.guard.drain(grace)
        await self.server.stop(min(_LAST, grace))
