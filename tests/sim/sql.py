"""SQL Managed Instances in memory: two in a failover group and one alone, all on the lost HSM's key.

What must never be done to an instance is noted in `wrongs` when it arrives, whatever the
service would have answered: a protector whose key is not linked there or not on the target,
a primary before its secondary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from drengine.actions.names import host_of, instance_key_name, kid_on
from drengine.errors import AzureError
from drengine.model.cloud import (
    Database,
    FailoverGroup,
    Instance,
    InstanceKey,
    Operation,
    OperationKind,
    Protector,
)
from drengine.model.ids import RunId, child_id
from sim.hsms import SUFFIX
from sim.trace import Request

if TYPE_CHECKING:
    from sim.cloud import SimCloud

LINK_MS, ASK_MS, SWITCH_MS, REEVALUATE_MS = 1_000, 3_000, 40_000, 10_000
TARGET_HOST = f"target.{SUFFIX}"
GROUPS = {"fog": ("mi-one", "mi-two"), "mi-alone": ("mi-alone",)}
"""Name of each group -> its instances, the primary first."""


def _id(name: str) -> str:
    return f"/subscriptions/s/instances/{name}"


@dataclass
class SimInstance:
    """One instance: its key rows, its protector, and until when it is busy."""

    name: str
    rows: dict[str, InstanceKey]
    seen_ms: dict[str, int]
    protector: str
    becomes: str = ""
    busy_until: int = 0
    sick: bool = True

    @property
    def is_on_target(self) -> bool:
        return host_of(self.rows[self.protector].uri) == TARGET_HOST

    def settle(self, now_ms: int) -> None:
        """Let a change of the protector that has ended take effect."""
        if self.becomes and now_ms >= self.busy_until:
            self.protector, self.becomes = self.becomes, ""


def _row(kid: str) -> InstanceKey:
    return InstanceKey(instance_key_name(kid), "AzureKeyVault", kid, f"T-{kid.split('/')[4]}")


def _new(name: str) -> SimInstance:
    row = _row(f"https://source.{SUFFIX}/keys/alpha/{0:032x}")
    return SimInstance(name, {row.name: row}, {}, row.name)


def group_of(instance: str) -> str:
    """Return the group of an instance's id."""
    return next(group for group, names in GROUPS.items() if instance.rsplit("/", 1)[-1] in names)


def planned_groups() -> list[dict[str, Any]]:
    """Return what the discovery of the plan would find."""
    return [
        {
            "name": group,
            "id": f"fog:{group}" if len(names) > 1 else _id(names[0]),
            "failover_group": {"name": group, "resource_group": "rg"} if len(names) > 1 else None,
            "members": [_member(name, i, len(names)) for i, name in enumerate(names)],
        }
        for group, names in GROUPS.items()
    ]


def _member(name: str, place: int, among: int) -> dict[str, Any]:
    return {
        "id": _id(name),
        "name": name,
        "resource_group": "rg",
        "location": f"region-{place}",
        "tier": "GeneralPurpose",
        "fqdn": "",
        "principals": [f"p-{name}"],
        "role": ("Primary", "Secondary")[place] if among > 1 else "Standalone",
        "databases": [{"name": "db", "status": "Online"}],
        "keys": ["source_alpha"],
    }


