"""Builds an estate: an active HSM with keys and roles, storage, SQL, and one backup.

It runs once per lab home, in the server's process, through the same functions as the
requests. A lab that was killed in the middle begins it anew; what is there is replaced.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from drengine.errors import InternalError
from drengine.lab import arm_resource as hsms
from drengine.lab import arm_scope, arm_subscription, custodians, entra
from drengine.lab.blob import domain as blob
from drengine.lab.home import LabHome
from drengine.lab.hsm import keystore, operations, roles, state
from drengine.lab.hsm.domain import new_domain, wrap_domain
from drengine.lab.sql import estate as sql_estate

if TYPE_CHECKING:
    from drengine.lab.home import LabIdentity
    from drengine.lab.spec import EstateSpec, KeySpec
    from drengine.lab.store import Tx
    from drengine.lab.world import Lab

CUSTODIAN_BITS: Final = 2048
KEY_SPACING_MS: Final = 60_000
"""Versions of a key were made a minute apart, the newest a minute before the estate."""
BACKUP_USER: Final = "7b127d3c-77bd-4e3e-bbe0-dbb8971fa7f8"


def register(lab: Lab, spec: EstateSpec) -> None:
    """Make subscription and operator known, so that somebody can sign in."""
    identity = LabHome(lab.home).identity()
    with lab.store.transaction() as tx:
        entra.register_app(
            tx,
            app_id=identity.client_id,
            object_id=identity.object_id,
            secret=identity.client_secret,
        )
        if tx.get(arm_subscription.META, arm_subscription.ESTATE) is None:
            _write_meta(tx, identity, spec)
        alone = (one.resource_group for one in spec.standalone if one.resource_group)
        arm_scope.add_groups(tx, (spec.resource_group, *alone), spec.location)


def _write_meta(tx: Tx, identity: LabIdentity, spec: EstateSpec) -> None:
    meta = {
        "subscription": identity.subscription,
        "resource_group": spec.resource_group,
        "location": spec.location,
        "source_hsm": spec.source_hsm,
        "required": spec.required,
        "custodians": spec.custodians,
        "built": False,
    }
    tx.put(arm_subscription.META, arm_subscription.ESTATE, meta)


def is_built(lab: Lab) -> bool:
    """Return whether the estate of this lab home is complete."""
    with lab.store.transaction() as tx:
        meta = tx.get(arm_subscription.META, arm_subscription.ESTATE)
    return bool(meta and meta["built"])


def build(lab: Lab, spec: EstateSpec) -> None:
    """Build the estate.

    Raises:
        InternalError: the estate's own backup did not succeed.
    """
    identity = LabHome(lab.home).identity()
    _make_rsa_keys(lab, spec)
    wrapping = [lab.keys.take(CUSTODIAN_BITS) for _ in range(spec.custodians)]
    certificates = custodians.write_custodians(LabHome(lab.home).custodians, wrapping)
    domain = new_domain()
    file = wrap_domain(domain, certificates, spec.required)
    domain_file(lab, spec).write_text(file)
    with lab.store.transaction() as tx:
        principal = _build_storage(tx, identity, spec)
        hsm = _build_hsm(tx, identity, spec)
        state.set_domain(tx, hsm, domain)
        state.store(tx, hsm)
        _build_keys(lab, tx, spec)
        _assign_roles(tx, identity, spec, principal)
    sql_estate.build(lab, spec)
    folder = _take_backup(lab, spec)
    with lab.store.transaction() as tx:
        meta = tx.get(arm_subscription.META, arm_subscription.ESTATE) or {}
        sas = blob.make_sas(tx, spec.storage_account, spec.container)
        meta |= {
            "built": True,
            "folder": folder,
            "sas": sas,
            "account": spec.storage_account,
            "container": spec.container,
            "identity": identity_id(identity.subscription, spec),
        }
        tx.put(arm_subscription.META, arm_subscription.ESTATE, meta)


def domain_file(lab: Lab, spec: EstateSpec) -> Any:
    """Return where the security-domain file of the estate lies."""
    return LabHome(lab.home).custodians / f"{spec.source_hsm}.security-domain.json"


def identity_id(subscription: str, spec: EstateSpec) -> str:
    """Return the resource id of the estate's user-assigned identity."""
    return (
        f"/subscriptions/{subscription}/resourceGroups/{spec.resource_group}"
        f"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{spec.identity}"
    )


def _make_rsa_keys(lab: Lab, spec: EstateSpec) -> None:
    """Make all RSA keys at once, on all threads of the pool."""
    needed: dict[int, int] = {}
    for key in spec.keys:
        if key.kty == "RSA-HSM":
            needed[key.size] = needed.get(key.size, 0) + key.versions
    if spec.distinct_materials:
        needed = {size: min(count, spec.distinct_materials) for size, count in needed.items()}
    sizes = [CUSTODIAN_BITS] * spec.custodians
    lab.keys.fill_all([*sizes, *(size for size, count in needed.items() for _ in range(count))])


