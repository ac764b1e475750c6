"""What HTTP/1.1 forbids in a request's head and the parser lets pass (RFC 9112, 2.3, 3.2, 6.1; RFC 9110, 10.1.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus

Fault = tuple[HTTPStatus, str]
Headers = Sequence[tuple[bytes, bytes]]

_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._~%-]+)?\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"(https?)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_PORTS = {b"http": b":80", b"https": b":443"}
_VERSIONS = ("1.0", "1.1")


def fault(version: str, method: str, target: bytes, headers: Headers) -> Fault | None:
    """Why a head is refused, in words; None where it is as it should be. Names of `headers` are in lower case."""
    if version not in _VERSIONS:
        return HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, f"HTTP/{version} is not spoken here; send HTTP/1.1"
    hosts = [value.strip() for name, value in headers if name == b"host"]
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        return HTTPStatus.BAD_REQUEST, f"the request has {len(hosts)} Host headers; it must have one"
    if hosts and not _HOST.fullmatch(hosts[0]):
        return HTTPStatus.BAD_REQUEST, "the request's Host header is no name or address with a port"
    if method == "CONNECT":
        return HTTPStatus.NOT_IMPLEMENTED, "this server is no proxy: CONNECT is not supported"
    return _target(method, target, hosts[0] if hosts else None) or _body(version, headers) or _expected(headers)


def origin_form(target: bytes) -> bytes:
    """The path and query of a target that may name the server too."""
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        return target
    return absolute[3] if absolute[3].startswith(b"/") else b"/" + absolute[3]


def without_upgrade(method: bytes, target: bytes, headers: Headers) -> bytes:
    """A head once more, without its wish for another protocol."""
    lines = [b"%s %s HTTP/1.1" % (method, target)]
    for name, value in headers:
        if name == b"connection":
            tokens = [token.strip() for token in value.split(b",")]
            value = b", ".join(token for token in tokens if token.lower() != b"upgrade")
        if name != b"upgrade":
            lines.append(b"%s: %s" % (name, value))
    return b"\r\n".join([*lines, b"", b""])


def _target(method: str, target: bytes, host: bytes | None) -> Fault | None:
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute:
        named, scheme = absolute[2], absolute[1].lower()
        if not _HOST.fullmatch(named) or (host is not None and _server(named, scheme) != _server(host, scheme)):
            return HTTPStatus.BAD_REQUEST, "the request's target and its Host header name different servers"
    elif not target.startswith(b"/") and not (target == b"*" and method == "OPTIONS"):
        return HTTPStatus.BAD_REQUEST, "the request's target is no path"
    if b"#" in target:
        return HTTPStatus.BAD_REQUEST, "the request's target has a fragment (#), which is never sent"
    return None


def _server(named: bytes, scheme: bytes) -> bytes:
    return named.lower().removesuffix(_PORTS[scheme]).removesuffix(b":")


def _body(version: str, headers: Headers) -> Fault | None:
    codings = [value.strip().lower() for name, value in headers if name == b"transfer-encoding"]
    if not codings:
        return None
    if version == "1.0":
        return HTTPStatus.BAD_REQUEST, "HTTP/1.0 has no Transfer-Encoding; send HTTP/1.1 or a Content-Length"
    if any(name == b"content-length" for name, _ in headers):
        return HTTPStatus.BAD_REQUEST, "the request has both Transfer-Encoding and Content-Length"
    if codings == [b"chunked"]:
        return None
    if len(codings) == 1 and codings[0].endswith(b"chunked") and b"," in codings[0]:
        return HTTPStatus.NOT_IMPLEMENTED, "the only Transfer-Encoding that is known here is chunked"
    return HTTPStatus.BAD_REQUEST, "the request's Transfer-Encoding does not tell where its body ends; send chunked"


def _expected(headers: Headers) -> Fault | None:
    if any(name == b"expect" and value.strip().lower() != b"100-continue" for name, value in headers):
        return HTTPStatus.EXPECTATION_FAILED, "only 'Expect: 100-continue' is supported"
    return None
