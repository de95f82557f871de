"""Failover groups: per-region views, create, update, delete, planned and forced failover.

A group is one document; each region sees it with its own role. Failover swaps the
roles; the databases stay where they are, because both members have them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from drengine.lab.hsm import regions
from drengine.lab.places import region_key
from drengine.lab.sql import operations, shapes, state
from drengine.lab.sql.faults import fault, refusal
from drengine.lab.sql.names import PROVIDER, place_of
from drengine.lab.wire import Response, json_response

if TYPE_CHECKING:
    from drengine.lab.sql.faults import Refusal
    from drengine.lab.store import Tx
    from drengine.lab.wire import Call
    from drengine.lab.world import Lab

_FAMILY: Final = "instanceFailoverGroup"


def _called_group(call: Call) -> tuple[str, state.Doc, str] | None:
    part = call.match
    return state.find_group(call.tx, part["sub"], part["rg"], part["loc"], part["name"])


def _existing_group(call: Call) -> tuple[str, state.Doc, str]:
    found = _called_group(call)
    if found is None:
        raise state.not_found("locations/instanceFailoverGroups", call.match["name"])
    return found


def show(call: Call) -> Response:
    """Answer GET of a group in one region."""
    _, doc, member = _existing_group(call)
    return json_response(200, shapes.group_body(call.tx, doc, member))


def list_region(call: Call) -> Response:
    """Answer the groups of one region and resource group."""
    part = call.match
    value = []
    for _, doc in call.tx.find(state.GROUPS):
        member = state.member_in(call.tx, doc, part["sub"], part["rg"], part["loc"])
        if member is not None:
            value.append(shapes.group_body(call.tx, doc, member))
    return json_response(200, {"value": value})


def _accept(call: Call, operation: str, job: str, payload: dict[str, Any], member: str) -> Response:
    settings = call.lab.settings
    is_failover = job == "sql.group.failover"
    doc = state.instance(call.tx, member)
    work = operations.Work(
        family=_FAMILY,
        operation=operation,
        job=job,
        payload=payload,
        seconds=settings.fog_failover if is_failover else settings.fog_update,
        instance=member,
        location=doc["location"],
        subscription=place_of(doc["id"]).subscription,
    )
    call.effect, call.target = job, call.match["name"]
    return operations.accept(call, work)


def _set_busy(call: Call, key: str, doc: state.Doc) -> None:
    if doc["busy"]:
        raise fault("InstanceFailoverGroupBusy", name=doc["name"])
    doc["busy"] = True
    call.tx.put(state.GROUPS, key, doc)


def fail_over(call: Call) -> Response:
    """Answer a planned failover; it is asked of the secondary."""
    return _fail_over(call, forced=False)


def force_fail_over(call: Call) -> Response:
    """Answer a failover that may lose data; it is asked of the secondary."""
    return _fail_over(call, forced=True)


def _fail_over(call: Call, *, forced: bool) -> Response:
    key, doc, member = _existing_group(call)
    if member == doc["primary"]:
        raise fault("InstanceFailoverGroupFailoverRequestOnPrimary", name=doc["name"])
    lenient = forced and call.lab.settings.fog_forced_with_inaccessible == "accept"
    found = None if lenient else _find_inaccessible(call.tx, doc)
    if found is not None:
        raise found.to_fault()
    _set_busy(call, key, doc)
    payload = {"group": key, "member": member, "forced": forced}
    word = "FailoverManagedFailoverGroup"
    operation = f"Force{word}AllowDataLoss" if forced else word
    return _accept(call, operation, "sql.group.failover", payload, member)


def _find_inaccessible(tx: Tx, doc: state.Doc) -> Refusal | None:
    for role in ("primary", "secondary"):
        rows = [row for _, row in state.databases(tx, doc[role])]
        lost = [row["name"] for row in rows if row["status"] == "Inaccessible"]
        if lost:
            server = state.instance(tx, doc[role])["name"]
            return refusal(
                "ManagedInstanceContainsInaccessibleDatabases",
                server=server,
                databases=", ".join(lost),
            )
    return None


def _find_lost(tx: Tx, doc: state.Doc) -> Refusal | None:
    """Return why a planned failover cannot end: it needs both members."""
    for role in ("primary", "secondary"):
        server = state.instance(tx, doc[role])
        if regions.is_down(tx, server["location"]):
            return refusal("PlannedFailoverTimedOut", name=doc["name"], server=server["name"])
    return None


def _begun(tx: Tx, payload: dict[str, Any]) -> tuple[str, state.Doc] | None:
    """Return operation and group of a job; a group that was dropped meanwhile ends the operation.

    None means that nothing is left to do.
    """
    guid, key = operations.running_id(tx, payload), payload["group"]
    if guid is None:
        return None
    doc = tx.get(state.GROUPS, key)
    if doc is not None:
        return guid, doc
    *_, location, _, name = key.split("/")
    found = refusal("InstanceFailoverGroupDoesNotExist", name=name, location=location)
    operations.finish(tx, guid, refusal=found)
    return None


def failover_job(lab: Lab, payload: dict[str, Any]) -> None:
    """Swap the roles of a group's members."""
    with lab.store.transaction() as tx:
        begun = _begun(tx, payload)
        if begun is None:
            return
        guid, doc = begun
        key, member = payload["group"], payload["member"]
        doc["busy"] = False
        lenient = payload["forced"] and lab.settings.fog_forced_with_inaccessible == "accept"
        blocked = None if lenient else _find_inaccessible(tx, doc)
        if blocked is None and not payload["forced"]:
            blocked = _find_lost(tx, doc)
        if blocked is None:
            doc["primary"], doc["secondary"] = doc["secondary"], doc["primary"]
        tx.put(state.GROUPS, key, doc)
        result = None if blocked else shapes.group_body(tx, doc, member)
        operations.finish(tx, guid, refusal=blocked, result=result)


