"""How services of the lab call one another: real HTTPS through the lab's own port.

The client knows one address, 127.0.0.1 and the lab's port; it asks for a tunnel to the
public host name there and trusts the lab's authority only. It cannot reach anything else.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from drengine.lab.wire import Response

_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
_HTTP_OK: Final = 200


class LoopbackClient:
    """An HTTPS client that only reaches its own lab.

    Parameters:
        port: the lab's port; 0 until the server listens, then set by `use_port`.
        ca_file: the certificate of the lab's authority.
    """

    def __init__(self, port: int, ca_file: Path) -> None:
        self._port = port
        self._ca_file = ca_file
        self._context: ssl.SSLContext | None = None

    def use_port(self, port: int) -> None:
        """Set the port that the server really got."""
        self._port = port

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] = _NO_HEADERS,
        body: bytes = b"",
        timeout_seconds: float = 10,
    ) -> Response:
        """Send one request and read the whole answer.

        Raises:
            ConnectionError: the lab refused the tunnel, or the connection broke.
            ValueError: the URL is not https on port 443.
            OSError: the lab does not listen, or did not answer in time.
        """
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme != "https" or not host or parts.port not in (None, 443):
            raise ValueError(f"only https URLs on port 443 exist in the lab, found {url!r}")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        with closing(self._tunnel(host, timeout_seconds)) as tunnel:
            return _exchange(tunnel, host, method, target, headers=headers, body=body)

    def _tunnel(self, host: str, timeout_seconds: float) -> ssl.SSLSocket:
        if self._context is None:
            self._context = ssl.create_default_context(cafile=str(self._ca_file))
        raw = socket.create_connection(("127.0.0.1", self._port), timeout=timeout_seconds)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _open_tunnel(raw, host)
            return self._context.wrap_socket(raw, server_hostname=host)
        except BaseException:
            raw.close()
            raise


def _open_tunnel(raw: socket.socket, host: str) -> None:
    raw.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        chunk = raw.recv(1)  # not a byte more than the head: what follows belongs to TLS
        if not chunk:
            raise ConnectionError(f"the lab closed the tunnel to {host}")
        head += chunk
    status = head.split(b" ", 2)[1]
    if int(status) != _HTTP_OK:
        raise ConnectionError(f"the lab refused the tunnel to {host}: {status.decode()}")


def _exchange(
    tunnel: ssl.SSLSocket,
    host: str,
    method: str,
    target: str,
    *,
    headers: Mapping[str, str],
    body: bytes,
) -> Response:
    connection = http.client.HTTPConnection(host)
    connection.sock = tunnel
    try:
        connection.request(
            method, target, body=body or None, headers={"connection": "close", **headers}
        )
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Response(status=answer.status, headers=found, body=answer.read())
    except http.client.HTTPException as error:
        raise ConnectionError(f"the answer from {host} broke off") from error
