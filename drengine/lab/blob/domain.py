"""What other lab services may ask of blob storage, inside their own transaction.

The managed HSM writes and reads its backups through these functions, the estate
creates the account through them. They do NOT speak HTTP; `routes` does.

Rules:
- account and container names are lower-case; blob names keep their case;
- every function takes the caller's transaction, so that an effect of the HSM and the
  blobs it wrote commit together;
- an account key or a signature never enters a message.
"""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING, Final, Literal

from drengine.lab.blob import access, content
from drengine.lab.blob import sas as tokens
from drengine.lab.wire import LabFault

if TYPE_CHECKING:
    from drengine.lab.store import Tx

ACCOUNTS: Final = "storage.account"
ARM_ACCOUNTS: Final = "arm.storage"
CONTAINERS: Final = "storage.container"
ROLES: Final = "storage.role"

RoleName = Literal[
    "Storage Blob Data Owner", "Storage Blob Data Contributor", "Storage Blob Data Reader"
]


def create_account(
    tx: Tx, *, subscription: str, resource_group: str, account: str, location: str
) -> str:
    """Create a storage account with two fresh keys and return its resource id."""
    arm_id = (
        f"/subscriptions/{subscription}/resourceGroups/{resource_group}"
        f"/providers/Microsoft.Storage/storageAccounts/{account}"
    )
    tx.put(
        ACCOUNTS,
        account.lower(),
        {
            "arm_id": arm_id,
            "keys": [{"name": f"key{n}", "value": _fresh_key()} for n in (1, 2)],
            "delegation_secret": _fresh_key(),
            "created_ms": tx.now_ms,
        },
    )
    tx.put(
        ARM_ACCOUNTS,
        arm_id.lower(),
        {"id": arm_id, "name": account, "location": location, "created_ms": tx.now_ms},
    )
    return arm_id


def _fresh_key() -> str:
    return base64.b64encode(secrets.token_bytes(64)).decode()


def create_container(tx: Tx, account: str, container: str) -> bool:
    """Create a container; False when it exists already."""
    key = content.container_key(account, container)
    if tx.get(CONTAINERS, key) is not None:
        return False
    tx.put(
        CONTAINERS,
        key,
        {"etag": content.fresh_etag(), "modified_ms": tx.now_ms, "metadata": {}, "lease": None},
    )
    return True


def grant_role(tx: Tx, account: str, principal_id: str, role: RoleName) -> None:
    """Give a principal a data role on the whole account."""
    key = f"{account.lower()}/{principal_id.lower()}"
    held = (tx.get(ROLES, key) or {"roles": []})["roles"]
    tx.put(ROLES, key, {"roles": sorted({*held, role})})


def revoke_roles(tx: Tx, account: str, principal_id: str) -> bool:
    """Take all data roles from a principal; False when it had none."""
    return tx.delete(ROLES, f"{account.lower()}/{principal_id.lower()}")


def make_sas(
    tx: Tx,
    account: str,
    container: str,
    *,
    permissions: str = "rcwdl",
    start_ms: int | None = None,
    expiry_ms: int | None = None,
) -> str:
    """Return a container SAS made with the account's first key.

    Without times it is valid from now for seven days of the lab's clock.
    """
    start = tx.now_ms if start_ms is None else start_ms
    expiry = start + 7 * 86_400_000 if expiry_ms is None else expiry_ms
    key = access.account_document(tx, account)["keys"][0]["value"]
    return tokens.make_service_sas(
        key, account, container, permissions=permissions, start_ms=start, expiry_ms=expiry
    )


def authorize_hsm_storage(
    tx: Tx,
    account: str,
    container: str,
    sas: str | None,
    principal_id: str | None,
    need: str,
) -> None:
    """Check that an HSM may use a container, by a token or by its own identity.

    Parameters:
        sas: the token from the request, or None when the HSM's identity is meant.
        principal_id: the object id of the HSM's identity, None when it has none.
        need: letters as in a SAS, such as `crdw` or `rl`.

    Raises:
        LabFault: with the storage service's status and code; 404 for a missing
            account or container, 403 for a right that is lacking.
    """
    access.account_document(tx, account)
    if sas is not None:
        granted = access.token_rights(tx, account, container, None, sas)
    elif principal_id is not None:
        granted = access.role_rights(tx, account, principal_id)
    else:
        raise LabFault(403, "AuthenticationFailed", "The HSM has neither a token nor an identity.")
    if tx.get(CONTAINERS, content.container_key(account, container)) is None:
        raise content.container_missing()
    missing = set(need) - granted
    if missing:
        raise access.permission_mismatch()


def write_blob(tx: Tx, account: str, container: str, name: str, data: bytes) -> None:
    """Write a whole block blob, replacing one of that name.

    Raises:
        LabFault: 404 ContainerNotFound; 409 when the old blob is immutable.
    """
    if tx.get(CONTAINERS, content.container_key(account, container)) is None:
        raise content.container_missing()
    key = content.blob_key(account, container, name)
    old = content.find_blob(tx, key)
    if old is not None:
        content.check_mutable(old, tx.now_ms)
    content.replace_block_blob(tx, key, old, data)


def read_blob(tx: Tx, account: str, container: str, name: str) -> bytes | None:
    """Return a blob's content, None when there is no such blob."""
    doc = content.find_blob(tx, content.blob_key(account, container, name))
    return None if doc is None else content.read_range(tx, doc, 0, doc["length"])


def list_blobs(tx: Tx, account: str, container: str, prefix: str) -> list[str]:
    """Return the names of the blobs that start with `prefix`, in order."""
    start = content.container_key(account, container) + "/"
    return [name for name, _ in content.iterate_blobs(tx, start, prefix)]