def put(call: Call) -> Response:
    """Answer PUT of a group: create it, or change its policies."""
    properties = call.request.json_object().get("properties") or {}
    found = _called_group(call)
    if found is not None:
        key, doc, member = found
        if member != doc["primary"]:
            raise fault("InstanceFailoverGroupUpdateOrDeleteRequestOnSecondary", name=doc["name"])
        _set_busy(call, key, doc)
        payload = {"group": key, "member": member, **_policies(properties)}
        return _accept(call, "UpdateManagedFailoverGroup", "sql.group.update", payload, member)
    return _create(call, properties)


def _policies(properties: dict[str, Any]) -> dict[str, Any]:
    read_write = dict(properties.get("readWriteEndpoint") or {"failoverPolicy": "Manual"})
    if read_write.get("failoverPolicy") == "Manual":
        read_write.pop("failoverWithDataLossGracePeriodMinutes", None)
    read_only = properties.get("readOnlyEndpoint") or {"failoverPolicy": "Disabled"}
    return {"read_write": read_write, "read_only": read_only}


def _create(call: Call, properties: dict[str, Any]) -> Response:
    pairs = properties.get("managedInstancePairs") or []
    if len(pairs) != 1:
        raise fault("InstanceFailoverGroupCreateOrUpdateRequestUnsupportedPairCount")
    primary = str(pairs[0].get("primaryManagedInstanceId", "")).lower()
    secondary = str(pairs[0].get("partnerManagedInstanceId", "")).lower()
    for member in (primary, secondary):
        doc = state.instance(call.tx, member)
        if doc.get("group"):
            raise fault("InstanceFailoverGroupAlreadyExists", server=doc["name"])
    if state.databases(call.tx, secondary):
        server = state.instance(call.tx, secondary)["name"]
        raise fault("GeoDrSecondaryInstanceNotEmpty", server=server)
    payload = {
        "primary": primary,
        "secondary": secondary,
        "name": call.match["name"],
        **_policies(properties),
    }
    return _accept(call, "CreateManagedFailoverGroup", "sql.group.create", payload, primary)


