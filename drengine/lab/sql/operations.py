"""Long-running operations: the 202, the polls, and how a job ends one.

Shapes are those of recorded traffic: the 202 names the operation and carries both
`Azure-AsyncOperation` and `Location`; a poll is a 200 whose body says how it stands, also
when the operation failed.

Rules:
- the api-version of the request returns in the URLs;
- an operation ends once: `finish` on an ended one changes nothing, so that a job which
  runs a second time after a kill does no harm.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from drengine.lab.places import region_key
from drengine.lab.sql.faults import fault, status_of
from drengine.lab.sql.names import ARM, PROVIDER, Place, time_text
from drengine.lab.wire import LabFault, Response, json_response

if TYPE_CHECKING:
    from drengine.lab.settings import Settings
    from drengine.lab.sql.faults import Refusal
    from drengine.lab.store import Tx
    from drengine.lab.wire import Call

OPERATIONS: Final = "sql.operation"
BY_INSTANCE: Final = "sql.operation.of"
_DEFAULT_VERSION: Final = "2025-01-01"


@dataclass(frozen=True, slots=True)
class Work:
    """A long-running operation that is about to be accepted.

    Parameters:
        family: first part of the route names, such as `managedInstanceKey`.
        operation: the word in the 202's body.
        job: name of the job that does it.
        payload: what the job needs, besides the operation's id.
        seconds: how long it takes, virtual.
        instance: key of the instance in whose history it appears.
        location: the region in its URLs.
        place: the resource group in its URLs, None for subscription-scoped routes.
        subscription: the subscription in its URLs.
    """

    family: str
    operation: str
    job: str
    payload: dict[str, Any]
    seconds: float
    instance: str
    location: str
    subscription: str
    place: Place | None = None


def accept(call: Call, work: Work) -> Response:
    """Start an operation and return its 202."""
    guid = str(uuid.uuid4())
    tx = call.tx
    due_ms = tx.now_ms + int(work.seconds * 1000)
    doc = {
        "guid": guid,
        "family": work.family,
        "operation": work.operation,
        "status": "InProgress",
        "start_ms": tx.now_ms,
        "due_ms": due_ms,
        "end_ms": None,
        "error": None,
        "result": None,
        "instance": work.instance,
    }
    tx.put(OPERATIONS, guid, doc)
    tx.put(BY_INSTANCE, f"{work.instance}/{tx.now_ms:015d}/{guid}", {"guid": guid})
    tx.schedule(work.job, {**work.payload, "operation": guid}, due_ms)
    scope = work.place.path if work.place else f"/subscriptions/{work.subscription}"
    base = f"{ARM}{scope}{PROVIDER}/locations/{region_key(work.location)}/{work.family}"
    version = call.request.query.get("api-version", _DEFAULT_VERSION)
    headers = {
        "azure-asyncoperation": f"{base}AzureAsyncOperation/{guid}?api-version={version}",
        "location": f"{base}OperationResults/{guid}?api-version={version}",
        **retry_headers(call.lab.settings),
    }
    body = {"operation": work.operation, "startTime": time_text(tx.now_ms)}
    return json_response(202, body, headers)


def retry_headers(settings: Settings) -> dict[str, str]:
    """Return the header that tells a client when to poll again, if there is to be one."""
    if settings.retry_after_ms is not None:
        return {"retry-after-ms": str(settings.retry_after_ms)}
    if settings.retry_after_seconds is not None:
        return {"retry-after": str(settings.retry_after_seconds)}
    return {}


def running_id(tx: Tx, payload: dict[str, Any]) -> str | None:
    """Return the id of a job's operation, None when it has ended already."""
    doc = tx.get(OPERATIONS, payload["operation"])
    if doc is None or doc["status"] != "InProgress":
        return None
    return str(doc["guid"])


def finish(
    tx: Tx, guid: str, *, refusal: Refusal | None = None, result: dict[str, Any] | None = None
) -> None:
    """End an operation, well or badly."""
    doc = tx.get(OPERATIONS, guid)
    if doc is None or doc["status"] != "InProgress":
        return
    doc["status"] = "Failed" if refusal else "Succeeded"
    doc["error"] = refusal.to_json() if refusal else None
    doc["result"] = result
    doc["end_ms"] = tx.now_ms
    tx.put(OPERATIONS, guid, doc)
    detail = {"operation": doc["operation"], "status": doc["status"], "error": doc["error"]}
    tx.log_effect(f"sql.{doc['operation']}.{doc['status'].lower()}", doc["instance"], detail)


def poll(call: Call) -> Response:
    """Answer `Azure-AsyncOperation`: always 200 while the operation is known."""
    doc = _known(call)
    body: dict[str, Any] = {
        "name": doc["guid"],
        "status": doc["status"],
        "startTime": time_text(doc["start_ms"]),
    }
    if doc["error"]:
        body["error"] = doc["error"]
    return json_response(200, body, retry_headers(call.lab.settings))


def results(call: Call) -> Response:
    """Answer `Location`: 202 while it runs, then the resource, nothing, or the error."""
    doc = _known(call)
    if doc["status"] == "InProgress":
        body = {"operation": doc["operation"], "startTime": time_text(doc["start_ms"])}
        location = f"{ARM}{call.request.raw_target}"
        headers = {"location": location, **retry_headers(call.lab.settings)}
        return json_response(202, body, headers)
    if doc["error"]:
        code = doc["error"]["code"]
        raise LabFault(status_of(code), code, doc["error"]["message"])
    return Response(200) if doc["result"] is None else json_response(200, doc["result"])


def _known(call: Call) -> dict[str, Any]:
    guid = call.match["guid"].lower()
    doc = call.tx.get(OPERATIONS, guid)
    if doc is None or doc["family"].lower() != call.match["family"].lower():
        raise fault("OperationIdNotFound", name=guid)
    return doc


def of_instance(tx: Tx, instance_key: str) -> list[dict[str, Any]]:
    """Return the operations of an instance, the oldest first."""
    rows = tx.find(BY_INSTANCE, f"{instance_key}/")
    found = (tx.get(OPERATIONS, row["guid"]) for _, row in rows)
    return [doc for doc in found if doc is not None]
