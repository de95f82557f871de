"""Managed HSMs in memory: the resource manager's side and the data plane."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from drengine.actions.base import RUN_TAG
from drengine.errors import AzureError, NotAuthorized
from drengine.model.cloud import (
    BlobItem,
    HsmResource,
    NameCheck,
    NewHsm,
    Operation,
    OperationKind,
    OperationState,
    OperationStatus,
    RoleAssignment,
    TransferKey,
)
from sim.fate import CURRENT
from sim.trace import Request

if TYPE_CHECKING:
    from sim.cloud import SimCloud

SUFFIX = "managedhsm.azure.net"
CREATE_MS, BACKUP_MS, CHECK_MS = 25_000, 10_000, 5_000


def x5t_of(text: str) -> str:
    """Return something shaped like an x5t#S256."""
    raw = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass
class SimHsm:
    """One HSM: when it is ready, which domain it has, which keys it holds."""

    new: NewHsm
    ready_ms: int
    visible_ms: int
    exchange: str = ""
    active_ms: int | None = None
    upload_seen_ms: int = 0
    keys: list[Any] = field(default_factory=list)
    roles: list[RoleAssignment] = field(default_factory=list)
    restoring_until: int = 0
    restored: list[Any] | None = None
    restored_roles: list[RoleAssignment] | None = None

    def is_active(self, now_ms: int) -> bool:
        """Whether the upload is over and can be seen to be."""
        return self.active_ms is not None and now_ms >= max(self.active_ms, self.upload_seen_ms)

    def settle(self, now_ms: int) -> None:
        """Let a restore that has ended put its keys and roles in place."""
        if self.restored is not None and now_ms >= self.restoring_until:
            self.keys, self.roles = self.restored, self.restored_roles or []
            self.restored = None

    def patch(self, patch: dict[str, Any]) -> None:
        """Take tags or network rules over."""
        if "tags" in patch:
            self.new = replace(self.new, tags=dict(patch["tags"]))
        if rules := patch.get("properties", {}).get("networkAcls"):
            self.new = replace(self.new, network=dict(rules))


class SimArm:
    """What the resource manager says and does."""

    def __init__(self, cloud: SimCloud) -> None:
        self._cloud = cloud

    def _resource(self, name: str) -> HsmResource | None:
        cloud, hsm = self._cloud, self._cloud.hsms_by_name.get(name.lower())
        now = cloud.now()
        if hsm is None or now < hsm.visible_ms:
            return None
        CURRENT.get().saw_alien = cloud.alien
        ready = now >= hsm.ready_ms
        return HsmResource(
            id=f"/subscriptions/s/{name}",
            name=name,
            resource_group=hsm.new.resource_group,
            location=hsm.new.location,
            uri=f"https://{name}.{SUFFIX}/",
            provisioning_state="Succeeded" if ready else "Provisioning",
            status_message="",
            activation_status=_activation(hsm, now),
            purge_protection=hsm.new.purge_protection,
            soft_delete_days=hsm.new.soft_delete_days,
            tenant=hsm.new.tenant,
            admins=hsm.new.admins,
            identities=hsm.new.identities,
            tags={**hsm.new.tags, RUN_TAG: "r-000000000000"} if cloud.alien else hsm.new.tags,
            network=hsm.new.network,
        )

    async def get(self, resource_group: str, name: str) -> HsmResource | None:
        del resource_group
        await self._cloud.read("hsm.get")
        return self._resource(name)

    async def find(self, name: str) -> HsmResource | None:
        await self._cloud.read("hsm.find")
        return self._resource(name)

    async def find_deleted(self, name: str) -> None:
        del name

    async def has_group(self, resource_group: str) -> bool:
        await self._cloud.read("hsm.has_group")
        return bool(resource_group)

    async def check_name(self, name: str) -> NameCheck:
        await self._cloud.read("hsm.check_name")
        taken = self._resource(name) is not None
        return NameCheck(not taken, "AlreadyExists" if taken else "")

    async def create_hsm(self, new: NewHsm) -> Operation:
        cloud = self._cloud

        def effect(request: Request) -> Operation:
            now, name = cloud.now(), new.name.lower()
            if (there := cloud.hsms_by_name.get(name)) is not None:
                cloud.ledger.append("create of what exists")
                there.patch({"tags": new.tags})  # a PUT of what exists is an update
                # Who created it first may not be able to see it yet.
                request.seen_ms = max(now, there.visible_ms)
                return cloud.job(request, CREATE_MS, OperationKind.ARM)
            cloud.ledger.append("create")
            seen = cloud.seen_from(request)
            operation = cloud.job(request, CREATE_MS, OperationKind.ARM)
            made = SimHsm(new, now + CREATE_MS, seen, exchange=x5t_of(operation.job))
            cloud.hsms_by_name[name] = made
            return operation

        return await cloud.change("create", effect)

    async def start_update(self, resource_group: str, name: str, patch: dict) -> Operation:
        del resource_group
        cloud = self._cloud

        def effect(request: Request) -> Operation:
            hsm = cloud.present(name)
            hsm.patch(patch)
            cloud.note_network(hsm)
            return cloud.job(request, 1_000, OperationKind.ARM, resource=name)

        return await cloud.change("mark" if "tags" in patch else "update", effect)

    async def start_delete(self, resource_group: str, name: str) -> Operation:
        del resource_group
        cloud = self._cloud

        def effect(request: Request) -> Operation:
            cloud.hsms_by_name.pop(name.lower(), None)
            return cloud.job(request, 60_000, OperationKind.ARM)

        return await cloud.change("delete", effect)


