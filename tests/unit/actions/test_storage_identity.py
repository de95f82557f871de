"""What can be told of a storage identity before anything is created with it."""

from __future__ import annotations

import pytest

from drengine.actions.observe import identity_facts
from drengine.model.plan import CloudIdentity

HERE = "00000000-0000-4000-8000-00000000000a"
WHERE = CloudIdentity("AzureCloud", "t", HERE, "p")
GROUP = "resourceGroups/rg/providers"
IDENTITY = "Microsoft.ManagedIdentity/userAssignedIdentities/i"


def test_an_identity_of_this_subscription_will_do_however_it_is_written():
    for subscription in (HERE, HERE.upper()):
        facts = identity_facts(f"/subscriptions/{subscription}/{GROUP}/{IDENTITY}", WHERE)
        assert facts["problems"] == []
        assert "elsewhere" not in facts


def test_an_identity_of_another_subscription_is_told_and_not_refused():
    facts = identity_facts(f"/subscriptions/other/{GROUP}/{IDENTITY}", WHERE)
    assert facts["problems"] == []
    assert facts["elsewhere"] == "other"


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        f"/subscriptions/{HERE}/{GROUP}/Microsoft.Storage/storageAccounts/s",
        f"/subscriptions/{HERE}/{GROUP}/{IDENTITY}/federatedIdentityCredentials/f",
        f"{IDENTITY}",
    ],
)
def test_what_is_no_user_assigned_identity_is_a_problem(wrong):
    assert identity_facts(wrong, WHERE)["problems"]
