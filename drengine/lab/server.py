"""The lab's one port: a CONNECT proxy that ends TLS itself, and direct TLS.

The first byte of a connection decides: 0x16 begins a TLS handshake, anything else is an
HTTP head that must ask for a tunnel. There is no code here that connects to anything:
what is not a host of the lab, on port 443, is refused with 403 and recorded.

HTTP/1.1 with keep-alive; the framing is h11's. One thread per connection. What is no
HTTP, too long, or stops half-way gets an answer in the envelope of the host's service.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import h11

from drengine.lab.dispatch import RawRequest

if TYPE_CHECKING:
    from drengine.lab.dispatch import Dispatcher
    from drengine.lab.tls import TrustAnchor
    from drengine.lab.wire import Response

TLS_HANDSHAKE: Final = b"\x16"
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
MAX_HEAD_BYTES: Final = 64 * 1024
IDLE_SECONDS: Final = 600.0
HALF_SECONDS: Final = 30.0
"""What has begun (a head, a handshake, a body) must go on within this time."""
CHUNK: Final = 256 * 1024
BACKLOG: Final = 512
DRIPS: Final = 20
LINGER_SECONDS: Final = 2.0
_NO_BODY: Final = frozenset({204, 304})


class Unreadable(Exception):
    """A request that cannot be read to its end.

    Parameters:
        status: the HTTP status that says why.
    """

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


class LabServer:
    """Listens on 127.0.0.1.

    Parameters:
        dispatcher: answers the requests.
        anchor: presents certificates.
        port: 0 takes any free port.
    """

    def __init__(self, dispatcher: Dispatcher, anchor: TrustAnchor, port: int = 0) -> None:
        self._dispatcher = dispatcher
        self._anchor = anchor
        self._listener = socket.create_server(("127.0.0.1", port), backlog=BACKLOG)
        self.port: int = self._listener.getsockname()[1]

    def serve_forever(self) -> None:
        """Accept connections until `close`."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def close(self) -> None:
        """Stop listening; open connections end with the process."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _converse(self, connection: socket.socket) -> None:
        with contextlib.closing(connection), contextlib.suppress(OSError, h11.ProtocolError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(IDLE_SECONDS)
            first = connection.recv(1, socket.MSG_PEEK)
            connection.settimeout(HALF_SECONDS)
            if first == TLS_HANDSHAKE:
                self._speak_tls(connection, None)
            elif first:
                self._speak_proxy(connection)

    def _speak_proxy(self, connection: socket.socket) -> None:
        method, target = _read_proxy_head(connection)
        host, _, port = target.rpartition(":")
        host = host.lower()
        if method != "CONNECT":
            self._refuse(connection, target.split("?")[0], method, 403, "not a tunnel")
        elif port != "443" or not self._dispatcher.knows_host(host):
            self._refuse(connection, target, method, 403, "not a host of the lab")
        elif not self._dispatcher.resolves(host):
            self._refuse(connection, target, method, 502, "no such name")
        else:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\nx-drengine-lab: 1\r\n\r\n")
            self._speak_tls(connection, host)

    def _refuse(
        self, connection: socket.socket, target: str, method: str, status: int, *reason: str
    ) -> None:
        text = ", ".join(reason)
        self._dispatcher.log_refused(target[:300], method, status, text)
        words = {403: "Forbidden", 502: "Bad Gateway"}[status]
        body = f"drengine lab: {text}\n".encode()
        head = (
            f"HTTP/1.1 {status} {words}\r\nx-drengine-lab: 1\r\ncontent-type: text/plain\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        connection.sendall(head.encode() + body)

    def _speak_tls(self, connection: socket.socket, tunnel_host: str | None) -> None:
        names = [tunnel_host or ""]
        if tunnel_host is None:
            context = self._direct_context(names)
        else:
            context = self._anchor.context_for(tunnel_host)
        with context.wrap_socket(connection, server_side=True) as tls:
            self._serve_requests(tls, names[0])

    def _direct_context(self, names: list[str]) -> ssl.SSLContext:
        """Return a context that takes certificate and host name from what the client asks for."""

        def choose(tls: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int | None:
            wanted = (name or "").lower()
            if not self._dispatcher.knows_host(wanted):
                self._dispatcher.log_refused(wanted[:300], "TLS", 403, "not a host of the lab")
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            names[:] = [wanted]
            tls.context = self._anchor.context_for(wanted)
            return None

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        context.sni_callback = choose
        return context

    def _serve_requests(self, tls: ssl.SSLSocket, host: str) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        while True:
            try:
                raw = _read_request(tls, connection, host)
            except Unreadable as problem:
                self._answer_unreadable(tls, connection, host, problem.status)
                return
            if raw is None:
                return
            answer = self._dispatcher.answer(raw)
            if answer.delivery.kind == "normal":
                _send(tls, connection, answer, head_only=raw.method == "HEAD")
            else:
                _send_spoilt(tls, connection, answer)
                return
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()

    def _answer_unreadable(
        self, tls: ssl.SSLSocket, connection: h11.Connection, host: str, status: int
    ) -> None:
        if connection.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        answer = self._dispatcher.unreadable(host, status)
        closing = replace(answer, headers={**answer.headers, "connection": "close"})
        _send(tls, connection, closing, head_only=False)
        # what still comes is read and dropped, else the close would reset the answer away
        until = time.monotonic() + LINGER_SECONDS
        tls.settimeout(LINGER_SECONDS)
        with contextlib.suppress(OSError):
            while tls.recv(CHUNK) and time.monotonic() < until:
                pass


def _read_proxy_head(connection: socket.socket) -> tuple[str, str]:
    """Read the head byte by byte up to the blank line: TLS may follow at once."""
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        waiting = connection.recv(MAX_HEAD_BYTES, socket.MSG_PEEK)
        if not waiting or len(head) > MAX_HEAD_BYTES:
            raise ConnectionError("the head broke off")
        end = (bytes(head[-3:]) + waiting).find(b"\r\n\r\n")
        overlap = min(len(head), 3)
        wanted = len(waiting) if end < 0 else end + 4 - overlap
        head += connection.recv(wanted)
    line = bytes(head).split(b"\r\n", 1)[0].decode("latin-1")
    method, _, rest = line.partition(" ")
    return method.upper(), rest.partition(" ")[0]


def _next_event(tls: ssl.SSLSocket, connection: h11.Connection) -> object:
    """Return the next event of the request.

    Raises:
        Unreadable: what came is not HTTP/1.1, or nothing more came.
    """
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            raise Unreadable(error.error_status_hint) from None
        if event is not h11.NEED_DATA:
            return event
        if connection.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            tls.sendall(connection.send(go_on) or b"")
        waits = connection.their_state is h11.IDLE and connection.trailing_data[0] == b""
        tls.settimeout(IDLE_SECONDS if waits else HALF_SECONDS)
        try:
            connection.receive_data(tls.recv(CHUNK))
        except ssl.SSLEOFError:
            connection.receive_data(b"")
        except TimeoutError:
            if waits:
                raise
            raise Unreadable(408) from None


def _read_request(tls: ssl.SSLSocket, connection: h11.Connection, host: str) -> RawRequest | None:
    event = _next_event(tls, connection)
    if not isinstance(event, h11.Request):
        return None
    body = bytearray()
    while True:
        part = _next_event(tls, connection)
        if isinstance(part, h11.Data):
            body += part.data
            if len(body) > MAX_BODY_BYTES:
                raise Unreadable(413)
        elif isinstance(part, h11.EndOfMessage):
            break
        else:
            return None
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
    named = headers.get("host", host).lower().removesuffix(":443")
    target = event.target.decode("latin-1")
    # INVARIANT: the certificate's name and the Host header agree, so a tunnel to one host
    # can never be used to speak to another.
    return RawRequest(
        method=event.method.decode("latin-1"),
        host=named if named == host else "invalid",
        target=target,
        headers=headers,
        body=bytes(body),
    )


def _head(connection: h11.Connection, response: Response) -> bytes:
    headers = [(name, value) for name, value in response.headers.items()]
    if "content-length" not in response.headers and response.status not in _NO_BODY:
        headers.append(("content-length", str(len(response.body))))
    return connection.send(h11.Response(status_code=response.status, headers=headers)) or b""


def _send_spoilt(tls: ssl.SSLSocket, connection: h11.Connection, response: Response) -> None:
    """Send an answer the way a fault wants it; the connection is of no use afterwards."""
    delivery = response.delivery
    if delivery.kind == "withhold":
        time.sleep(delivery.seconds)
    elif delivery.kind == "reset":
        # a zero linger time makes the close a reset instead of an orderly end
        tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif delivery.kind == "break-off":
        tls.sendall(_head(connection, response) + response.body[: len(response.body) // 2])
    else:
        tls.sendall(_head(connection, response))
        size = max(1, len(response.body) // DRIPS)
        for start in range(0, len(response.body), size):
            time.sleep(delivery.seconds / DRIPS)
            tls.sendall(response.body[start : start + size])


def _send(
    tls: ssl.SSLSocket, connection: h11.Connection, response: Response, *, head_only: bool
) -> None:
    wire = _head(connection, response)
    if response.body and not head_only and response.status not in _NO_BODY:
        wire += connection.send(h11.Data(data=response.body)) or b""
    wire += connection.send(h11.EndOfMessage()) or b""
    # one write: a head and a body in two packets cost 40 ms each on a delayed ACK
    tls.sendall(wire)
