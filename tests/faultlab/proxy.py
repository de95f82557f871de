"""A fault proxy in front of the lab: it ends TLS with the lab's own authority and forwards.

One fault a proxy, at one exchange, counted over all restarts of the engine:

| fault | what the client sees | what the service sees |
|---|---|---|
| `withheld` | the connection breaks | the request, at once |
| `dropped` | the connection breaks | nothing |
| `late` | the connection breaks | the request, `LATE_MS` of virtual time later |
| `twice` | the first answer | the request, two times |
| `401`, `429`, `503` | that status | nothing |
| `503-done` | a 503 | the request, at once |
| `garbage` | 200 and bytes that are no answer | the request, at once |
"""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Final

from drengine.lab.client import LoopbackClient
from drengine.lab.clock import LabClock
from drengine.lab.dispatch import RawRequest
from drengine.lab.server import LabServer
from drengine.lab.services import ROUTES
from drengine.lab.tls import TrustAnchor
from drengine.lab.wire import Response

FAULTS: Final = (
    *("withheld", "dropped", "late", "twice"),
    *("401", "429", "503", "503-done", "garbage"),
)
LATE_MS: Final = 20_000
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_NOT_FORWARDED: Final = frozenset({"host", "connection", "content-length", "transfer-encoding"})
_LAB: Final = {"x-drengine-lab": "1", "content-type": "application/json", "server": "proxy"}


class ConnectionLost(OSError):
    """The client gets no answer; the server's loop closes the connection."""


def is_change(request: RawRequest) -> bool:
    """Whether a request may change something (some POSTs only read; they count too)."""
    headers = {name.lower() for name in request.headers}
    signed = "authorization" in headers or "sig=" in request.target
    return request.method not in _SAFE and signed


class FaultyDispatcher:
    """Answers by asking the lab; spoils one exchange.

    Parameters:
        fault: one of `FAULTS`, or empty.
        which: `change` or `read`: of which kind the exchanges are counted.
        number: the exchange, from 1.
        trace: a line is appended for each exchange.
    """

    def __init__(
        self, home: Path, lab_port: int, fault: str, which: str, number: int, trace: Path
    ) -> None:
        self._hosts = _Hosts()
        self._client = LoopbackClient(lab_port, home / "ca.pem")
        self._clock = LabClock(home / "clock.json")
        self._fault, self._which, self._number = fault, which, number
        self._trace = trace
        self._seen = {"change": 0, "read": 0}
        self._bearers: set[str] = set()
        self._lock = threading.Lock()

    def knows_host(self, host: str) -> bool:
        return self._hosts.knows(host)

    def resolves(self, host: str) -> bool:
        del host
        return True

    def log_refused(self, host: str, method: str, status: int, reason: str) -> None:
        del host, method, status, reason

    def answer(self, raw: RawRequest) -> Response:
        """Forward one request, or do to it what the fault says."""
        which = "change" if is_change(raw) else "read"
        with self._lock:
            self._seen[which] += 1
            number = self._seen[which]
            hit = bool(self._fault) and (which, number) == (self._which, self._number)
            line = {"which": which, "n": number, "what": f"{raw.method} {raw.host}"}
            line |= {"path": raw.target.partition("?")[0], "fault": self._fault if hit else ""}
            with self._trace.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
            bearer = {k.lower(): v for k, v in raw.headers.items()}.get("authorization", "")
            if bearer and bearer not in self._bearers:
                self._bearers.add(bearer)
                with self._trace.with_name("bearers").open("a") as stream:
                    stream.write(bearer + "\n")
        return self._spoil(raw) if hit else self._forward(raw)

    def _spoil(self, raw: RawRequest) -> Response:
        fault = self._fault
        if fault in ("401", "429", "503"):
            body = json.dumps({"error": {"code": "Spoilt", "message": "by the fault proxy"}})
            return Response(int(fault), {**_LAB, "retry-after": "1"}, body.encode())
        if fault == "late":
            threading.Thread(target=self._forward_late, args=(raw,), daemon=True).start()
        elif fault != "dropped":
            answer = self._forward(raw)
        if fault == "twice":
            self._forward(raw)
            return answer
        if fault == "503-done":
            return Response(503, dict(_LAB), b'{"error": {"code": "Spoilt"}}')
        if fault == "garbage":
            return Response(200, dict(_LAB), b"\x00\xff<html>no answer</html>")
        raise ConnectionLost(fault)

    def _forward_late(self, raw: RawRequest) -> None:
        due = self._clock.now_ms() + LATE_MS
        while self._clock.now_ms() < due:
            time.sleep(0.001)
        self._forward(raw)

    def _forward(self, raw: RawRequest) -> Response:
        headers = {k: v for k, v in raw.headers.items() if k.lower() not in _NOT_FORWARDED}
        found = self._client.request(
            raw.method,
            f"https://{raw.host}{raw.target}",
            headers=headers,
            body=raw.body,
            timeout_seconds=60,
        )
        kept = {k: v for k, v in found.headers.items() if k not in _NOT_FORWARDED}
        if raw.method == "HEAD" and "content-length" in found.headers:
            kept["content-length"] = found.headers["content-length"]
        return Response(status=found.status, headers=kept, body=found.body)


class _Hosts:
    def __init__(self) -> None:
        self._patterns = [re.compile(route.host) for route in ROUTES]

    def knows(self, host: str) -> bool:
        return any(pattern.fullmatch(host) for pattern in self._patterns)


def serve(home: str, lab_port: int, fault: str, which: str, number: int, folder: str) -> int:
    """Serve until killed; the port is written to `FOLDER/proxy.port`."""
    place = Path(home)
    dispatcher = FaultyDispatcher(
        place, lab_port, fault, which, number, Path(folder) / "exchanges.jsonl"
    )
    server = LabServer(dispatcher, TrustAnchor(place))  # type: ignore[arg-type]
    written = Path(folder) / "proxy.port.part"
    written.write_text(str(server.port))
    written.replace(Path(folder) / "proxy.port")
    server.serve_forever()
    return 0
