"""The gRPC server: its methods, limits, TLS, start and stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from tritonclient.grpc import service_pb2

from .....errors import ConvertError
from ...state import ServerState
from . import connections, limits
from .certificate import Certificate
from .handlers import CALLS, PROBES, STREAMS, WATCHERS, Call, Handlers
from .health import Health
from .intake import Form, Intake
from .peers import Peers
from .service import Service

KINDS = {  # every other method is an ordinary call
    "/inference.GRPCInferenceService/ServerLive": PROBES,
    "/inference.GRPCInferenceService/ServerReady": PROBES,
    "/inference.GRPCInferenceService/ModelStreamInfer": STREAMS,
    "/grpc.health.v1.Health/Check": PROBES,
    "/grpc.health.v1.Health/Watch": WATCHERS,
}

_LAST = 1.0  # seconds for answers to go out
_LOOK = 1.0  # seconds between two looks at who is there
_SOON = 0.1  # seconds between two looks at what has arrived in part
_log = logging.getLogger("senet_convert.serve")


@dataclass(frozen=True)
class GrpcServer:
    """A server that listens on `port`, with at most `connections`."""

    server: Any
    port: int
    connections: int
    state: ServerState
    handlers: Handlers
    intake: Intake
    service: Service
    health: Health
    certificate: Certificate | None
    looking: list[asyncio.Task[None]]

    @classmethod
    async def start(cls, state: ServerState, host: str, port: int) -> GrpcServer:
        """Listen. Raises ConvertError: the port is taken, the certificate cannot be read."""
        settings = state.settings
        peers = Peers()
        intake = Intake(state, peers)
        handlers = Handlers(state, intake, peers)
        service, health = Service(state, intake, peers), Health(state)
        most = connections.most(settings.max_connections)
        server = grpc.aio.server(options=limits.options(settings, most))
        calls = [*_calls(service_pb2, service), *_calls(health_pb2, health)]
        for call in calls:
            if call.probe:  # registered, they have a queue of their own: no flood of other calls is in front of them
                name, method = call.method[1:].split("/")
                server.add_registered_method_handlers(name, {method: handlers.handler(call)})
        server.add_generic_rpc_handlers((_Generic(handlers, calls),))
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
        found = cls(server, bound, most, state, handlers, intake, service, health, certificate, [])
        found.looking.extend(map(asyncio.create_task, (found._look_after(), found._weigh_parts())))
        return found

    async def stop(self, grace: float) -> None:
        """Take no more calls, answer those that were taken within `grace` seconds, cancel the rest.

        gRPC itself is stopped last: a call that reaches it while it stops is neither taken nor refused, but waits for
        the end of the grace and is cancelled without a word (https://github.com/grpc/grpc/issues/41785).
        """
        self.health.stopping.set()
        self.service.end_streams()
        await self.handlers.drain(grace)
        for task in self.looking:
            task.cancel()
        await self.server.stop(min(_LAST, grace))
        self.intake.close()

    async def _look_after(self) -> None:
        """Every now and then: room for streams, and for connections."""
        settings, peers = self.state.settings, self.handlers.peers
        while True:
            await asyncio.sleep(_LOOK)
            if self.handlers.full(STREAMS):
                self.service.end_idle_streams(settings.body_timeout)
            share = max(1, self.connections // connections.SHARES)
            stuck, known = peers.stuck(settings.body_timeout), frozenset(peers.known)
            with suppress(OSError):  # no more files may be open: the next look may see them
                ended = await asyncio.to_thread(connections.hang_up, self.port, share, stuck, known)
                if ended:
                    _log.warning("gRPC: hung up on %d connections that took no answer or never asked", ended)

    async def _weigh_parts(self) -> None:
        """While messages arrive: those that are there in part hold no more than requests may hold together."""
        peers, most = self.handlers.peers, self.state.settings.max_inflight
        while True:
            await asyncio.sleep(_SOON)
            if not peers.reading():
                continue
            with suppress(OSError):
                received = await asyncio.to_thread(connections.received, self.port)
                heavy = peers.heaviest(received, most)
                if heavy:
                    ended = await asyncio.to_thread(connections.hang_up, self.port, len(received), heavy, ())
                    _log.warning("gRPC: hung up on %d connections whose messages in part held too much", ended)


class _Generic(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc is untyped
    """Every method, those that are not there among them: each call is counted and logged."""

    def __init__(self, handlers: Handlers, calls: Iterable[Call]) -> None:
        self._handlers = handlers
        self._known = {call.method: handlers.handler(call) for call in calls}

    def service(self, handler_call_details: Any) -> Any:
        """As gRPC asks for it."""
        method = handler_call_details.method
        return self._known.get(method) or self._handlers.unknown(method)


def _calls(module: Any, servicer: Any) -> Iterator[Call]:
    """The methods of a module of stubs that the servicer has."""
    for service in module.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            path = f"/{service.full_name}/{method.name}"
            behaviour = getattr(servicer, method.name, None)
            if behaviour is not None:
                yield Call(path, KINDS.get(path, CALLS), behaviour, Form.of(getattr(module, method.input_type.name)))
