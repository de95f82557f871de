"""The one HTTP transport of a session: every request of every client leaves here.

What it guarantees, whatever the layers above do:
- A changing request leaves only inside an attempt that may change something, and once:
  a second one is refused, unless the first was answered 401.
- Nothing is sent again silently. aiohttp repeats idempotent methods (PUT and DELETE too)
  when a connection closes after the request was read; that is switched off, and an aiohttp
  that has no such switch is refused. Redirects are never followed.
- A changing request gets a connection of its own, so that a kept-alive one which the
  server has just closed cannot turn it into an unknown outcome.
- Only https, and only hosts of the session's cloud. What one attempt sends with a token, a
  signature or a body goes to one host: a link to another one is refused.
- A page of a list is asked for once in an attempt, and the pages have an end.
- Lab and cloud are not mixed up: each answer must carry the lab's mark in a lab session
  and must not outside. A host is vouched for by an answer before it gets a changing request.
- Bodies of answers are bounded, and so is the time.

The proxy comes from the environment as for `az`; in a lab session it must be on this
machine. `~/.netrc` is not read (aiohttp's `trust_env` would add its passwords to requests).
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import ssl
import time
import urllib.request
import uuid
import weakref
from collections.abc import Mapping
from hashlib import sha256
from types import SimpleNamespace, TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

import aiohttp
from aiohttp.connector import Connection
from azure.core.exceptions import AzureError as ClientError
from azure.core.exceptions import ServiceRequestError, ServiceResponseError
from azure.core.pipeline.transport import AioHttpTransport, AsyncHttpTransport
from azure.core.rest import HttpRequest

from drengine import failpoints
from drengine.azure.answers import code_text, redacted
from drengine.azure.endpoints import Endpoints, host_of
from drengine.azure.exchanges import (
    SAFE_METHODS,
    Attempt,
    Flight,
    add_exchange,
    current_attempt,
    redacted_path,
    wanted_request_id,
)
from drengine.errors import AzureError, GuardError, InputFileError, InternalError, LabMismatch
from drengine.model.cloud import Exchange

LAB_HEADER: Final = "x-drengine-lab"
MAX_BODY_BYTES: Final = 16 * 1024 * 1024
MAX_PAGES: Final = 2_000
"""Ten times what the largest estate has: 5,000 keys in pages of 25."""

CONNECT_SECONDS: Final = 15.0
SILENCE_SECONDS: Final = 60.0
TOTAL_SECONDS: Final = 120.0

_MAX_HEADER_BYTES: Final = 64 * 1024  # signed status URLs of the resource manager are long
_UNAUTHORIZED: Final = 401
_PROXY_REFUSALS: Final = frozenset({403, 407, 502, 503, 504})
_REQUEST_ID: Final = "x-ms-client-request-id"


class BodyTooLarge(aiohttp.ClientError):
    """The answer is larger than anything these services have to say."""


class BoundedResponse(aiohttp.ClientResponse):
    """An answer whose body is read once, completely, and up to `MAX_BODY_BYTES`."""

    _whole: bytes | None = None

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Read the head; an answer that is given up does not keep its connection."""
        try:
            return await super().start(connection)
        except BaseException:
            _abort(connection)
            raise

    async def read(self) -> bytes:
        """Return the body.

        Raises:
            BodyTooLarge: it is larger than `MAX_BODY_BYTES`.
        """
        if self._whole is None:
            connection = self.connection
            try:
                self._whole = self._body = await self._bounded()
            except BaseException:
                _abort(connection)
                self.close()
                raise
        return self._whole

    async def _bounded(self) -> bytes:
        chunks, size = [], 0
        async for chunk in self.content.iter_any():
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise BodyTooLarge(f"the answer is larger than {MAX_BODY_BYTES} bytes")
            chunks.append(chunk)
        return b"".join(chunks)


