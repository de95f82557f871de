"""A scripted Azure on loopback: a CONNECT proxy that ends TLS itself with a throw-away CA.

Everything that arrives is counted. A script decides what happens to a request once it was
read completely: an answer, or a connection that breaks.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessTokenInfo
from azure.keyvault.administration._internal import http_challenge_cache as first
from azure.keyvault.keys._shared import http_challenge_cache as second
from azure.keyvault.securitydomain._internal import http_challenge_cache as third
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from drengine.azure.auth import CachedCredential, Session
from drengine.azure.cloud import AzureCloud
from drengine.azure.endpoints import Endpoints
from drengine.azure.pipeline import Patience
from drengine.azure.transport import SharedTransport

SUBSCRIPTION = "22222222-2222-4222-8222-222222222222"
TENANT = "11111111-1111-4111-8111-111111111111"
CHALLENGE = (
    f'Bearer authorization="https://login.microsoftonline.com/{TENANT}", '
    'resource="https://managedhsm.azure.net"'
)


@dataclass
class Arrival:
    """One request as the server read it."""

    method: str
    host: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def is_authorised(self) -> bool:
        return "authorization" in self.headers or "sig=" in self.target

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    """What the server does with a request that it has read."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | dict[str, Any] | list[Any] = b""
    close: bool = False
    """Close the connection without any answer."""
    cut: int = 0
    """Announce the whole body, but close after so many bytes of it."""
    hang_seconds: float = 0
    hold: bool = False
    """After the answer neither read nor close, until the server stops."""
    lab: bool | None = None
    """Overrides whether the answer carries the lab's mark."""
    server: bool = True
    """Whether the answer carries a `Server` header."""

    def raw(self, *, lab: bool) -> bytes:
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        headers = {"content-length": str(len(body)), **self.headers}
        if self.server:
            headers["server"] = "scripted"
        if self.body and not isinstance(self.body, bytes):
            headers.setdefault("content-type", "application/json; charset=utf-8")
        if lab if self.lab is None else self.lab:
            headers["x-drengine-lab"] = "1"
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        kept = body[: self.cut] if self.cut else body
        return f"HTTP/1.1 {self.status} Scripted\r\n{head}\r\n".encode() + kept


CLOSE = Reply(close=True)
Script = Callable[[Arrival], Reply]


