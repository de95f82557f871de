"""Who reaches a HSM over which way: firewall, trusted services, private endpoints, DNS.

The operator comes from one public address (a setting). A managed instance comes from its
virtual network: it resolves the HSM's name the way that network does, and reaches a
private address only through an endpoint that is approved and in the same or a peered
network. Managed identities count as trusted services.

Rules:
- what comes over a private endpoint passes the firewall;
- `publicNetworkAccess: Disabled` closes the public way to all but trusted services with
  the bypass, as Key Vault documents it;
- the authentication challenge comes before the firewall.
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from drengine.lab.wire import LabFault

if TYPE_CHECKING:
    from drengine.lab.settings import Settings
    from drengine.lab.store import Tx
    from drengine.lab.wire import Request

RESOURCE: Final = "arm.network"
CONNECTION: Final = "arm.hsm.connection"
CUT: Final = "lab.network-cut"
"""By lower-cased id of a virtual network: it reaches nothing."""
ORIGIN_HEADER: Final = "x-drengine-lab-origin"
ZONES: Final = {
    "managedhsm.azure.net": "privatelink.managedhsm.azure.net",
    "vault.azure.net": "privatelink.vaultcore.azure.net",
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request comes from, as far as a firewall is concerned."""

    address: str
    region: str = ""
    network: str = ""
    private: bool = False
    trusted: bool = False


class NoRoute(Exception):
    """A host cannot be reached from a virtual network.

    Parameters:
        code: SQL's code for it.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def origin_of(request: Request, settings: Settings) -> Origin:
    """Return where a request comes from."""
    who = request.principal
    if who is None or who.kind != "identity":
        return Origin(settings.client_address, settings.client_region)
    told = json.loads(request.headers.get(ORIGIN_HEADER) or "{}")
    return Origin(
        address=told.get("address", "192.0.2.1"),
        region=told.get("region", ""),
        network=told.get("network", ""),
        private=bool(told.get("private")),
        trusted=True,
    )


def require_access(tx: Tx, hsm: dict[str, Any], origin: Origin) -> None:
    """Check that the firewall of a HSM or vault lets a request in.

    Raises:
        LabFault: 403 Forbidden.
    """
    found = tx.get(hsm.get("arm_kind", "arm.hsm"), hsm["arm_id"].lower())
    if found is None or origin.private:
        return
    properties = found["resource"]["properties"]
    rules = properties.get("networkAcls") or {}
    closed = str(properties.get("publicNetworkAccess")).lower() == "disabled"
    if not closed and str(rules.get("defaultAction") or "Allow").lower() != "deny":
        return
    if origin.trusted and str(rules.get("bypass")).lower() == "azureservices":
        return
    if not closed and _is_listed(rules, origin):
        return
    raise LabFault(
        403,
        "Forbidden",
        f"Client address ({origin.address}) is not authorized and caller is not a trusted service.",
    )


def _is_listed(rules: dict[str, Any], origin: Origin) -> bool:
    address = ipaddress.ip_address(origin.address)
    for rule in rules.get("ipRules") or ():
        if address in ipaddress.ip_network(rule["value"], strict=False):
            return True
    subnets = [str(rule.get("id", "")).lower() for rule in rules.get("virtualNetworkRules") or ()]
    return bool(origin.network) and any(one.startswith(f"{origin.network}/") for one in subnets)


def route(tx: Tx, vnet: str, host: str) -> bool:
    """Return whether a virtual network reaches a host privately; False is the public way.

    Raises:
        NoRoute: the name does not resolve there, or the address is not reachable.
    """
    if tx.get(CUT, vnet) is not None or tx.get(CUT, "*") is not None:
        raise NoRoute("AkvEndpointNotReachableFromNode")
    name, _, domain = host.partition(".")
    endpoints = _endpoints(tx, f"{name}!vault" if domain.startswith("vault.") else name)
    if not endpoints:
        return False
    zone = _linked_zone(tx, vnet, ZONES.get(domain, ""))
    if zone is None:
        return False
    record = tx.get(RESOURCE, f"{zone}/a/{name}")
    if record is None:
        # the public name is an alias of the private zone's: no record there, no address
        raise NoRoute("AkvHostNotResolvingFromNode")
    wanted = {one["ipv4Address"] for one in record["properties"].get("aRecords") or ()}
    for endpoint in endpoints:
        if endpoint["address"] in wanted and _touches(tx, vnet, endpoint["network"]):
            return True
    raise NoRoute("AkvEndpointNotReachableFromNode")


def _endpoints(tx: Tx, name: str) -> list[dict[str, Any]]:
    """Return the approved connections of a HSM or vault whose endpoint still exists."""
    hsm = tx.get("hsm", name)
    if hsm is None:
        return []
    found = [one for _, one in tx.find(CONNECTION, f"{hsm['arm_id'].lower()}/")]
    return [
        one
        for one in found
        if one["status"] == "Approved" and tx.get(RESOURCE, one["endpoint"].lower()) is not None
    ]


def _linked_zone(tx: Tx, vnet: str, name: str) -> str | None:
    for key, doc in tx.find(RESOURCE):
        if f"/privatednszones/{name}/virtualnetworklinks/" not in key:
            continue
        linked = (doc["properties"].get("virtualNetwork") or {}).get("id", "")
        if linked.lower() == vnet:
            return key.partition("/virtualnetworklinks/")[0]
    return None


def _touches(tx: Tx, vnet: str, other: str) -> bool:
    if vnet == other:
        return True
    peerings = tx.find(RESOURCE, f"{vnet}/virtualnetworkpeerings/")
    return any(
        (doc["properties"].get("remoteVirtualNetwork") or {}).get("id", "").lower() == other
        for _, doc in peerings
    )
