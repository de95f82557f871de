"""The check that every instance makes of its own keys, again and again.

Each cycle asks the HSM, over HTTPS, whether each key under which databases lie still
unwraps. A refusal turns those databases inaccessible. When access returns within the
window they heal by themselves; later they wait for a re-evaluation.

Rules:
- one look and one unwrap for each distinct key, not for each database: whoever may unwrap one
  key wrapped with a version may unwrap all of them. A database that heals is opened itself;
- a key that does not answer (an outage) may be replaced by another linked key of the same
  material; one that says no may not. An outage turns databases inaccessible only when two
  cycles in a row saw it;
- while a database is inaccessible the next check comes within the time of healing;
- an instance's cycle is one chain: a repeat of an old link of it does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drengine.lab.hsm import regions
from drengine.lab.sql import activity, deks, keycalls, rotation, state
from drengine.lab.sql.faults import refusal
from drengine.lab.sql.keycalls import KeyRefused

if TYPE_CHECKING:
    from drengine.lab.sql.faults import Refusal
    from drengine.lab.store import Tx
    from drengine.lab.world import Lab

Rows = list[tuple[str, state.Doc]]


@dataclass(frozen=True, slots=True)
class _Finding:
    """What a cycle found out about one key."""

    refusal: Refusal | None
    outage: bool = False


def start(tx: Tx, instance_key: str, doc: state.Doc, first_ms: int) -> None:
    """Begin the chain of checks of an instance; the caller saves its document."""
    doc["next_check_ms"] = first_ms
    tx.schedule("sql.check", {"instance": instance_key, "due_ms": first_ms}, first_ms)


def check_job(lab: Lab, payload: dict[str, Any]) -> None:
    """Check the keys of one instance and schedule the next check."""
    key = payload["instance"]
    with lab.store.transaction() as tx:
        doc = tx.get(state.INSTANCES, key)
        if doc is None or doc["next_check_ms"] != payload["due_ms"]:
            return
        if regions.is_down(tx, doc["location"]):
            start(tx, key, doc, tx.now_ms + int(lab.settings.check_cycle * 1000))
            tx.put(state.INSTANCES, key, doc)
            return
        rows = [row for row in state.databases(tx, key) if row[1]["key_uri"]]
        ring = deks.ring_of(lab, tx, key, doc)
    groups = _by_key(rows)
    findings = {uri: _check(ring, doc, group) for uri, group in groups.items()}
    healed = _healed(lab, ring, groups, findings)
    with lab.store.transaction() as tx:
        _write(lab, tx, key, groups, findings, healed)
    rotation.follow(lab, key)


def _by_key(rows: Rows) -> dict[str, Rows]:
    groups: dict[str, Rows] = {}
    for key, doc in rows:
        groups.setdefault(doc["key_uri"], []).append((key, doc))
    return groups


def _check(ring: deks.Ring | None, doc: state.Doc, rows: Rows) -> _Finding:
    if ring is None:
        return _Finding(refusal("AzureKeyVaultNoServerIdentity", server=doc["name"]))
    sample = rows[0][1]
    try:
        keycalls.check_usable(ring.lab, ring.caller, sample["key_uri"])
        ring.open_dek(sample, spares=False)
    except KeyRefused as refused:
        ring.refused[sample["key_uri"]] = refused
        if refused.outage and _opens_elsewhere(ring, sample):
            return _Finding(None)
        return _Finding(refused.refusal, refused.outage)
    return _Finding(None)


def _opens_elsewhere(ring: deks.Ring, sample: state.Doc) -> bool:
    try:
        ring.open_dek(sample, spares=True)
    except KeyRefused:
        return False
    return True


def _healed(
    lab: Lab, ring: deks.Ring | None, groups: dict[str, Rows], findings: dict[str, _Finding]
) -> set[str]:
    """Return the databases that were lost recently and that now really open."""
    if ring is None:
        return set()
    healed = set()
    limit = lab.clock.now_ms() - int(lab.settings.autoheal_window * 1000)
    for uri, rows in groups.items():
        for key, doc in rows:
            lost = doc["inaccessible"]
            if findings[uri].refusal is not None or lost is None or lost["since_ms"] < limit:
                continue
            try:
                ring.open_dek(doc, spares=True)
            except KeyRefused:
                continue
            healed.add(key)
    return healed


def _write(
    lab: Lab,
    tx: Tx,
    key: str,
    groups: dict[str, Rows],
    findings: dict[str, _Finding],
    healed: set[str],
) -> None:
    doc = state.instance(tx, key)
    role = state.role_of(tx, key, doc)
    before = set(doc.get("outages", ()))
    doc["outages"] = sorted(uri for uri, found in findings.items() if found.outage)
    for uri, rows in groups.items():
        found = findings[uri]
        waits = found.outage and uri not in before
        for place, _ in rows:
            row = tx.get(state.DATABASES, place)
            if row is None or row["key_uri"] != uri:
                continue
            if found.refusal is not None and not waits and row["status"] == "Online":
                activity.make_inaccessible(tx, key, row, found.refusal, uri, role)
                tx.put(state.DATABASES, place, row)
            elif place in healed and row["status"] == "Inaccessible":
                activity.make_accessible(tx, key, row, "autoheal")
                tx.put(state.DATABASES, place, row)
    seconds = lab.settings.check_cycle
    if any(row["status"] == "Inaccessible" for _, row in state.databases(tx, key)):
        seconds = min(seconds, lab.settings.heal_within)
    start(tx, key, doc, tx.now_ms + int(seconds * 1000))
    tx.put(state.INSTANCES, key, doc)
