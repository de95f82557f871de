"""The status document of a lab: what a person or a program needs to work with it."""

from __future__ import annotations

from typing import Any

from drengine.lab import arm_subscription
from drengine.lab.clock import LabClock
from drengine.lab.home import LabHome
from drengine.lab.sql import estate as sql_estate
from drengine.lab.store import reading


def describe(place: LabHome) -> dict[str, Any]:
    """Return the document; it is read from files, so the lab need not run."""
    identity, server, clock = place.identity(), place.server_document(), LabClock(place.clock)
    running = place.is_running()
    with reading(place.database, clock.now_ms()) as tx:
        meta = tx.get(arm_subscription.META, arm_subscription.ESTATE) or {}
        attached = tx.get(arm_subscription.IDENTITY, str(meta.get("identity", "")).lower()) or {}
        sql = sql_estate.describe(tx)
    return {
        "home": str(place.root),
        "running": running,
        "pid": server.get("pid") if running else None,
        "proxy": f"http://127.0.0.1:{server.get('port', 0)}",
        "ca": str(place.ca),
        "subscription": identity.subscription,
        "tenant": identity.tenant,
        "client_id": identity.client_id,
        "object_id": identity.object_id,
        "resource_group": meta.get("resource_group"),
        "source_hsm": {"name": meta.get("source_hsm"), "location": meta.get("location")},
        "security_domain": _security_domain(place, meta),
        "storage": {name: meta.get(name) for name in ("account", "container", "sas")},
        "backup": {"folder": meta.get("folder")},
        "identity": {
            "id": attached.get("id"),
            "principal_id": attached.get("principalId"),
            "client_id": attached.get("clientId"),
        },
        "console": server.get("console") if running else None,
        "clock": {"now_ms": clock.now_ms(), "speed": clock.speed},
        **sql,
    }


def _security_domain(place: LabHome, meta: dict[str, Any]) -> dict[str, Any]:
    numbers = range(1, int(meta.get("custodians", 0)) + 1)
    folder = place.custodians
    return {
        "file": str(folder / f"{meta.get('source_hsm')}.security-domain.json"),
        "certificates": [str(folder / f"custodian-{number}.cer") for number in numbers],
        "keys": [str(folder / f"custodian-{number}.key") for number in numbers],
        "required": meta.get("required"),
    }