@dataclass
class SimSql:
    """The SQL resource provider."""

    cloud: SimCloud
    wrongs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = [name for group in GROUPS.values() for name in group]
        self._by_id = {_id(name): _new(name) for name in names} if self.cloud.fate.sql else {}

    def linked(self) -> tuple[str, ...]:
        """Return what has a key of the target linked, or is about to."""
        return tuple(
            f"{each.name} linked"
            for each in self._by_id.values()
            if any(host_of(row.uri) == TARGET_HOST for row in each.rows.values())
        )

    def link_by_hand(self) -> None:
        """Link on each instance what is on the target, as a person does with az."""
        for each in self._by_id.values():
            for kid in [kid_on(row.uri, TARGET_HOST) for row in each.rows.values()]:
                each.rows.setdefault(instance_key_name(kid), _row(kid))

    def left_behind(self) -> list[str]:
        """Return the instances whose protector is not on the target."""
        for each in self._by_id.values():
            each.settle(self.cloud.now())
        return [each.name for each in self._by_id.values() if not each.is_on_target]

    def granting(self, principal: str) -> tuple[RunId, str]:
        """Return who sends a role assignment for an instance's identity."""
        return self._child(principal.removeprefix("p-")), "grant"

    def _child(self, instance: str) -> RunId:
        run = child_id(self.cloud.root, "repoint")
        return child_id(child_id(run, "groups"), group_of(instance))

    def _place(self, instance: str, verb: str) -> tuple[RunId, str]:
        names = GROUPS[group_of(instance)]
        role = "secondary" if instance.rsplit("/", 1)[-1] in names[1:] else "primary"
        return self._child(instance), f"{verb}-{role}"

    async def _read(self, instance: str, what: str) -> SimInstance:
        await self.cloud.read(f"sql.{what}")
        found = self._by_id[instance]
        found.settle(self.cloud.now())
        return found

    async def instances(self) -> list[Instance]:
        await self.cloud.read("sql.instances")
        return [_instance(each) for each in self._by_id.values()]

    async def get(self, instance: str) -> Instance:
        return _instance(await self._read(instance, "get"))

    async def failover_groups(self, instances: Sequence[Instance]) -> list[FailoverGroup]:
        await self.cloud.read("sql.groups")
        primary, secondary = (_id(name) for name in GROUPS["fog"])
        role = "Primary" if instances[0].id == primary else "Secondary"
        return [FailoverGroup("fog", "fog", "rg", "region", role, "", primary, secondary)]

    async def keys(self, instance: str) -> list[InstanceKey]:
        found, now = await self._read(instance, "keys"), self.cloud.now()
        return [row for name, row in found.rows.items() if now >= found.seen_ms.get(name, 0)]

    async def protector(self, instance: str) -> Protector:
        found = await self._read(instance, "protector")
        row = found.rows[found.protector]
        return Protector(row.name, row.type, row.uri, row.thumbprint, auto_rotation=False)

    async def databases(self, instance: str) -> list[Database]:
        found = await self._read(instance, "databases")
        sick = found.sick and not found.is_on_target
        return [Database("db", "Inaccessible" if sick else "Online")]

    async def busy(self, instance: str) -> list[str]:
        found = await self._read(instance, "busy")
        return ["UpdateProtector"] if self.cloud.now() < found.busy_until else []

    async def start_validate(self, instance: str, kid: str) -> Operation:
        del kid

        def effect(request: Request) -> Operation:
            return self.cloud.job(request, ASK_MS, OperationKind.ARM)

        place = self._place(instance, "ask")
        return await self.cloud.change("ask", effect, place)  # type: ignore[return-value]

    async def put_key(self, instance: str, key_name: str, kid: str) -> Operation:
        found = self._by_id[instance]

        def effect(request: Request) -> Operation:
            if not any(key.name == kid.split("/")[4] for key in self._target_keys()):
                self.wrongs.append(f"{found.name}: a key was linked that is not on the target")
            if key_name not in found.rows:
                found.rows[key_name] = _row(kid)
                found.seen_ms[key_name] = self.cloud.seen_from(request)
            return self.cloud.job(request, LINK_MS, OperationKind.ARM)

        place = self._place(instance, "link")
        return await self.cloud.change("link", effect, place)  # type: ignore[return-value]

    def _target_keys(self) -> list[Any]:
        hsm = self.cloud.hsms_by_name.get("target")
        if hsm is None:
            return []
        hsm.settle(self.cloud.now())
        return hsm.keys

    async def put_protector(self, instance: str, key_name: str) -> Operation:
        found = self._by_id[instance]

        def effect(request: Request) -> Operation:
            now = self.cloud.now()
            found.settle(now)
            if now < found.busy_until:
                raise AzureError(f"{found.name} is busy", status=409, transient=True)
            self._judge(found, key_name)
            if key_name not in found.rows:
                raise AzureError(f"{found.name} has no key {key_name}", status=400)
            found.becomes, found.busy_until = key_name, now + SWITCH_MS
            request.seen_ms = found.busy_until
            return self.cloud.job(request, SWITCH_MS, OperationKind.ARM)

        place = self._place(instance, "switch")
        return await self.cloud.change("switch", effect, place)  # type: ignore[return-value]

    def _judge(self, found: SimInstance, key_name: str) -> None:
        """Note a change of a protector that must not be asked for."""
        if key_name not in found.rows:
            self.wrongs.append(f"{found.name}: the protector's key is not linked")
        if not self._target_keys():
            self.wrongs.append(f"{found.name}: the target holds no keys for a protector")
        primary, *others = GROUPS[group_of(found.name)]
        for other in (self._by_id[_id(name)] for name in others):
            other.settle(self.cloud.now())
            if found.name == primary and key_name not in other.rows:
                self.wrongs.append(f"{found.name}: {other.name} has not the same key (G02)")
            if found.name == primary and not other.is_on_target:
                self.wrongs.append(f"{found.name}: it was switched before {other.name}")

    async def start_reevaluate(self, instance: str) -> Operation:
        found = self._by_id[instance]

        def effect(request: Request) -> Operation:
            found.sick = found.sick and not found.is_on_target
            return self.cloud.job(request, REEVALUATE_MS, OperationKind.ARM)

        place = (self._child(instance), "reevaluate")
        return await self.cloud.change("reevaluate", effect, place)  # type: ignore[return-value]


def _instance(found: SimInstance) -> Instance:
    place = GROUPS[group_of(found.name)].index(found.name)
    return Instance(
        id=_id(found.name),
        name=found.name,
        resource_group="rg",
        location=f"region-{place}",
        state="Ready",
        tier="GeneralPurpose",
        fqdn="",
        principals=(f"p-{found.name}",),
    )
