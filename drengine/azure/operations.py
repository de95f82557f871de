"""Polling long-running operations from what the journal holds, and nothing else.

One poll is one read. The status URL must be https on the host of the thing that the
operation works on: anything else is refused before a token is sent there. What the
status words mean is told leniently (services write Success, Succeeded, succeeded);
an unknown word counts as running, so that a deadline decides and not a guess. So does an
answer without any word, but for two: that of a Location, and the resource itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlsplit

from azure.core.exceptions import AzureError as ClientError
from azure.core.rest import AsyncHttpResponse, HttpRequest

from drengine.azure.answers import (
    absolute_url,
    code_text,
    place_text,
    redacted,
    retry_after_seconds,
)
from drengine.azure.endpoints import Endpoints, host_of
from drengine.azure.pipeline import Pipeline
from drengine.errors import AzureError, GuardError
from drengine.model.cloud import Operation, OperationKind, OperationState, OperationStatus

_DONE: Final = frozenset({"success", "succeeded", "completed", "activated"})
_FAILED: Final = frozenset({"failed", "failure", "canceled", "cancelled"})
_ACCEPTED: Final = 202
_GONE: Final = frozenset({404, 410})
_NOT_GONE: Final = frozenset({"", "SubscriptionNotFound", "InvalidResourceType"})
"""Codes of a 404 that do not say of the operation that it is gone; a web page has none."""

_FAILURES_OF_THE_OPERATION: Final = frozenset({400, 409, 412, 422, 424})
"""Answers of the resource manager to a Location poll that are the operation's own end."""


class Sender(Protocol):
    """An authenticated client that takes raw requests."""

    def send_request(self, request: HttpRequest) -> Awaitable[AsyncHttpResponse]:
        """Send the request; the answer is returned whatever its status."""
        ...


class HttpOperations:
    """`ports.Operations` over the session's authenticated pipeline.

    Parameters:
        resource_manager: returns the client for the resource manager.
        hsm: returns the client for the HSM at a URI.
        waiting: called once, when an operation is seen running for the first time.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        resource_manager: Callable[[], Sender],
        hsm: Callable[[str], Sender],
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self._pipeline = pipeline
        self._resource_manager = resource_manager
        self._hsm = hsm
        self._waiting: Callable[[], None] | None = waiting
        self._moved: dict[str, str] = {}

    async def poll(self, operation: Operation) -> OperationStatus:
        """Ask once where the operation stands; a transient fault is asked again.

        The resource manager may name a new Location with each answer. The last one is asked,
        as long as this process lives; where it is gone, the first one again.

        Raises:
            GuardError: the status URL is on another host than the service.
            AzureError: the service refused, or cannot be reached.
        """
        check_status_url(operation, self._pipeline.endpoints)
        moved = self._moved.get(operation.url)
        found = await self._asked(replace(operation, url=moved) if moved else operation)
        if moved and found.state is OperationState.LOST:
            del self._moved[operation.url]
            found = await self._asked(operation)
        if found.state is OperationState.RUNNING and self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting()
        return found

    async def _asked(self, operation: Operation) -> OperationStatus:
        is_arm = operation.kind is OperationKind.ARM
        sender = self._resource_manager() if is_arm else self._hsm(operation.resource)
        request = HttpRequest("GET", operation.url)
        what = f"asking for the state of the operation {operation.job or operation.kind.value}"
        try:
            response = await self._pipeline.read(what, lambda: sender.send_request(request))
            body = document_of(what, response)
        except AzureError as error:
            if error.status in _GONE and error.service_code not in _NOT_GONE:
                return OperationStatus(OperationState.LOST, detail=error.message)
            if error.status in _GONE and not error.service_code:
                error.transient = True  # of something in between
            if is_arm and error.status in _FAILURES_OF_THE_OPERATION:
                return OperationStatus(
                    OperationState.FAILED, detail=error.message, error_code=error.service_code
                )
            raise
        headers = _lower(response.headers)
        if response.status_code == _ACCEPTED:
            self._adopt(operation, absolute_url(operation.url, headers.get("location", "")))
        return status_of(operation, response.status_code, headers, body)

    def _adopt(self, operation: Operation, url: str) -> None:
        """Remember a newer Location, where it is one and on the same host."""
        if not _is_location(operation) or not _is_location(newer := replace(operation, url=url)):
            return
        with suppress(GuardError):
            check_status_url(newer, self._pipeline.endpoints)
            first = next((k for k, v in self._moved.items() if v == operation.url), operation.url)
            self._moved[first] = url


def document_of(what: str, response: AsyncHttpResponse) -> dict[str, Any]:
    """Return the JSON object that an answer holds; an empty body is an empty one.

    Raises:
        AzureError: transient; the body is something else.
    """
    try:
        found = response.json() if response.content else {}
    except (ValueError, RecursionError, ClientError):
        found = None
    if not isinstance(found, dict):
        raise AzureError(
            f"{what}: the answer {response.status_code} is not one of the service",
            status=response.status_code,
            transient=True,
        )
    return found


def check_status_url(operation: Operation, endpoints: Endpoints) -> None:
    """Check that the status URL is where the operation's own service is.

    Raises:
        GuardError: it is not; a token sent there would be given away.
    """
    try:
        host, scheme = host_of(operation.url), urlsplit(operation.url).scheme
    except ValueError:
        raise GuardError(
            f"the status URL of {operation.resource} cannot be read; it was not asked",
            hint="look at the resource itself instead",
        ) from None
    expected = (
        endpoints.resource_manager_host
        if operation.kind is OperationKind.ARM
        else host_of(operation.resource)
    )
    is_hsm = operation.kind is not OperationKind.ARM
    wrong_kind = is_hsm and not endpoints.is_hsm(host)
    if scheme != "https" or host != expected or wrong_kind:
        raise GuardError(
            f"the status URL of {operation.resource} is on {host or 'no host'}, "
            f"expected {expected}; it was not asked",
            hint="a token would have been given away; look at the resource itself instead",
        )


def status_of(
    operation: Operation, status: int, headers: Mapping[str, str], body: object
) -> OperationStatus:
    """Return what an answer to a poll says; pure."""
    found: dict[str, Any] = body if isinstance(body, dict) else {}
    error = _error_of(found)
    wait = retry_after_seconds(headers)
    return OperationStatus(
        state=_state(operation, status, found, is_error=bool(error)),
        detail=_detail(found, error),
        error_code=code_text(error.get("code")),
        result=place_text(found.get("azureStorageBlobContainerUri")),
        retry_after_ms=None if wait is None else round(wait * 1000),
    )


def _error_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the error that a body holds; empty where all its members are, as of old services."""
    said = body.get("error")
    if said is None and "code" in body and "message" in body:
        said = {"code": body["code"], "message": body["message"]}
    if isinstance(said, dict):
        return said if said.get("code") or said.get("message") else {}
    return {"message": str(said)} if said else {}


