"""The reconcile table: how each action finds its own effect again, one row an action.

Every action that changes something is asked in three worlds: nothing happened, its own
effect is there, and what is there is another's or cannot be told. Only the second may be
taken for done. A row that is missing fails the first test.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
from looked import target

from drengine.actions.base import RUN_TAG
from drengine.actions.contract import (
    Absent,
    Busy,
    InProgress,
    Present,
    Stale,
    StepContext,
    Undecidable,
)
from drengine.actions.hsm import CRYPTO_AUDITOR, CRYPTO_SERVICE_USER
from drengine.actions.names import instance_key_name
from drengine.actions.registry import KIT
from drengine.errors import AzureError, GuardError, NotAuthorized
from drengine.model.cloud import (
    Database,
    HsmResource,
    InstanceKey,
    Operation,
    OperationKind,
    OperationState,
    OperationStatus,
    Protector,
    RoleAssignment,
    TransferKey,
)
from drengine.model.findings import all_hold
from drengine.model.ids import RunId
from drengine.model.plan import CloudIdentity
from drengine.model.runbook import RunClass
from drengine.model.secret import Secret

RUN, ME = RunId("r-0123456789ab"), "me"
WHERE = CloudIdentity("AzureCloud", "t", "s", ME, "managedhsm.azure.net", "core.windows.net", True)
VERSION = "0123456789abcdef0123456789abcdef"
OLD, NEW = (f"https://{n}.managedhsm.azure.net/keys/tde/{VERSION}" for n in ("source", "target"))
INVENTORY = {
    "schema": "drengine/inventory/v1",
    "hsm": {
        "name": "source",
        "network": {"defaultAction": "Deny", "ipRules": [{"value": "10.0.0.1"}]},
    },
    "keys": [{"name": "alpha"}, {"name": "beta"}],
}
SENT_MS = 1_795_000_000_000
JOB = Operation(OperationKind.ARM, "https://management.azure.com/job", "1")

OURS = target(
    admins=(ME,),
    tags={RUN_TAG: str(RUN)},
    network={"bypass": "AzureServices", "defaultAction": "Allow"},
)
ACTIVE = replace(OURS, activation_status="Active")
THEIRS = replace(OURS, tags={RUN_TAG: "r-another"})


@dataclass
class World:
    """A cloud to be looked at: every port in one, as far as a probe asks it."""

    hsm_there: HsmResource | None = OURS
    keys_there: Sequence[str] | Exception = ()
    roles: Sequence[RoleAssignment] = ()
    folders: Sequence[str] = ()
    upload: OperationStatus | None = None
    exchange: str = "x5t"
    rows: Sequence[InstanceKey] = (InstanceKey("source_tde", "AzureKeyVault", OLD, ""),)
    protector_uri: str = OLD
    busy_with: Sequence[str] = ()
    databases_there: Sequence[Database] = ()
    job: OperationState | None = None
    asked: list[str] = field(default_factory=list)

    async def get(self, *_: str) -> HsmResource | None:
        return self.hsm_there

    def hsm(self, uri: str) -> Any:
        assert self.hsm_there is not None
        assert uri.rstrip("/") == self.hsm_there.uri.rstrip("/")
        return self

    async def key_names(self) -> Sequence[str]:
        if isinstance(self.keys_there, Exception):
            raise self.keys_there
        return self.keys_there

    async def role_assignments(self) -> Sequence[RoleAssignment]:
        return self.roles

    async def list_folders(self, *_: Any) -> Sequence[str]:
        return self.folders

    async def upload_status(self) -> OperationStatus | None:
        return self.upload

    async def transfer_key(self) -> TransferKey:
        return TransferKey(b"", self.exchange)

    async def keys(self, _: str) -> Sequence[InstanceKey]:
        return self.rows

    async def protector(self, _: str) -> Protector:
        return Protector("name", "AzureKeyVault", self.protector_uri, "", False)

    async def busy(self, _: str) -> Sequence[str]:
        return self.busy_with

    async def databases(self, _: str) -> Sequence[Database]:
        return self.databases_there

    async def poll(self, operation: Operation) -> OperationStatus:
        assert operation == JOB
        assert self.job is not None
        return OperationStatus(self.job)

    def cloud(self) -> Any:
        names = ("hsms", "operations", "storage", "sql")
        return SimpleNamespace(**dict.fromkeys(names, self), hsm=self.hsm)


VALUES = {
    "name": "target",
    "resource_group": "rg",
    "location": "northeurope",
    "folder": "mhsm-source-2026111810120000",
    "exchange": "x5t",
    "group": {"members": [{"id": "/mi-1", "name": "mi-1"}]},
    "role": "Primary",
    "members": [{"id": "/mi-1", "principals": ["p1"]}],
}


def look(action: str, world: World, **more: Any) -> Any:
    """Probe an action; by default its intent is recorded and its answer lost."""
    return asyncio.run(KIT.actions[action].probe(context(world, **more)))


def context(world: World, **more: Any) -> StepContext:
    """Return what an action is given; by default its intent is recorded and its answer lost."""
    sent: dict[str, Any] = {"intent_at_ms": SENT_MS, "sends": 1, "now_ms": SENT_MS + 200_000}
    sent["before"] = {"keys": 0}
    return StepContext(
        run=RUN,
        root=RUN,
        step="step",
        run_class=RunClass.DRILL,
        cloud=world.cloud(),
        where=WHERE,
        objects=SimpleNamespace(get_object=lambda _: json.dumps(INVENTORY).encode()),  # type: ignore[arg-type]
        secret=Secret,
        values=VALUES,
        inputs={
            "resource_group": "rg",
            "target_hsm": "target",
            "source_hsm": "source",
            "container_url": "https://acct.blob.core.windows.net/backups",
            "inventory": {"sha256": "0" * 64, "path": "inventory.json"},
        },
        **(sent | more),
    )


def role(name: str, principal: str) -> RoleAssignment:
    return RoleAssignment("r1", "/keys", name, principal)


LINKED = (World().rows[0], InstanceKey("target_tde", "AzureKeyVault", NEW, ""))
AS_BEFORE = {
    "bypass": "AzureServices",
    "defaultAction": "Deny",
    "ipRules": [{"value": "10.0.0.1/32"}],
}
SICK = (Database("hr", "Inaccessible"),)
YOUNG, AGED = "mhsm-target-2026111900000000", "mhsm-target-2026010100000000"

TABLE: list[tuple[str, World, type, World, type, World, type]] = [
    ("hsm.create", World(None), Absent, World(), Present, World(THEIRS), Undecidable),
    (
        "hsm.configure_network",
        *(World(), Absent),
        *(World(replace(OURS, network=AS_BEFORE)), Present),
        *(World(replace(OURS, provisioning_state="Updating")), Busy),
    ),
    (
        "hsm.grant_identities",
        *(World(), Absent),
        *(World(roles=[role(CRYPTO_SERVICE_USER, "p1")]), Present),
        *(World(roles=[role(CRYPTO_SERVICE_USER, "p2")]), Absent),
    ),
    (
        "hsm.grant_self",
        *(World(), Absent),
        *(World(roles=[role(CRYPTO_AUDITOR, ME)]), Present),
        *(World(roles=[role(CRYPTO_AUDITOR, "p2")]), Absent),
    ),
    (
        "securitydomain.upload",
        *(World(), Absent),
        *(World(ACTIVE), Present),
        *(World(exchange="another"), Stale),
    ),
    (
        "hsm.backup",
        *(World(folders=[AGED]), Absent),
        *(World(folders=[AGED, YOUNG]), Present),
        *(World(), Absent),
    ),
    (
        "hsm.restore",
        *(World(ACTIVE), Absent),
        *(World(ACTIVE, keys_there=("beta", "alpha")), Present),
        *(World(ACTIVE, keys_there=("alpha", "theirs")), Undecidable),
    ),
    (
        "sql.link_keys",
        *(World(), Absent),
        *(World(rows=LINKED), Present),
        *(World(rows=(LINKED[0], InstanceKey("x", "AzureKeyVault", NEW + "0", ""))), Absent),
    ),
    (
        "sql.set_protector",
        *(World(), Absent),
        *(World(protector_uri=NEW), Present),
        *(World(busy_with=["UpdateServer"]), Busy),
    ),
    (
        "sql.reevaluate",
        *(World(databases_there=SICK), Absent),
        *(World(), Present),
        *(World(databases_there=(*SICK, Database("ok", "Online"))), Absent),
    ),
]
BY_JOB_OR_HARMLESS = {
    "hsm.restore_check": "found by its recorded job; a second check changes nothing",
    "sql.validate": "it changes nothing, and is simply asked again",
    "securitydomain.download": "a second download writes one more sealed copy",
}
"""Actions without an effect that could be looked for, and why that is no harm."""


def test_every_action_that_changes_something_has_its_row():
    changing = {name for name, action in KIT.actions.items() if action.spec.changes}
    assert changing == {row[0] for row in TABLE} | BY_JOB_OR_HARMLESS.keys()


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_an_action_knows_nothing_from_its_own_effect_and_from_anothers(row):
    action, *worlds = row
    for world, expected in zip(worlds[::2], worlds[1::2], strict=True):
        found = look(action, world)
        assert isinstance(found, expected), f"{world}: {found}"


@pytest.mark.parametrize(
    "action", [row[0] for row in TABLE if row[0].startswith(("hsm.", "security"))]
)
def test_what_carries_another_runs_tag_is_never_taken_for_ours(action):
    theirs = World(replace(THEIRS, activation_status="Active"))
    if action in ("hsm.create", "hsm.backup", "hsm.grant_identities"):
        # The first asks the tag itself; a backup's folders and a grant are not tagged.
        assert not isinstance(look(action, theirs), Present)
        return
    with pytest.raises(GuardError, match="it is not this run's"):
        look(action, theirs)


@pytest.mark.parametrize("keys", [("alpha", "beta"), ("alpha",), ()])
def test_a_restore_that_this_run_did_not_send_is_never_adopted(keys):
    found = look("hsm.restore", World(ACTIVE, keys_there=keys), intent_at_ms=None, sends=0)
    assert isinstance(found, Absent)


@pytest.mark.parametrize("before", [{}, {"keys": 2}, {"keys": 1}])
def test_keys_prove_a_restore_only_where_none_was_there_before_it(before):
    world = World(ACTIVE, keys_there=("alpha", "beta"))
    found = look("hsm.restore", world, before=before)
    assert isinstance(found, Undecidable)
    assert "before the request" in found.why


def test_the_keys_of_the_target_are_read_before_a_restore_is_sent():
    restore = KIT.actions["hsm.restore"]
    for there, before in (((), {"keys": 0}), (("beta", "alpha"), {"keys": 2})):
        world = World(ACTIVE, keys_there=there)
        assert asyncio.run(restore.before(context(world))) == before
    barred = World(ACTIVE, keys_there=NotAuthorized("403", status=403))
    assert asyncio.run(restore.before(context(barred))) == {}


def test_an_active_hsm_to_which_this_run_uploaded_nothing_is_for_a_person():
    found = look("securitydomain.upload", World(ACTIVE), intent_at_ms=None, sends=0)
    assert isinstance(found, Undecidable)
    assert "Find out who activated it" in found.advice


def test_a_restore_that_took_our_role_away_cannot_be_told():
    world = World(ACTIVE, keys_there=NotAuthorized("403", status=403))
    assert isinstance(look("hsm.restore", world), Undecidable)


@pytest.mark.parametrize(
    ("state", "expected"),
    [(OperationState.RUNNING, InProgress), (OperationState.SUCCEEDED, Present)],
)
@pytest.mark.parametrize("action", ["hsm.backup", "hsm.restore", "hsm.restore_check"])
def test_a_recorded_job_is_asked_before_anything_else(action, state, expected):
    assert isinstance(look(action, World(ACTIVE, job=state), operation=JOB), expected)


@pytest.mark.parametrize("state", [OperationState.FAILED, OperationState.LOST])
def test_a_job_that_failed_or_vanished_decides_nothing(state):
    world = World(ACTIVE, job=state, keys_there=("alpha", "beta"))
    assert isinstance(look("hsm.restore", world, operation=JOB), Present), "the keys decide"


@dataclass
class Refusing(World):
    """A cloud whose HSM refuses every restore."""

    async def start_restore(self, *_: Any) -> Operation:
        raise AzureError("400 BadParameter", status=400)


@pytest.mark.parametrize(
    ("folders", "hint"),
    [
        ([YOUNG, AGED], "younger. If the refusal is about that: after 2026-11-19T00:30:00Z"),
        ([AGED], ""),
    ],
)
def test_a_refused_restore_says_when_the_targets_backup_is_old_enough(folders, hint):
    world = Refusing(ACTIVE, folders=folders)
    now_ms = 1_795_046_400_000 + 60_000  # a minute after the young backup
    with pytest.raises(AzureError) as refused:
        asyncio.run(KIT.actions["hsm.restore"].start(context(world, now_ms=now_ms)))
    assert hint in refused.value.hint
    assert bool(hint) == bool(refused.value.hint)


def test_a_refused_restore_stays_refused_when_no_more_can_be_told():
    class Mute(Refusing):
        async def list_folders(self, *_: Any) -> list[str]:
            raise AzureError("503", status=503, transient=True)

    with pytest.raises(AzureError) as refused:
        asyncio.run(KIT.actions["hsm.restore"].start(context(Mute(ACTIVE))))
    assert (refused.value.status, refused.value.transient) == (400, False)


@pytest.mark.parametrize("action", ["securitydomain.exchange_key", "sql.roles"])
def test_a_read_that_a_person_marked_as_done_was_not_made(action):
    """What only the step itself can read out is missing then; that is no error of the engine."""
    seen = asyncio.run(KIT.actions[action].verify(context(World(), outputs={"step": {}})))
    assert not all_hold(seen.findings)


def test_no_switch_is_sent_to_a_key_whose_link_was_left_out():
    """A person may skip the link; the service would refuse the switch at every resume."""
    action = KIT.actions["sql.set_protector"]
    with pytest.raises(GuardError, match="nothing was sent") as refused:
        asyncio.run(action.before(context(World())))
    assert f"az sql mi key create -g RG --mi mi-1 -k {NEW}" in refused.value.hint
    linked = InstanceKey(instance_key_name(NEW).upper(), "AzureKeyVault", NEW, "")
    there = World(rows=(World().rows[0], linked))
    assert asyncio.run(action.before(context(there))) == {}
