"""Start, TLS and stop."""

from __future__ import annotations

import asyncio
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from senet_convert.deploy.serve.models.model_paths import ModelPath
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.state import ServerState
from senet_convert.deploy.serve.v2 import grpc
from senet_convert.errors import ConvertError
from tests.deploy.serve.process import Process

from .conftest import Gate
from .live import PATIENCE, Live, rows, tensor, until


def starting(settings: Settings, port: int = 0) -> None:
    async def main() -> None:
        server = await grpc.start(ServerState(settings), settings.host, port)
        await server.stop(0)

    asyncio.run(main())


def test_a_port_that_is_taken_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConvertError, match=f"cannot listen on 127.0.0.1:{port}"):
            starting(Settings(), port)


def test_ipv6_has_its_brackets() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 loopback here")
    starting(Settings(host="::1"))


@pytest.mark.parametrize("missing", ["tritonclient", "tritonclient.grpc", "grpc", "grpc_health"])
def test_without_the_packages_the_extra_is_named(missing: str) -> None:
    code = f"""
import asyncio, sys
sys.modules[{missing!r}] = None
from senet_convert.deploy.serve.v2 import grpc as v2_grpc
from senet_convert.deploy.serve.state import ServerState
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.errors import ConvertError
try:
    asyncio.run(v2_grpc.start(ServerState(Settings()), "127.0.0.1", 0))
except ConvertError as fault:
    print(fault)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "senet-convert[grpc]" in done.stdout


def test_nothing_of_grpc_is_loaded_before_it_starts() -> None:
    code = """
import sys
import senet_convert.deploy.serve.v2.grpc, senet_convert.deploy.serve.state
print(sorted({"grpc", "grpc_health", "tritonclient"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def write_certificate(folder: Path) -> tuple[Path, Path, Path]:
    """A chain, its key, and the root that vouches for it."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    chain, key, root = folder / "chain.pem", folder / "key.pem", folder / "root.pem"
    chain.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    authority.cert_pem.write_to_path(str(root))
    return chain, key, root


def test_tls(plus: Path, tmp_path: Path) -> None:
    chain, key, root = write_certificate(tmp_path)
    settings = Settings(models=(ModelPath("plus", plus),), threads=1, tls_cert=chain, tls_key=key)
    with Live(settings) as live:
        with live.client(ssl=True, root_certificates=str(root)) as client:
            assert client.infer("plus", [tensor("x", rows(1.0))]).as_numpy("y")[0, 0] == 3.0
        with live.client() as client, pytest.raises(InferenceServerException, match="UNAVAILABLE"):
            client.is_server_live(client_timeout=5)


def test_a_certificate_is_renewed_while_the_server_runs(plus: Path, tmp_path: Path) -> None:
    chain, key, root = write_certificate(tmp_path)
    old = root.rename(tmp_path / "old.pem")
    settings = Settings(models=(ModelPath("plus", plus),), threads=1, tls_cert=chain, tls_key=key)
    with Live(settings) as live, live.client(ssl=True, root_certificates=str(old)) as first:
        assert first.is_server_live()
        write_certificate(tmp_path)
        assert live.server.certificate is not None
        live.server.certificate.renew()
        with live.client(ssl=True, root_certificates=str(root)) as client:
            assert client.is_server_live()
        with live.client(ssl=True, root_certificates=str(old)) as client, pytest.raises(InferenceServerException):
            client.is_server_live(client_timeout=5)
        assert first.is_server_live(), "a connection that is open goes on"
        chain.write_text("torn")
        with pytest.raises(ConvertError, match="no certificate chain"):
            live.server.certificate.renew()
        with live.client(ssl=True, root_certificates=str(root)) as client:
            assert client.is_server_live()


@pytest.fixture
def files() -> Iterator[None]:
    """This process may open 4,000."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4000:
        pytest.skip(f"no more than {hard} files may be opened")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("files")
def test_silent_connections_end_at_their_handshake_and_the_server_stays(plus: Path, tmp_path: Path) -> None:
    """Each of 1,500 waits in its handshake until its time is up, on both ports, while the certificate is read again."""
    chain, key, root = write_certificate(tmp_path)
    options = ["--grpc-port", 0, "--tls-cert", chain, "--tls-key", key, "--no-gates", "--linger", 0]
    with Process(plus, *options, "--header-timeout", 3) as server, ExitStack() as held:
        for port in (server.grpc_port, server.port):
            for _ in range(1500):
                silent = held.enter_context(socket.socket())
                silent.setblocking(False)
                silent.connect_ex(("127.0.0.1", port))
        for _ in range(4):
            time.sleep(1)
            server.hang_up()
        credentials = {"ssl": True, "root_certificates": str(root)}
        with InferenceServerClient(f"127.0.0.1:{server.grpc_port}", **credentials) as client:
            assert client.is_server_live(client_timeout=30)
        assert server.stop() == 0, server.log


def test_a_certificate_that_is_none_is_an_error(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    with pytest.raises(ConvertError, match=r"wrong\.pem.*no certificate chain"):
        starting(Settings(tls_cert=wrong, tls_key=wrong))


def test_accepted_requests_are_answered_when_the_server_stops(plus: Path, gate: Gate) -> None:
    settings = Settings(models=(ModelPath("plus", plus),), threads=1, max_batch=1)
    with Live(settings) as live, live.client() as client, ThreadPoolExecutor(5) as pool:
        gate.close()

        def ask(value: float) -> float:
            return float(client.infer("plus", [tensor("x", rows(value))]).as_numpy("y")[0, 0])

        asked = [pool.submit(ask, float(number)) for number in range(5)]
        until(lambda: live.state.repository.get("plus").stats.pending == 5)
        stopping = asyncio.run_coroutine_threadsafe(live.stop(PATIENCE), live.loop)
        until(lambda: not client.is_server_ready())
        with pytest.raises(InferenceServerException, match="the server shuts down"):
            until(lambda: client.infer("plus", [tensor("x", rows(1.0))], timeout=100_000) is None)
        assert not stopping.done()
        gate.open()
        assert [one.result(PATIENCE) for one in asked] == [number + 2.0 for number in range(5)]
        stopping.result(PATIENCE)


def test_what_is_not_done_within_the_grace_is_refused(plus: Path, gate: Gate) -> None:
    with Live(Settings(models=(ModelPath("plus", plus),), threads=1)) as live, live.client() as client:
        gate.close()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(client.infer, "plus", [tensor("x", rows(1.0))])
            assert gate.reached.wait(PATIENCE)
            live.run(live.server.stop(0.1))
            with pytest.raises(InferenceServerException) as caught:
                asked.result(PATIENCE)
        gate.open()
    assert caught.value.status() in ("StatusCode.CANCELLED", "StatusCode.UNAVAILABLE")
