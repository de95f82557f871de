"""Polling long-running operations from what the journal holds, and nothing else.

One poll is one read. The status URL must be https on the host of the thing that the
operation works on: anything else is refused before a token is sent there. What the
status words mean is told leniently (services write Success, Succeeded, succeeded);
an unknown word counts as running, so that a deadline decides and not a guess.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from azure.core.rest import AsyncHttpResponse, HttpRequest

from drengine.azure.answers import redacted, retry_after_seconds
from drengine.azure.endpoints import Endpoints, host_of
from drengine.azure.pipeline import Pipeline
from drengine.errors import AzureError, GuardError
from drengine.model.cloud import Operation, OperationKind, OperationState, OperationStatus

_DONE: Final = frozenset({"success", "succeeded", "completed", "activated"})
_FAILED: Final = frozenset({"failed", "failure", "canceled", "cancelled"})
_ACCEPTED: Final = 202
_GONE: Final = frozenset({404, 410})
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

    async def poll(self, operation: Operation) -> OperationStatus:
        """Ask once where the operation stands; a transient fault is asked again.

        Raises:
            GuardError: the status URL is on another host than the service.
            AzureError: the service refused, or cannot be reached.
        """
        check_status_url(operation, self._pipeline.endpoints)
        is_arm = operation.kind is OperationKind.ARM
        sender = self._resource_manager() if is_arm else self._hsm(operation.resource)
        request = HttpRequest("GET", operation.url)
        what = f"asking for the state of the operation {operation.job or operation.kind.value}"
        try:
            response = await self._pipeline.read(what, lambda: sender.send_request(request))
            body: object = response.json() if response.content else {}
        except AzureError as error:
            if error.status in _GONE:
                return OperationStatus(OperationState.LOST, detail=error.message)
            if is_arm and error.status in _FAILURES_OF_THE_OPERATION:
                return OperationStatus(
                    OperationState.FAILED, detail=error.message, error_code=error.service_code
                )
            raise
        except ValueError:
            raise AzureError(f"{what}: the answer is not JSON", transient=True) from None
        found = status_of(operation, response.status_code, _lower(response.headers), body)
        if found.state is OperationState.RUNNING and self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting()
        return found


def check_status_url(operation: Operation, endpoints: Endpoints) -> None:
    """Check that the status URL is where the operation's own service is.

    Raises:
        GuardError: it is not; a token sent there would be given away.
    """
    host = host_of(operation.url)
    expected = (
        endpoints.resource_manager_host
        if operation.kind is OperationKind.ARM
        else host_of(operation.resource)
    )
    is_hsm = operation.kind is not OperationKind.ARM
    wrong_kind = is_hsm and not endpoints.is_hsm(host)
    if urlsplit(operation.url).scheme != "https" or host != expected or wrong_kind:
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
    said = found.get("error")
    error: dict[str, Any] = said if isinstance(said, dict) else {}
    code = str(error.get("code") or "")
    wait = retry_after_seconds(headers)
    return OperationStatus(
        state=_state(operation, status, found, code),
        detail=_detail(found, error),
        error_code=code,
        result=str(found.get("azureStorageBlobContainerUri") or ""),
        retry_after_ms=None if wait is None else round(wait * 1000),
    )


def _state(
    operation: Operation, status: int, body: Mapping[str, Any], error_code: str
) -> OperationState:
    word = str(body.get("status") or "").lower()
    if not word:
        return _state_of_resource(operation, status, body)
    if word in _FAILED:
        return OperationState.FAILED
    if word in _DONE:
        # "Succeeded" with an error inside was not a success
        return OperationState.FAILED if error_code else OperationState.SUCCEEDED
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
    is_location = "operationresults" in urlsplit(operation.url).path.lower()
    if is_location or not word or word.lower() in _DONE:
        return OperationState.SUCCEEDED
    return OperationState.RUNNING


def _detail(body: Mapping[str, Any], error: Mapping[str, Any]) -> str:
    said = body.get("status_details") or body.get("statusDetails") or error.get("message") or ""
    return redacted(str(said))


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