class ClosingConnector(aiohttp.TCPConnector):
    """A pool that closes with every connection it opened, also those it let go of.

    aiohttp forgets a connection that is not used again. Its polite end of TLS goes on
    alone and waits for the other side; it would outlive the session, and even the loop.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # while its socket is open, the loop holds a transport
        self._opened: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[aiohttp.tracing.Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 (aiohttp's own signature)
    ) -> Connection:
        """Return a connection, and remember what it goes through."""
        connection = await super().connect(req, traces, timeout)
        if connection.transport is not None:
            self._opened.add(connection.transport)
        return connection

    async def close(self, *, abort_ssl: bool = False) -> None:
        """Close everything, and wait until it is closed."""
        await super().close(abort_ssl=abort_ssl)
        for transport in list(self._opened):
            transport.abort()
        await asyncio.sleep(0)  # the loop closes an aborted socket at its next turn


class SharedTransport(AsyncHttpTransport[Any, Any]):
    """The transport that all clients of a session share.

    Clients may open and close it as they like; only `shutdown` ends it.

    Parameters:
        endpoints: the cloud whose hosts may be reached.
        lab: whether answers must come from a lab.
        environ: where the proxy and the certificate authority are named.
        total_seconds: the longest that one exchange may take.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        lab: bool,
        environ: Mapping[str, str] = os.environ,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        self._endpoints = endpoints
        self._lab = lab
        self._lab_proxy = lab_proxy(environ) if lab else None
        self._ssl = _trust(environ)
        self._total_seconds = total_seconds
        self._vouched: set[str] = set()
        self._kept_alive: AioHttpTransport | None = None
        self._single_use: AioHttpTransport | None = None

    async def open(self) -> None:
        """Make the two connection pools: kept alive for reading, single use for changing."""
        if self._kept_alive is None or self._single_use is None:
            self._kept_alive = self._pool(force_close=False)
            self._single_use = self._pool(force_close=True)

    async def close(self) -> None:
        """Do nothing: a client that is closed does not end the transport of the others."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.close()

    async def shutdown(self) -> None:
        """Close every connection; the transport can be opened again."""
        pools = (self._kept_alive, self._single_use)
        self._kept_alive = self._single_use = None
        for pool in pools:
            if pool is not None and pool.session is not None:
                await pool.session.close()

    async def send(self, request: Any, **config: Any) -> Any:
        """Send one request and read the whole answer, also where the client asked for a stream.

        Raises:
            GuardError: the host is not of this cloud, or lab and cloud are mixed up.
            InternalError: a changing request where none may leave, or a second one.
            ServiceRequestError: certainly nothing of the request left.
            ServiceResponseError: it left, and no complete answer came.
        """
        host = self._admitted_host(request.url)
        attempt = current_attempt()
        flight = Flight(
            request.method,
            request.url,
            changes=_is_change(request, attempt),
            authorised=_is_authorised(request),
        )
        if attempt is not None:
            _refuse_other_host(host, attempt)
            _refuse_endless_list(flight, attempt)
        if flight.changes:
            _refuse_unwanted_change(flight, attempt)
            await self._vouch(host)
            # once more: another one may have come while the host was asked; from here on
            # nothing is awaited until this one is counted
            _refuse_unwanted_change(flight, attempt)
        if attempt is not None:
            attempt.flights.append(flight)
        _stamp(request, flight)
        response = await self._exchange(request, flight, config)
        self._vouch_for(host, flight)
        return response

    async def _exchange(self, request: Any, flight: Flight, config: dict[str, Any]) -> Any:
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._total_seconds):
                return await self._fly(request, flight, config)
        except TimeoutError as error:
            raise _failed(flight, f"no complete answer within {self._total_seconds:g} s") from error
        except (ClientError, aiohttp.ClientError, OSError) as error:
            # azure-core calls some lost answers a request error; whether it left is known here
            raise _failed(flight, _reason(error)) from error
        finally:
            add_exchange(_recorded(request, flight, time.monotonic() - started))

    async def _fly(self, request: Any, flight: Flight, config: dict[str, Any]) -> Any:
        await self.open()
        failpoints.reach("http.before_send")
        pool = self._single_use if flight.changes else self._kept_alive
        assert pool is not None  # noqa: S101 (open() has just made it)
        response = await pool.send(
            request,
            stream=True,
            proxy=self._proxy_for(flight.url),
            connection_timeout=config.get("connection_timeout", CONNECT_SECONDS),
            read_timeout=config.get("read_timeout", SILENCE_SECONDS),
            trace_request_ctx=flight,
        )
        flight.body = await response.internal_response.read()
        flight.headers = {k.lower(): v for k, v in response.internal_response.headers.items()}
        flight.status = response.status_code
        await response.read()
        failpoints.reach("http.after_response")
        return response

    def _pool(self, *, force_close: bool) -> AioHttpTransport:
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_note_departure)
        session = aiohttp.ClientSession(
            connector=ClosingConnector(ssl=self._ssl, force_close=force_close),
            cookie_jar=aiohttp.DummyCookieJar(),
            response_class=BoundedResponse,
            trace_configs=[trace],
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
        )
        _forbid_silent_repeats(session)
        return AioHttpTransport(session=session, session_owner=False)

    def _admitted_host(self, url: str) -> str:
        try:
            host = host_of(url)
        except ValueError:
            raise GuardError("refused to send to a URL that cannot be read") from None
        if urlsplit(url).scheme != "https" or not self._endpoints.allows(host):
            raise GuardError(
                f"refused to talk to {urlsplit(url).scheme}://{host}: it is not a host of "
                f"{self._endpoints.name}; nothing was sent to it",
                hint="a status URL or link on a foreign host would have been given a token",
            )
        return host

    async def _vouch(self, host: str) -> None:
        """Have `host` answer something harmless before it gets its first changing request."""
        if host in self._vouched:
            return
        request = HttpRequest("GET", f"https://{host}/")
        flight = Flight("GET", request.url, changes=False)
        _stamp(request, flight)
        await self._exchange(request, flight, {})
        self._vouch_for(host, flight)
        if host not in self._vouched:
            raise ServiceRequestError(f"{host} cannot be reached: {flight.status} from a proxy")

    def _vouch_for(self, host: str, flight: Flight) -> None:
        marked = LAB_HEADER in flight.headers
        if marked != self._lab and not (self._lab and _is_proxy_refusal(flight)):
            expected = "a lab" if self._lab else self._endpoints.name
            found = "a drengine lab" if marked else "something that is not a drengine lab"
            raise LabMismatch(
                f"expected {expected} at {host}, but the answer came from {found}",
                hint="compare HTTPS_PROXY and DRENGINE_LAB with where this run is meant to happen:"
                " drengine explain DR-G010",
            )
        if marked == self._lab:
            self._vouched.add(host)

    def _proxy_for(self, url: str) -> str | None:
        if self._lab:
            return self._lab_proxy
        host = urlsplit(url).hostname or ""
        if urllib.request.proxy_bypass(host):
            return None
        proxies = urllib.request.getproxies()
        return proxies.get("https") or proxies.get("all")


def _abort(connection: Connection | None) -> None:
    """Drop a connection at once: a polite end of TLS would wait for the other side."""
    if connection is not None and connection.transport is not None:
        connection.transport.abort()


def _is_change(request: Any, attempt: Attempt | None) -> bool:
    if request.method.upper() in SAFE_METHODS:
        return False
    if attempt is not None and attempt.by_post and request.method.upper() == "POST":
        return False
    # Key Vault clients first send without token and body, to be told where to sign in
    return _is_authorised(request)


def _is_authorised(request: Any) -> bool:
    return "Authorization" in request.headers or "sig" in parse_qs(urlsplit(request.url).query)


def _refuse_other_host(host: str, attempt: Attempt) -> None:
    if attempt.host() not in ("", host):
        raise GuardError(
            f"{attempt.what}: a link or URL of {attempt.host()} leads to {host}; nothing was sent "
            "there",
            hint="a service does not hand over to another one; a token would be given away",
        )


def _refuse_endless_list(flight: Flight, attempt: Attempt) -> None:
    if not attempt.listing:
        return
    pages = attempt.answered()
    if any(page.url == flight.url for page in pages):
        raise AzureError(
            f"{attempt.what}: the pages of {host_of(flight.url)} lead back to one that was read; "
            "what the list holds is not known",
            transient=True,
        )
    if len(pages) >= MAX_PAGES:
        raise AzureError(
            f"{attempt.what}: {host_of(flight.url)} has more than {MAX_PAGES} pages; what the list "
            "holds is not known"
        )


def _refuse_unwanted_change(flight: Flight, attempt: Attempt | None) -> None:
    if attempt is None or not attempt.may_change:
        raise InternalError(
            f"refused to send a {flight.method}: nothing here may change anything",
            hint="this is a bug in drengine; nothing was sent",
        )
    if any(done.status != _UNAUTHORIZED for done in attempt.changing()):
        raise InternalError(
            f"refused to send the {flight.method} of {attempt.what} a second time",
            hint="a layer below tried to repeat it; only the first one was sent",
        )


def _stamp(request: Any, flight: Flight) -> None:
    wanted = wanted_request_id() if flight.changes else ""
    if wanted or _REQUEST_ID not in request.headers:
        request.headers[_REQUEST_ID] = wanted or str(uuid.uuid4())


def _recorded(request: Any, flight: Flight, seconds: float) -> Exchange:
    return Exchange(
        method=flight.method,
        host=host_of(flight.url),
        path=redacted_path(flight.url),
        status=flight.status,
        request_id=code_text(flight.headers.get("x-ms-request-id")),
        client_request_id=request.headers.get(_REQUEST_ID, ""),
        ms=round(seconds * 1000),
        sent=flight.changes and flight.left,
        body_sha256=_body_digest(request) if flight.changes else "",
    )


def _body_digest(request: Any) -> str:
    body = getattr(request, "content", None)
    if isinstance(body, str):
        body = body.encode()
    return sha256(body).hexdigest() if isinstance(body, bytes) else ""


def _is_proxy_refusal(flight: Flight) -> bool:
    return "server" not in flight.headers and flight.status in _PROXY_REFUSALS


def _failed(flight: Flight, reason: str) -> ClientError:
    return ServiceResponseError(reason) if flight.left else ServiceRequestError(reason)


def _reason(error: BaseException) -> str:
    inner = getattr(error, "inner_exception", None) or error
    return redacted(f"{type(inner).__name__}: {inner}")


async def _note_departure(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    _params: aiohttp.TraceRequestHeadersSentParams,
) -> None:
    # aiohttp calls this just before the first byte is written, never for a proxy's CONNECT
    context.trace_request_ctx.left = True


def _forbid_silent_repeats(session: aiohttp.ClientSession) -> None:
    if not hasattr(session, "_retry_connection"):
        raise InternalError(
            f"aiohttp {aiohttp.__version__} has no known way to keep it from sending a PUT twice",
            hint="install the aiohttp release that this release of drengine was tested with",
        )
    session._retry_connection = False  # noqa: SLF001 (there is no public switch in aiohttp 3)


def lab_proxy(environ: Mapping[str, str]) -> str:
    """Return the proxy of a lab: the only one that an environment names, on this machine.

    Raises:
        LabMismatch: there is none, or another.
    """
    proxies = {environ.get(name, "") for name in ("HTTPS_PROXY", "https_proxy")} - {""}
    if len(proxies) > 1:
        raise LabMismatch(
            "a lab is reached through its own proxy, but HTTPS_PROXY and https_proxy differ; "
            "nothing was sent",
            hint="drengine lab exec -- drengine …",
        )
    proxy = "".join(proxies)
    if not _is_loopback(urlsplit(proxy).hostname or ""):
        raise LabMismatch(
            "a lab is reached through its own proxy on this machine, "
            f"but HTTPS_PROXY is {'another host' if proxy else 'not set'}; nothing was sent",
            hint="drengine lab exec -- drengine …",
        )
    return proxy


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _trust(environ: Mapping[str, str]) -> ssl.SSLContext:
    path = environ.get("SSL_CERT_FILE") or environ.get("REQUESTS_CA_BUNDLE")
    try:
        return ssl.create_default_context(cafile=path or None)
    except OSError as error:
        raise InputFileError(
            f"the certificate authorities in {path} cannot be read: {error.strerror or error}",
            hint="SSL_CERT_FILE and REQUESTS_CA_BUNDLE must name a PEM file",
        ) from error
