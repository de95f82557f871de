"""Asking the lab's databases themselves: the one proof that no Azure API can fake."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from drengine.lab.client import LoopbackClient

_OK: Final = 200


def databases_of(inventory: Path) -> list[tuple[str, str]]:
    """Return host and name of every database in an inventory."""
    doc = json.loads(inventory.read_bytes())
    return [
        (str(instance["fqdn"]), str(database["name"]))
        for instance in doc["instances"]
        for database in instance["databases"]
    ]


def silent_databases(lab: Mapping[str, Any], inventory: Path) -> list[str]:
    """Return the databases that do not return their rows now.

    Parameters:
        lab: the lab's status document.
    """
    port = int(str(lab["proxy"]).rpartition(":")[2])
    client = LoopbackClient(port, Path(str(lab["ca"])))
    return [
        f"{host}/{name}"
        for host, name in databases_of(inventory)
        if client.request("GET", f"https://{host}/databases/{name}/canary").status != _OK
    ]
