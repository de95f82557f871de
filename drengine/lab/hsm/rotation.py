"""Keys that rotate by themselves, as their rotation policy says.

A policy with a `Rotate` action has a due time, counted from the newest version of its key.
Each new version, each change of the policy and each restore counts anew; a job whose due
time is no longer the key's does nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from drengine.lab.hsm import keystore, state
from drengine.lab.hsm.jose import unb64
from drengine.lab.wire import LabFault, NotReadyYet

if TYPE_CHECKING:
    from drengine.lab.store import Tx
    from drengine.lab.world import Lab

JOB: Final = "hsm.key.rotate"
_PERIOD: Final = re.compile(
    r"P(?=.)(?:(?P<years>[0-9]{1,3})Y)?(?:(?P<months>[0-9]{1,4})M)?(?:(?P<days>[0-9]{1,5})D)?"
)
_DAYS: Final = {"years": 365, "months": 30, "days": 1}
_DAY_SECONDS: Final = 86_400


def period_seconds(text: str) -> int:
    """Return the length of an ISO 8601 period of years, months and days.

    Raises:
        LabFault: 400 BadParameter, where it is not one.
    """
    found = _PERIOD.fullmatch(text)
    if found is None:
        raise LabFault(400, "BadParameter", f"'{text}' is not a duration such as P90D.")
    days = sum(_DAYS[name] * int(part) for name, part in found.groupdict().items() if part)
    return days * _DAY_SECONDS


def check(policy: dict[str, Any]) -> None:
    """Check the durations of a policy; one that is due at once would rotate for ever.

    Raises:
        LabFault: 400 BadParameter.
    """
    lasts = (policy.get("attributes") or {}).get("expiryTime")
    triggers = [one.get("trigger") or {} for one in policy.get("lifetimeActions") or ()]
    for text in (lasts, *(part for one in triggers for part in one.values())):
        if text is not None:
            period_seconds(str(text))
    for trigger in _rotations(policy):
        after, before = trigger.get("timeAfterCreate"), trigger.get("timeBeforeExpiry")
        if after and not period_seconds(after):
            raise LabFault(400, "BadParameter", "timeAfterCreate must be longer than no day.")
        if not after and before and lasts and period_seconds(before) >= period_seconds(lasts):
            raise LabFault(400, "BadParameter", "timeBeforeExpiry must be less than expiryTime.")


def _rotations(policy: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the triggers of the actions that rotate."""
    for one in policy.get("lifetimeActions") or ():
        if str((one.get("action") or {}).get("type")).lower() == "rotate":
            yield one.get("trigger") or {}


def expiry(document: dict[str, Any], now_ms: int) -> dict[str, int]:
    """Return the expiry that a policy gives to a new version, as attributes."""
    policy = document.get("rotation_policy") or {}
    wanted = (policy.get("attributes") or {}).get("expiryTime")
    return {"exp": now_ms // 1000 + period_seconds(wanted)} if wanted else {}


def _due_seconds(document: dict[str, Any]) -> int | None:
    attributes = document["versions"][-1]["attributes"]
    found = []
    for trigger in _rotations(document.get("rotation_policy") or {}):
        if trigger.get("timeAfterCreate"):
            found.append(attributes["created"] + period_seconds(trigger["timeAfterCreate"]))
        elif trigger.get("timeBeforeExpiry") and attributes.get("exp"):
            found.append(attributes["exp"] - period_seconds(trigger["timeBeforeExpiry"]))
    return min(found, default=None)


def plan(tx: Tx, hsm: dict[str, Any], document: dict[str, Any]) -> None:
    """Write down when a key rotates next, and have it happen."""
    seconds = _due_seconds(document)
    key = keystore.key_id(hsm["name"], document["name"])
    if seconds is None:
        if document.pop("rotate_ms", None) is not None:
            tx.put(keystore.KEY, key, document)
        return
    document["rotate_ms"] = max(seconds * 1000, tx.now_ms)
    tx.put(keystore.KEY, key, document)
    tx.schedule(JOB, {"key": key, "due_ms": document["rotate_ms"]}, document["rotate_ms"])


def next_version(lab: Lab, now_ms: int, document: dict[str, Any]) -> keystore.Version:
    """Return a new version like the newest one.

    Raises:
        NotReadyYet: its material is to be made outside the transaction.
    """
    newest = document["versions"][-1]
    kty, public = newest["kty"], newest["public"]
    size = len(unb64(public["n"])) * 8 if kty == "RSA-HSM" else 256
    material = keystore.generate_material(lab, kty, size, str(public.get("crv", "")))
    like = {"key_ops": newest["ops"], "tags": newest["tags"]}
    version = keystore.new_version(kty, material, now_ms, body=like)
    version["attributes"] |= expiry(document, now_ms)
    return {**version, "software": True} if newest.get("software") else version


def rotate_job(lab: Lab, payload: dict[str, Any]) -> None:
    """Give a key its next version, when that is still due."""
    while True:
        try:
            with lab.store.transaction() as tx:
                _rotate(lab, tx, payload)
                return
        except NotReadyYet as wait:
            wait.work()


def _rotate(lab: Lab, tx: Tx, payload: dict[str, Any]) -> None:
    document = tx.get(keystore.KEY, payload["key"])
    hsm = tx.get(state.HSM, payload["key"].partition("/")[0])
    if document is None or hsm is None or document.get("rotate_ms") != payload["due_ms"]:
        return
    full = len(document["versions"]) >= keystore.MAX_VERSIONS
    if full or (not state.is_vault(hsm) and state.phase(hsm, tx.now_ms) != state.ACTIVE):
        return
    version = next_version(lab, tx.now_ms, document)
    document = keystore.add_version(tx, hsm["name"], document["name"], version)
    plan(tx, hsm, document)
    target = f"{hsm['name']}/{document['name']}/{version['version']}"
    tx.log_effect("hsm.key.rotated", target, {"cause": "policy"})
