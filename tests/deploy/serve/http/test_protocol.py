"""Clients that are slow, or send without end, against a real process: an answer, and an end."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.deploy.serve.process import Process

MIB = 2**20


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[Process]:
    limits = ["--max-headers", "4k", "--header-timeout", 0.5, "--body-timeout", 0.5, "--max-body", "1M"]
    with Process(bundle, *limits, "--max-connections", 20, "--linger", 0, "--no-gates") as process:
        yield process


def talk(server: Process, *parts: bytes, pause: float = 0.0) -> tuple[int, dict[str, str], bytes]:
    """Send, then read to the end: status, headers, body."""
    with socket.create_connection(("127.0.0.1", server.port), 60) as client:
        for part in parts:
            try:
                client.sendall(part)
            except OSError:
                break
            time.sleep(pause)
        data = b""
        while piece := client.recv(65536):
            data += piece
    return parsed(data)


def parsed(data: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), fields, body


def error(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, str]:
    status, fields, body = answer
    assert fields["content-type"] == "application/json"
    assert fields["connection"] == "close"
    return status, json.loads(body)["error"]


def alive(server: Process) -> None:
    assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200


def test_a_header_that_is_too_long(server: Process) -> None:
    answer = talk(server, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 5000 + b"\r\n\r\n")
    assert error(answer) == (431, "the request's head is longer than 4096 bytes")


def test_a_header_without_end(server: Process) -> None:
    before = server.memory
    answer = talk(server, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", *[b"a" * MIB] * 20)
    assert error(answer)[0] == 431
    assert server.memory - before < 16 * MIB


def test_headers_without_end(server: Process) -> None:
    assert error(talk(server, b"GET / HTTP/1.1\r\nHost: localhost\r\n", *[b"X: y\r\n" * 50] * 20))[0] == 431


def test_a_target_without_end(server: Process) -> None:
    assert error(talk(server, b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n"))[0] == 414


def test_trailers_without_end(server: Process) -> None:
    start = b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: "
    assert error(talk(server, start, *[b"a" * 4096] * 4, pause=0.02))[0] in (408, 431)


def test_a_head_that_drips(server: Process) -> None:
    started = time.monotonic()
    assert error(talk(server, b"GET / HTTP/1.1\r\n", *[b"X: y\r\n"] * 9, pause=0.1)) == (408, "no request came in time")
    assert time.monotonic() - started < 5


def test_a_connection_that_says_nothing_is_closed(server: Process) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        assert client.recv(1) == b""


def test_a_body_that_drips(server: Process) -> None:
    start = b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    status, message = error(talk(server, start, *[b"{"] * 9, pause=0.1))
    assert (status, "within 0.5 s" in message) == (408, True)


def test_a_chunked_body_without_end(server: Process) -> None:
    start = b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%s\r\n" % (65536, b"x" * 65536)
    status, message = error(talk(server, start, *[chunk] * 24))
    assert (status, "more than 1048576 bytes" in message) == (413, True)


def test_a_length_that_is_too_large_is_told_before_it_is_sent(server: Process) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(
            b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        data = b""
        while not data.endswith(b"}"):
            data += client.recv(65536)
        status, message = error(parsed(data))
    assert (status, "99999999999" in message) == (413, True)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_not_http(server: Process, nonsense: bytes) -> None:
    assert error(talk(server, nonsense))[0] == 400


def test_requests_sent_ahead_are_answered_in_order_up_to_a_bound(server: Process) -> None:
    one = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n%s\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(b"".join(one % (b"X-Request-ID: n%d\r\n" % number) for number in range(20)))
        data = b""
        while data.count(b"\r\n\r\n") < 20:
            data += client.recv(65536)
    ids = [line.split()[1] for line in data.split(b"\r\n") if line.lower().startswith(b"x-request-id")]
    assert ids == [b"n%d" % number for number in range(20)]
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall((one % b"") * 5000)
        data = b""
        try:
            while piece := client.recv(65536):
                data += piece
        except ConnectionResetError:
            pass
    assert data.count(b"HTTP/1.1 200") < 5000
    alive(server)


def test_the_connection_that_was_silent_for_longest_makes_room(server: Process) -> None:
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 10)) for _ in range(20)]
        opened[0].sendall(GET)
        assert parsed(opened[0].recv(65536))[0] == 200  # it has had a request: others go first
        assert talk(server, CLOSING)[0] == 200
        opened[1].settimeout(0.4)
        assert opened[1].recv(1) == b""
        opened[0].sendall(GET)
        assert parsed(opened[0].recv(65536))[0] == 200
    alive(server)


POST = b"POST /v2/repository/index HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
CLOSING = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /v2 HTTP/1.1\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost:\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost: user@localhost\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost: localhost/x\r\n\r\n", 400),
        (b"GET /v2 HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
        (b"GET /v2 HTTP/1.2\r\nHost: localhost\r\n\r\n", 505),
        (b"GET / HTTP/9.9\r\n\r\n", 505),
        (b"GET /v2 HTTP/0.9\r\nHost: localhost\r\n\r\n", 505),
        (b"GET /v2\r\n\r\n", 505),
        (b"GET http://elsewhere.example/v2 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n", 501),
        (b"GET v2 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nExpect: a miracle\r\n\r\n", 417),
        (b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX: a\r\n folded\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX: \0\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX : a\r\n\r\n", 400),
        (b"POST /v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na", 400),
        (b"POST /v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\na", 400),
        (
            b"POST /v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST /v2 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /v2 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n3 \r\n{ }\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n2;x\n{}\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}X\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: identity\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding:\r\n\r\n", 400),
        (b"POST /v2 HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Content-Length: 2, 2\r\n\r\n{}", 400),
        (POST + b"Content-Length: +2\r\n\r\n{}", 400),
        (POST + b"Content-Length: 99999999999999999999999\r\n\r\n{}", 400),
        (POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400),
        (b"GET /v2 HTTP/1.1\nHost: localhost\n\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost: localhost\rX: y\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\n Host: localhost\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX\0: y\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n: y\r\n\r\n", 400),
        (b"GET /v2\0 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /v2#part HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET ftp://localhost/v2 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET http://a@localhost/v2 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET http:///v2 HTTP/1.0\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue, more\r\n\r\n", 417),
    ],
)
def test_heads_that_http_forbids(server: Process, head: bytes, status: int) -> None:
    assert error(talk(server, head))[0] == status
    alive(server)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v2 HTTP/1.0\r\n\r\n",
        b"GET http://localhost/v2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: [::1]:8000\r\nConnection: close\r\n\r\n",
        b"GET HTTP://LOCALHOST:80/v2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET http://localhost?a=b HTTP/1.1\r\nHost: localhost:80\r\nConnection: close\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: close\r\n\r\n",
        b"\r\nGET /v2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ],
)
def test_heads_that_http_allows(server: Process, head: bytes) -> None:
    assert talk(server, head)[0] == 200


def statuses(data: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]


def everything(server: Process, *parts: bytes, pause: float = 0.0) -> bytes:
    """What comes for these until the end."""
    with socket.create_connection(("127.0.0.1", server.port), 60) as client:
        for part in parts:
            client.sendall(part)
            time.sleep(pause)
        data = b""
        while piece := client.recv(65536):
            data += piece
    return data


@pytest.mark.parametrize(
    ("last", "status"),
    [
        (b"GET /v2 HTTP/2.0\r\nHost: localhost\r\n\r\n" + GET, 505),
        (b"GET /v2 HTTP/1.1\r\n\r\n" + GET, 400),
        (b"nonsense\r\n\r\n" + GET, 400),
        (POST + b"Transfer-Encoding: identity\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n", 400),  # its head was all right
        (POST + b"Transfer-Encoding: chunked\r\n\r\n2;" + b"a" * 300_000, 431),
        (b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 300_000, 431),
    ],
)
def test_what_is_refused_is_refused_after_the_answers_before_it(server: Process, last: bytes, status: int) -> None:
    data = everything(server, 3 * GET + last)
    assert statuses(data) == [200, 200, 200, status]
    assert data.count(b"\r\nHTTP/1.1") == 3  # none of them in the middle of another


def test_a_body_that_breaks_off_is_answered_at_once(server: Process) -> None:
    start = POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{ \r\n"
    started = time.monotonic()
    assert statuses(everything(server, start, b"nonsense\r\n", pause=0.1)) == [400]
    assert time.monotonic() - started < 5


def test_a_refusal_arrives_whatever_is_still_sent(server: Process) -> None:
    """With bytes unread, the kernel would take it back."""
    for _ in range(20):
        assert statuses(everything(server, b"GET /v2 HTTP/1.1\r\n\r\n" + b"a" * 300_000)) == [400]


@pytest.mark.parametrize("pause", [0, 0.1])
def test_a_wish_for_another_protocol_is_overheard(server: Process, pause: float) -> None:
    """The request is answered as it is, with its body, and what follows it is the next one."""
    wish = POST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n"
    data = everything(server, wish + b"Content-Length: 14\r\n\r\n", b'{"ready":true}' + GET, CLOSING, pause=pause)
    assert statuses(data) == [200, 200, 200]
    assert b'"digits"' in data


def test_a_body_behind_a_wish_for_another_protocol_is_no_request(server: Process) -> None:
    wish = b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n"
    data = everything(server, wish + b"Content-Length: %d\r\n\r\n" % len(GET), GET, pause=0.1)
    assert statuses(data) == [200]


def test_trailers_are_no_headers(bundle: Path) -> None:
    keys = {"SENET_CONVERT_SERVE_API_KEY": "a-key-of-some-length"}
    sent = POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n{}\r\n0\r\n%s\r\n"
    with Process(bundle, "--no-gates", "--linger", 0, environ=keys) as guarded:
        assert statuses(everything(guarded, sent % b"X-API-Key: a-key-of-some-length\r\n")) == [401]
        assert statuses(everything(guarded, sent % b"X-Request-ID: late\r\n")) == [401]
        assert "late" not in guarded.log


def test_chunk_extensions_are_bounded_in_all(server: Process) -> None:
    start = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    few = b"1;name=value\r\n \r\n" * 50 + b"2\r\n{}\r\n0\r\n\r\n"
    assert statuses(everything(server, start, few + CLOSING))[0] == 200
    assert error(talk(server, start, *[b"1;" + b"a" * 1000 + b"\r\n \r\n"] * 20, pause=0.01))[0] == 431


def test_http_1_0_is_not_told_to_continue(server: Process) -> None:
    head = b"POST /v2/repository/index HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    assert statuses(everything(server, head, b"{}", pause=0.1)) == [200]


@pytest.mark.parametrize("count", [300, 5000])
def test_no_more_than_64_requests_are_under_way_on_a_connection(server: Process, count: int) -> None:
    assert statuses(everything(server, count * GET)) == [200] * 64 + [429]


def test_an_answer_that_nobody_takes(server: Process) -> None:
    """The connection ends, though its client never reads."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.settimeout(10)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while True:
                client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
                time.sleep(0.005)
    alive(server)


