"""Leases on blobs and containers: acquire, renew, change, release, break, expiry.

The state machine is Azure's: available, leased, breaking, broken, expired. Expiry is
computed from the lab's clock when it is asked for; nothing runs in the background.

Rules:
- a write to a leased resource must name the lease; a read may;
- an expired lease does not protect, but its id can still be renewed as long as nobody
  else acquired the lease or wrote to the blob: a write ends it for good.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from drengine.lab.blob.target import bad_header
from drengine.lab.wire import LabFault, Response, whole_number

if TYPE_CHECKING:
    from drengine.lab.blob.target import Target

INFINITE: Final = -1
_FIXED_SECONDS: Final = range(15, 61)
_LONGEST_BREAK: Final = 60


def lease_state(doc: dict[str, Any], now_ms: int) -> str:
    """Return the state of a resource's lease."""
    lease = doc.get("lease")
    if lease is None:
        return "available"
    if lease["break_ms"] is not None:
        return "breaking" if now_ms < lease["break_ms"] else "broken"
    if lease["seconds"] != INFINITE and now_ms >= lease["expires_ms"]:
        return "expired"
    return "leased"


def is_held(doc: dict[str, Any], now_ms: int) -> bool:
    """Whether the lease keeps others from writing."""
    return lease_state(doc, now_ms) in ("leased", "breaking")


def lease_headers(doc: dict[str, Any], now_ms: int) -> dict[str, str]:
    """Return the lease headers of a read."""
    state = lease_state(doc, now_ms)
    headers = {
        "x-ms-lease-state": state,
        "x-ms-lease-status": "locked" if state in ("leased", "breaking") else "unlocked",
    }
    if state == "leased":
        infinite = doc["lease"]["seconds"] == INFINITE
        headers["x-ms-lease-duration"] = "infinite" if infinite else "fixed"
    return headers


def check_lease(target: Target, doc: dict[str, Any] | None) -> None:
    """Check that a write names the lease that protects a blob; forget one that does not.

    Raises:
        LabFault: 412 LeaseIdMissing, LeaseIdMismatchWithBlobOperation or
            LeaseNotPresentWithBlobOperation, LeaseLost.
    """
    named = target.header("x-ms-lease-id")
    if doc is None:
        return
    if is_held(doc, target.tx.now_ms):
        if not named:
            raise LabFault(
                412,
                "LeaseIdMissing",
                "There is currently a lease on the blob and no lease ID was specified "
                "in the request.",
            )
        if named.lower() != doc["lease"]["id"]:
            raise LabFault(
                412,
                "LeaseIdMismatchWithBlobOperation",
                "The lease ID specified did not match the lease ID for the blob.",
            )
    elif named:
        raise _lost(doc, named)
    else:
        doc["lease"] = None


def _lost(doc: dict[str, Any], named: str) -> LabFault:
    lease = doc.get("lease")
    if lease is not None and lease["id"] == named.lower():
        return LabFault(
            412,
            "LeaseLost",
            "A lease ID was specified, but the lease for the blob has expired.",
        )
    return LabFault(
        412,
        "LeaseNotPresentWithBlobOperation",
        "There is currently no lease on the blob.",
    )


def change_lease(target: Target, doc: dict[str, Any]) -> Response:
    """Perform a lease action on a document; the caller saves it.

    Raises:
        LabFault: 400 for a bad header, 409 for an action that does not fit the state.
    """
    action = target.header("x-ms-lease-action").lower()
    handler = _ACTIONS.get(action)
    if handler is None:
        raise bad_header()
    return handler(target, doc)


def _acquire(target: Target, doc: dict[str, Any]) -> Response:
    seconds = _seconds(target.header("x-ms-lease-duration"))
    proposed = (target.header("x-ms-proposed-lease-id") or str(uuid.uuid4())).lower()
    if is_held(doc, target.tx.now_ms) and doc["lease"]["id"] != proposed:
        raise LabFault(409, "LeaseAlreadyPresent", "There is already a lease present.")
    if lease_state(doc, target.tx.now_ms) == "breaking":
        raise LabFault(
            409,
            "LeaseIsBreakingAndCannotBeAcquired",
            "The lease ID matched, but the lease is currently in breaking state and cannot be "
            "acquired until it is broken.",
        )
    _set(doc, proposed, seconds, target.tx.now_ms)
    return Response(201, {"x-ms-lease-id": proposed})


def _renew(target: Target, doc: dict[str, Any]) -> Response:
    lease = _matching(target, doc)
    if lease["break_ms"] is not None:
        raise LabFault(
            409,
            "LeaseIsBrokenAndCannotBeRenewed",
            "The lease ID matched, but the lease has been broken explicitly and cannot be renewed.",
        )
    _set(doc, lease["id"], lease["seconds"], target.tx.now_ms)
    return Response(200, {"x-ms-lease-id": lease["id"]})


def _change(target: Target, doc: dict[str, Any]) -> Response:
    lease = _matching(target, doc)
    proposed = target.header("x-ms-proposed-lease-id").lower()
    if not proposed:
        raise bad_header()
    lease["id"] = proposed
    return Response(200, {"x-ms-lease-id": proposed})


def _release(target: Target, doc: dict[str, Any]) -> Response:
    _matching(target, doc)
    doc["lease"] = None
    return Response(200)


def _break(target: Target, doc: dict[str, Any]) -> Response:
    lease = doc.get("lease")
    if lease is None:
        raise _not_present()
    now = target.tx.now_ms
    rest = 0 if lease["seconds"] == INFINITE else max(0, lease["expires_ms"] - now)
    asked = target.number("x-ms-lease-break-period", most=_LONGEST_BREAK)
    wait = rest
    if asked is not None:
        wait = asked * 1000 if lease["seconds"] == INFINITE else min(rest, asked * 1000)
    if not is_held(doc, now):
        wait = 0
    lease["break_ms"] = now + wait
    return Response(202, {"x-ms-lease-time": str(wait // 1000)})


def _matching(target: Target, doc: dict[str, Any]) -> dict[str, Any]:
    lease: dict[str, Any] | None = doc.get("lease")
    if lease is None:
        raise _not_present()
    if lease["id"] != target.header("x-ms-lease-id").lower():
        raise LabFault(
            409,
            "LeaseIdMismatchWithLeaseOperation",
            "The lease ID specified did not match the lease ID for the blob.",
        )
    return lease


def _not_present() -> LabFault:
    return LabFault(
        409,
        "LeaseNotPresentWithLeaseOperation",
        "There is currently no lease on the blob.",
    )


def _seconds(text: str) -> int:
    if text == str(INFINITE):
        return INFINITE
    found = whole_number(text)
    if found is not None and found in _FIXED_SECONDS:
        return found
    raise bad_header()


def _set(doc: dict[str, Any], lease_id: str, seconds: int, now_ms: int) -> None:
    doc["lease"] = {
        "id": lease_id,
        "seconds": seconds,
        "expires_ms": now_ms + seconds * 1000,
        "break_ms": None,
    }


_ACTIONS: Final = {
    "acquire": _acquire,
    "renew": _renew,
    "change": _change,
    "release": _release,
    "break": _break,
}