class Authority:
    """A throw-away certificate authority that makes a leaf for any host."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
        self.file = folder / "ca.pem"
        self._certificate = self._sign(self._name, self._key.public_key(), None)
        self.file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def context_for(self, host: str) -> ssl.SSLContext:
        with self._lock:
            if host not in self._contexts:
                self._contexts[host] = self._new_context(host)
            return self._contexts[host]

    def _new_context(self, host: str) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host[:60])])
        leaf = self._sign(name, key.public_key(), host)
        file = self._folder / f"{host}.pem"
        file.write_bytes(
            leaf.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _sign(self, name: x509.Name, public: Any, host: str | None) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if host is not None:
            names: list[x509.GeneralName] = [x509.DNSName(host)]
            with contextlib.suppress(ValueError):
                names = [x509.IPAddress(ipaddress.ip_address(host))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


class ScriptedAzure:
    """The server. `script` may be replaced at any time; `arrivals` holds what was read."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.arrivals: list[Arrival] = []
        self.tunnels: list[str] = []
        self.proxy_authorization: list[str] = []
        self.refuse_tunnels = False
        self.lab = True
        self.script: Script = lambda _: Reply(404, body={"error": {"code": "NotFound"}})
        self.unauthorised: Script | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self.port = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def proxy(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, *replies: Reply) -> None:
        """Give these replies to authorised requests in turn, the last one for ever."""
        left = list(replies)
        self.script = lambda _: left.pop(0) if len(left) > 1 else left[0]

    def changing(self) -> list[Arrival]:
        """Return the authorised requests that change something."""
        return [a for a in self.arrivals if a.is_authorised and a.method not in {"GET", "HEAD"}]

    def authorised(self) -> list[Arrival]:
        return [a for a in self.arrivals if a.is_authorised]

    def stop(self) -> None:
        self._stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept()
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in (self._accepting, *self._threads):
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, raw: socket.socket) -> None:
        self._open.add(raw)
        try:
            with contextlib.suppress(OSError, ValueError):
                self._tunnel(raw)
        finally:
            self._open.discard(raw)
            raw.close()

    def _tunnel(self, raw: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += raw.recv(1) or _gone()
        host = head.split()[1].decode().partition(":")[0]
        self.tunnels.append(host)
        for line in head.decode().splitlines():
            if line.lower().startswith("proxy-authorization:"):
                self.proxy_authorization.append(line.partition(":")[2].strip())
        if self.refuse_tunnels:
            raw.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
            return
        raw.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with self.authority.context_for(host).wrap_socket(raw, server_side=True) as tls:
            self._open.add(tls)
            try:
                with tls.makefile("rb") as stream:
                    while self._one(tls, stream, host):
                        pass
            finally:
                self._open.discard(tls)

    def _one(self, tls: ssl.SSLSocket, stream: Any, host: str) -> bool:
        arrival = _read(stream, host)
        if arrival is None:
            return False
        self.arrivals.append(arrival)
        reply = self._reply(arrival)
        if reply.hang_seconds:
            threading.Event().wait(reply.hang_seconds)
        if reply.close:
            return False
        tls.sendall(reply.raw(lab=self.lab))
        if reply.hold:
            self._stopping.wait()
        return not reply.cut and arrival.headers.get("connection") != "close"

    def _reply(self, arrival: Arrival) -> Reply:
        if arrival.is_authorised:
            return self.script(arrival)
        if self.unauthorised is not None:
            return self.unauthorised(arrival)
        if arrival.host.endswith(".managedhsm.azure.net"):
            return Reply(401, {"www-authenticate": CHALLENGE})
        if arrival.host.startswith("login.") or arrival.host.endswith(".database.windows.net"):
            return self.script(arrival)
        return Reply(401, body={"error": {"code": "AuthenticationFailed", "message": "no token"}})


def _gone() -> bytes:
    raise ValueError("the client went away")


def _read(stream: Any, host: str) -> Arrival | None:
    line = stream.readline().decode()
    if not line.strip():
        return None
    method, target, _ = line.split()
    headers = {}
    while (line := stream.readline().decode().strip()) != "":
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    body = stream.read(int(headers.get("content-length") or 0))
    return Arrival(method, host, target, headers, body)


class Tokens:
    """Counts the tokens it gives out."""

    def __init__(self) -> None:
        self.given: list[tuple[str, ...]] = []
        self.lifetime_seconds = 3600

    async def fetch(self, scopes: tuple[str, ...], _options: object) -> AccessTokenInfo:
        self.given.append(scopes)
        return AccessTokenInfo(f"token-{len(self.given)}", int(time.time()) + self.lifetime_seconds)


@dataclass
class Naps:
    """A sleep that takes no time and remembers what was asked of it."""

    seconds: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def azure(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedAzure]:
    server = ScriptedAzure(authority)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HTTPS_PROXY", server.proxy)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    _forget_challenges()
    yield server
    server.stop()


def _forget_challenges() -> None:
    """Empty the SDKs' process-wide caches: each test starts without a challenge."""
    for cache in (first, second, third):
        cache.clear()


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """Another authority, which signed nothing of the server's."""
    return Authority(tmp_path)


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
def new_session(azure: ScriptedAzure, tokens: Tokens, naps: Naps) -> Callable[..., Session]:
    def make(
        *, lab: bool = True, total_seconds: float = 20, trust: Path = azure.authority.file
    ) -> Session:
        endpoints = Endpoints()
        environ = {"HTTPS_PROXY": azure.proxy, "SSL_CERT_FILE": str(trust)}
        return Session(
            endpoints,
            TENANT,
            SUBSCRIPTION,
            lab,
            CachedCredential(tokens.fetch),
            SharedTransport(endpoints, lab=lab, environ=environ, total_seconds=total_seconds),
            Patience(sleep=naps.sleep),
        )

    return make


@pytest.fixture
async def cloud(new_session: Callable[..., Session]) -> AsyncIterator[AzureCloud]:
    async with AzureCloud(new_session()) as cloud:
        yield cloud


@pytest.fixture
def new_reply() -> type[Reply]:
    return Reply
