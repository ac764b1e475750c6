"""Listening, and its faults in words."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from senet_convert.deploy.serve.http import sockets
from senet_convert.errors import ConvertError


def test_a_free_port_on_every_address_of_a_name() -> None:
    opened = sockets.listen("localhost", 0)
    try:
        assert len({one.getsockname()[1] for one in opened}) == 1
        for one in opened:
            with socket.create_connection(one.getsockname()[:2], 5):
                pass
    finally:
        for one in opened:
            one.close()


def test_a_port_that_is_taken() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(ConvertError, match="is taken by another program"),
    ):
        sockets.listen("127.0.0.1", other.getsockname()[1])


@pytest.mark.parametrize("host", ["203.0.113.1", "no.such.name.invalid", "a" * 300])
def test_an_address_that_is_not_ours(host: str) -> None:
    with pytest.raises(ConvertError, match="no address of this machine"):
        sockets.listen(host, 0)


def test_a_port_that_needs_a_privilege() -> None:
    told = sockets._words(PermissionError(13, "Permission denied"), "127.0.0.1", 80)
    assert "port 80 of 127.0.0.1 needs a privilege" in told


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("example.org", "http://example.org:80"),
    ],
)
def test_where_it_is_found(host: str, expected: str) -> None:
    assert sockets.url(host, 80) == expected


def test_unread_bytes() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert sockets.unread(other.fileno()) == 0
        one.sendall(b"abc")
        assert sockets.unread(other.fileno()) == 3
    assert sockets.unread(-1) == 0


def test_files_that_are_no_certificate(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("torn")
    with pytest.raises(ConvertError, match="no certificate and its private key in PEM form"):
        sockets.certificate(tmp_path / "cert.pem", tmp_path / "cert.pem")


def test_keys_that_do_not_belong_or_are_encrypted(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    from cryptography.hazmat.primitives import serialization

    authority = trustme.CA()
    made, another = authority.issue_cert("localhost"), authority.issue_cert("localhost")
    made.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    made.private_key_pem.write_to_path(tmp_path / "key.pem")
    another.private_key_pem.write_to_path(tmp_path / "other.pem")
    assert sockets.certificate(tmp_path / "cert.pem", tmp_path / "key.pem") is not None
    with pytest.raises(ConvertError, match=r"other\.pem"):
        sockets.certificate(tmp_path / "cert.pem", tmp_path / "other.pem")
    key = serialization.load_pem_private_key(made.private_key_pem.bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    (tmp_path / "locked.pem").write_bytes(encrypted)
    with pytest.raises(ConvertError, match="the private key is encrypted"):
        sockets.certificate(tmp_path / "cert.pem", tmp_path / "locked.pem")


def test_an_answer_in_two_packets_does_not_wait_for_the_first_to_be_acknowledged() -> None:
    """asyncio switches Nagle's algorithm off only where a socket says that it is TCP; else that costs 40 ms."""
    (opened,) = sockets.listen("127.0.0.1", 0)
    with opened:
        assert opened.proto == socket.IPPROTO_TCP
