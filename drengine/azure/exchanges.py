"""What went over the wire, seen from the one place that puts it there.

An `Attempt` is one try of an adapter to read or to change something; the transport
adds a `Flight` for each physical request. The fate of a request is told from its
flights, never from the exceptions of the layers between. `collect_exchanges` gives
the caller the same facts, redacted, as `Exchange` values for the journal.

Rules: no header but request ids is kept, no body but the SHA-256 of a changing
request's, and of a query only the keys on `QUERY_KEYS`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from drengine.azure.endpoints import host_of
from drengine.model.cloud import Exchange

_OK: Final = 200
_REDIRECTS: Final = 300

QUERY_KEYS: Final = frozenset(
    {
        "$expand",
        "$filter",
        "$top",
        "api-version",
        "comp",
        "delimiter",
        "include",
        "maxresults",
        "prefix",
        "replicatype",
        "restype",
    }
)
"""Query keys that may be written down; everything else, a SAS above all, is left out."""

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(slots=True)
class Flight:
    """One physical request.

    Attributes:
        changes: whether it is an authorised request that changes something.
        authorised: whether it carries a token or a signature.
        left: whether a first byte of it may have left; False is a certainty.
        status: 0 until a complete answer was read.
        headers: of the answer, names in lower case.
        body: of the answer.
    """

    method: str
    url: str
    changes: bool
    authorised: bool = False
    left: bool = False
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(slots=True)
class Attempt:
    """One try of an adapter, and the flights it took.

    Attributes:
        may_change: whether a changing request may leave in it, once.
        by_post: whether its POSTs only read (wrapkey, a name check).
        listing: whether it reads the pages of a list, each of which is asked for once.
    """

    what: str
    may_change: bool
    by_post: bool = False
    listing: bool = False
    flights: list[Flight] = field(default_factory=list)

    def changing(self) -> list[Flight]:
        """Return the flights that changed something, or may have."""
        return [flight for flight in self.flights if flight.changes]

    def answered(self) -> list[Flight]:
        """Return the flights that were answered with what was asked for."""
        return [flight for flight in self.flights if _OK <= flight.status < _REDIRECTS]

    def host(self) -> str:
        """Return the host of the first authorised flight; the others have no other."""
        first = next((flight for flight in self.flights if flight.authorised), None)
        return "" if first is None else host_of(first.url)


@dataclass(frozen=True, slots=True)
class _Collector:
    exchanges: list[Exchange]
    client_request_id: str


_ATTEMPT: ContextVar[Attempt | None] = ContextVar("attempt", default=None)
_COLLECTORS: ContextVar[tuple[_Collector, ...]] = ContextVar("collectors", default=())


@contextmanager
def attempting(attempt: Attempt) -> Iterator[Attempt]:
    """Make `attempt` the one that the transport adds flights to."""
    token = _ATTEMPT.set(attempt)
    try:
        yield attempt
    finally:
        _ATTEMPT.reset(token)


def current_attempt() -> Attempt | None:
    """Return the attempt in whose name requests are sent now."""
    return _ATTEMPT.get()


@contextmanager
def collect_exchanges(client_request_id: str = "") -> Iterator[list[Exchange]]:
    """Collect every exchange of the block, in the order in which they ended.

    Parameters:
        client_request_id: what the changing request of the block carries as
            `x-ms-client-request-id`, so that an intent can name it before it is sent.
    """
    collector = _Collector([], client_request_id)
    token = _COLLECTORS.set((*_COLLECTORS.get(), collector))
    try:
        yield collector.exchanges
    finally:
        _COLLECTORS.reset(token)


def add_exchange(exchange: Exchange) -> None:
    """Hand `exchange` to every collector around."""
    for collector in _COLLECTORS.get():
        collector.exchanges.append(exchange)


def wanted_request_id() -> str:
    """Return the client request id that the innermost collector asks for, or an empty text."""
    for collector in reversed(_COLLECTORS.get()):
        if collector.client_request_id:
            return collector.client_request_id
    return ""


def redacted_path(url: str) -> str:
    """Return path and allow-listed query of `url`."""
    parts = urlsplit(url)
    kept = [(k, v) for k, v in parse_qsl(parts.query) if k.lower() in QUERY_KEYS]
    return f"{parts.path or '/'}?{urlencode(kept, safe='/$,')}" if kept else parts.path or "/"
