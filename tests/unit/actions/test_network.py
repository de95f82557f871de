"""Network rules: every list that the inventory records comes back, and no more is claimed."""

from __future__ import annotations

import asyncio
import json
import shlex
from types import SimpleNamespace
from typing import Any

import pytest
from looked import context, ours

from drengine.actions.contract import Absent, Present
from drengine.actions.registry import KIT
from drengine.model.findings import Severity

NETWORK = KIT.actions["hsm.configure_network"]
SUBNET = (
    "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/v/subnets/A"
)
PLAIN = {"bypass": "AzureServices", "defaultAction": "Deny"}
FULL = {
    **PLAIN,
    "ipRules": [{"value": "203.0.113.0/24"}, {"value": "10.0.0.1"}],
    "virtualNetworkRules": [{"id": SUBNET}],
}
SAME = {
    **PLAIN,
    "ipRules": [{"value": "10.0.0.1/32"}, {"value": "203.0.113.0/24"}],
    "virtualNetworkRules": [{"id": SUBNET.lower()}],
}


class World:
    """A target whose network rules are those that were sent last."""

    def __init__(self, network: dict[str, Any]) -> None:
        self.network = network
        self.sent: list[Any] = []

    async def get(self, *_: str) -> Any:
        return ours(network=self.network)

    async def start_update(self, _group: str, _name: str, body: Any) -> Any:
        self.sent.append(body)
        self.network = body["properties"]["networkAcls"]
        return {}


def asked(world: World, before: Any) -> Any:
    hsm = {"name": "source", "network": before, "public_access": "Enabled"}
    return context(SimpleNamespace(hsms=world), inventory={"hsm": hsm})


@pytest.mark.parametrize("name", ["ipRules", "virtualNetworkRules"])
@pytest.mark.parametrize("there", [[], None])
def test_a_list_of_rules_that_is_gone_is_sent_again_and_read_back(name, there):
    world = World({**FULL, name: there})
    ctx = asked(world, FULL)
    assert isinstance(asyncio.run(NETWORK.probe(ctx)), Absent)
    (finding,) = asyncio.run(NETWORK.verify(ctx)).findings
    assert not finding.holds
    assert name in finding.message
    asyncio.run(NETWORK.start(ctx))
    assert world.sent[0]["properties"]["networkAcls"] == FULL
    (finding,) = asyncio.run(NETWORK.verify(ctx)).findings
    assert finding.severity is Severity.OK
    assert "as before the disaster" in finding.message
    assert "2 ipRules, 1 virtualNetworkRules" in finding.message


def test_order_and_way_of_writing_make_no_difference():
    assert isinstance(asyncio.run(NETWORK.probe(asked(World(SAME), FULL))), Present)


def test_a_rule_too_many_is_a_difference():
    more = {**SAME, "ipRules": [*SAME["ipRules"], {"value": "0.0.0.0/0"}]}
    assert isinstance(asyncio.run(NETWORK.probe(asked(World(more), FULL))), Absent)


@pytest.mark.parametrize(
    ("before", "unknown"),
    [
        (PLAIN, "ipRules, virtualNetworkRules"),
        ({**PLAIN, "ipRules": []}, "virtualNetworkRules"),
        ({}, "bypass, defaultAction, ipRules, virtualNetworkRules"),
        (None, "bypass, defaultAction, ipRules, virtualNetworkRules"),
    ],
)
def test_what_the_inventory_does_not_record_is_not_said_to_be_as_before(before, unknown):
    world = World({})
    ctx = asked(world, before)
    asyncio.run(NETWORK.start(ctx))
    (finding,) = asyncio.run(NETWORK.verify(ctx)).findings
    assert finding.severity is Severity.WARN
    assert f"does not record {unknown}:" in finding.message
    assert "virtualNetworkRules" not in world.sent[0]["properties"]["networkAcls"]


def test_tags_of_services_come_back_where_the_inventory_has_them():
    before = {**FULL, "serviceTags": [{"tag": "AzureDevOps"}]}
    world = World(FULL)
    asyncio.run(NETWORK.start(asked(world, before)))
    assert world.network["serviceTags"] == [{"tag": "AzureDevOps"}]


def test_by_hand_it_is_the_same_rules():
    addresses = {**PLAIN, "ipRules": FULL["ipRules"]}
    told = NETWORK.manual(asked(World({}), addresses)).splitlines()
    assert told[1].endswith("--ip-address 203.0.113.0/24 10.0.0.1")
    words = shlex.split(NETWORK.manual(asked(World({}), FULL)))
    assert words[:4] == ["az", "rest", "--method", "patch"]
    assert json.loads(words[-1])["properties"]["networkAcls"] == FULL
