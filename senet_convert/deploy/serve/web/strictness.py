"""What HTTP/1.1 forbids in a request's head and the parser lets pass (RFC 9112, 2.3, 3.2, 6.1; RFC 9110, 10.1.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus

Fault = tuple[HTTPStatus, str]

_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
_VERSIONS = ("1.0", "1.1")


def fault(version: str, method: str, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Fault | None:
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
    absolute = _ABSOLUTE.match(target)
    if absolute and absolute[1] != (hosts[0] if hosts else absolute[1]):
        return HTTPStatus.BAD_REQUEST, "the request's target and its Host header name different servers"
    if not absolute and not target.startswith(b"/") and target != b"*":
        return HTTPStatus.BAD_REQUEST, "the request's target is no path"
    names = [name for name, _ in headers]
    if b"transfer-encoding" in names and b"content-length" in names:
        return HTTPStatus.BAD_REQUEST, "the request has both Transfer-Encoding and Content-Length"
    if any(name == b"expect" and value.strip().lower() != b"100-continue" for name, value in headers):
        return HTTPStatus.EXPECTATION_FAILED, "only 'Expect: 100-continue' is supported"
    return None
