"""Which rights a runbook needs where, and which of them whoever is signed in lacks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from looked import context

from drengine.actions.observe import OBSERVERS
from drengine.actions.rights import ATTACH, CREATE, REPOINT, lacking, needed
from drengine.errors import AzureError, NotAuthorized
from drengine.model.cloud import Permission

GROUP = "/subscriptions/s/resourceGroups/rg"
IDENTITY = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i"
INSTANCES = [f"/subscriptions/s/resourceGroups/{g}/providers/x/{i}" for g, i in ("pa", "pb", "qc")]
SQL = [Permission(("Microsoft.Sql/managedInstances/*",), ())]
ALL = [Permission(("*",), ())]


@pytest.mark.parametrize(
    ("allowed", "may"),
    [
        ([], False),
        ([Permission(("*",))], True),
        ([Permission(("Microsoft.KeyVault/managedHSMs/*",))], True),
        ([Permission(("microsoft.keyvault/managedhsms/WRITE",))], True),
        ([Permission(("*/read", "Microsoft.KeyVault/managedHSMs/read"))], False),
        ([Permission(("*",), ("Microsoft.KeyVault/*",))], False),
        ([Permission(("*",), ("Microsoft.KeyVault/*",)), Permission(("*/write",))], True),
        ([Permission(("Microsoft.KeyVault/managedHSM?/write",))], False),
        ([Permission(("Microsoft.KeyVault/[m]anagedHSMs/write",))], False),
        ([Permission(("Microsoft.KeyVault/managedHSMs/write/more",))], False),
    ],
)
def test_an_action_is_allowed_where_one_assignment_allows_it_and_does_not_except_it(allowed, may):
    assert (lacking(allowed, CREATE) == []) is may


def test_a_runbook_that_creates_nothing_needs_only_its_instances():
    inputs = {"resource_group": "rg", "storage_identity": IDENTITY}
    assert needed(inputs, "s", INSTANCES) == dict.fromkeys(INSTANCES, REPOINT)
    creating = {**inputs, "location": "northeurope"}
    assert needed(creating, "s", ()) == {GROUP: CREATE, IDENTITY: ATTACH}


class Asked:
    """A subscription that answers by scope, and keeps what it was asked."""

    def __init__(self, answers: Mapping[str, Any], otherwise: Any = ()) -> None:
        self.answers, self.otherwise, self.scopes = answers, otherwise, []

    async def permissions(self, scope: str) -> Sequence[Permission]:
        self.scopes.append(scope)
        answer = self.answers.get(scope, self.otherwise)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def seen(self, **plan: Any) -> dict[str, Any]:
        inputs = {"location": "northeurope", "storage_identity": IDENTITY, "protects_sql": True}
        given = context(
            SimpleNamespace(subscription=self),
            inventory={"instances": [{"id": each} for each in INSTANCES]},
            inputs=inputs,
            plan=plan,
        )
        return asyncio.run(OBSERVERS["operator-rights"](given))


def test_each_group_is_asked_once_where_that_will_do():
    asked = Asked({}, ALL)
    seen = asked.seen()
    assert (seen["scopes"], seen["lacking"], seen["unread"]) == (5, [], [])
    p, q = (f"/subscriptions/s/resourceGroups/{name}" for name in "pq")
    assert asked.scopes == [p, q, GROUP]


def test_a_right_on_the_resource_itself_is_found_and_one_that_is_nowhere_is_lacking():
    asked = Asked({GROUP: ALL, INSTANCES[0]: SQL})
    seen = asked.seen()
    assert sorted(asked.scopes[3:]) == sorted(INSTANCES)
    assert seen["lacking"] == sorted([each, action] for each in INSTANCES[1:] for action in REPOINT)


def test_the_planned_instances_come_before_those_of_the_inventory():
    asked = Asked({}, ALL)
    seen = asked.seen(groups=[{"members": [{"id": INSTANCES[0]}]}])
    assert seen["scopes"] == 3


def test_what_the_service_will_not_tell_is_unread_and_what_it_cannot_now_is_raised():
    seen = Asked({GROUP: ALL}, NotAuthorized("no right", status=403)).seen()
    assert seen["lacking"] == []
    assert seen["unread"] == sorted([each, "no right"] for each in INSTANCES)
    for error in (
        AzureError("later", status=503, transient=True),
        NotAuthorized("out", status=401),
    ):
        with pytest.raises(AzureError, match=error.message):
            Asked({}, error).seen()
