"""From a request to its answer: route, authorisation, transaction, call log.

Rules:
- A request without a valid bearer for its service is refused before anything else of it
  is looked at, and its row in the call log says `authorised: false`.
- The handler's effects and the row of the call log commit together; the answer is built
  before, and leaves after, that commit.
- A refusal rolls the handler's effects back and is logged in a transaction of its own.
- No bearer, no signature of a SAS and no body content reaches the log.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
import traceback
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote

from drengine.lab import arm_rights, arm_scope, entra, faults
from drengine.lab.hsm import regions
from drengine.lab.store import CallRow
from drengine.lab.wire import (
    Call,
    Delivery,
    LabFault,
    NotReadyYet,
    Request,
    Response,
    Route,
    Unreachable,
    arm_fault,
)

if TYPE_CHECKING:
    from drengine.lab.faults import Rule
    from drengine.lab.world import Lab

MAX_PREPARATIONS: Final = 50
HSM_ZONE: Final = "managedhsm.azure.net"
ARM_HOST: Final = "management.azure.com"
_UNREADABLE: Final = {
    400: ("BadRequest", "The request is not valid HTTP/1.1."),
    408: ("RequestTimeout", "The request did not arrive completely in time."),
    413: ("RequestBodyTooLarge", "The request body is too large; the lab reads up to 64 MiB."),
    431: ("RequestHeaderFieldsTooLarge", "The head of the request is too large."),
    501: ("NotImplemented", "The lab does not know this transfer encoding."),
}
_SIGNATURE: Final = re.compile(r"(?i)(^|&)sig=[^&]*")


@dataclass(frozen=True, slots=True)
class RawRequest:
    """What the server read from the wire."""

    method: str
    host: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Compiled:
    host: re.Pattern[str]
    path: re.Pattern[str]
    route: Route


class Dispatcher:
    """Answers requests from the routes of all services.

    Parameters:
        lab: the world that handlers act on.
        routes: all routes; the first that fits answers.
    """

    def __init__(self, lab: Lab, routes: Sequence[Route]) -> None:
        self._lab = lab
        self._routes = [
            _Compiled(re.compile(route.host), re.compile(route.path, re.IGNORECASE), route)
            for route in routes
        ]

    def knows_host(self, host: str) -> bool:
        """Return whether any service of the lab answers under this name."""
        return any(one.host.fullmatch(host) for one in self._routes)

    def resolves(self, host: str) -> bool:
        """Return whether a name exists and its region answers."""
        if not self._lab.faults.resolves(host):
            return False
        if not host.endswith(f".{HSM_ZONE}"):
            return True
        with self._lab.store.transaction() as tx:
            if self._lab.settings.unknown_hsm == "no-name":
                name = host.removesuffix(f".{HSM_ZONE}").rpartition(".")[2]
                if tx.get("hsm", name) is None:
                    return False
            return regions.serving_region(tx, host) is not None

    def log_refused(self, host: str, method: str, status: int, reason: str) -> None:
        """Record that something asked for a host that the lab does not have."""
        row = CallRow(host, method, "", "", status, effect="proxy.refused", target=reason)
        with self._lab.store.transaction() as tx:
            tx.log_call(row)

    def unreadable(self, host: str, status: int) -> Response:
        """Answer, and record, what could not be read as a request to a host of the lab."""
        code, message = _UNREADABLE.get(status, _UNREADABLE[400])
        request = Request("UNREADABLE", host, "", {}, "", {}, b"", None)
        response = self._refuse(None, LabFault(status, code, message), request, "")
        return self._with_common_headers(response, request, str(uuid.uuid4()))

    def answer(self, raw: RawRequest) -> Response:
        """Answer one request; never raises."""
        request = self._request(raw)
        rule = self._lab.faults.take(request)
        if rule is None:
            return self._answer(request)
        return self._spoil(rule, request)

    def _spoil(self, rule: Rule, request: Request) -> Response:
        """Answer a request that a fault is about."""
        if rule.kind not in faults.BEFORE:
            return faults.answer_after(rule, request, self._answer(request))
        if rule.kind == "late-effect":
            self._answer_later(rule, request)
        if rule.kind == "status" and rule.status == 401:  # noqa: PLR2004 - asks for a challenge
            kept = {name: text for name, text in request.headers.items() if name != "authorization"}
            return self._answer(replace(request, principal=None, headers=kept))
        response = faults.answer_before(rule)
        self._log_fault(rule, request, response)
        return self._with_common_headers(response, request, str(uuid.uuid4()))

    def _answer_later(self, rule: Rule, request: Request) -> None:
        """Let a request take effect although its sender has long been cut off."""
        due_ms = self._lab.clock.now_ms() + int(rule.seconds * 1000)
        timer = threading.Timer(self._lab.clock.wall_delay(due_ms), self._answer, (request,))
        timer.daemon = True
        timer.start()

    def _log_fault(self, rule: Rule, request: Request, response: Response) -> None:
        row = _row(request, response, "", None, authorised=True)
        detail = json.dumps({"fault": rule.id, "kind": rule.kind})
        with self._lab.store.transaction() as tx:
            tx.log_call(replace(row, detail=detail))

    def _log_unreachable(self, request: Request, response: Response) -> None:
        row = _row(request, response, "", None, authorised=True)
        with self._lab.store.transaction() as tx:
            tx.log_call(replace(row, detail='{"unreachable":true}'))

    def _answer(self, request: Request) -> Response:
        request_id = str(uuid.uuid4())
        route: Route | None = None
        try:
            route, match = self._find(request)
            self._authorise(route, request)
            response = self._perform(route, match, request, request_id)
        except LabFault as refusal:
            response = self._refuse(route, refusal, request, request_id)
        except Unreachable:
            response = Response(503, delivery=Delivery("reset"))
            self._log_unreachable(request, response)
        except Exception:  # noqa: BLE001 - a bug in the lab must not take the server down
            traceback.print_exc(file=sys.stderr)
            bug = LabFault(500, "InternalServerError", "The lab failed; see its server.log.")
            response = self._refuse(route, bug, request, request_id)
        return self._with_common_headers(response, request, request_id)

    def _request(self, raw: RawRequest) -> Request:
        path, _, query = raw.target.partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        return Request(
            method=raw.method.upper(),
            host=raw.host,
            path=re.sub("^/{2,}", "/", unquote(path)),
            query={name.lower(): value for name, value in pairs},
            raw_target=raw.target,
            headers=raw.headers,
            body=raw.body,
            principal=entra.read_bearer(raw.headers.get("authorization", ""), self._lab.tenant),
        )

    def _find(self, request: Request) -> tuple[Route, re.Match[str]]:
        other_method: Route | None = None
        for one in self._routes:
            if not one.host.fullmatch(request.host):
                continue
            match = one.path.fullmatch(request.path)
            if match is None:
                continue
            if one.route.method == request.method:
                return one.route, match
            other_method = one.route
        if other_method is not None:
            raise LabFault(405, "MethodNotAllowed", f"{request.method} is not allowed here.")
        raise LabFault(
            404, "ResourceNotFound", f"Nothing of the lab answers {request.method} {request.path}."
        )

    def _authorise(self, route: Route, request: Request) -> None:
        principal = request.principal
        fits = principal is not None and entra.is_for(principal, route.auth)
        if route.auth == "none" or fits:
            if route.auth == "arm" and principal is not None and principal.kind != "operator":
                raise LabFault(403, "AuthorizationFailed", _no_arm_rights(principal.object_id))
            if route.auth == "arm":
                arm_rights.require(self._lab.settings, request)
            return
        if route.auth == "storage" and _has_other_credentials(request):
            return
        raise self._unauthorised(route, request)

    def _unauthorised(self, route: Route, request: Request) -> LabFault:
        authority = f"https://{entra.LOGIN_HOST}/{self._lab.tenant}"
        if route.auth in {"hsm", "vault"}:
            zone = HSM_ZONE if route.auth == "hsm" else "vault.azure.net"
            challenge = f'Bearer authorization="{authority}", resource="https://{zone}"'
            return _Challenge(challenge, b"OK" if request.method == "GET" else b"")
        if route.auth == "storage":
            challenge = (
                f"Bearer authorization_uri={authority}/oauth2/authorize "
                "resource_id=https://storage.azure.com"
            )
            code = "InvalidAuthenticationInfo" if "authorization" in request.headers else ""
            return LabFault(
                401,
                code or "NoAuthenticationInformation",
                "Server failed to authenticate the request.",
                {"www-authenticate": challenge},
            )
        challenge = f'Bearer authorization_uri="{authority}", error="invalid_token"'
        found = "authorization" in request.headers
        code = "InvalidAuthenticationToken" if found else "AuthenticationFailed"
        text = "The access token is invalid." if found else "The access token is missing."
        return LabFault(401, code, text, {"www-authenticate": challenge})

    def _perform(
        self, route: Route, match: re.Match[str], request: Request, request_id: str
    ) -> Response:
        for _ in range(MAX_PREPARATIONS):
            try:
                with self._lab.store.transaction() as tx:
                    if route.auth == "arm":
                        arm_scope.require(tx, request.path)
                    call = Call(self._lab, tx, request, match)
                    response = route.handler(call)
                    tx.log_call(_row(request, response, request_id, call, authorised=True))
                    return response
            except NotReadyYet as wait:
                wait.work()
        raise RuntimeError(f"{request.method} {request.path} never became ready")

    def _refuse(
        self, route: Route | None, fault: LabFault, request: Request, request_id: str
    ) -> Response:
        if isinstance(fault, _Challenge):
            response = Response(401, fault.headers, fault.body)
        else:
            render = route.fault if route is not None else self._envelope(request.host)
            response = render(fault, request)
        authorised = fault.status != 401  # noqa: PLR2004 - the one status that says so
        with self._lab.store.transaction() as tx:
            tx.log_call(_row(request, response, request_id, None, authorised=authorised))
        return response

    def _envelope(self, host: str) -> Callable[[LabFault, Request], Response]:
        for one in self._routes:
            if one.host.fullmatch(host):
                return one.route.fault
        return arm_fault

    def _with_common_headers(
        self, response: Response, request: Request, request_id: str
    ) -> Response:
        headers = {
            "date": formatdate(usegmt=True),
            "x-drengine-lab": "1",
            "x-ms-request-id": request_id,
        }
        client_id = request.headers.get("x-ms-client-request-id")
        if client_id:
            headers["x-ms-client-request-id"] = client_id
        if request.host == ARM_HOST:
            correlation = request.headers.get("x-ms-correlation-request-id", request_id)
            headers["x-ms-correlation-request-id"] = correlation
        headers.update(response.headers)
        return replace(response, headers=headers)


class _Challenge(LabFault):
    """A 401 whose body is not an error envelope."""

    def __init__(self, challenge: str, body: bytes) -> None:
        headers = {
            "www-authenticate": challenge,
            "content-type": "application/json; charset=utf-8",
        }
        super().__init__(401, "Unauthorized", "", headers)
        self.body = body


def _no_arm_rights(object_id: str) -> str:
    return (
        f"The client '{object_id}' with object id '{object_id}' does not have authorization "
        "to perform this action."
    )


def _has_other_credentials(request: Request) -> bool:
    scheme = request.headers.get("authorization", "").partition(" ")[0].lower()
    return "sig" in request.query or scheme in {"sharedkey", "sharedkeylite"}


def _row(
    request: Request, response: Response, request_id: str, call: Call | None, *, authorised: bool
) -> CallRow:
    return CallRow(
        host=request.host,
        method=request.method,
        path=request.path,
        query=_SIGNATURE.sub(r"\1sig=REMOVED", request.raw_target.partition("?")[2]),
        status=response.status,
        effect=call.effect if call else None,
        target=call.target if call else None,
        principal=request.principal.object_id if request.principal else None,
        client_request_id=request.headers.get("x-ms-client-request-id"),
        request_id=response.headers.get("x-ms-request-id", request_id),
        authorised=authorised,
        body_sha256=hashlib.sha256(request.body).hexdigest() if request.body else "",
    )
