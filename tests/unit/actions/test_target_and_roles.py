"""Whose the target is, is read before every effect; ids and states are read in any case."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from looked import RUN, context, ours, target

from drengine.actions.base import HOLDER_TAG, RUN_TAG
from drengine.actions.contract import Absent, Busy, Present, Undecidable
from drengine.actions.hsm import CRYPTO_AUDITOR, CRYPTO_SERVICE_USER
from drengine.actions.observe import OBSERVERS
from drengine.actions.registry import CATALOGUE, KIT
from drengine.errors import GuardError, HandedOver
from drengine.model.cloud import RoleAssignment
from drengine.model.findings import all_hold
from drengine.runbook.loader import load_runbook

THEIRS = target(tags={RUN_TAG: "r-another"})
GRANT = KIT.actions["hsm.grant_identities"]
P1 = "0a1b2c3d-aaaa-bbbb-cccc-0123456789ab"


class World:
    """A target with its role assignments; what is asked for and sent is kept."""

    def __init__(self, hsm: Any, *roles: RoleAssignment) -> None:
        self.there, self.roles = hsm, list(roles)
        self.sent: list[str] = []

    async def get(self, *_: str) -> Any:
        return self.there

    async def role_assignments(self) -> list[RoleAssignment]:
        return self.roles

    async def put_role_assignment(self, grant: RoleAssignment) -> None:
        self.sent.append(f"grant {grant.principal}")

    async def transfer_key(self) -> Any:
        self.sent.append("transfer key")
        return SimpleNamespace(x5t_256="x5t")

    def cloud(self) -> Any:
        return SimpleNamespace(hsms=self, hsm=lambda _: self)


def granted(world: World, **inputs: Any) -> None:
    members = [{"id": "/mi-1", "principals": [P1]}]
    asyncio.run(GRANT.start(context(world.cloud(), values={"members": members}, inputs=inputs)))


@pytest.mark.parametrize("hsm", [THEIRS, target(tags={}), None])
def test_no_role_is_granted_on_a_target_that_is_not_this_runs_any_more(hsm):
    world = World(hsm)
    with pytest.raises(GuardError):
        granted(world, own_target=True)
    assert world.sent == []


def test_no_role_is_granted_where_another_host_took_the_run_over():
    world = World(ours(tags={**ours().tags, HOLDER_TAG: "7.abc"}))
    with pytest.raises(HandedOver):
        granted(world, own_target=True)
    assert world.sent == []


@pytest.mark.parametrize("hsm", [THEIRS, target(tags={})])
def test_a_repoint_of_its_own_grants_on_the_hsm_that_was_named(hsm):
    world = World(hsm)
    granted(world)
    assert world.sent == [f"grant {P1}"]


def test_a_repoint_of_its_own_says_what_to_check_where_that_hsm_is_not_there():
    with pytest.raises(GuardError, match="does not exist; nothing was sent") as refused:
        granted(World(None))
    assert "Check its name" in refused.value.hint


def shipped(name: str) -> Any:
    file = Path(__file__).parents[3] / "runbooks" / f"{name}.yaml"
    return load_runbook(file.read_bytes(), str(file), CATALOGUE)


def test_only_the_recovery_that_makes_the_target_says_that_it_is_its_own():
    assert shipped("mhsm-full-recovery").step("repoint").with_["own_target"] is True
    repoint = shipped("sqlmi-repoint")
    assert repoint.inputs["own_target"].default is False
    assert repoint.step("groups").with_["own_target"] == "${inputs.own_target}"


@pytest.mark.parametrize("hsm", [THEIRS, target(tags={})])
def test_the_exchange_key_of_another_runs_hsm_is_not_asked_for(hsm):
    world = World(hsm)
    with pytest.raises(GuardError, match="it is not this run's"):
        asyncio.run(OBSERVERS["exchange-key"](context(world.cloud())))
    assert world.sent == []


def test_the_exchange_key_of_the_own_target_is_observed():
    found = asyncio.run(OBSERVERS["exchange-key"](context(World(ours()).cloud())))
    assert found == {"x5t_256": "x5t"}
    assert asyncio.run(OBSERVERS["exchange-key"](context(World(None).cloud()))) == {"x5t_256": ""}


def role(name: str, principal: str) -> RoleAssignment:
    return RoleAssignment("r1", "/keys", name, principal)


def test_roles_are_compared_in_any_case():
    world = World(ours(), role(CRYPTO_SERVICE_USER.upper(), P1.upper()))
    known = [{"scope": "/keys", "role": CRYPTO_SERVICE_USER, "principal": P1}]
    ctx = context(world.cloud(), inventory={"roles": known}, values={"uri": "u"})
    assert all_hold(asyncio.run(KIT.actions["proof.roles"].verify(ctx)).findings)
    members = [{"id": "/mi-1", "principals": [P1]}]
    probed = asyncio.run(GRANT.probe(context(world.cloud(), values={"members": members})))
    assert isinstance(probed, Present)
    world = World(ours(), role(CRYPTO_AUDITOR.upper(), "ME"))
    probed = asyncio.run(KIT.actions["hsm.grant_self"].probe(context(world.cloud())))
    assert isinstance(probed, Present)


def test_missing_and_further_roles_are_shown_as_they_were_written():
    world = World(ours(), role("R", "Other"))
    known = [{"scope": "/keys", "role": "R", "principal": "P-Gone"}]
    ctx = context(world.cloud(), inventory={"roles": known}, values={"uri": "u"})
    found = asyncio.run(KIT.actions["proof.roles"].verify(ctx)).evidence
    assert (found["missing"], found["extra"]) == (
        [["/keys", "R", "P-Gone"]],
        [["/keys", "R", "Other"]],
    )


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        *((state, Undecidable) for state in ("Failed", "failed", "Canceled", "cancelled")),
        *((state, Undecidable) for state in ("CANCELED", "Deleting")),
        *((state, Present) for state in ("Succeeded", "succeeded")),
        *((state, Busy) for state in ("Provisioning", "updating")),
    ],
)
def test_a_create_that_ended_badly_is_not_waited_for(state, expected):
    probed = asyncio.run(
        KIT.actions["hsm.create"].probe(context(World(ours(provisioning_state=state)).cloud()))
    )
    assert isinstance(probed, expected)
    assert not isinstance(probed, Absent)


def test_that_the_service_works_on_our_own_tag_is_no_fact_that_people_approve():
    """A host that takes over sets the tag of the holder: for minutes the target is Updating."""

    def shown(state: str) -> Any:
        cloud = World(ours(provisioning_state=state)).cloud()
        return asyncio.run(OBSERVERS["target-hsm"](context(cloud)))

    assert shown("Updating") == shown("Succeeded")
    assert shown("Succeeded")["provisioned"] is True
    assert shown("Provisioning")["provisioned"] is False


def test_an_hsm_that_is_created_by_hand_gets_the_tags_by_which_the_run_knows_it():
    values = {"name": "target", "resource_group": "rg", "location": "northeurope"}
    told = KIT.actions["hsm.create"].manual(context(World(None).cloud(), values=values))
    words = shlex.split(told)
    assert f"{RUN_TAG}={RUN}" in words[words.index("--tags") :]
    assert f"{HOLDER_TAG}=" in "".join(words[words.index("--tags") :])
    assert words[words.index("--sku") + 1] == "Standard_B1"
