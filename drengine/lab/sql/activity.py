"""Databases losing and regaining access, and the activity log that tells of it.

The two transitions are written here and nowhere else, so that no database changes its
state without a row of the activity log and of the lab's call log.
"""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any, Final

from drengine.lab.sql.names import place_of, time_text
from drengine.lab.wire import Response, json_response

if TYPE_CHECKING:
    from drengine.lab.sql.faults import Refusal
    from drengine.lab.store import Tx
    from drengine.lab.wire import Call

EVENTS: Final = "sql.activity"
_LOST: Final = "MakeManagedDbInaccessible"
_REGAINED: Final = "MakeManagedDatabaseAccessible"
_SINCE: Final = re.compile(r"eventTimestamp\s+(ge|le)\s+'([^']+)'", re.IGNORECASE)
_RESOURCE: Final = re.compile(r"resource(Uri|Id|GroupName)\s+eq\s+'([^']+)'", re.IGNORECASE)

Doc = dict[str, Any]


def make_inaccessible(
    tx: Tx, instance_key: str, row: Doc, found: Refusal, uri: str, role: str
) -> None:
    """Turn a database inaccessible and record why; the caller saves it."""
    row["status"] = "Inaccessible"
    row["inaccessible"] = {
        "since_ms": tx.now_ms,
        "code": found.code,
        "message": found.message,
        "uri": uri,
        "role": role,
    }
    detail = {"code": found.code, "uri": uri}
    tx.log_effect("sql.database.inaccessible", f"{instance_key}/databases/{row['name']}", detail)
    _record(tx, row, _LOST, "Started", found.message)
    _record(tx, row, _LOST, "Succeeded", found.message)


def make_accessible(tx: Tx, instance_key: str, row: Doc, cause: str) -> None:
    """Turn a database online again; the caller saves it.

    Parameters:
        cause: what brought it back: `autoheal`, `reevaluate` or `protector`.
    """
    lost = row["inaccessible"]
    row["status"] = "Online"
    row["inaccessible"] = None
    detail = {"cause": cause, "after_ms": tx.now_ms - lost["since_ms"] if lost else 0}
    tx.log_effect("sql.database.online", f"{instance_key}/databases/{row['name']}", detail)
    _record(tx, row, _REGAINED, "Started", "")
    _record(tx, row, _REGAINED, "Succeeded", "")


def record_failure(tx: Tx, row: Doc, found: Refusal) -> None:
    """Record that a database could not be made accessible."""
    _record(tx, row, _REGAINED, "Started", "")
    _record(tx, row, _REGAINED, "Failed", found.message)


def _record(tx: Tx, row: Doc, event: str, status: str, text: str) -> None:
    event_id = str(uuid.uuid4())
    doc = {
        "at_ms": tx.now_ms,
        "event": event,
        "status": status,
        "id": event_id,
        "resource": row["id"],
        "text": text,
    }
    tx.put(EVENTS, f"{tx.now_ms:015d}/{event_id}", doc)


def list_events(call: Call) -> Response:
    """Answer the activity log of a subscription, the newest event first."""
    subscription = call.match["sub"].lower()
    wanted = call.request.query.get("$filter", "")
    found = [doc for _, doc in call.tx.find(EVENTS) if _fits(doc, subscription, wanted)]
    return json_response(200, {"value": [_body(doc) for doc in reversed(found)]})


def _fits(doc: Doc, subscription: str, wanted: str) -> bool:
    resource = str(doc["resource"]).lower()
    if not resource.startswith(f"/subscriptions/{subscription}/"):
        return False
    for word, bound in _SINCE.findall(wanted):
        at = time_text(doc["at_ms"])[:19]
        if (at < bound[:19]) if word.lower() == "ge" else (at > bound[:19]):
            return False
    for kind, value in _RESOURCE.findall(wanted):
        group = place_of(resource).resource_group
        fits = (
            group == value.lower()
            if kind.lower() == "groupname"
            else (resource.startswith(value.lower()))
        )
        if not fits:
            return False
    return True


def _body(doc: Doc) -> Doc:
    at = time_text(doc["at_ms"])
    place = place_of(doc["resource"])
    operation = f"Microsoft.Sql/managedInstances/databases/{doc['event']}/action"
    return {
        "eventTimestamp": at,
        "submissionTimestamp": at,
        "eventDataId": doc["id"],
        "correlationId": doc["id"],
        "operationId": doc["id"],
        "id": f"{doc['resource']}/events/{doc['id']}/ticks/{doc['at_ms']}",
        "level": "Error" if doc["status"] == "Failed" else "Informational",
        "eventName": {"value": doc["event"], "localizedValue": doc["event"]},
        "category": {"value": "Administrative", "localizedValue": "Administrative"},
        "operationName": {"value": operation, "localizedValue": doc["event"]},
        "status": {"value": doc["status"], "localizedValue": doc["status"]},
        "resourceGroupName": place.resource_group,
        "resourceProviderName": {"value": "Microsoft.Sql", "localizedValue": "Microsoft SQL"},
        "resourceId": doc["resource"],
        "resourceType": {
            "value": "Microsoft.Sql/managedInstances/databases",
            "localizedValue": "Microsoft.Sql/managedInstances/databases",
        },
        "subscriptionId": place.subscription,
        "caller": "Microsoft.Sql",
        "properties": {"statusMessage": doc["text"]} if doc["text"] else {},
    }
