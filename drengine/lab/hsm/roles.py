"""Role definitions and assignments of the data plane, and the check against them.

Built-in roles carry the data actions of a recorded service answer (2023-12); the restore
role is newer and from the documentation. Rights come from assignments at `/`, `/keys` and
`/keys/{name}`; an administrator of the HSM has no right to use keys.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from drengine.lab.wire import Call, LabFault

if TYPE_CHECKING:
    from drengine.lab.store import Tx

ASSIGNMENT: Final = "hsm.role"
DEFINITION: Final = "hsm.roledefinition"
ACTION_PREFIX: Final = "Microsoft.KeyVault/managedHsm"
DEFINITION_PREFIX: Final = "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/"

ADMINISTRATOR: Final = "a290e904-7015-4bba-90c8-60543313cdb4"
CRYPTO_OFFICER: Final = "515eb02d-2335-4d2d-92f2-b1cbdf9c3778"
CRYPTO_USER: Final = "21dbd100-6940-42c2-9190-5d6cb909625b"
SERVICE_ENCRYPTION_USER: Final = "33413926-3206-4cdd-b39a-83574fe37a17"

# the orders are those of the recorded answer
_MANAGE_DEFINITIONS: Final = (
    "/roleDefinitions/read/action",
    "/roleDefinitions/write/action",
    "/roleDefinitions/delete/action",
)
_READ_ASSIGNMENTS_FIRST: Final = (
    "/roleAssignments/read/action",
    "/roleAssignments/write/action",
    "/roleAssignments/delete/action",
)
_MANAGE_ROLES: Final = (
    "/roleAssignments/delete/action",
    "/roleAssignments/read/action",
    "/roleAssignments/write/action",
    *_MANAGE_DEFINITIONS,
)
BUILT_IN: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "7b127d3c-77bd-4e3e-bbe0-dbb8971fa7f8": (
        "Managed HSM Backup User",
        ("/backup/start/action", "/backup/status/action", "/keys/backup/action"),
    ),
    SERVICE_ENCRYPTION_USER: (
        "Managed HSM Crypto Service Encryption User",
        ("/keys/read/action", "/keys/wrap/action", "/keys/unwrap/action"),
    ),
    "21dbd100-6940-42c2-9190-5d6cb909625c": (
        "Managed HSM Crypto Service Release User",
        ("/keys/release/action",),
    ),
    "2c18b078-7c48-4d3a-af88-5a3a1b3f82b3": (
        "Managed HSM Crypto Auditor",
        (
            "/roleAssignments/read/action",
            "/roleDefinitions/read/action",
            "/keys/read/action",
            "/keys/deletedKeys/read/action",
        ),
    ),
    "4bd23610-cdcf-4971-bdee-bdc562cc28e4": (
        "Managed HSM Policy Administrator",
        (*_MANAGE_DEFINITIONS, *_READ_ASSIGNMENTS_FIRST),
    ),
    CRYPTO_USER: (
        "Managed HSM Crypto User",
        (
            "/roleDefinitions/read/action",
            "/roleAssignments/read/action",
            "/keys/read/action",
            "/keys/write/action",
            "/keys/delete",
            "/keys/create",
            "/keys/rotate/action",
            "/keys/import/action",
            "/keys/release/action",
            "/keys/backup/action",
            "/keys/restore/action",
            "/keys/encrypt/action",
            "/keys/decrypt/action",
            "/keys/wrap/action",
            "/keys/unwrap/action",
            "/keys/sign/action",
            "/keys/verify/action",
            "/keys/derive/action",
            "/rng/action",
        ),
    ),
    CRYPTO_OFFICER: (
        "Managed HSM Crypto Officer",
        (
            *_MANAGE_ROLES,
            "/keys/deletedKeys/read/action",
            "/keys/deletedKeys/delete",
            "/keys/deletedKeys/recover/action",
            "/keys/export/action",
        ),
    ),
    ADMINISTRATOR: (
        "Managed HSM Administrator",
        (
            *_MANAGE_ROLES,
            "/securitydomain/download/action",
            "/securitydomain/download/read",
            "/securitydomain/upload/action",
            "/securitydomain/upload/read",
            "/securitydomain/transferkey/read",
            "/backup/start/action",
            "/restore/start/action",
            "/backup/status/action",
            "/restore/status/action",
            "/settings/read/action",
            "/settings/write/action",
        ),
    ),
    "6efe6056-5259-49d2-8b3d-d3d73544b20b": (
        "Managed HSM Restore",
        ("/restore/start/action", "/restore/status/action", "/keys/restore/action"),
    ),
}


def require(call: Call, hsm: str, action: str, scope: str = "/") -> None:
    """Check that the caller may perform a data action.

    Parameters:
        hsm: the HSM's lower-cased name.
        action: without the prefix, such as `/keys/wrap/action`.
        scope: `/`, `/keys` or `/keys/{name}`.

    Raises:
        LabFault: 403 Forbidden.
    """
    if not call.lab.settings.enforce_roles:
        return
    caller = call.principal.object_id
    if hsm.endswith("!vault"):
        _require_on_vault(call, hsm, caller, action)
        return
    delay_ms = int(call.lab.settings.propagation * 1000)
    if not is_allowed(call.tx, hsm, caller, action, scope, delay_ms=delay_ms):
        raise LabFault(
            403,
            "Forbidden",
            f"The caller '{caller}' is not authorized to perform '{ACTION_PREFIX}{action}' "
            f"at scope '{scope}'.",
        )


def _require_on_vault(call: Call, name: str, caller: str, action: str) -> None:
    from drengine.lab import vaults  # noqa: PLC0415 - vaults are made of what is here

    vault = call.tx.get("hsm", name)
    if vault is None or not vaults.is_allowed(call.tx, vault, caller, action):
        wanted = "/".join(vaults.PERMISSIONS.get(action, (action,)))
        raise LabFault(
            403,
            "Forbidden",
            f"The user, group or application '{caller}' does not have keys {wanted} permission on "
            f"key vault '{name.removesuffix('!vault')}'.",
        )


def is_allowed(
    tx: Tx, hsm: str, principal_id: str, action: str, scope: str, *, delay_ms: int = 0
) -> bool:
    """Return whether an assignment at the scope, or above it, grants the data action."""
    above = scopes_above(scope)
    for _, one in assignments(tx, hsm):
        if one["principal"] != principal_id.lower() or one["scope"].lower() not in above:
            continue
        if one["created_ms"] and one["created_ms"] + delay_ms > tx.now_ms:
            continue
        if action in data_actions(tx, hsm, one["definition"]):
            return True
    return False


def scopes_above(scope: str) -> list[str]:
    """Return the scope and the ones that include it, in lower case."""
    parts = [part for part in scope.lower().split("/") if part]
    return ["/", *("/" + "/".join(parts[: n + 1]) for n in range(len(parts)))]


def assignments(tx: Tx, hsm: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the HSM's role assignments."""
    return tx.find(ASSIGNMENT, f"{hsm}/")


def data_actions(tx: Tx, hsm: str, definition: str) -> frozenset[str]:
    """Return the data actions of a role, without their prefix."""
    if definition in BUILT_IN:
        return frozenset(BUILT_IN[definition][1])
    custom = tx.get(DEFINITION, f"{hsm}/{definition}")
    if custom is None:
        return frozenset()
    granted: set[str] = set()
    for permission in custom["permissions"]:
        denied = set(permission.get("notDataActions") or ())
        granted |= set(permission.get("dataActions") or ()) - denied
    return frozenset(one.removeprefix(ACTION_PREFIX) for one in granted)


def assign(
    tx: Tx,
    hsm: str,
    *,
    principal_id: str,
    definition: str,
    scope: str = "/",
    name: str = "",
    immediate: bool = False,
) -> dict[str, Any]:
    """Write a role assignment and return its document."""
    document = {
        "name": (name or str(uuid.uuid4())).lower(),
        "principal": principal_id.lower(),
        "definition": definition,
        "scope": scope,
        "created_ms": 0 if immediate else tx.now_ms,
    }
    tx.put(ASSIGNMENT, f"{hsm}/{document['name']}", document)
    return document
