"""Databases of an instance: list, show, re-evaluate, and read their canary rows.

Re-evaluation is how a database comes back after the window of self-healing: its key is
really unwrapped, by the key it was wrapped with or by another linked key of the same
material.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from drengine.lab.hsm import regions
from drengine.lab.sql import activity, cells, deks, failover, operations, shapes, state
from drengine.lab.sql.faults import refusal
from drengine.lab.sql.keycalls import KeyRefused
from drengine.lab.sql.names import place_of
from drengine.lab.wire import LabFault, NotReadyYet, Response, Unreachable, json_response

if TYPE_CHECKING:
    from drengine.lab.sql.faults import Refusal
    from drengine.lab.store import Tx
    from drengine.lab.wire import Call
    from drengine.lab.world import Lab

_CANNOT_OPEN: Final = "40925"
_UNKNOWN: Final = "4060"
_opened: Final[dict[int, list[dict[str, Any]] | Refusal]] = {}
_opened_lock: Final = threading.Lock()


def list_all(call: Call) -> Response:
    """Answer the databases of an instance, the inaccessible ones among them."""
    key, doc = state.called_instance(call)
    value = [shapes.database_body(doc, row) for _, row in state.databases(call.tx, key)]
    return json_response(200, {"value": value})


def list_inaccessible(call: Call) -> Response:
    """Answer the inaccessible databases of an instance."""
    key, doc = state.called_instance(call)
    rows = [row for _, row in state.databases(call.tx, key) if row["status"] == "Inaccessible"]
    return json_response(200, {"value": [shapes.database_body(doc, row) for row in rows]})


def show(call: Call) -> Response:
    """Answer GET of a database."""
    _, doc, row = _called_database(call)
    return json_response(200, shapes.database_body(doc, row))


def _called_database(call: Call) -> tuple[str, state.Doc, state.Doc]:
    key, doc = state.called_instance(call)
    name = call.match["db"]
    row = call.tx.get(state.DATABASES, state.database_key(key, name))
    if row is None:
        raise state.not_found("managedInstances/databases", name)
    return key, doc, row


def show_encryption(call: Call) -> Response:
    """Answer GET of a database's encryption, which is always on."""
    _, doc, row = _called_database(call)
    return json_response(200, _encryption_body(doc, row))


def list_encryption(call: Call) -> Response:
    """Answer the list form of a database's encryption."""
    _, doc, row = _called_database(call)
    return json_response(200, {"value": [_encryption_body(doc, row)]})


def set_encryption(call: Call) -> Response:
    """Answer PUT of a database's encryption; it can only stay on."""
    _, doc, row = _called_database(call)
    wanted = (call.request.json_object().get("properties") or {}).get("state")
    if wanted != "Enabled":
        raise LabFault(400, "InvalidParameterValue", "The lab keeps every database encrypted.")
    return json_response(200, _encryption_body(doc, row))


def _encryption_body(doc: state.Doc, row: state.Doc) -> dict[str, Any]:
    return {
        "properties": {"state": "Enabled"},
        "id": f"{doc['id']}/databases/{row['name']}/transparentDataEncryption/current",
        "name": "current",
        "type": "Microsoft.Sql/managedInstances/databases/transparentDataEncryption",
    }


def reevaluate(call: Call) -> Response:
    """Answer `reevaluateInaccessibleDatabaseState` of an instance or of one database."""
    name = call.match.groupdict().get("db")
    key, doc = state.called_instance(call)
    if name:
        _called_database(call)
    place = place_of(doc["id"])
    work = operations.Work(
        family="managedDatabase" if name else "managedInstance",
        operation="ReevaluateInaccessibleDatabaseState",
        job="sql.reevaluate",
        payload={"instance": key, "database": name},
        seconds=call.lab.settings.reevaluate,
        instance=key,
        location=doc["location"],
        subscription=place.subscription,
        place=place,
    )
    call.effect, call.target = "sql.reevaluate", f"{doc['name']}/{name or '*'}"
    return operations.accept(call, work)


def reevaluate_job(lab: Lab, payload: dict[str, Any]) -> None:
    """Open the keys of the inaccessible databases and bring them back online."""
    key = payload["instance"]
    with lab.store.transaction() as tx:
        if operations.running_id(tx, payload) is None:
            return
        doc = state.instance(tx, key)
        role = state.role_of(tx, key, doc)
        ring = deks.ring_of(lab, tx, key, doc)
        rows = _lost(tx, key, payload["database"])
    outcomes = {place: _reopen(ring, doc, row, role) for place, row in rows}
    with lab.store.transaction() as tx:
        guid = operations.running_id(tx, payload)
        if guid is not None:
            _finish_reevaluation(lab, tx, guid, payload, outcomes)


