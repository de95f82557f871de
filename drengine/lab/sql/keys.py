"""Linked keys of an instance: list, show, link, unlink, validate.

Linking a key really checks it: the instance's identity reads the key on the HSM, wraps
and unwraps with it. What is wrong with name or shape is refused at once, what is wrong
with the key itself appears in the body of a poll, as in Azure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drengine.lab.sql import keycalls, operations, shapes, state
from drengine.lab.sql.faults import fault, refusal
from drengine.lab.sql.keycalls import KeyRefused
from drengine.lab.sql.names import parse_key_uri, place_of
from drengine.lab.wire import Response, json_response

if TYPE_CHECKING:
    from drengine.lab.sql.faults import Refusal
    from drengine.lab.store import Tx
    from drengine.lab.wire import Call
    from drengine.lab.world import Lab


def list_keys(call: Call) -> Response:
    """Answer the list of linked keys, the service-managed one last."""
    key, doc = state.called_instance(call)
    rows = [shapes.key_body(doc, row) for _, row in state.linked_keys(call.tx, key)]
    return json_response(200, {"value": [*rows, shapes.service_key_body(doc)]})


def show(call: Call) -> Response:
    """Answer GET of one linked key."""
    key, doc = state.called_instance(call)
    name = call.match["name"]
    if name.lower() == state.SERVICE_MANAGED.lower():
        return json_response(200, shapes.service_key_body(doc))
    row = call.tx.get(state.KEYS, state.key_key(key, name))
    if row is None or row["visible_ms"] > call.tx.now_ms:
        raise state.not_found("managedInstances/keys", name)
    return json_response(200, shapes.key_body(doc, row))


def link(call: Call) -> Response:
    """Answer PUT of a key; the same name and identifier again is no error."""
    key, doc = state.called_instance(call)
    uri = _wanted_uri(call)
    name = call.match["name"]
    _check_unique(call.tx, key, name, uri)
    if state.caller_of(call.tx, doc) is None:
        raise fault("AzureKeyVaultNoServerIdentity", server=doc["name"])
    call.effect, call.target = "sql.key.link", f"{doc['name']}/{name}"
    payload = {"instance": key, "name": name, "uri": uri, "asked_ms": call.tx.now_ms}
    work = _work(call, key, doc, "UpsertManagedServerEncryptionKeys", "sql.key.link", payload)
    return operations.accept(call, work)


def _wanted_uri(call: Call) -> str:
    properties = call.request.json_object().get("properties")
    if not isinstance(properties, dict):
        raise fault("InvalidKeyUpsertRequest")
    kind = properties.get("serverKeyType")
    if kind == state.SERVICE_MANAGED:
        raise fault("InvalidUpsertKeyType", type=kind)
    if kind != state.VAULT_KEY:
        raise fault("InvalidKeyType", type=str(kind))
    uri = properties.get("uri")
    if not uri or not isinstance(uri, str):
        raise fault("SecurityAzureKeyVaultUrlNullOrEmpty")
    parsed = parse_key_uri(uri)
    if parsed is None:
        raise fault("AzureKeyVaultInvalidUri", uri=uri)
    name = call.match["name"]
    if name.lower() != parsed.server_key_name.lower():
        raise fault("InvalidKeyName", name=name, expected=parsed.server_key_name)
    return parsed.url


def _check_unique(tx: Tx, key: str, name: str, uri: str) -> None:
    for _, row in state.linked_keys(tx, key):
        same_name = row["name"].lower() == name.lower()
        same_uri = row["uri"].lower() == uri.lower()
        if same_name and not same_uri:
            raise fault("ServerKeyNameAlreadyExists", name=name)
        if same_uri and not same_name:
            raise fault("ServerKeyUriAlreadyExists", uri=uri)


def _work(
    call: Call, key: str, doc: state.Doc, operation: str, job: str, payload: dict[str, Any]
) -> operations.Work:
    place = place_of(doc["id"])
    return operations.Work(
        family="managedInstanceKey",
        operation=operation,
        job=job,
        payload=payload,
        seconds=call.lab.settings.mi_key,
        instance=key,
        location=doc["location"],
        subscription=place.subscription,
        place=place,
    )


def link_job(lab: Lab, payload: dict[str, Any]) -> None:
    """Check a key on the HSM and link it."""
    key = payload["instance"]
    with lab.store.transaction() as tx:
        if operations.running_id(tx, payload) is None:
            return
        doc = state.instance(tx, key)
        caller = state.caller_of(tx, doc)
    if caller is None:
        _end(lab, payload, refusal("AzureKeyVaultNoServerIdentity", server=doc["name"]))
        return
    try:
        facts = keycalls.check_key(lab, caller, payload["uri"], is_new=True)
    except KeyRefused as refused:
        _end(lab, payload, refused.refusal)
        return
    with lab.store.transaction() as tx:
        guid = operations.running_id(tx, payload)
        if guid is not None:
            row = store_key(tx, key, payload["name"], facts, _visible_at(lab, payload))
            operations.finish(tx, guid, result=shapes.key_body(doc, row))


def _visible_at(lab: Lab, payload: dict[str, Any]) -> int:
    return int(payload["asked_ms"]) + lab.settings.effect_visible_after_ms


def store_key(
    tx: Tx, instance_key: str, name: str, facts: keycalls.KeyFacts, visible_ms: int = 0
) -> state.Doc:
    """Write the row of a linked key; a row that is there keeps its creation date."""
    place = state.key_key(instance_key, name)
    old = tx.get(state.KEYS, place)
    row = {
        "name": name,
        "uri": facts.uri,
        "resolved_uri": facts.resolved_uri,
        "thumbprint": facts.thumbprint,
        "created_ms": old["created_ms"] if old else tx.now_ms,
        "visible_ms": old["visible_ms"] if old else visible_ms,
    }
    tx.put(state.KEYS, place, row)
    return row


def _end(lab: Lab, payload: dict[str, Any], found: Refusal) -> None:
    with lab.store.transaction() as tx:
        guid = operations.running_id(tx, payload)
        if guid is not None:
            operations.finish(tx, guid, refusal=found)


def unlink(call: Call) -> Response:
    """Answer DELETE of a key: refused while it protects, 204 when it is not linked."""
    key, doc = state.called_instance(call)
    name = call.match["name"]
    row = call.tx.get(state.KEYS, state.key_key(key, name))
    if row is None:
        return Response(204)
    _check_unused(call.tx, key, doc, row)
    call.effect, call.target = "sql.key.unlink", f"{doc['name']}/{name}"
    payload = {"instance": key, "name": name}
    work = _work(call, key, doc, "DropManagedServerEncryptionKeys", "sql.key.unlink", payload)
    return operations.accept(call, work)


def _check_unused(tx: Tx, key: str, doc: state.Doc, row: state.Doc) -> None:
    if doc["protector"]["name"].lower() == row["name"].lower():
        raise fault("AzureKeyVaultKeyInUse", name=row["name"], server=doc["name"])
    group = state.group_of(tx, doc)
    if group is None or group[1]["primary"] == key:
        return
    primary = state.instance(tx, group[1]["primary"])
    used = state.protector_key(tx, group[1]["primary"], primary)
    if used is None or used["thumbprint"] != row["thumbprint"]:
        return
    others = [
        other
        for _, other in state.linked_keys(tx, key)
        if other["thumbprint"] == row["thumbprint"] and other["name"] != row["name"]
    ]
    if not others:
        raise fault("AzureKeyVaultKeyUsedOnGeoPrimary", name=row["name"], server=primary["name"])


def unlink_job(lab: Lab, payload: dict[str, Any]) -> None:
    """Remove the row of a key, unless it became the protector meanwhile."""
    key = payload["instance"]
    with lab.store.transaction() as tx:
        guid = operations.running_id(tx, payload)
        if guid is None:
            return
        doc = state.instance(tx, key)
        if doc["protector"]["name"].lower() == payload["name"].lower():
            found = refusal("AzureKeyVaultKeyInUse", name=payload["name"], server=doc["name"])
            operations.finish(tx, guid, refusal=found)
            return
        tx.delete(state.KEYS, state.key_key(key, payload["name"]))
        operations.finish(tx, guid)


def validate(call: Call) -> Response:
    """Answer `validateAzureKeyVaultEncryptionKey`: would this key do as protector?"""
    key, doc = state.called_instance(call)
    uri = call.request.json_object().get("tdeKeyUri")
    if not uri or not isinstance(uri, str):
        raise fault("SecurityAzureKeyVaultUrlNullOrEmpty")
    parsed = parse_key_uri(uri)
    if parsed is None:
        raise fault("AzureKeyVaultInvalidUri", uri=uri)
    if state.caller_of(call.tx, doc) is None:
        raise fault("AzureKeyVaultNoServerIdentity", server=doc["name"])
    place = place_of(doc["id"])
    work = operations.Work(
        family="managedInstance",
        operation="ValidateAzureKeyVaultEncryptionKey",
        job="sql.key.validate",
        payload={"instance": key, "uri": parsed.url},
        seconds=call.lab.settings.mi_key,
        instance=key,
        location=doc["location"],
        subscription=place.subscription,
        place=place,
    )
    return operations.accept(call, work)


def validate_job(lab: Lab, payload: dict[str, Any]) -> None:
    """Check a key on the HSM and change nothing."""
    with lab.store.transaction() as tx:
        if operations.running_id(tx, payload) is None:
            return
        caller = state.caller_of(tx, state.instance(tx, payload["instance"]))
    found: Refusal | None = None
    try:
        if caller is None:
            found = refusal("AzureKeyVaultNoServerIdentity", server=payload["instance"])
        else:
            keycalls.check_key(lab, caller, payload["uri"], is_new=True)
    except KeyRefused as refused:
        found = refused.refusal
    with lab.store.transaction() as tx:
        guid = operations.running_id(tx, payload)
        if guid is not None:
            operations.finish(tx, guid, refusal=found)
