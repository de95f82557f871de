"""Managed instances: read, list, change of tags and identity, operation history.

Creating and deleting instances is NOT part of the lab; the estate has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from drengine.lab.sql import operations, shapes, state
from drengine.lab.sql.faults import fault
from drengine.lab.sql.names import PROVIDER, place_of
from drengine.lab.wire import LabFault, Response, json_response

if TYPE_CHECKING:
    from drengine.lab.wire import Call
    from drengine.lab.world import Lab

_CHANGEABLE: Final = frozenset({"primaryUserAssignedIdentityId"})


def show(call: Call) -> Response:
    """Answer GET of an instance."""
    key, doc = state.called_instance(call)
    return json_response(200, shapes.instance_body(call.tx, key, doc))


def list_all(call: Call) -> Response:
    """Answer the list of instances of a subscription or resource group."""
    head = call.request.path.lower().split(PROVIDER.lower(), 1)[0] + "/"
    found = [(key, doc) for key, doc in call.tx.find(state.INSTANCES) if key.startswith(head)]
    value = [shapes.instance_body(call.tx, key, doc) for key, doc in found]
    return json_response(200, {"value": value})


def change(call: Call) -> Response:
    """Answer PATCH of an instance: tags and identity.

    Raises:
        LabFault: 400 for a property that the lab does not change this way.
    """
    key, doc = state.called_instance(call)
    body = call.request.json_object()
    properties = body.get("properties") or {}
    unknown = sorted(name for name, value in properties.items() if value is not None)
    unknown = [name for name in unknown if name not in _CHANGEABLE]
    if unknown:
        raise LabFault(
            400,
            "InvalidParameterValue",
            f"The lab does not change {', '.join(unknown)} by PATCH; link the key and set the "
            "encryption protector instead.",
        )
    wanted = {"tags": body.get("tags"), "identity": _wanted_identity(call, doc, body)}
    call.effect, call.target = "sql.mi.update", doc["name"]
    work = operations.Work(
        family="managedInstance",
        operation="UpsertManagedServer",
        job="sql.mi.update",
        payload={"instance": key, **wanted},
        seconds=call.lab.settings.mi_update,
        instance=key,
        location=doc["location"],
        subscription=place_of(doc["id"]).subscription,
        place=place_of(doc["id"]),
    )
    return operations.accept(call, work)


def _wanted_identity(call: Call, doc: state.Doc, body: dict[str, Any]) -> dict[str, Any] | None:
    asked = body.get("identity")
    primary = (body.get("properties") or {}).get("primaryUserAssignedIdentityId")
    if asked is None and primary is None:
        return None
    identity = dict(doc["identity"])
    if asked is not None:
        kinds = {part.strip() for part in asked.get("type", "").split(",")}
        assigned = list((asked.get("userAssignedIdentities") or {}).keys())
        identity["type"] = asked.get("type", "")
        identity["user_assigned"] = assigned
        if "SystemAssigned" not in kinds:
            identity["principal_id"] = None
            primary = primary or (assigned[0] if assigned else None)
        elif not identity.get("principal_id"):
            identity["principal_id"] = doc["system_principal"]
    identity["primary"] = primary
    if primary and call.tx.get("arm.identity", primary.lower()) is None:
        raise fault("AzureKeyVaultNoServerIdentity", server=doc["name"])
    return identity


def update_job(lab: Lab, payload: dict[str, Any]) -> None:
    """Apply a PATCH when its time has come."""
    with lab.store.transaction() as tx:
        guid = operations.running_id(tx, payload)
        if guid is None:
            return
        key = payload["instance"]
        doc = state.instance(tx, key)
        for part in ("tags", "identity"):
            if payload[part] is not None:
                doc[part] = payload[part]
        tx.put(state.INSTANCES, key, doc)
        operations.finish(tx, guid, result=shapes.instance_body(tx, key, doc))


def list_operations(call: Call) -> Response:
    """Answer the operation history of an instance."""
    key, doc = state.called_instance(call)
    found = operations.of_instance(call.tx, key)
    value = [shapes.operation_body(doc, row, call.tx.now_ms) for row in found]
    return json_response(200, {"value": value})


def show_operation(call: Call) -> Response:
    """Answer GET of one operation of an instance."""
    key, doc = state.called_instance(call)
    guid = call.match["guid"].lower()
    for row in operations.of_instance(call.tx, key):
        if row["guid"] == guid:
            return json_response(200, shapes.operation_body(doc, row, call.tx.now_ms))
    raise fault("OperationIdNotFound", name=guid)


def list_nothing(call: Call) -> Response:
    """Answer a list that is always empty in the lab."""
    state.called_instance(call)
    return json_response(200, {"value": []})