def test_large_bodies_together_stay_within_their_bound(bundle: Path) -> None:
    limits = ["--max-body", "8M", "--max-inflight", "32M", "--body-timeout", 20, "--no-gates", "--linger", 0]
    statuses: list[int] = []
    start = b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (8 * MIB)

    def send(server: Process) -> None:
        statuses.append(talk(server, start, *[b"[" * MIB] * 8)[0])

    with Process(bundle, *limits) as server:
        before = server.memory
        peak = 0
        threads = [threading.Thread(target=send, args=(server,)) for _ in range(64)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            peak = max(peak, server.memory)
            time.sleep(0.02)
        alive(server)
    assert len(statuses) == 64
    assert set(statuses) <= {400, 503}
    assert peak - before < 200 * MIB  # of 512 that were sent


def test_tls(bundle: Path, tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    made = authority.issue_cert("localhost", "127.0.0.1")
    made.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    made.private_key_pem.write_to_path(tmp_path / "key.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    files = ["--tls-cert", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem"]
    with Process(bundle, *files, "--no-gates", "--linger", 0, "--header-timeout", 0.5) as server:
        url = server.url.replace("http:", "https:")
        assert url in server.log
        with httpx.Client(verify=context) as client:
            assert client.get(f"{url}/v2/health/ready").status_code == 200
            fresh = authority.issue_cert("localhost", "127.0.0.1")
            fresh.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
            fresh.private_key_pem.write_to_path(tmp_path / "key.pem")
            before = ssl.get_server_certificate(("127.0.0.1", server.port))
            server.hang_up()
            server.wait_for("the certificate was read again")
            assert ssl.get_server_certificate(("127.0.0.1", server.port)) != before
            (tmp_path / "cert.pem").write_text("torn")
            server.hang_up()
            server.wait_for("the certificate stays as it was")
        with httpx.Client(verify=context) as client:
            assert client.get(f"{url}/v2/health/ready").status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"{server.url}/v2/health/ready")
        assert server.stop() == 0


def chunked(path: str, *chunks: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def test_a_flood_of_tiny_chunks_is_ended(server: Process) -> None:
    """Each is a call on the loop; of 100,000 in a moment no more than a part is looked at."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        data = b""
        with suppress(ConnectionError):  # its end may be faster than its reason
            client.sendall(chunked("/v2/models/digits/infer", *[b" "] * 100_000))
            while piece := client.recv(65536):
                data += piece
    if data:
        status, message = error(parsed(data))
        assert status == 400
        assert "chunks of a few bytes" in message
    alive(server)


def test_small_chunks_are_taken(server: Process) -> None:
    status, _, body = talk(server, chunked("/v2/repository/index", *[b" "] * 2000, b'{"ready":', b"true}"))
    assert status == 200
    assert b'"digits"' in body


def test_the_deadline_begins_with_the_head(bundle: Path) -> None:
    """A head that took most of the time leaves little to the body."""
    limits = ["--deadline", 1, "--header-timeout", 5, "--body-timeout", 5]
    with Process(bundle, *limits, "--linger", 0, "--no-gates") as process:
        started = time.perf_counter()
        head = b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
        head += b"Connection: close\r\n\r\n"
        status, _, body = talk(process, head[:9], head[9:30], head[30:], b"{", pause=0.3)
        assert status == 408
        assert b"within 1 s" in body
        assert time.perf_counter() - started < 3.5
