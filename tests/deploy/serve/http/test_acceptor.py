"""Clients that only open connections, or are slow with what they send, keep nobody out: against real processes."""

from __future__ import annotations

import re
import resource
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from bench.running import free_ports
from tests.deploy.serve.process import Process

QUIET = ("--no-gates", "--linger", 0)
FEW = ("--max-connections", 20, "--max-connections-per-client", 20)
HALF = b"POST /v2/repository/index HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
# A server that may open fewer files than it takes connections, since the reserve is gone.
SCARCE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))
from senet_convert.deploy.serve import server
server._FILES = 0
from senet_convert.cli import main
main()
"""


@contextmanager
def silent(port: int, count: int, first: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that say nothing more than `first`."""
    with ExitStack() as stack:
        found = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 10)) for _ in range(count)]
        for one in found if first else ():
            one.sendall(first)
        time.sleep(0.5 if first else 0.1)  # read by now
        yield found


def live(url: str, context: ssl.SSLContext | bool = True) -> int:
    return httpx.get(f"{url}/v2/health/live", verify=context, timeout=5).status_code


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[object], ssl.SSLContext]:
    trustme = pytest.importorskip("trustme")
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    made = authority.issue_cert("localhost", "127.0.0.1")
    made.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    made.private_key_pem.write_to_path(folder / "key.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return ["--tls-cert", folder / "cert.pem", "--tls-key", folder / "key.pem"], context


@pytest.mark.parametrize("first", [b"", b"\x16", b"\x16\x03\x01\x02"])
def test_handshakes_that_do_not_come_keep_nobody_out(
    bundle: Path, certified: tuple[list[object], ssl.SSLContext], first: bytes
) -> None:
    options, context = certified
    with Process(bundle, *QUIET, *FEW, *options) as server:
        url = server.url.replace("http:", "https:")
        for _ in range(3):  # their files' numbers are used again
            with silent(server.port, 70, first):
                assert [live(url, context) for _ in range(5)] == [200] * 5
        assert server.stop() == 0
    assert "Traceback" not in server.log


def test_a_handshake_has_a_time(bundle: Path, certified: tuple[list[object], ssl.SSLContext]) -> None:
    options, _ = certified
    with (
        Process(bundle, *QUIET, *options, "--header-timeout", 0.5) as server,
        silent(server.port, 1, b"\x16\x03\x01") as (one,),
    ):
        one.settimeout(10)
        assert one.recv(1) == b""


def test_over_tls_nobody_is_taken_where_all_are_busy(
    bundle: Path, certified: tuple[list[object], ssl.SSLContext]
) -> None:
    options, context = certified
    with Process(bundle, *QUIET, *options, "--max-connections", 2) as server, ExitStack() as stack:
        for _ in range(2):
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 10))
            stack.enter_context(context.wrap_socket(raw, server_hostname="localhost")).sendall(HALF)
        time.sleep(0.5)
        with pytest.raises(httpx.TransportError):
            live(server.url.replace("http:", "https:"), context)


def test_a_body_that_drips_makes_room_after_a_while(bundle: Path) -> None:
    """It is told; before, the newcomer is."""
    with Process(bundle, *QUIET, "--max-connections", 3) as server, silent(server.port, 3, HALF) as slow:
        told = httpx.get(f"{server.url}/v2/health/live")
        assert (told.status_code, told.headers["retry-after"]) == (503, "1")
        assert told.json() == {"error": "too many connections; try again"}
        time.sleep(5)
        assert [live(server.url), live(server.url)] == [200, 200]
        slow[0].settimeout(5)
        heard = slow[0].recv(65536)
        assert heard.startswith(b"HTTP/1.1 503")
        assert b"arrives so slowly" in heard
        slow[1].setblocking(False)
        with pytest.raises(BlockingIOError):
            slow[1].recv(1)


