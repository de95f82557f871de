"""The target's network rules: as the inventory shows them for the source.

Rules:
- A list of rules that the inventory records is carried over whole and compared, whatever its
  order and however an address or an id is written.
- What the inventory does not record is not sent, and nobody reads that it is as before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from shlex import quote
from typing import Any, Final

from drengine.actions.base import BaseAction, our_target
from drengine.actions.contract import Absent, Busy, Present, ProbeResult, StepContext, Verified
from drengine.actions.documents import inventory_of
from drengine.model.canonical import JsonObject
from drengine.model.catalogue import ActionSpec, Repeat
from drengine.model.cloud import HsmResource, Operation
from drengine.model.findings import Finding, block, ok, warn

_RULE: Final = "network-as-inventory"
_DEFAULTS: Final = {"bypass": "AzureServices", "defaultAction": "Allow"}
_LISTS: Final = {"ipRules": "value", "virtualNetworkRules": "id", "serviceTags": "tag"}
"""Each list of rules with the field that says what an entry is about."""

_NEWER: Final = "serviceTags"
"""Recorded where the service knows it and has some; that it is absent says nothing."""

_AZ_API: Final = "2026-05-15"


class ConfigureNetwork(BaseAction):
    """Give the target the network rules that the inventory shows for the source.

    Source: PATCH Microsoft.KeyVault/managedHSMs, which replaces `networkAcls` as a whole;
    sqlmi-protocol §3 step 1.
    """

    async def probe(self, ctx: StepContext) -> ProbeResult:
        """Compare the rules in force with those wanted."""
        hsm = await our_target(ctx)
        if hsm.provisioning_state.lower() == "updating":
            return Busy("the HSM is being updated")
        wrong = _differences(hsm, _wanted(ctx))
        return Absent("; ".join(wrong)) if wrong else Present({}, "the rules are in force")

    async def start(self, ctx: StepContext) -> Operation | JsonObject:
        """PATCH the resource."""
        hsm = await our_target(ctx)
        return await ctx.cloud.hsms.start_update(
            hsm.resource_group, hsm.name, {"properties": _wanted(ctx)}
        )

    async def verify(self, ctx: StepContext) -> Verified:
        """Read the rules back."""
        wanted = _wanted(ctx)
        if wrong := _differences(await our_target(ctx), wanted):
            return Verified((block(_RULE, "; ".join(wrong)),))
        return Verified((_as_before(wanted, _unrecorded(ctx)),))

    def manual(self, ctx: StepContext) -> str:
        """Return the az commands; az sets no list but that of addresses on an HSM."""
        wanted, name = _wanted(ctx), str(ctx.inputs["target_hsm"])
        acls = wanted["networkAcls"]
        if acls.get("virtualNetworkRules") or acls.get("serviceTags"):
            group = f"{ctx.where.subscription}/resourceGroups/{ctx.inputs['resource_group']}"
            place = f"/subscriptions/{group}/providers/Microsoft.KeyVault/managedHSMs/{name}"
            body = quote(json.dumps({"properties": wanted}))
            return f"az rest --method patch --url {place}?api-version={_AZ_API} --body {body}"
        told = (
            f"az keyvault update-hsm --hsm-name {name}"
            f" --default-action {acls['defaultAction']} --bypass {acls['bypass']}"
            f" --public-network-access {wanted['publicNetworkAccess']}"
        )
        if addresses := [str(rule["value"]) for rule in acls.get("ipRules") or ()]:
            shown = " ".join(quote(address) for address in addresses)
            told += f"\naz keyvault network-rule add --hsm-name {name} --ip-address {shown}"
        return told


def _recorded(ctx: StepContext) -> Mapping[str, Any]:
    return inventory_of(ctx)["hsm"].get("network") or {}


def _wanted(ctx: StepContext) -> dict[str, Any]:
    before = _recorded(ctx)
    acls: dict[str, Any] = {name: before.get(name) or value for name, value in _DEFAULTS.items()}
    for name, field in _LISTS.items():
        if before.get(name) is not None:
            acls[name] = [{field: str(rule.get(field, ""))} for rule in before[name]]
    return {
        "networkAcls": acls,
        "publicNetworkAccess": inventory_of(ctx)["hsm"].get("public_access", "Enabled"),
    }


def _unrecorded(ctx: StepContext) -> list[str]:
    """Return what the inventory does not say of the source's rules."""
    before = _recorded(ctx)
    names = (*_DEFAULTS, *(name for name in _LISTS if name != _NEWER))
    return [name for name in names if before.get(name) is None]


def _differences(hsm: HsmResource, wanted: Mapping[str, Any]) -> list[str]:
    asked = {**wanted["networkAcls"], "publicNetworkAccess": wanted["publicNetworkAccess"]}
    found = {**hsm.network, "publicNetworkAccess": hsm.public_access}
    return [
        f"{name} is {_normal(name, found.get(name))!r}, before the disaster it was"
        f" {_normal(name, value)!r}"
        for name, value in asked.items()
        if _compared(name, found.get(name)) != _compared(name, value)
    ]


def _compared(name: str, value: Any) -> Any:
    return _normal(name, value) if name in _LISTS else str(value).lower()


def _normal(name: str, value: Any) -> Any:
    """Return a list of rules as sorted texts, each in one form; anything else as it is."""
    if name not in _LISTS:
        return value
    texts = [str(rule.get(_LISTS[name], "")) for rule in value or ()]
    return sorted({_address(text) if name == "ipRules" else text.lower() for text in texts})


def _address(text: str) -> str:
    """Return an address or range in one form: one address may be written with or without /32."""
    try:
        return str(ip_network(text.strip(), strict=False))
    except ValueError:
        return text.strip().lower()


def _as_before(wanted: Mapping[str, Any], unrecorded: Sequence[str]) -> Finding:
    acls = wanted["networkAcls"]
    parts = [f"default action {acls['defaultAction']}", f"bypass {acls['bypass']}"]
    parts += [f"{len(acls[name])} {name}" for name in _LISTS if name in acls]
    parts.append(f"public access {wanted['publicNetworkAccess']}")
    shown = ", ".join(parts)
    if not unrecorded:
        return ok(_RULE, f"network rules are as before the disaster: {shown}")
    return warn(
        _RULE,
        f"network rules in force: {shown}. The inventory does not record {', '.join(unrecorded)}:"
        " whether these are as before the disaster is not known",
        "Compare them with what is written down elsewhere, and take a new inventory.",
    )


NETWORK = ConfigureNetwork(
    ActionSpec(
        name="hsm.configure_network",
        title="Set the target's network rules as before",
        parameters=(),
        outputs=(),
        repeat=Repeat.BY_NAME,
        rest="PATCH Microsoft.KeyVault/managedHSMs/{name}",
        quiet_ms=120_000,
        poll_ms=15_000,
        settle_ms=120_000,
        expected_ms=240_000,
        expected_source="recorded updates took 4 to 6 minutes",
    )
)