def _state(
    operation: Operation, status: int, body: Mapping[str, Any], *, is_error: bool
) -> OperationState:
    word = str(body.get("status") or "").lower()
    if word in _FAILED:
        return OperationState.FAILED
    if word in _DONE:
        # "Succeeded" with an error inside was not a success
        return OperationState.FAILED if is_error else OperationState.SUCCEEDED
    if word:
        return OperationState.RUNNING
    if is_error:
        return OperationState.FAILED
    if _is_location(operation) or _is_resource(operation):
        return _state_of_resource(operation, status, body)
    return OperationState.RUNNING


def _state_of_resource(
    operation: Operation, status: int, body: Mapping[str, Any]
) -> OperationState:
    """Tell the state where the URL is a Location or the resource itself."""
    properties = body.get("properties")
    word = str(properties.get("provisioningState") or "") if isinstance(properties, dict) else ""
    if word.lower() in _FAILED:
        return OperationState.FAILED
    if status == _ACCEPTED:
        return OperationState.RUNNING
    if _is_location(operation):
        return OperationState.SUCCEEDED
    done = word.lower() in _DONE or (not word and bool(body))
    return OperationState.SUCCEEDED if done else OperationState.RUNNING


def _is_location(operation: Operation) -> bool:
    """Whether the URL answers 202 until the operation is over (…OperationResults/ID)."""
    is_arm = operation.kind is OperationKind.ARM
    return is_arm and "operationresults" in urlsplit(operation.url).path.lower()


def _is_resource(operation: Operation) -> bool:
    path, resource = urlsplit(operation.url).path, operation.resource
    is_arm = operation.kind is OperationKind.ARM
    return is_arm and unquote(path).strip("/").lower() == unquote(resource).strip("/").lower()


def _detail(body: Mapping[str, Any], error: Mapping[str, Any]) -> str:
    said = body.get("status_details") or body.get("statusDetails") or error.get("message") or ""
    return redacted(str(said))


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
