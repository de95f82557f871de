"""Disasters: changes of the estate that nobody asked the cloud for.

A drill begins where an incident begins: the HSM is gone, a region is lost, a key was
deleted, access was taken away, a network was cut. What a disaster has done is undone the
way it would be in Azure; only a lost region or network has its opposite here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from drengine.lab.hsm import disaster as hsm_disaster
from drengine.lab.hsm import keystore, network, regions, roles
from drengine.lab.sql import state as sql
from drengine.lab.wire import LabFault

if TYPE_CHECKING:
    from drengine.lab.store import Tx

OLD_NAMES: Final = {"purge": "hsm-purged", "soft-delete": "hsm-deleted"}


def strike(tx: Tx, kind: str, target: str = "") -> dict[str, Any]:
    """Let a disaster happen and return what it hit.

    Parameters:
        kind: one of `KINDS`, or an older name of one.
        target: a region, key, instance or network; each kind has its default.

    Raises:
        LabFault: unknown kind or target, or it has happened already.
    """
    act = KINDS.get(OLD_NAMES.get(kind, kind))
    if act is None:
        names = ", ".join([*OLD_NAMES, *KINDS])
        raise LabFault(400, "BadParameter", f"kind must be one of {names}.")
    return {"kind": kind, **act(tx, target)}


def _estate(tx: Tx) -> dict[str, Any]:
    return tx.get("lab.meta", "estate") or {}


def _hsm_purged(tx: Tx, _target: str) -> dict[str, Any]:
    return {"hsm": hsm_disaster.strike(tx, "purge")}


def _hsm_deleted(tx: Tx, _target: str) -> dict[str, Any]:
    return {"hsm": hsm_disaster.strike(tx, "soft-delete")}


def _region_lost(tx: Tx, target: str) -> dict[str, Any]:
    region = (target or str(_estate(tx).get("location", ""))).replace(" ", "").lower()
    tx.put(regions.OUTAGE, region, {"since_ms": tx.now_ms})
    return {"target": region}


def _region_back(tx: Tx, target: str) -> dict[str, Any]:
    region = (target or str(_estate(tx).get("location", ""))).replace(" ", "").lower()
    if not tx.delete(regions.OUTAGE, region):
        raise LabFault(409, "Conflict", f"The region '{region}' is not lost.")
    return {"target": region}


def _key(tx: Tx, target: str) -> tuple[str, dict[str, Any]]:
    """Return the named key of the source HSM, or the one most instances use."""
    hsm = str(_estate(tx).get("source_hsm", "")).lower()
    name = target or _commonest_key(tx)
    found = tx.get(keystore.KEY, keystore.key_id(hsm, name))
    if found is None:
        raise LabFault(404, "KeyNotFound", f"The source HSM has no key '{name}'.")
    return keystore.key_id(hsm, name), found


def _commonest_key(tx: Tx) -> str:
    uses: dict[str, int] = {}
    for key, doc in tx.find(sql.INSTANCES):
        linked = sql.protector_key(tx, key, doc)
        if linked is not None:
            name = linked["uri"].split("/keys/")[1].split("/")[0]
            uses[name] = uses.get(name, 0) + 1
    return max(uses, key=lambda name: uses[name]) if uses else ""


def _key_deleted(tx: Tx, target: str) -> dict[str, Any]:
    place, found = _key(tx, target)
    tx.delete(keystore.KEY, place)
    tx.put(keystore.DELETED_KEY, place, {**found, "deleted": tx.now_ms // 1000})
    return {"target": found["name"]}


def _key_disabled(tx: Tx, target: str) -> dict[str, Any]:
    place, found = _key(tx, target)
    for version in found["versions"]:
        version["attributes"]["enabled"] = False
    tx.put(keystore.KEY, place, found)
    return {"target": found["name"]}


def _instances(tx: Tx, target: str) -> list[tuple[str, dict[str, Any]]]:
    found = [
        (key, doc)
        for key, doc in tx.find(sql.INSTANCES)
        if not target or doc["name"].lower() == target.lower()
    ]
    if not found:
        raise LabFault(404, "ResourceNotFound", f"There is no instance '{target}'.")
    return found


def _access_revoked(tx: Tx, target: str) -> dict[str, Any]:
    """Take all role assignments on all HSMs from the identities of instances."""
    hit = {doc["identity"].get("principal_id"): doc["name"] for _, doc in _instances(tx, target)}
    for place, one in tx.find(roles.ASSIGNMENT):
        if one["principal"] in hit:
            tx.delete(roles.ASSIGNMENT, place)
    return {"target": ", ".join(sorted(hit.values()))}


def _identity_deleted(tx: Tx, target: str) -> dict[str, Any]:
    found = _instances(tx, target)
    for key, doc in found:
        doc["identity"] = {**doc["identity"], "principal_id": None, "primary": None}
        tx.put(sql.INSTANCES, key, doc)
    return {"target": ", ".join(sorted(doc["name"] for _, doc in found))}


def _networks(tx: Tx, target: str) -> dict[str, str]:
    if not target:
        return {"*": "every network"}
    return {sql.network_of(doc): doc["name"] for _, doc in _instances(tx, target)}


def _network_cut(tx: Tx, target: str) -> dict[str, Any]:
    found = _networks(tx, target)
    for vnet in found:
        tx.put(network.CUT, vnet, {"since_ms": tx.now_ms})
    return {"target": ", ".join(found.values())}


def _network_back(tx: Tx, target: str) -> dict[str, Any]:
    found = _networks(tx, target)
    undone = [vnet for vnet in found if tx.delete(network.CUT, vnet)]
    if not undone:
        raise LabFault(409, "Conflict", "That network is not cut.")
    return {"target": ", ".join(found.values())}


KINDS: Final[dict[str, Callable[[Tx, str], dict[str, Any]]]] = {
    "hsm-purged": _hsm_purged,
    "hsm-deleted": _hsm_deleted,
    "region-lost": _region_lost,
    "region-back": _region_back,
    "key-deleted": _key_deleted,
    "key-disabled": _key_disabled,
    "access-revoked": _access_revoked,
    "identity-deleted": _identity_deleted,
    "network-cut": _network_cut,
    "network-back": _network_back,
}