def create_job(lab: Lab, payload: dict[str, Any]) -> None:
    """Create a group and copy the primary's databases to the secondary."""
    with lab.store.transaction() as tx:
        guid = operations.running_id(tx, payload)
        if guid is None:
            return
        found = create_group(tx, payload)
        if isinstance(found, dict):
            body = shapes.group_body(tx, found, payload["primary"])
            operations.finish(tx, guid, result=body)
        else:
            operations.finish(tx, guid, refusal=found)


def create_group(tx: Tx, wanted: dict[str, Any]) -> state.Doc | Refusal:
    """Write a group and the replicas of its databases; also used by the estate.

    Returns:
        The group's document, or why the secondary cannot hold the replicas.
    """
    first, second = wanted["primary"], wanted["secondary"]
    primary, secondary = state.instance(tx, first), state.instance(tx, second)
    uris = {row["thumbprint"]: row["resolved_uri"] for _, row in state.linked_keys(tx, second)}
    rows = state.databases(tx, first)
    for _, row in rows:
        if row["thumbprint"] not in uris:
            return refusal(
                "SameKeyMaterialNotFoundOnRemoteServer",
                uri=row["key_uri"],
                server=secondary["name"],
            )
    for _, row in rows:
        copy = row | {
            "key_uri": uris[row["thumbprint"]],
            "id": f"{secondary['id']}/databases/{row['name']}",
            "created_ms": tx.now_ms,
        }
        tx.put(state.DATABASES, state.database_key(second, row["name"]), copy)
    place = place_of(primary["id"])
    key = (
        f"{place.path}{PROVIDER}/locations/{region_key(primary['location'])}"
        f"/instanceFailoverGroups/{wanted['name']}"
    ).lower()
    group = {
        "name": wanted["name"],
        "primary": first,
        "secondary": second,
        "read_write": wanted["read_write"],
        "read_only": wanted["read_only"],
        "busy": False,
    }
    tx.put(state.GROUPS, key, group)
    for member, doc in ((first, primary), (second, secondary)):
        doc["group"] = key
        tx.put(state.INSTANCES, member, doc)
    return group


def update_job(lab: Lab, payload: dict[str, Any]) -> None:
    """Change the policies of a group."""
    with lab.store.transaction() as tx:
        begun = _begun(tx, payload)
        if begun is None:
            return
        guid, doc = begun
        doc |= {"read_write": payload["read_write"], "read_only": payload["read_only"]}
        doc["busy"] = False
        tx.put(state.GROUPS, payload["group"], doc)
        operations.finish(tx, guid, result=shapes.group_body(tx, doc, payload["member"]))


def delete(call: Call) -> Response:
    """Answer DELETE of a group; the databases of both members stay."""
    found = _called_group(call)
    if found is None:
        return Response(204)
    key, doc, member = found
    if member != doc["primary"]:
        raise fault("InstanceFailoverGroupUpdateOrDeleteRequestOnSecondary", name=doc["name"])
    _set_busy(call, key, doc)
    return _accept(call, "DropManagedFailoverGroup", "sql.group.delete", {"group": key}, member)


def drop_configuration(tx: Tx, key: str) -> None:
    """Take failover group and tags from an instance, as a heal that came late may."""
    doc = state.instance(tx, key)
    doc["tags"] = {}
    group = state.group_of(tx, doc)
    doc["group"] = None
    tx.put(state.INSTANCES, key, doc)
    if group is None:
        return
    place, found = group
    for role in ("primary", "secondary"):
        member = state.instance(tx, found[role])
        tx.put(state.INSTANCES, found[role], {**member, "group": None})
    tx.delete(state.GROUPS, place)
    tx.log_effect("sql.group.dropped", found["name"], {"cause": "late heal"})


def delete_job(lab: Lab, payload: dict[str, Any]) -> None:
    """Dissolve a group."""
    with lab.store.transaction() as tx:
        begun = _begun(tx, payload)
        if begun is None:
            return
        guid, doc = begun
        for role in ("primary", "secondary"):
            member = state.instance(tx, doc[role])
            member["group"] = None
            tx.put(state.INSTANCES, doc[role], member)
        tx.delete(state.GROUPS, payload["group"])
        operations.finish(tx, guid)
