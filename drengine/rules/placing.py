"""Rules about the place of the target: its group, region and geography, and its way to storage.

Ids follow the catalogue of the design notes (H) where it has one.
"""

from __future__ import annotations

from typing import Final

from drengine.model.canonical import JsonObject
from drengine.model.findings import Findings, block, ok, warn
from drengine.model.times import utc_seconds
from drengine.rules.contract import Rule, RuleContext, rule_of

_SAS_MS: Final = 24 * 3_600_000


def storage_reachable(facts: JsonObject, ctx: RuleContext) -> Findings:
    """H05: the way to the storage will do, before anything is created."""
    seen = facts["storage-access"]
    if problems := seen["problems"]:
        what = "the SAS" if seen["by"] == "sas" else "the way to the storage"
        advice = (
            "A SAS needs crdwl and some hours. The usual way is storage_identity: /subscriptions/…"
            "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/NAME; where there is none,"
            " storage_sas: mint:user-delegation makes a SAS with your own sign-in"
        )
        return (block("H05", f"{what}: {'; '.join(problems)}", advice),)
    if seen.get("exists") is False:
        advice = (
            "az identity list --query '[].id' shows those that exist; the plan is frozen: make the"
            " identity under this id, with its role on the storage, or plan anew"
        )
        return (block("H05", f"the identity {seen['identity']} does not exist", advice),)
    if elsewhere := seen.get("elsewhere"):
        text = f"identity {seen['identity']} is in another subscription, {elsewhere}"
        return (warn("H05", text, "The plan acts in one subscription only: meant?"),)
    if unread := seen.get("unread"):
        text = f"whether identity {seen['identity']} exists is not known: {unread}"
        return (
            warn(
                "H05", text, f"Ask whoever may read it: az identity show --ids {seen['identity']}"
            ),
        )
    if ctx.now_ms + _SAS_MS > int(seen.get("expires_ms") or ctx.now_ms + _SAS_MS):
        text = f"the SAS ends within a day, at {utc_seconds(int(seen['expires_ms']))}"
        advice = "The documents ask for 24 hours from each backup and restore: have a longer one."
        return (warn("H05", text, advice),)
    how = {
        "sas": "a SAS with {rights}",
        "delegation": "a SAS with {rights} that the operator's sign-in makes",
        "identity": "identity {identity}",
    }[seen["by"]]
    return (ok("H05", f"storage is reached by {how.format_map(seen)}"),)


def placeable(facts: JsonObject, ctx: RuleContext) -> Findings:
    """H06: the target can be placed, before anybody is woken up to approve."""
    del ctx
    place, rule = facts["target-place"], "H06"
    group, location = place["group"], place["location"]
    if not place["usable"]:
        return (
            block(
                rule,
                f"the subscription's provider Microsoft.KeyVault is {place['registration']}: no HSM"
                " can be created",
                "az provider register -n Microsoft.KeyVault --wait",
            ),
        )
    if not place["exists"]:
        return (
            block(
                rule,
                f"the subscription has no resource group {group!r}",
                f"Plan with one that exists, or: az group create -n {group} -l {location}",
            ),
        )
    here = ok(rule, f"the resource group {group} exists")
    if place["unread"] or not (place["registration"] and place["regions"]):
        why = place["unread"] or "its provider does not say"
        text = f"whether Managed HSMs may be created in {location} is not known: {why}"
        return (here, warn(rule, text, "az provider show -n Microsoft.KeyVault"))
    if location not in place["regions"]:
        return (
            block(
                rule,
                f"Managed HSMs are not offered in {location or 'no region'} to this subscription",
                f"Plan with one of: {', '.join(place['regions'])}",
            ),
        )
    if place["registration"].lower() == "registering":
        text = "the provider Microsoft.KeyVault is being registered, region by region"
        return (here, warn(rule, text, "az provider show -n Microsoft.KeyVault"))
    return (here, ok(rule, f"Managed HSMs are offered in {location}"))


def same_geography(facts: JsonObject, ctx: RuleContext) -> Findings:
    """Whether the service takes a domain and backup of another geography is not known."""
    del ctx
    seen, rule = facts["geography"], "geography"
    source, target = seen["source"], seen["target"]
    if not (source["geography"] and target["geography"]):
        why = seen["unread"] or (
            f"the geography of {target['location']} is not told"
            if source["geography"]
            else "the inventory does not say where the source was, or that region is not told"
        )
        return (
            warn(rule, f"whether the target lies in the source's geography is not known: {why}"),
        )
    if source["geography"] != target["geography"]:
        text = (
            f"{target['location']} lies in {target['geography']}, the source's"
            f" {source['location']} in {source['geography']}: whether the service"
            " restores across geographies is not known"
        )
        advice = f"Choose a region of {source['geography']} where one is left."
        return (warn(rule, text, advice),)
    return (ok(rule, f"source and target lie in {target['geography']}"),)


_SHOWN: Final = 5
_ROLES: Final = {
    "Microsoft.KeyVault/": "Managed HSM contributor",
    "Microsoft.ManagedIdentity/": "Managed Identity Operator",
    "Microsoft.Sql/": "SQL Managed Instance Contributor",
}
"""Which built-in role allows an action, by the action's provider."""


def rights_to_change(facts: JsonObject, ctx: RuleContext) -> Findings:
    """What the operator may not do is better learnt now than in the second hour."""
    del ctx
    seen, rule = facts["operator-rights"], "rights"
    who = f"principal {seen['principal']}"
    findings = []
    places: dict[str, list[str]] = {}
    for scope, action in seen["lacking"]:
        places.setdefault(action, []).append(scope.rsplit("/", 1)[-1])
    for action, names in places.items():
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        text = f"{who} may not do {action} on {', '.join(names[:_SHOWN])}{more}"
        role = next(role for start, role in _ROLES.items() if action.startswith(start))
        findings.append(warn(rule, text, f"The role {role} allows it; a grant takes minutes."))
    if seen["unread"]:
        scope, why = seen["unread"][0]
        text = f"what {who} may do on {len(seen['unread'])} scopes is not known; {scope}: {why}"
        findings.append(warn(rule, text, "az role assignment list --all --assignee PRINCIPAL"))
    if findings:
        return tuple(findings)
    return (ok(rule, f"its roles allow {who} what this changes on {seen['scopes']} scopes"),)


RULES: Final[tuple[Rule, ...]] = (
    rule_of(
        "H05",
        "The way to the storage will do",
        ("storage-access",),
        "seed 004; T3",
        storage_reachable,
    ),
    rule_of(
        "H06",
        "The target can be placed: group, provider, region",
        ("target-place",),
        "PUT managedHSMs refuses ResourceGroupNotFound, MissingSubscriptionRegistration and"
        " LocationNotAvailableForResourceType",
        placeable,
    ),
    rule_of(
        "geography",
        "The target lies in the source's geography",
        ("geography",),
        "H01 of the catalogue (INFER: no recording shows a refusal)",
        same_geography,
    ),
    rule_of(
        "rights",
        "The operator may create the HSM and switch the instances",
        ("operator-rights",),
        "Permissions_ListForResource (INFER: deny assignments are not told)",
        rights_to_change,
    ),
)
