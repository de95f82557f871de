"""The encryption protector: show, set, revalidate.

Setting it opens the key of every database and wraps it anew, through the HSM. When the
old HSM is dead, a key opens only under a linked key with the same material; with other
material the switch fails and nothing changes.

Rules:
- one change at a time for an instance;
- the primary of a failover group may only use material that its secondary has linked;
- all databases of an instance change in one transaction, together with the protector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drengine.lab.sql import activity, deks, keycalls, operations, shapes, state
from drengine.lab.sql.faults import fault, refusal
from drengine.lab.sql.keycalls import KeyRefused
from drengine.lab.sql.names import place_of
from drengine.lab.wire import Response, json_response

if TYPE_CHECKING:
    from drengine.lab.sql.faults import Refusal
    from drengine.lab.store import Tx
    from drengine.lab.wire import Call
    from drengine.lab.world import Lab


@dataclass(frozen=True, slots=True)
class _Switch:
    """Everything that a change of protector needs, read in one transaction."""

    ring: deks.Ring
    databases: list[tuple[str, state.Doc]]
    target: state.Doc | None
    """The linked key, None for the service-managed one."""

    @property
    def uri(self) -> str:
        return str(self.target["resolved_uri"]) if self.target else ""


def show(call: Call) -> Response:
    """Answer GET of the protector."""
    key, doc = state.called_instance(call)
    return json_response(200, shapes.protector_body(call.tx, key, doc))


def list_all(call: Call) -> Response:
    """Answer the list of protectors, which has one member."""
    key, doc = state.called_instance(call)
    return json_response(200, {"value": [shapes.protector_body(call.tx, key, doc)]})


def set_protector(call: Call) -> Response:
    """Answer PUT of the protector."""
    key, doc = state.called_instance(call)
    wanted = _wanted(call, key, doc)
    if doc.get("busy"):
        raise fault("EncryptionProtectorChangeInProgress", server=doc["name"])
    _check_access(call, key, doc, wanted)
    call.effect, call.target = "sql.protector.set", f"{doc['name']}/{wanted['name']}"
    answer = operations.accept(
        call,
        _work(
            call, key, doc, "UpsertManagedServerEncryptionProtector", "sql.protector.set", wanted
        ),
    )
    doc["busy"] = True
    call.tx.put(state.INSTANCES, key, doc)
    return answer


def _wanted(call: Call, key: str, doc: state.Doc) -> dict[str, Any]:
    properties = call.request.json_object().get("properties") or {}
    kind, name = properties.get("serverKeyType"), properties.get("serverKeyName")
    if kind not in (state.SERVICE_MANAGED, state.VAULT_KEY):
        raise fault("InvalidKeyType", type=str(kind))
    if kind == state.SERVICE_MANAGED:
        name = state.SERVICE_MANAGED
    else:
        row = call.tx.get(state.KEYS, state.key_key(key, str(name)))
        if row is None:
            raise fault("ServerKeyNotFound", name=str(name), server=doc["name"])
        name = row["name"]
    rotates = bool(properties.get("autoRotationEnabled") or False)
    return {"name": name, "type": kind, "auto_rotation": rotates}


def _check_access(call: Call, key: str, doc: state.Doc, wanted: dict[str, Any]) -> None:
    blocked = any(row["status"] == "Inaccessible" for _, row in state.databases(call.tx, key))
    refuse = call.lab.settings.protector_put_when_inaccessible == "CMKOperationNotAllowed"
    if blocked and (refuse or wanted["type"] == state.SERVICE_MANAGED):
        raise fault("CMKOperationNotAllowed", server=doc["name"])


def _work(
    call: Call, key: str, doc: state.Doc, operation: str, job: str, payload: dict[str, Any]
) -> operations.Work:
    settings = call.lab.settings
    place = place_of(doc["id"])
    is_set = job == "sql.protector.set"
    return operations.Work(
        family="managedInstanceEncryptionProtector",
        operation=operation,
        job=job,
        payload={"instance": key, **payload},
        seconds=settings.mi_protector if is_set else settings.revalidate,
        instance=key,
        location=doc["location"],
        subscription=place.subscription,
        place=place,
    )


def set_job(lab: Lab, payload: dict[str, Any]) -> None:
    """Change the protector: open every key, wrap it anew, then write all at once."""
    with lab.store.transaction() as tx:
        if operations.running_id(tx, payload) is None:
            return
        switch = _read_switch(lab, tx, payload)
    if isinstance(switch, _Switch):
        try:
            rewrapped = _rewrap(lab, switch)
        except KeyRefused as refused:
            _end_failed(lab, payload, refused.refusal)
        else:
            _write(lab, payload, switch, rewrapped)
    else:
        _end_failed(lab, payload, switch)


def _read_switch(lab: Lab, tx: Tx, payload: dict[str, Any]) -> _Switch | Refusal:
    key = payload["instance"]
    doc = state.instance(tx, key)
    target = None
    if payload["type"] == state.VAULT_KEY:
        target = tx.get(state.KEYS, state.key_key(key, payload["name"]))
        if target is None:
            return refusal("ServerKeyNotFound", name=payload["name"], server=doc["name"])
        found = _check_partner(tx, key, doc, target, rotates=payload["auto_rotation"])
        if found is not None:
            return found
    prefer = target["resolved_uri"] if target else ""
    ring = deks.ring_of(lab, tx, key, doc, prefer=prefer)
    if ring is None:
        return refusal("AzureKeyVaultNoServerIdentity", server=doc["name"])
    return _Switch(ring, state.databases(tx, key), target)


def _check_partner(
    tx: Tx, key: str, doc: state.Doc, target: state.Doc, *, rotates: bool
) -> Refusal | None:
    """Return why a geo-primary may not use a key yet, None when it may."""
    group = state.group_of(tx, doc)
    if group is None or group[1]["primary"] != key:
        return None
    partner = state.instance(tx, group[1]["secondary"])
    rows = [row for _, row in state.linked_keys(tx, group[1]["secondary"])]
    if rotates and not any(row["uri"].lower() == target["uri"].lower() for row in rows):
        return refusal(
            "SameKeyUriNotFoundOnRemoteServer", uri=target["uri"], server=partner["name"]
        )
    if not any(row["thumbprint"] == target["thumbprint"] for row in rows):
        return refusal(
            "SameKeyMaterialNotFoundOnRemoteServer", uri=target["uri"], server=partner["name"]
        )
    return None


def _rewrap(lab: Lab, switch: _Switch) -> dict[str, str]:
    """Return the newly wrapped key of each database, by document key."""
    if switch.target is not None:
        facts = keycalls.check_key(lab, switch.ring.caller, switch.target["uri"], is_new=False)
        if facts.thumbprint != switch.target["thumbprint"]:
            found = refusal("AzureKeyVaultKeyThumbprintIsDifferent", uri=switch.target["uri"])
            raise KeyRefused(found)
    rewrapped = {}
    for key, doc in switch.databases:
        try:
            dek, _ = switch.ring.open_dek(doc, spares=True)
        except KeyRefused:
            # The code tells an operator to restore access first, which is what is missing.
            found = refusal("CMKOperationNotAllowed", server=switch.ring.caller.server)
            raise KeyRefused(found) from None
        rewrapped[key] = deks.wrap_dek(switch.ring, dek, switch.uri)
    return rewrapped


def _write(lab: Lab, payload: dict[str, Any], switch: _Switch, rewrapped: dict[str, str]) -> None:
    with lab.store.transaction() as tx:
        guid = operations.running_id(tx, payload)
        if guid is None:
            return
        doc = _apply(lab, tx, payload, switch, rewrapped)
        body = shapes.protector_body(tx, payload["instance"], doc)
        operations.finish(tx, guid, result=body)


def _apply(
    lab: Lab, tx: Tx, payload: dict[str, Any], switch: _Switch, rewrapped: dict[str, str]
) -> state.Doc:
    """Write the wrapped keys of all databases and the protector; return the instance."""
    key = payload["instance"]
    thumbprint = switch.target["thumbprint"] if switch.target else ""
    for database, wrapped in rewrapped.items():
        row = tx.get(state.DATABASES, database)
        if row is None:
            continue
        row |= {"wrapped": wrapped, "key_uri": switch.uri, "thumbprint": thumbprint}
        if row["status"] == "Inaccessible" and not lab.settings.reevaluate_needed_after_protector:
            activity.make_accessible(tx, key, row, "protector")
        tx.put(state.DATABASES, database, row)
    doc = state.instance(tx, key)
    doc["protector"] = {part: payload[part] for part in ("name", "type", "auto_rotation")}
    doc["busy"] = False
    tx.put(state.INSTANCES, key, doc)
    return doc


def rotate(lab: Lab, key: str, name: str) -> Refusal | None:
    """Switch an instance to a linked key by itself; return why it stays.

    None when it went, and when a client changed the protector meanwhile: the client's wish stands.
    """
    payload = {"instance": key, "name": name, "type": state.VAULT_KEY, "auto_rotation": True}
    with lab.store.transaction() as tx:
        was = state.instance(tx, key)["protector"]
        switch = _read_switch(lab, tx, payload)
    if not isinstance(switch, _Switch):
        return switch
    try:
        rewrapped = _rewrap(lab, switch)
    except KeyRefused as refused:
        return refused.refusal
    with lab.store.transaction() as tx:
        now = state.instance(tx, key)
        if now.get("busy") or now["protector"] != was:
            return None
        doc = _apply(lab, tx, payload, switch, rewrapped)
        tx.log_effect("sql.protector.rotated", doc["name"], {"key": name})
    return None


def _end_failed(lab: Lab, payload: dict[str, Any], found: Refusal) -> None:
    key = payload["instance"]
    with lab.store.transaction() as tx:
        guid = operations.running_id(tx, payload)
        if guid is None:
            return
        doc = state.instance(tx, key)
        doc["busy"] = False
        tx.put(state.INSTANCES, key, doc)
        operations.finish(tx, guid, refusal=found)


def revalidate(call: Call) -> Response:
    """Answer `revalidate`: is the protector still usable?"""
    key, doc = state.called_instance(call)
    work = _work(
        call, key, doc, "RevalidateManagedServerEncryptionProtector", "sql.protector.revalidate", {}
    )
    call.effect, call.target = "sql.protector.revalidate", doc["name"]
    return operations.accept(call, work)


def revalidate_job(lab: Lab, payload: dict[str, Any]) -> None:
    """Check the protector on the HSM and change nothing."""
    key = payload["instance"]
    with lab.store.transaction() as tx:
        if operations.running_id(tx, payload) is None:
            return
        doc = state.instance(tx, key)
        caller, linked = state.caller_of(tx, doc), state.protector_key(tx, key, doc)
    found: Refusal | None = None
    try:
        if caller is None:
            found = refusal("AzureKeyVaultNoServerIdentity", server=doc["name"])
        elif linked is not None:
            keycalls.check_key(lab, caller, linked["uri"], is_new=False)
    except KeyRefused as refused:
        found = refused.refusal
    with lab.store.transaction() as tx:
        guid = operations.running_id(tx, payload)
        if guid is not None:
            operations.finish(tx, guid, refusal=found)
