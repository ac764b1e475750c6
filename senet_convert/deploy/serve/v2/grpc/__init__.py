"""Open Inference Protocol v2 over gRPC. Its packages are an extra: they are imported when a server starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .....errors import ConvertError
from ...state import ServerState

if TYPE_CHECKING:
    from .server import GrpcServer


async def start(state: ServerState, host: str, port: int) -> GrpcServer:
    """Listen on `port` (0 for any free one), on the event loop that runs; with TLS where the state's settings name it.

    Raises ConvertError: the extra is not installed, the port is taken, the certificate cannot be read.
    """
    try:
        from .server import GrpcServer
    except (ImportError, RuntimeError) as fault:  # RuntimeError: stubs that are newer than the installed grpcio
        raise ConvertError(f"gRPC needs the extra 'grpc': pip install 'senet-convert[grpc]' ({fault})") from fault
    return await GrpcServer.start(state, host, port)