def _build_storage(tx: Tx, identity: LabIdentity, spec: EstateSpec) -> str:
    blob.create_account(
        tx,
        subscription=identity.subscription,
        resource_group=spec.resource_group,
        account=spec.storage_account,
        location=spec.location,
    )
    blob.create_container(tx, spec.storage_account, spec.container)
    arm_id = identity_id(identity.subscription, spec)
    found = tx.get(arm_subscription.IDENTITY, arm_id.lower())
    principal = found["principalId"] if found else str(uuid.uuid4())
    document = {
        "id": arm_id,
        "name": spec.identity,
        "location": spec.location,
        "tenantId": identity.tenant,
        "principalId": principal,
        "clientId": str(uuid.uuid4()),
    }
    tx.put(arm_subscription.IDENTITY, arm_id.lower(), document)
    for who in (principal, identity.object_id):
        blob.grant_role(tx, spec.storage_account, who, "Storage Blob Data Contributor")
    return str(principal)


def _build_hsm(tx: Tx, identity: LabIdentity, spec: EstateSpec) -> dict[str, Any]:
    arm_id = hsms.resource_id(identity.subscription, spec.resource_group, spec.source_hsm)
    body = {
        "location": spec.location,
        "identity": {
            "type": "UserAssigned",
            "userAssignedIdentities": {identity_id(identity.subscription, spec): {}},
        },
        "properties": {
            "initialAdminObjectIds": [identity.object_id],
            "softDeleteRetentionInDays": 90,
            "enablePurgeProtection": spec.purge_protection,
        },
    }
    resource = hsms.wanted_resource(body, arm_id, identity.tenant)
    hsms.purge(tx, spec.source_hsm.lower())
    document = hsms.create(
        tx, resource, who=identity.object_id, reachable_ms=tx.now_ms, ready_ms=tx.now_ms
    )
    tx.put(hsms.HSM, arm_id.lower(), {**document, "state": "Succeeded"})
    hsm = tx.get(state.HSM, spec.source_hsm.lower()) or {}
    hsm["phase"] = state.ACTIVE
    hsm["pending"] = {"status": "Success", "status_details": "The resource is active."}
    return hsm


def _build_keys(lab: Lab, tx: Tx, spec: EstateSpec) -> None:
    used: dict[int, list[bytes]] = {}
    hsm = spec.source_hsm.lower()
    for key in spec.keys:
        versions = []
        for number in range(key.versions):
            made_ms = tx.now_ms - (key.versions - number) * KEY_SPACING_MS
            material = _material(lab, spec, key, used)
            versions.append(keystore.new_version(key.kty, material, made_ms))
        # not by add_version, which counts the keys that are there: 5,000 times is slow
        place = keystore.key_id(hsm, key.name)
        tx.put(keystore.KEY, place, {"name": key.name, "versions": versions})


def _material(lab: Lab, spec: EstateSpec, key: KeySpec, used: dict[int, list[bytes]]) -> bytes:
    """Return fresh material, or what was used before where the estate repeats it."""
    most = spec.distinct_materials
    if not most or key.kty != "RSA-HSM":
        return keystore.generate_material(lab, key.kty, key.size, key.crv)
    made = used.setdefault(key.size, [])
    if len(made) < most:
        made.append(keystore.generate_material(lab, key.kty, key.size, key.crv))
        return made[-1]
    made.append(made.pop(0))
    return made[-1]


def _assign_roles(tx: Tx, identity: LabIdentity, spec: EstateSpec, principal: str) -> None:
    hsm = spec.source_hsm.lower()
    extra = str(uuid.uuid5(uuid.UUID(identity.tenant), "second administrator"))
    wanted = [
        (identity.object_id, roles.CRYPTO_USER, "/keys"),
        (extra, roles.ADMINISTRATOR, "/"),
        (principal, BACKUP_USER, "/"),
    ]
    wanted += [
        (one, roles.SERVICE_ENCRYPTION_USER, "/keys")
        for one in sql_estate.principal_ids(identity.subscription, spec).values()
    ]
    for who, definition, scope in wanted:
        roles.assign(tx, hsm, principal_id=who, definition=definition, scope=scope, immediate=True)


def _take_backup(lab: Lab, spec: EstateSpec) -> str:
    """Take a full backup with the code that requests use, without waiting for its time."""
    uri = f"https://{spec.storage_account}.blob.core.windows.net/{spec.container}"
    with lab.store.transaction() as tx:
        hsm = tx.get(state.HSM, spec.source_hsm.lower()) or {}
        folder = operations.folder_name(spec.source_hsm, tx.now_ms)
        storage = operations.storage_of({"storageResourceUri": uri, "useManagedIdentity": True})
        job, payload = operations.begin(
            tx, lab.settings, hsm, "backup", verb="backup", storage=storage, folder=folder
        )
    operations.run(lab, payload)
    with lab.store.transaction() as tx:
        ended = tx.get(operations.JOB_DOC, f"{spec.source_hsm.lower()}/backup/{job['jobId']}")
    if ended is None or ended["status"] != "Succeeded":
        raise InternalError(f"building the estate: its backup ended as {ended}.")
    return folder
