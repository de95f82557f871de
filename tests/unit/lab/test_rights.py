"""The name of the action that a request to Resource Manager stands for."""

from __future__ import annotations

import pytest

from drengine.lab import arm_rights


@pytest.mark.parametrize(
    ("method", "tail", "action"),
    [
        ("GET", "", "Microsoft.Resources/subscriptions/read"),
        ("PUT", "/resourceGroups/rg", "Microsoft.Resources/subscriptions/resourceGroups/write"),
        (
            "PATCH",
            "/resourceGroups/rg/providers/Microsoft.KeyVault/managedHSMs/x",
            "Microsoft.KeyVault/managedHSMs/write",
        ),
        (
            "POST",
            "/resourceGroups/rg/providers/Microsoft.Sql/managedInstances/i/validateKey",
            "Microsoft.Sql/managedInstances/validateKey/action",
        ),
        ("DELETE", "/providers/A.B/c/d/e/f", "A.B/c/e/delete"),
    ],
)
def test_the_name_of_an_action_follows_from_the_request(
    method: str, tail: str, action: str
) -> None:
    assert arm_rights.action_of(method, f"/subscriptions/s{tail}") == action