def _lost(tx: Tx, key: str, name: str | None) -> list[tuple[str, state.Doc]]:
    rows = state.databases(tx, key)
    wanted = None if name is None else name.lower()
    return [
        (place, row)
        for place, row in rows
        if row["status"] == "Inaccessible" and wanted in (None, row["name"].lower())
    ]


def _reopen(ring: deks.Ring | None, doc: state.Doc, row: state.Doc, role: str) -> str | Refusal:
    """Return the identifier of the key that opened a database, or why none did."""
    before = row["inaccessible"]["role"]
    # only a failover makes the roles differ; a group that was dropped leaves none behind
    if role not in ("Standalone", before):
        return refusal(
            "CloudLifterFogInaccessibleDbRoleMismatch",
            server=doc["name"],
            before=before,
            after=role,
            database=row["name"],
        )
    if ring is None:
        return refusal("AzureKeyVaultNoServerIdentity", server=doc["name"])
    try:
        return ring.open_dek(row, spares=True)[1]
    except KeyRefused as refused:
        return refusal(
            "ManagedInstanceNoConditionToMakeDatabaseAccessible",
            database=row["name"],
            reason=refused.refusal.message,
        )


def _finish_reevaluation(
    lab: Lab, tx: Tx, guid: str, payload: dict[str, Any], outcomes: dict[str, str | Refusal]
) -> None:
    key = payload["instance"]
    failed: Refusal | None = None
    late, window_ms = False, int(lab.settings.autoheal_window * 1000)
    for place, outcome in outcomes.items():
        row = tx.get(state.DATABASES, place)
        if row is None or row["status"] != "Inaccessible":
            continue
        if isinstance(outcome, str):
            row["key_uri"] = outcome
            was_late = tx.now_ms - row["inaccessible"]["since_ms"] > window_ms
            late |= was_late
            if was_late and lab.settings.late_heal_drops == "group-tags-and-history":
                row["restorable_ms"] = tx.now_ms
            activity.make_accessible(tx, key, row, "reevaluate")
        else:
            failed = failed or outcome
            activity.record_failure(tx, row, outcome)
        tx.put(state.DATABASES, place, row)
    if late and lab.settings.late_heal_drops != "nothing":
        failover.drop_configuration(tx, key)
    result = None
    if payload["database"]:
        found = tx.get(state.DATABASES, state.database_key(key, payload["database"]))
        result = shapes.database_body(state.instance(tx, key), found) if found else None
    operations.finish(tx, guid, refusal=failed, result=result)


def canary(call: Call) -> Response:
    """Answer the lab's stand-in for a query: the rows of a database, decrypted.

    The key is unwrapped by the HSM for every request; that happens outside the
    transaction, after which this handler runs a second time and finds the rows.

    Raises:
        LabFault: 503 when the database is not online or its key cannot be used.
    """
    host = call.tx.get(state.HOSTS, call.request.host)
    name = call.match["db"]
    row = call.tx.get(state.DATABASES, state.database_key(host["instance"], name)) if host else None
    if host is None or row is None:
        raise LabFault(404, _UNKNOWN, f"Cannot open database '{name}' requested by the login.")
    if regions.is_down(call.tx, state.instance(call.tx, host["instance"])["location"]):
        raise Unreachable
    with _opened_lock:
        found = _opened.pop(id(call.request), None)
    if row["status"] != "Online":
        raise _cannot_open(name)
    if found is None:
        doc = state.instance(call.tx, host["instance"])
        ring = deks.ring_of(call.lab, call.tx, host["instance"], doc)
        request_id = id(call.request)
        raise NotReadyYet(lambda: _open_for(request_id, ring, row))
    if not isinstance(found, list):
        raise _cannot_open(name)
    body = {"database": row["name"], "rows": found, "sha256": cells.rows_digest(found)}
    return json_response(200, body)


def _open_for(request_id: int, ring: deks.Ring | None, row: state.Doc) -> None:
    found: list[dict[str, Any]] | Refusal
    try:
        if ring is None:
            found = refusal("AzureKeyVaultNoServerIdentity", server="")
        else:
            dek, _ = ring.open_dek(row, spares=False)
            found = cells.open_rows(dek, row["name"], row["rows"])
    except KeyRefused as refused:
        found = refused.refusal
    with _opened_lock:
        _opened[request_id] = found


def _cannot_open(name: str) -> LabFault:
    return LabFault(
        503,
        _CANNOT_OPEN,
        f"Can not connect to the database '{name}' in its current state.",
    )
