"""A cloud in memory behind `azure.ports`, with a ledger of what really took effect.

Every changing call passes two points where the process may die (before the effect and
after it) and may lose its answer, its request, or show its effect late.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from drengine.actions.base import RUN_TAG
from drengine.actions.names import host_of
from drengine.errors import AzureError, NotAuthorized, UnknownOutcome
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
from sim.fate import CURRENT, Fate

SUFFIX = "managedhsm.azure.net"
EPOCH_MS = 1_795_000_000_000
CREATE_MS, UPLOAD_MS, BACKUP_MS, RESTORE_MS = 25_000, 20_000, 10_000, 15_000


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
    upload_seen_ms: int | None = None
    keys: list[Any] = field(default_factory=list)
    roles: list[RoleAssignment] = field(default_factory=list)
    restoring_until: int = 0
    restored: list[Any] | None = None
    restored_roles: list[RoleAssignment] | None = None


@dataclass
class Arrival:
    """A request on its way, and what the service answers."""

    due_ms: int
    name: str
    effect: Callable[[], Operation | None]
    answer: Operation | Exception | None = None


@dataclass
class SimCloud:
    """The cloud. `ledger` counts effects; tests judge by it, never by the journal."""

    fate: Fate
    now: Callable[[], int]
    principal: str
    source_keys: list[Any]
    source_roles: list[RoleAssignment]
    hsms_by_name: dict[str, SimHsm] = field(default_factory=dict)
    folders: dict[str, list[BlobItem]] = field(default_factory=dict)
    folder_seen_ms: dict[str, int] = field(default_factory=dict)
    jobs: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    ledger: list[str] = field(default_factory=list)
    before_send: Callable[[str], None] = lambda _: None
    in_flight: list[Arrival] = field(default_factory=list)
    alien: bool = False
    serial: int = 0
    new_key_at_each_read: bool = False

    def __post_init__(self) -> None:
        self.identity = None
        self.hsms = SimArm(self)
        self.sql = SimSql()
        self.storage = SimStorage(self)
        self.rows = None
        self.operations = SimOperations(self)

    def hsm(self, uri: str) -> SimData:
        return SimData(self, host_of(uri).partition(".")[0])

    async def change(self, name: str, effect: Callable[[], Operation | None]) -> Operation | None:
        """Perform one changing call under the seed's fate.

        A request that has left arrives, whatever becomes of its sender.
        """
        fate = self.fate
        fate.point(f"{name}:before")
        if fate.happens(fate.refuse):
            raise AzureError(f"{name}: 429", status=429, transient=True)
        self.before_send(name)
        if fate.happens(fate.lose_request):
            raise UnknownOutcome(f"{name}: the connection broke")
        arrival = Arrival(self.now() + fate.slow_ms, name, effect)
        self.in_flight.append(arrival)
        if fate.slow_ms:
            await asyncio.sleep(fate.slow_ms / 1000)
        self.arrive(arrival.due_ms)
        fate.point(f"{name}:after")
        if fate.happens(fate.lose_answer):
            raise UnknownOutcome(f"{name}: the answer was lost")
        if isinstance(arrival.answer, Exception):
            raise arrival.answer
        return arrival.answer

    def arrive(self, until_ms: int = 0) -> None:
        """Let every request take effect that has arrived by now."""
        now = max(self.now(), until_ms)
        arrived = [each for each in self.in_flight if each.due_ms <= now]
        self.in_flight = [each for each in self.in_flight if each.due_ms > now]
        for each in arrived:
            try:
                each.answer = each.effect()
                if each.name != "create":  # a PUT of what exists changes nothing: told apart there
                    self.ledger.append(each.name)
            except AzureError as refusal:
                each.answer = refusal

    def read(self, name: str) -> None:
        self.fate.point(f"{name}:read")
        self.arrive()

    def visible_from(self) -> int:
        return self.now() + self.fate.late_ms

    def next_id(self) -> str:
        self.serial += 1
        return f"{self.serial:032x}"


class SimArm:
    def __init__(self, cloud: SimCloud) -> None:
        self._cloud = cloud

    def _resource(self, name: str) -> HsmResource | None:
        cloud, hsm = self._cloud, self._cloud.hsms_by_name.get(name.lower())
        now = cloud.now()
        if hsm is None or now < hsm.visible_ms:
            return None
        CURRENT.get().saw_alien = cloud.alien
        ready = now >= hsm.ready_ms
        active = hsm.active_ms is not None and now >= hsm.active_ms
        return HsmResource(
            id=f"/subscriptions/s/{name}",
            name=name,
            resource_group=hsm.new.resource_group,
            location=hsm.new.location,
            uri=f"https://{name}.{SUFFIX}/",
            provisioning_state="Succeeded" if ready else "Provisioning",
            status_message="",
            activation_status="Active" if active else ("NotActivated" if ready else "Unknown"),
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
        self._cloud.read("hsm.get")
        return self._resource(name)

    async def find(self, name: str) -> HsmResource | None:
        self._cloud.read("hsm.find")
        return self._resource(name)

    async def find_deleted(self, name: str) -> None:
        del name

    async def has_group(self, resource_group: str) -> bool:
        self._cloud.read("hsm.has_group")
        return bool(resource_group)

    async def check_name(self, name: str) -> NameCheck:
        self._cloud.read("hsm.check_name")
        taken = self._resource(name) is not None
        return NameCheck(not taken, "AlreadyExists" if taken else "")

    async def create_hsm(self, new: NewHsm) -> Operation:
        cloud = self._cloud

        def effect() -> Operation:
            now = cloud.now()
            job = cloud.next_id()
            if new.name.lower() in cloud.hsms_by_name:
                cloud.ledger.append("create of what exists")
            else:
                cloud.ledger.append("create")
                cloud.hsms_by_name[new.name.lower()] = SimHsm(
                    new, now + CREATE_MS, cloud.visible_from(), exchange=x5t_of(job)
                )
            cloud.jobs[job] = (now + CREATE_MS, "arm", "")
            return Operation(OperationKind.ARM, f"https://arm/{job}", job)

        return await cloud.change("create", effect)

    async def start_update(self, resource_group: str, name: str, patch: dict) -> Operation:
        del resource_group, patch
        cloud = self._cloud

        def effect() -> Operation:
            job = cloud.next_id()
            cloud.jobs[job] = (cloud.now() + 1000, "arm", "")
            return Operation(OperationKind.ARM, f"https://arm/{job}", job, name)

        return await cloud.change("update", effect)

    async def start_delete(self, resource_group: str, name: str) -> Operation:
        del resource_group
        cloud = self._cloud

        def effect() -> Operation:
            job = cloud.next_id()
            cloud.hsms_by_name.pop(name.lower(), None)
            cloud.jobs[job] = (cloud.now() + 60_000, "arm", "")
            return Operation(OperationKind.ARM, f"https://arm/{job}", job)

        return await cloud.change("delete", effect)


class SimSql:
    """No instance uses the HSM."""

    async def instances(self) -> list[Any]:
        return []


class SimData:
    def __init__(self, cloud: SimCloud, name: str) -> None:
        self._cloud = cloud
        self._name = name

    @property
    def _hsm(self) -> SimHsm:
        return self._cloud.hsms_by_name[self._name.lower()]

    def _settle(self) -> SimHsm:
        hsm, now = self._hsm, self._cloud.now()
        if hsm.restored is not None and now >= hsm.restoring_until:
            hsm.keys, hsm.roles = hsm.restored, hsm.restored_roles or []
            hsm.restored = None
        if now < hsm.restoring_until:
            raise AzureError("the HSM is restoring", status=503, transient=True)
        return hsm

    async def transfer_key(self) -> TransferKey:
        self._cloud.read("transfer_key")
        if self._cloud.new_key_at_each_read:
            self._hsm.exchange = x5t_of(self._cloud.next_id())
        return TransferKey(b"certificate", self._hsm.exchange)

    async def start_upload(self, blob: bytes) -> Operation:
        cloud, hsm = self._cloud, self._hsm
        exchange = json.loads(blob)["WrappedKey"]["x5t_256"]

        def effect() -> Operation:
            if exchange != hsm.exchange or hsm.active_ms is not None:
                raise AzureError("the blob is for another key, or the HSM is active", status=409)
            hsm.active_ms = cloud.now() + UPLOAD_MS
            hsm.upload_seen_ms = cloud.visible_from()
            hsm.roles = [
                RoleAssignment(f"admin-{p}", "/", "a290e904-7015-4bba-90c8-60543313cdb4", p)
                for p in hsm.new.admins
            ]
            url = f"https://{self._name}.{SUFFIX}/"
            return Operation(OperationKind.SD_UPLOAD, url, resource=url)

        return await cloud.change("upload", effect)

    async def upload_status(self) -> OperationStatus | None:
        self._cloud.read("upload_status")
        hsm, now = self._hsm, self._cloud.now()
        if hsm.active_ms is None or now < (hsm.upload_seen_ms or 0):
            return None
        done = now >= hsm.active_ms
        return OperationStatus(OperationState.SUCCEEDED if done else OperationState.RUNNING)

    async def start_backup(self, target: Any) -> Operation:
        del target
        cloud = self._cloud

        def effect() -> Operation:
            job, now = cloud.next_id(), cloud.now()
            stamp = _stamp(now)
            folder = f"mhsm-{self._name}-{stamp}"
            cloud.folders[folder] = [BlobItem(f"{folder}/blob", 100, "e")]
            cloud.folder_seen_ms[folder] = cloud.visible_from()
            cloud.jobs[job] = (now + BACKUP_MS, "backup", f"https://c/{folder}")
            return Operation(OperationKind.HSM_JOB, f"https://hsm/{job}", job)

        return await cloud.change("backup", effect)

    async def start_restore_check(self, target: Any, folder: str) -> Operation:
        del target, folder
        cloud = self._cloud

        def effect() -> Operation:
            job = cloud.next_id()
            cloud.jobs[job] = (cloud.now() + 5_000, "check", "")
            return Operation(OperationKind.HSM_JOB, f"https://hsm/{job}", job)

        return await cloud.change("check", effect)

    async def start_restore(self, target: Any, folder: str) -> Operation:
        del target, folder
        cloud, hsm = self._cloud, self._hsm

        def effect() -> Operation:
            job, now = cloud.next_id(), cloud.now()
            if now < hsm.restoring_until:
                raise AzureError("another restore is running", status=409)
            hsm.restoring_until = now + RESTORE_MS
            hsm.restored = [
                replace(key, kid=key.kid.replace("source", self._name)) for key in cloud.source_keys
            ]
            hsm.restored_roles = list(cloud.source_roles)
            cloud.jobs[job] = (now + RESTORE_MS, "restore", "")
            return Operation(OperationKind.HSM_JOB, f"https://hsm/{job}", job)

        return await cloud.change("restore", effect)

    def _authorise(self, hsm: SimHsm) -> None:
        readers = [r for r in hsm.roles if r.scope == "/keys"]
        if not any(r.principal == self._cloud.principal for r in readers):
            raise NotAuthorized("may not read keys", status=403)

    async def key_names(self) -> list[str]:
        self._cloud.read("key_names")
        hsm = self._settle()
        self._authorise(hsm)
        return sorted({key.name for key in hsm.keys})

    async def keys(self) -> list[Any]:
        self._cloud.read("keys")
        hsm = self._settle()
        self._authorise(hsm)
        return list(hsm.keys)

    async def role_assignments(self) -> list[RoleAssignment]:
        self._cloud.read("roles")
        return list(self._settle().roles)

    async def put_role_assignment(self, assignment: RoleAssignment) -> None:
        hsm = self._settle()

        def effect() -> None:
            if assignment not in hsm.roles:
                hsm.roles.append(assignment)

        await self._cloud.change("role", effect)

    async def unwrap(self, kid: str, algorithm: str, value: bytes) -> bytes:
        del kid, algorithm
        return value


class SimStorage:
    def __init__(self, cloud: SimCloud) -> None:
        self._cloud = cloud

    async def list_blobs(self, target: Any, prefix: str) -> list[BlobItem]:
        del target
        self._cloud.read("list_blobs")
        return [
            b
            for f, blobs in sorted(self._seen().items())
            for b in blobs
            if b.name.startswith(prefix)
        ]

    async def list_folders(self, target: Any, prefix: str) -> list[str]:
        del target
        self._cloud.read("list_folders")
        return sorted(f for f in self._seen() if f.startswith(prefix))

    def _seen(self) -> dict[str, list[BlobItem]]:
        now = self._cloud.now()
        seen_ms = self._cloud.folder_seen_ms
        return {f: b for f, b in self._cloud.folders.items() if now >= seen_ms.get(f, 0)}


class SimOperations:
    def __init__(self, cloud: SimCloud) -> None:
        self._cloud = cloud

    async def poll(self, operation: Operation) -> OperationStatus:
        self._cloud.read("poll")
        done_ms, _, result = self._cloud.jobs[operation.job]
        if self._cloud.now() < done_ms:
            return OperationStatus(OperationState.RUNNING)
        return OperationStatus(OperationState.SUCCEEDED, result=result)


def _stamp(now_ms: int) -> str:
    moment = datetime.fromtimestamp(now_ms / 1000, UTC)
    return moment.strftime("%Y%m%d%H%M%S") + f"{now_ms % 1000 // 10:02d}"
