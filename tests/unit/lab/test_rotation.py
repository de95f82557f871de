"""A rotation policy that can be kept is taken; one that would rotate for ever is refused."""

from __future__ import annotations

from typing import Any

import pytest

from drengine.lab.hsm import rotation
from drengine.lab.wire import LabFault


def policy(expiry: str | None, kind: str, **trigger: str) -> dict[str, Any]:
    action = {"trigger": trigger, "action": {"type": kind}}
    return {"lifetimeActions": [action], "attributes": {"expiryTime": expiry}}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (policy(None, "Rotate", timeAfterCreate="P0D"), "longer than no day"),
        (policy("P90D", "rotate", timeBeforeExpiry="P90D"), "less than expiryTime"),
        (policy("P1M", "Rotate", timeBeforeExpiry="P31D"), "less than expiryTime"),
        (policy("soon", "Rotate", timeAfterCreate="P1D"), "'soon' is not a duration"),
        (policy(None, "Notify", timeBeforeExpiry="P"), "'P' is not a duration"),
    ],
)
def test_what_cannot_be_kept_is_refused(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(LabFault, match=message) as refused:
        rotation.check(wanted)
    assert (refused.value.status, refused.value.code) == (400, "BadParameter")


@pytest.mark.parametrize(
    "wanted",
    [
        policy("P90D", "Rotate", timeAfterCreate="P30D"),
        policy("P90D", "Rotate", timeBeforeExpiry="P30D"),
        policy("P28D", "Notify", timeBeforeExpiry="P30D"),
        policy(None, "Rotate", timeBeforeExpiry="P30D"),
    ],
)
def test_what_can_be_kept_is_taken(wanted: dict[str, Any]) -> None:
    assert rotation.check(wanted) is None
