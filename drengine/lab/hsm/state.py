"""What every data-plane handler asks first: which HSM, in which phase, may the caller.

The document of kind `hsm` under the lower-cased name is the truth about a HSM's data
plane; its Azure resource (kind `arm.hsm`) is the truth about everything else.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

from drengine.lab.hsm import network, regions, roles
from drengine.lab.hsm.domain import TAGS, fingerprint
from drengine.lab.wire import Auth, Call, LabFault, Response, Unreachable, json_response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drengine.lab.store import Tx

HSM: Final = "hsm"
DOMAIN: Final = "hsm.domain"
"""The security domain lies apart: every request reads the HSM's document, few read this."""
HOST: Final = "([a-z0-9]+\\.)?[a-z0-9][a-z0-9-]{0,62}\\.managedhsm\\.azure\\.net"
ZONE: Final = "managedhsm.azure.net"
VAULT_HOST: Final = "[a-z0-9][a-z0-9-]{0,62}\\.vault\\.azure\\.net"
VAULT_ZONE: Final = "vault.azure.net"
VAULT_MARK: Final = "!vault"
"""Ends the name under which a vault's document and keys lie; no HSM's name can have it."""
KEY_HOSTS: Final[tuple[tuple[str, Auth], ...]] = ((HOST, "hsm"), (VAULT_HOST, "vault"))
DEFAULT_RETENTION_DAYS: Final = 90

PROVISIONING: Final = "provisioning"
NOT_ACTIVATED: Final = "not-activated"
CONFIRMING: Final = "confirming"
RESTORING_DOMAIN: Final = "restoring-domain"
ACTIVE: Final = "active"
DELETED: Final = "deleted"


def hsm_name(call: Call) -> str:
    """Return the lower-cased name from the host of the request."""
    host = call.request.host
    if host.endswith(f".{VAULT_ZONE}"):
        return host.removesuffix(f".{VAULT_ZONE}") + VAULT_MARK
    return regions.split_host(host)[0]


def is_vault(hsm: dict[str, Any]) -> bool:
    """Return whether a document stands for a Key Vault vault."""
    return str(hsm["name"]).endswith(VAULT_MARK)


def host_of(name: str) -> str:
    """Return the host name of a HSM or vault."""
    if name.endswith(VAULT_MARK):
        return f"{name.removesuffix(VAULT_MARK)}.{VAULT_ZONE}"
    return f"{name}.{ZONE}"


def phase(hsm: dict[str, Any], now_ms: int) -> str:
    """Return the phase; a HSM being provisioned becomes reachable before it is ready."""
    found = str(hsm["phase"])
    if found == PROVISIONING and now_ms >= hsm["reachable_ms"]:
        return NOT_ACTIVATED
    return found


def load(call: Call) -> dict[str, Any]:
    """Return the HSM's document.

    Raises:
        LabFault: there is no such HSM (any more), or it is not reachable yet.
    """
    name = hsm_name(call)
    hsm = call.tx.get(HSM, name)
    if hsm is None or hsm["phase"] == DELETED:
        raise LabFault(404, "NotFound", f"There is no Managed HSM named '{name}'.")
    origin = network.origin_of(call.request, call.lab.settings)
    if is_vault(hsm):
        region = None if regions.is_down(call.tx, hsm["location"]) else hsm["location"]
    else:
        region = regions.serving_region(call.tx, call.request.host, origin.region)
    if region is None:
        raise Unreachable
    if call.lab.settings.enforce_firewall:
        network.require_access(call.tx, hsm, origin)
    call.tx = regions.seen_from(call.tx, hsm, region, call.lab.settings)
    if phase(hsm, call.tx.now_ms) == PROVISIONING:
        raise LabFault(503, "ServiceUnavailable", "The Managed HSM is being provisioned.")
    return hsm


def load_active(call: Call, action: str, *, scope: str = "/") -> dict[str, Any]:
    """Return the HSM's document for a call that needs an active HSM and a right.

    Raises:
        LabFault: not there, not activated, restoring, or the caller lacks the right.
    """
    hsm = load(call)
    if phase(hsm, call.tx.now_ms) != ACTIVE:
        status = call.lab.settings.not_activated_refusal
        code = "Forbidden" if status == 403 else "ServiceUnavailable"  # noqa: PLR2004 - a setting
        raise LabFault(status, code, "The Managed HSM cannot be used until it is activated.")
    refuse_while_restoring(call, hsm)
    roles.require(call, hsm["name"], action, scope)
    return hsm


def refuse_while_restoring(call: Call, hsm: dict[str, Any]) -> None:
    """Refuse a data-plane call during a restore.

    Raises:
        LabFault: a restore is running.
    """
    if hsm.get("restoring") is None:
        return
    status = call.lab.settings.restoring_refusal
    code = "ServiceUnavailable" if status == 503 else "Forbidden"  # noqa: PLR2004 - a setting
    raise LabFault(status, code, "The Managed HSM is being restored; try again later.")


def store(tx: Tx, hsm: dict[str, Any]) -> None:
    """Write the HSM's document."""
    tx.put(HSM, hsm["name"], hsm)


def domain_of(tx: Tx, hsm: dict[str, Any]) -> dict[str, bytes]:
    """Return the plaintexts of the HSM's security domain."""
    found = tx.get(DOMAIN, hsm["name"]) or {}
    return {tag: base64.b64decode(found[tag]) for tag in TAGS}


def set_domain(tx: Tx, hsm: dict[str, Any], domain: Mapping[str, bytes]) -> None:
    """Give the HSM a security domain; its fingerprint is not written until `store`."""
    plain = {tag: base64.b64encode(domain[tag]).decode() for tag in TAGS}
    tx.put(DOMAIN, hsm["name"], plain)
    hsm["fingerprint"] = fingerprint(domain)


def deletion_policy(tx: Tx, hsm: dict[str, Any]) -> tuple[int, bool]:
    """Return retention in days and whether purge protection is on."""
    resource = tx.get(hsm.get("arm_kind", "arm.hsm"), hsm["arm_id"].lower())
    if resource is None:
        return DEFAULT_RETENTION_DAYS, False
    properties = resource["resource"]["properties"]
    days = int(properties["softDeleteRetentionInDays"])
    return days, bool(properties.get("enablePurgeProtection"))


def answer(
    call: Call, status: int, body: object, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a JSON answer with the headers of the real data plane."""
    usual = {
        "cache-control": "no-cache",
        "strict-transport-security": "max-age=31536000; includeSubDomains",
        "x-content-type-options": "nosniff",
        "x-frame-options": "SAMEORIGIN",
        "x-ms-keyvault-network-info": "conn_type=Ipv4;addr=127.0.0.1;act_addr_fam=Ipv4;",
        "x-ms-server-latency": "1",
    }
    hsm = call.tx.get(HSM, hsm_name(call))
    if hsm is not None:
        usual["x-ms-keyvault-region"] = hsm["location"]
    return json_response(status, body, {**usual, **(headers or {})})


def polling_headers(call: Call, url: str | None = None) -> dict[str, str]:
    """Return the headers of an answer of a long operation."""
    headers = {"azure-asyncoperation": url} if url else {}
    return {**headers, **retry_headers(call)}


def retry_headers(call: Call) -> dict[str, str]:
    """Return what the settings say about how soon to poll again."""
    settings = call.lab.settings
    if settings.retry_after_ms is not None:
        return {"retry-after-ms": str(settings.retry_after_ms)}
    if settings.retry_after_seconds is not None:
        return {"retry-after": str(settings.retry_after_seconds)}
    return {}