def test_an_address_has_no_more_than_its_share(bundle: Path) -> None:
    options = ["--max-connections-per-client", 3]
    with Process(bundle, *QUIET, *options) as server, silent(server.port, 3, HALF):
        told = httpx.get(f"{server.url}/v2/health/live")
        assert (told.status_code, told.headers["retry-after"]) == (503, "1")
        assert "from this address" in told.json()["error"]
    with (
        Process(bundle, *QUIET, *options, "--trusted-proxies", "127.0.0.0/8") as server,
        silent(server.port, 3, HALF),
    ):
        assert live(server.url) == 200


@pytest.mark.parametrize(("first", "answers"), [(b"", {200}), (HALF, {200, 503})])
def test_where_no_file_is_left_somebody_makes_room_or_is_told(
    image_bundle: Path, tmp_path: Path, first: bytes, answers: set[int]
) -> None:
    (port,) = free_ports(1)
    argv = [sys.executable, "-c", SCARCE, "serve", str(image_bundle), "--port", str(port), *map(str, QUIET)]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(argv, stderr=log) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(600):
                with suppress(httpx.TransportError):
                    if httpx.get(f"{url}/v2/health/ready").status_code == 200:
                        break
                time.sleep(0.1)
            with silent(port, 150, first):
                found = {live(url) for _ in range(10)}
                used = process_seconds(process.pid)
                time.sleep(1)
                assert process_seconds(process.pid) - used < 0.5  # it does not try without a pause
            assert found <= answers
            assert live(url) == 200
        finally:
            process.terminate()
    told = (tmp_path / "log").read_text()
    assert re.search(r"no more files can be opened \(ulimit -n\)", told)
    assert told.count("no more files") < 5
    assert "Traceback" not in told


def process_seconds(pid: int) -> float:
    """Of the processor."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_files_are_allowed_as_many_as_can_be(bundle: Path) -> None:
    """The soft limit is raised; what the hard one does not allow is told, and not taken."""

    def limit(soft: int, hard: int) -> str:
        code = (
            f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
            "from senet_convert.deploy.serve.server import _allow_files\n"
            "from senet_convert.deploy.serve.settings.settings import Settings\n"
            "made = [_allow_files(Settings(grpc_port=port)).max_connections for port in (None, 1)]\n"
            "print(*made, resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
        )
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("few files may be opened here")
    assert limit(256, 4096) == "1000 1000 4096"
    assert limit(1024, 1024) == "768 384 1024"
    assert limit(100, 100) == "50 25 100"


@pytest.mark.parametrize("host", ["::1", "::"])
def test_ipv6(bundle: Path, host: str) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no IPv6 here")
    with Process(bundle, *QUIET, "--host", host) as server:
        assert f"on http://[::1]:{server.port}" in server.log
        assert live(f"http://[::1]:{server.port}") == 200


def over(path: Path) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost", timeout=5)


def test_a_unix_socket(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()  # as one leaves it that was killed
    with Process(bundle, *QUIET, "--uds", path, wait=False) as server:
        server.wait_for(f"serving digits on the Unix socket {path}")
        assert path.stat().st_mode & 0o777 == 0o660
        with over(path) as client:
            assert client.get("/v2/health/ready").status_code == 200
        with Process(bundle, *QUIET, "--uds", path, wait=False) as second:
            assert second.ended() == 1
        assert "taken by another program" in second.log
        with over(path) as client:
            assert client.get("/v2/health/ready").status_code == 200
        assert server.stop() == 0
    assert not path.exists()


def test_a_unix_socket_of_another_server_stays(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with Process(bundle, *QUIET, "--uds", path, wait=False) as server:
        server.wait_for("serving")
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            assert server.stop() == 0
            assert path.is_socket()


def test_a_file_that_is_no_socket_stays(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("dear")
    with Process(bundle, *QUIET, "--uds", tmp_path / "s", wait=False) as server:
        assert server.ended() == 1
    assert "cannot listen on this Unix socket" in server.log
    assert (tmp_path / "s").read_text() == "dear"
