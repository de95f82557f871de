"""The values that pass between the lab's server and its services.

A service is a tuple of `Route`s. A handler gets a `Call` (the request, an open
transaction, the lab) and returns a `Response`, or raises `LabFault`, which the
route renders in the envelope of its own service.

This module does no input or output.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from drengine.lab.bodies import misfit

if TYPE_CHECKING:
    from drengine.lab.store import Tx
    from drengine.lab.world import Lab

DeliveryKind: TypeAlias = Literal["normal", "reset", "withhold", "drip", "break-off"]
Auth: TypeAlias = Literal["none", "arm", "hsm", "vault", "storage"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a valid bearer token speaks for."""

    object_id: str
    app_id: str
    tenant: str
    audience: str
    kind: str
    """`operator` for the lab's service principals, `identity` for a managed identity."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, read completely."""

    method: str
    host: str
    path: str
    """Decoded, without the query."""
    query: Mapping[str, str]
    """Keys in lower case; the last of several values wins."""
    raw_target: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    principal: Principal | None
    """From a valid bearer token; None where there is none or it is not valid."""

    def json(self) -> Any:
        """Return the body as JSON.

        Raises:
            LabFault: 400 BadParameter, where the body is not JSON.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise LabFault(400, "BadParameter", "The request body is not valid JSON.") from None

    def json_object(self) -> dict[str, Any]:
        """Return the body as a JSON object.

        Raises:
            LabFault: 400 BadParameter, where the body is anything else, or has members of
                another type than the services know them by.
        """
        found = self.json()
        if not isinstance(found, dict):
            raise LabFault(400, "BadParameter", "The request body must be a JSON object.")
        wrong = misfit(found)
        if wrong:
            raise LabFault(400, "BadParameter", wrong)
        return found


@dataclass(frozen=True, slots=True)
class Delivery:
    """How an answer reaches the client, where a fault has its hand in it.

    Parameters:
        kind: `reset` sends nothing and resets the connection, `withhold` lets the client
            wait and then closes it, `drip` sends the body in small pieces, `break-off`
            closes in the middle of the body.
        seconds: how long `withhold` and `drip` take.
    """

    kind: DeliveryKind = "normal"
    seconds: float = 0.0


NORMAL: Final = Delivery()
MOST_DIGITS: Final = 15


@dataclass(frozen=True, slots=True)
class Response:
    """What the server sends back."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delivery: Delivery = NORMAL


class LabFault(Exception):
    """A refusal by a service, rendered in that service's error envelope.

    Parameters:
        status: the HTTP status.
        code: the service's error code.
        message: the service's text.
        headers: headers of the answer besides the usual ones.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers: Mapping[str, str] = dict(headers or {})


class Unreachable(Exception):
    """Raised by a handler whose host cannot be reached: the connection is reset."""


class NotReadyYet(Exception):
    """Raised by a handler that needs slow work done outside its transaction.

    The dispatcher rolls the transaction back, runs `work`, and calls the handler anew.
    That is how a 4096-bit key is made without keeping every other request waiting.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__("work is to be done outside the transaction")
        self.work = work


@dataclass(slots=True)
class Call:
    """One request on its way through a handler."""

    lab: Lab
    tx: Tx
    request: Request
    match: re.Match[str]
    effect: str | None = None
    """Set by the handler: names what changed, for the call log (`hsm.create`)."""
    target: str | None = None
    """Set by the handler: names what it was changed on."""

    @property
    def principal(self) -> Principal:
        """The caller; only for routes whose `auth` is not `none`."""
        found = self.request.principal
        if found is None:
            raise LabFault(401, "Unauthorized", "The request has no valid bearer token.")
        return found


Handler: TypeAlias = Callable[[Call], Response]


@dataclass(frozen=True, slots=True)
class Route:
    """Which requests a handler answers.

    Parameters:
        host: regular expression for the whole host name, in lower case, without port.
        method: the HTTP method.
        path: regular expression for the whole decoded path; upper and lower case are alike.
        handler: answers the request.
        auth: what the framework checks before the handler.
        fault: renders a `LabFault` in the envelope of the service.
    """

    host: str
    method: str
    path: str
    handler: Handler
    auth: Auth
    fault: Callable[[LabFault, Request], Response]


def whole_number(text: str) -> int | None:
    """Return a number from a query or a header, None where the text is not one."""
    fits = text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS
    return int(text) if fits else None


def json_response(status: int, body: object, headers: Mapping[str, str] | None = None) -> Response:
    """Return `body` as compact JSON."""
    return Response(
        status=status,
        headers={"content-type": "application/json; charset=utf-8", **(headers or {})},
        body=json.dumps(body, separators=(",", ":")).encode(),
    )


def arm_fault(fault: LabFault, _request: Request) -> Response:
    """Render a fault the way Azure Resource Manager does."""
    body = {"error": {"code": fault.code, "message": fault.message}}
    return json_response(fault.status, body, fault.headers)


def hsm_fault(fault: LabFault, _request: Request) -> Response:
    """Render a fault the way the Managed HSM data plane does."""
    error = {"code": fault.code, "message": fault.message, "innererror": None}
    return json_response(fault.status, {"error": error}, fault.headers)