def _activation(hsm: SimHsm, now_ms: int) -> str:
    if hsm.is_active(now_ms):
        return "Active"
    return "NotActivated" if now_ms >= hsm.ready_ms else "Unknown"


class SimData:
    """The data plane of one HSM."""

    def __init__(self, cloud: SimCloud, name: str) -> None:
        self._cloud = cloud
        self._name = name

    @property
    def _hsm(self) -> SimHsm:
        return self._cloud.present(self._name)

    def _settle(self) -> SimHsm:
        hsm, now = self._hsm, self._cloud.now()
        hsm.settle(now)
        if now < hsm.restoring_until and not self._cloud.fate.lists_meanwhile:
            raise AzureError("the HSM is restoring", status=503, transient=True)
        return hsm

    async def transfer_key(self) -> TransferKey:
        await self._cloud.read("transfer_key")
        if self._cloud.new_key_at_each_read:
            self._hsm.exchange = x5t_of(self._cloud.next_id())
        return TransferKey(b"certificate", self._hsm.exchange)

    async def start_upload(self, blob: bytes) -> Operation:
        cloud = self._cloud
        exchange = json.loads(blob)["WrappedKey"]["x5t_256"]

        def effect(request: Request) -> Operation:
            hsm, now = self._hsm, cloud.now()
            if exchange != hsm.exchange or hsm.active_ms is not None:
                raise AzureError("the blob is for another key, or the HSM is active", status=409)
            hsm.active_ms = request.done_ms = now + cloud.fate.upload_ms
            hsm.upload_seen_ms = cloud.seen_from(request)
            hsm.roles = [
                RoleAssignment(f"admin-{p}", "/", "a290e904-7015-4bba-90c8-60543313cdb4", p)
                for p in hsm.new.admins
            ]
            url = f"https://{self._name}.{SUFFIX}/"
            return Operation(OperationKind.SD_UPLOAD, url, resource=url)

        return await cloud.change("upload", effect)

    async def upload_status(self) -> OperationStatus | None:
        await self._cloud.read("upload_status")
        hsm, now = self._hsm, self._cloud.now()
        if hsm.active_ms is None or now < hsm.upload_seen_ms:
            return None
        done = now >= hsm.active_ms
        return OperationStatus(OperationState.SUCCEEDED if done else OperationState.RUNNING)

    async def start_backup(self, target: Any) -> Operation:
        del target
        cloud = self._cloud

        def effect(request: Request) -> Operation:
            folder = f"mhsm-{self._name}-{_stamp(cloud.now())}"
            cloud.folders[folder] = [BlobItem(f"{folder}/blob", 100, "e")]
            cloud.folder_seen_ms[folder] = cloud.seen_from(request)
            return cloud.job(request, BACKUP_MS, OperationKind.HSM_JOB, f"https://c/{folder}")

        return await cloud.change("backup", effect)

    async def start_restore_check(self, target: Any, folder: str) -> Operation:
        del target, folder
        cloud = self._cloud

        def effect(request: Request) -> Operation:
            return cloud.job(request, CHECK_MS, OperationKind.HSM_JOB)

        return await cloud.change("check", effect)

    async def start_restore(self, target: Any, folder: str) -> Operation:
        del target, folder
        cloud = self._cloud

        def effect(request: Request) -> Operation:
            hsm, now, takes = self._hsm, cloud.now(), cloud.fate.restore_ms
            hsm.settle(now)
            if now < hsm.restoring_until:
                raise AzureError("another restore is running", status=409)
            hsm.restoring_until = now + takes
            hsm.restored = [
                replace(key, kid=key.kid.replace("source", self._name)) for key in cloud.source_keys
            ]
            hsm.restored_roles = list(cloud.source_roles)
            request.seen_ms = now + (takes if cloud.fate.lists_meanwhile else 0)
            return cloud.job(request, takes, OperationKind.HSM_JOB)

        return await cloud.change("restore", effect)

    def _authorise(self, hsm: SimHsm) -> None:
        readers = [r for r in hsm.roles if r.scope == "/keys"]
        if not any(r.principal == self._cloud.principal for r in readers):
            raise NotAuthorized("may not read keys", status=403)

    async def key_names(self) -> list[str]:
        await self._cloud.read("key_names")
        hsm = self._settle()
        self._authorise(hsm)
        return sorted({key.name for key in hsm.keys})

    async def keys(self) -> list[Any]:
        await self._cloud.read("keys")
        hsm = self._settle()
        self._authorise(hsm)
        return list(hsm.keys)

    async def role_assignments(self) -> list[RoleAssignment]:
        await self._cloud.read("roles")
        return list(self._settle().roles)

    async def put_role_assignment(self, assignment: RoleAssignment) -> None:
        cloud = self._cloud
        self._settle()

        def effect(request: Request) -> None:
            del request
            roles = self._hsm.roles
            if assignment not in roles:
                roles.append(assignment)

        if assignment.principal == cloud.principal:
            await cloud.change("role", effect)
        else:
            await cloud.change("grant", effect, cloud.sql.granting(assignment.principal))

    async def unwrap(self, kid: str, algorithm: str, value: bytes) -> bytes:
        del kid, algorithm
        return value


def _stamp(now_ms: int) -> str:
    moment = datetime.fromtimestamp(now_ms / 1000, UTC)
    return moment.strftime("%Y%m%d%H%M%S") + f"{now_ms % 1000 // 10:02d}"
