"""Key Vault vaults: the resource, its deleted form, and who may do what with its keys.

The data plane is that of the HSM's keys (`hsm.keysapi`, `hsm.keyops`) under the vault's
host name. A vault has no security domain: a key's backup opens in every vault of the same
geography and subscription and nowhere else.

Rules:
- rights come from access policies, or from roles of Resource Manager where the vault says so;
- a vault is deleted softly; its name is taken until it is purged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from drengine.lab import arm_roles
from drengine.lab.arm_resource import DAY_MS, timestamp
from drengine.lab.hsm import keystore, state
from drengine.lab.wire import Call, LabFault, Response, Route, arm_fault, json_response

if TYPE_CHECKING:
    from drengine.lab.store import Tx

VAULT: Final = "arm.vault"
DELETED: Final = "arm.vault.deleted"
PROVIDER: Final = "Microsoft.KeyVault/vaults"
_TAKEN: Final = (
    "A vault with the same name already exists in deleted state. "
    "You need to either recover or purge existing key vault."
)
PERMISSIONS: Final = {
    "/keys/read/action": ("get", "list"),
    "/keys/create": ("create",),
    "/keys/write/action": ("update", "setrotationpolicy"),
    "/keys/delete": ("delete",),
    "/keys/import/action": ("import",),
    "/keys/rotate/action": ("rotate",),
    "/keys/backup/action": ("backup",),
    "/keys/restore/action": ("restore",),
    "/keys/encrypt/action": ("encrypt",),
    "/keys/decrypt/action": ("decrypt",),
    "/keys/wrap/action": ("wrapkey",),
    "/keys/unwrap/action": ("unwrapkey",),
    "/keys/sign/action": ("sign",),
    "/keys/verify/action": ("verify",),
    "/keys/deletedKeys/read/action": ("get", "list"),
    "/keys/deletedKeys/recover/action": ("recover",),
    "/keys/deletedKeys/delete": ("purge",),
}
"""Which permissions of an access policy a data action takes; one of them is enough."""
_USE: Final = frozenset(
    f"/keys/{one}/action"
    for one in ("read", "encrypt", "decrypt", "wrap", "unwrap", "sign", "verify", "backup")
)
ROLE_ACTIONS: Final = {
    arm_roles.KEY_VAULT_ADMINISTRATOR: frozenset(PERMISSIONS),
    arm_roles.KEY_VAULT_CRYPTO_OFFICER: frozenset(PERMISSIONS),
    arm_roles.KEY_VAULT_CRYPTO_USER: _USE,
    arm_roles.KEY_VAULT_ENCRYPTION_USER: frozenset(
        {"/keys/read/action", "/keys/wrap/action", "/keys/unwrap/action"}
    ),
}


def is_allowed(tx: Tx, vault: dict[str, Any], principal: str, action: str) -> bool:
    """Return whether a principal may perform a data action on a vault."""
    found = tx.get(VAULT, vault["arm_id"].lower())
    if found is None:
        return False
    properties = found["resource"]["properties"]
    if properties.get("enableRbacAuthorization"):
        roles = arm_roles.roles_at(tx, vault["arm_id"], principal)
        return any(action in ROLE_ACTIONS.get(role, ()) for role in roles)
    for policy in properties.get("accessPolicies") or ():
        if str(policy.get("objectId")).lower() == principal.lower():
            granted = {one.lower() for one in (policy.get("permissions") or {}).get("keys") or ()}
            return bool(granted & {*PERMISSIONS.get(action, ()), "all"})
    return False


def _arm_id(call: Call) -> str:
    part = call.match
    return (
        f"/subscriptions/{part['subscription']}/resourceGroups/{part['group']}"
        f"/providers/{PROVIDER}/{part['name']}"
    )


def _key(name: str) -> str:
    return f"{name.lower()}{state.VAULT_MARK}"


def _find(call: Call) -> dict[str, Any]:
    found = call.tx.get(VAULT, _arm_id(call).lower())
    if found is None:
        name, group = call.match["name"], call.match["group"]
        raise LabFault(
            404,
            "ResourceNotFound",
            f"The Resource 'Microsoft.KeyVault/vaults/{name}' under resource group '{group}' was "
            "not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
        )
    return found


def _resource(call: Call, body: dict[str, Any], old: dict[str, Any] | None) -> dict[str, Any]:
    wanted = body.get("properties") or {}
    before = old["properties"] if old else {}
    defaults = {
        "sku": {"family": "A", "name": "standard"},
        "tenantId": call.lab.tenant,
        "accessPolicies": [],
        "enabledForDeployment": False,
        "enabledForDiskEncryption": False,
        "enabledForTemplateDeployment": False,
        "enableSoftDelete": True,
        "softDeleteRetentionInDays": 90,
        "enableRbacAuthorization": False,
        "publicNetworkAccess": "Enabled",
    }
    given = {
        name: part
        for name, part in wanted.items()
        if part is not None and name not in {"createMode", "vaultUri", "provisioningState"}
    }
    name = call.match["name"]
    return {
        "id": old["id"] if old else _arm_id(call),
        "name": name,
        "type": PROVIDER,
        "location": str(body.get("location") or (old or {}).get("location", "")).replace(" ", ""),
        "tags": body.get("tags") or (old or {}).get("tags", {}),
        "properties": {
            **defaults,
            **before,
            **given,
            "vaultUri": f"https://{name.lower()}.vault.azure.net/",
            "provisioningState": "Succeeded",
        },
    }


def _put(call: Call) -> Response:
    body, name = call.request.json_object(), call.match["name"]
    old = call.tx.get(VAULT, _arm_id(call).lower())
    if (body.get("properties") or {}).get("createMode") == "recover":
        return _recover(call)
    if old is None:
        if call.tx.get(DELETED, name.lower()) is not None:
            raise LabFault(409, "ConflictError", _TAKEN)
        if call.tx.get(state.HSM, _key(name)) is not None:
            raise LabFault(409, "VaultAlreadyExists", f"The vault name '{name}' is in use.")
    resource = _resource(call, body, old["resource"] if old else None)
    if not resource["location"]:
        raise LabFault(400, "LocationRequired", "The location property is required.")
    call.effect, call.target = "vault.put", resource["id"]
    return json_response(200, _write(call.tx, resource))


def _write(tx: Tx, resource: dict[str, Any]) -> dict[str, Any]:
    tx.put(VAULT, resource["id"].lower(), {"resource": resource})
    if tx.get(state.HSM, _key(resource["name"])) is None:
        vault = {
            "name": _key(resource["name"]),
            "display_name": resource["name"],
            "arm_id": resource["id"],
            "arm_kind": VAULT,
            "location": resource["location"].lower(),
            "phase": state.ACTIVE,
            "setting": "false",
        }
        state.store(tx, vault)
    return resource


def _patch(call: Call) -> Response:
    resource = _resource(call, call.request.json_object(), _find(call)["resource"])
    call.effect, call.target = "vault.update", resource["id"]
    return json_response(200, _write(call.tx, resource))


def _recover(call: Call) -> Response:
    deleted = call.tx.get(DELETED, call.match["name"].lower())
    if deleted is None:
        raise LabFault(404, "DeletedVaultNotFound", "The specified deleted vault does not exist.")
    call.tx.delete(DELETED, call.match["name"].lower())
    vault = call.tx.get(state.HSM, _key(call.match["name"])) or {}
    state.store(call.tx, {**vault, "phase": state.ACTIVE})
    call.effect, call.target = "vault.recover", deleted["resource"]["id"]
    return json_response(200, _write(call.tx, deleted["resource"]))


def _policies(call: Call) -> Response:
    """Add to, replace or remove from the access policies."""
    found = _find(call)["resource"]
    wanted = (call.request.json_object().get("properties") or {}).get("accessPolicies") or []
    names = {str(one.get("objectId")).lower() for one in wanted}
    kept = [
        one
        for one in found["properties"]["accessPolicies"]
        if str(one.get("objectId")).lower() not in names
    ]
    policies = kept if call.match["kind"].lower() == "remove" else [*kept, *wanted]
    found["properties"]["accessPolicies"] = policies
    _write(call.tx, found)
    call.effect, call.target = "vault.policies", found["id"]
    return json_response(200, {**found, "properties": {"accessPolicies": policies}})


def _get(call: Call) -> Response:
    return json_response(200, _find(call)["resource"])


def all_vaults(tx: Tx, prefix: str) -> list[dict[str, Any]]:
    """Return the resources of the vaults below a subscription or group."""
    return [one["resource"] for _, one in tx.find(VAULT, prefix.lower())]


def _list(call: Call) -> Response:
    prefix = call.request.path.partition("/providers/")[0] + "/"
    return json_response(200, {"value": all_vaults(call.tx, prefix)})


def _delete(call: Call) -> Response:
    found = call.tx.get(VAULT, _arm_id(call).lower())
    if found is None:
        return Response(204)
    resource = found["resource"]
    days = int(resource["properties"]["softDeleteRetentionInDays"])
    call.tx.delete(VAULT, resource["id"].lower())
    deleted = {**found, "deleted_ms": call.tx.now_ms, "purge_ms": call.tx.now_ms + days * DAY_MS}
    call.tx.put(DELETED, resource["name"].lower(), deleted)
    vault = call.tx.get(state.HSM, _key(resource["name"])) or {}
    state.store(call.tx, {**vault, "phase": state.DELETED})
    call.effect, call.target = "vault.delete", resource["id"]
    return Response(200)


def _deleted_shown(call: Call, deleted: dict[str, Any]) -> dict[str, Any]:
    resource, subscription = deleted["resource"], call.match["subscription"]
    location, name = resource["location"], resource["name"]
    return {
        "id": (
            f"/subscriptions/{subscription}/providers/Microsoft.KeyVault/locations/{location}"
            f"/deletedVaults/{name}"
        ),
        "name": name,
        "type": "Microsoft.KeyVault/deletedVaults",
        "properties": {
            "vaultId": resource["id"],
            "location": location,
            "tags": resource["tags"],
            "deletionDate": timestamp(deleted["deleted_ms"]),
            "scheduledPurgeDate": timestamp(deleted["purge_ms"]),
            "purgeProtectionEnabled": resource["properties"].get("enablePurgeProtection"),
        },
    }


def _find_deleted(call: Call) -> dict[str, Any]:
    found = call.tx.get(DELETED, call.match["name"].lower())
    if found is None:
        raise LabFault(404, "DeletedVaultNotFound", "The specified deleted vault does not exist.")
    return found


def _get_deleted(call: Call) -> Response:
    return json_response(200, _deleted_shown(call, _find_deleted(call)))


def _list_deleted(call: Call) -> Response:
    found = [_deleted_shown(call, one) for _, one in call.tx.find(DELETED)]
    return json_response(200, {"value": found})


def _purge(call: Call) -> Response:
    deleted = _find_deleted(call)
    name = deleted["resource"]["name"]
    if deleted["resource"]["properties"].get("enablePurgeProtection"):
        raise LabFault(400, "MethodNotAllowed", f"The vault '{name}' is protected from purge.")
    call.tx.delete(DELETED, name.lower())
    call.tx.delete(state.HSM, _key(name))
    for kind in (keystore.KEY, keystore.DELETED_KEY):
        for key, _ in call.tx.find(kind, f"{_key(name)}/"):
            call.tx.delete(kind, key)
    call.effect, call.target = "vault.purge", deleted["resource"]["id"]
    return Response(200)


def _check_name(call: Call) -> Response:
    name = str(call.request.json_object().get("name") or "")
    if call.tx.get(state.HSM, _key(name)) is None:
        return json_response(200, {"nameAvailable": True})
    text = f"The vault name '{name}' is already in use."
    return json_response(200, {"nameAvailable": False, "reason": "AlreadyExists", "message": text})


_SUBSCRIPTION: Final = "/subscriptions/(?P<subscription>[^/]+)"
_GROUP: Final = _SUBSCRIPTION + "/resourceGroups/(?P<group>[^/]+)"
_KV: Final = "/providers/Microsoft\\.KeyVault"
_ONE: Final = _GROUP + _KV + "/vaults/(?P<name>[^/]+)"
_DELETED: Final = _SUBSCRIPTION + _KV + "/locations/[^/]+/deletedVaults/(?P<name>[^/]+)"
ROUTES: Final[tuple[Route, ...]] = tuple(
    Route("management\\.azure\\.com", method, path, handler, "arm", arm_fault)
    for method, path, handler in (
        ("GET", _SUBSCRIPTION + _KV + "/vaults", _list),
        ("GET", _GROUP + _KV + "/vaults", _list),
        ("GET", _ONE, _get),
        ("PUT", _ONE, _put),
        ("PATCH", _ONE, _patch),
        ("DELETE", _ONE, _delete),
        ("PUT", _ONE + "/accessPolicies/(?P<kind>add|replace|remove)", _policies),
        ("GET", _SUBSCRIPTION + _KV + "/deletedVaults", _list_deleted),
        ("GET", _DELETED, _get_deleted),
        ("POST", _DELETED + "/purge", _purge),
        ("POST", _SUBSCRIPTION + _KV + "/checkNameAvailability", _check_name),
    )
)
