"""What is read of the place in which the target is to be created."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from looked import context

from drengine.actions.observe import OBSERVERS
from drengine.errors import AzureError, NotAuthorized
from drengine.model.cloud import HsmOffer

REFUSED = NotAuthorized("no right", status=403)
BUSY = AzureError("later", status=503, transient=True)
SIGNED_OUT = NotAuthorized("az login", status=401)


def observed(name: str, answer: Any, location: str = "West Europe") -> dict[str, Any]:
    async def told(*_: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def has_group(group: str) -> bool:
        return group == "rg"

    cloud = SimpleNamespace(
        hsms=SimpleNamespace(has_group=has_group),
        subscription=SimpleNamespace(hsm_offer=told, geographies=told),
    )
    inventory = {"hsm": {"name": "source", "location": "North Europe"}}
    given = context(cloud, inventory=inventory, inputs={"location": location})
    return asyncio.run(OBSERVERS[name](given))


def test_group_registration_and_regions_are_read_together():
    assert observed("target-place", HsmOffer("Registered", ("westeurope",))) == {
        "group": "rg",
        "exists": True,
        "location": "westeurope",
        "registration": "Registered",
        "usable": True,
        "regions": ["westeurope"],
        "unread": "",
    }


def test_both_places_are_told_with_their_geographies():
    told = {"northeurope": "Europe", "uksouth": "United Kingdom"}
    assert observed("geography", told, "UK South") == {
        "source": {"location": "northeurope", "geography": "Europe"},
        "target": {"location": "uksouth", "geography": "United Kingdom"},
        "unread": "",
    }


def test_a_group_is_not_asked_of_a_provider_that_answers_nothing():
    seen = observed("target-place", HsmOffer("NotRegistered", ("westeurope",)))
    assert (seen["exists"], seen["usable"]) == (None, False)


@pytest.mark.parametrize("name", ["target-place", "geography"])
def test_what_may_not_be_read_is_said_and_what_cannot_be_read_now_is_asked_again(name):
    assert observed(name, REFUSED)["unread"] == "no right"
    for error in (BUSY, SIGNED_OUT):
        with pytest.raises(AzureError, match=error.message):
            observed(name, error)
