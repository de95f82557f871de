"""The inventory: what the HSM and its consumers hold while they are alive.

Taken before a disaster (best after every backup), it is what recovery is proved
against. It holds public parts and canaries, never a secret: a canary is 32 random
bytes wrapped by a key, with the SHA-256 of the bytes; or the note that a signature
can be checked with the recorded public key.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from drengine.actions.documents import INVENTORY_SCHEMA
from drengine.actions.instances import keys_if_there
from drengine.actions.names import host_of, is_host_of_hsm
from drengine.actions.observe import contents_digest, listing_facts
from drengine.azure.ports import Cloud, HsmData
from drengine.errors import AzureError, InputError
from drengine.model.cloud import Instance, KeyVersion, StorageTarget
from drengine.model.folders import folder_prefix, is_folder_of
from drengine.model.plan import CloudIdentity
from drengine.model.together import together

_AT_ONCE: Final = 16
_CANARY_BYTES: Final = 32
_BACKUPS_LISTED: Final = 50
_SIGNS: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}


async def take_inventory(
    cloud: Cloud,
    where: CloudIdentity,
    *,
    hsm_name: str,
    security_domain: Mapping[str, Any] | None,
    taken_at: str,
    entropy: Callable[[int], bytes],
    container_url: str = "",
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Read everything that a recovery must bring back.

    Parameters:
        security_domain: what the security-domain file says of itself
            (`sha256`, `required`, `custodians`), None where the file is not at hand.
        taken_at: UTC text.
        container_url: where the HSM's backups lie; they are listed so that a changed or
            incomplete one is recognised later.
        entropy: gives so many random bytes, for canaries.
        report: called with one line for each thing that could not be read.

    Raises:
        InputError: the HSM does not exist or is not active.
        AzureError: a right is missing.
    """
    hsm = await cloud.hsms.find(hsm_name)
    if hsm is None or hsm.activation_status != "Active":
        state = "does not exist in this subscription"
        state = state if hsm is None else f"is {hsm.activation_status}, expected Active"
        raise InputError(
            f"taking the inventory of {hsm_name}: it {state}",
            hint="An inventory is taken of a living HSM. Check the name and the subscription.",
        )
    data = cloud.hsm(hsm.uri)
    keys, roles, sql, backups = await asyncio.gather(
        data.keys(),
        data.role_assignments(),
        _consumers(cloud, where, hsm_name, report),
        _backups(cloud, hsm_name, container_url),
    )
    return {
        "schema": INVENTORY_SCHEMA,
        "taken_at": taken_at,
        "hsm": hsm.to_json(),
        "security_domain": dict(security_domain) if security_domain else None,
        "keys": [key.to_json() for key in sorted(keys, key=lambda k: (k.name, k.version))],
        "roles": sorted((role.to_json() for role in roles), key=lambda r: str(r["name"])),
        "canaries": await _canaries(data, keys, entropy, report),
        "backups": backups,
        **sql,
    }


async def _backups(cloud: Cloud, hsm_name: str, container_url: str) -> list[dict[str, Any]]:
    if not container_url:
        return []
    target = StorageTarget(container_url.rstrip("/"))
    listed = await cloud.storage.list_folders(target, folder_prefix(hsm_name))
    newest = sorted(f for f in listed if is_folder_of(hsm_name, f))[-_BACKUPS_LISTED:]
    listings = await asyncio.gather(
        *(cloud.storage.list_blobs(target, f"{folder}/") for folder in newest)
    )
    place = {"container": target.container_url}
    return [
        {"folder": folder, **place, "contents": contents_digest(blobs), **listing_facts(blobs)}
        for folder, blobs in zip(newest, listings, strict=True)
    ]


async def _canaries(
    data: HsmData,
    keys: Any,
    entropy: Callable[[int], bytes],
    report: Callable[[str], None],
) -> list[dict[str, Any]]:
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(key: KeyVersion) -> dict[str, Any] | None:
        async with limit:
            try:
                return await _canary(data, key, entropy(_CANARY_BYTES))
            except AzureError as error:
                report(f"no canary for {key.name}/{key.version}: {error.message}")
                return None

    made = await asyncio.gather(*(one(key) for key in keys))
    found = [canary for canary in made if canary is not None]
    return sorted(found, key=lambda c: (str(c["name"]), str(c["version"])))


async def _canary(data: HsmData, key: KeyVersion, secret: bytes) -> dict[str, Any] | None:
    """Make a canary by kind and allowed operations; None where no use would prove anything."""
    base: dict[str, Any] = {"name": key.name, "version": key.version}
    if not key.enabled:
        return None
    if {"wrapKey", "unwrapKey"} <= set(key.key_ops):
        algorithm = "RSA-OAEP-256" if key.kty.startswith("RSA") else "A256KW"
        wrapped = await data.wrap(key.kid, algorithm, secret)
        return {
            **base,
            "kind": "unwrap",
            "algorithm": algorithm,
            "ciphertext": base64.urlsafe_b64encode(wrapped).rstrip(b"=").decode(),
            "plaintext_sha256": hashlib.sha256(secret).hexdigest(),
        }
    if "sign" in key.key_ops and key.kty.startswith("RSA"):
        return {**base, "kind": "sign", "algorithm": "RS256"}
    if "sign" in key.key_ops and key.crv in _SIGNS:
        return {**base, "kind": "sign", "algorithm": _SIGNS[key.crv]}
    return None


async def _consumers(
    cloud: Cloud, where: CloudIdentity, hsm_name: str, report: Callable[[str], None]
) -> dict[str, Any]:
    def is_ours(uri: str) -> bool:
        return is_host_of_hsm(host_of(uri), hsm_name, where.hsm_suffix)

    instances = await cloud.sql.instances()
    read = await together(*(_instance(cloud, i, is_ours, report) for i in instances))
    using = [doc for doc in read if doc is not None]
    ids = {doc["id"] for doc in using}
    groups = await cloud.sql.failover_groups([i for i in instances if i.id in ids])
    return {
        "instances": sorted(using, key=lambda doc: str(doc["id"])),
        "failover_groups": sorted((g.to_json() for g in groups), key=lambda g: str(g["id"])),
    }


async def _instance(
    cloud: Cloud,
    instance: Instance,
    is_ours: Callable[[str], bool],
    report: Callable[[str], None],
) -> dict[str, Any] | None:
    keys = await keys_if_there(cloud, instance.id) or ()
    if not any(is_ours(key.uri) for key in keys):
        return None
    protector, databases = await asyncio.gather(
        cloud.sql.protector(instance.id), cloud.sql.databases(instance.id)
    )
    rows = []
    for database in databases:
        canary = None
        try:
            canary = await cloud.rows.canary(instance.fqdn, database.name)
        except AzureError as error:
            report(f"no canary row of {instance.name}/{database.name}: {error.message}")
        rows.append({**database.to_json(), "canary": canary})
    return {
        **instance.to_json(),
        "keys": [key.to_json() for key in keys],
        "protector": protector.to_json(),
        "databases": rows,
    }
