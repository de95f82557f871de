"""Rules about instances, failover groups and the order of writes."""

from __future__ import annotations

from typing import Final

from drengine.model.canonical import JsonObject
from drengine.model.findings import Finding, Findings, block, ok, warn
from drengine.model.times import instant_ms
from drengine.rules.contract import Rule, RuleContext, rule_of

_READY: Final = ("ready", "succeeded")


def _short(member: JsonObject) -> str:
    return str(member["id"]).rsplit("/", 1)[-1]


def instances_ready(facts: JsonObject, ctx: RuleContext) -> Findings:
    """S01: every member is ready and has nothing under way."""
    del ctx
    findings: list[Finding] = []
    for member in facts["group"]["members"]:
        if str(member["state"]).lower() not in _READY:
            text = f"{_short(member)} is {member['state']}"
            findings.append(block("S01", text, "Start the instance first, then resume."))
        elif member["busy"]:
            text = f"{_short(member)} is busy: {', '.join(member['busy'])}"
            findings.append(block("S01", text, "Wait for it, then resume."))
    return tuple(findings) or (ok("S01", "all members are ready"),)


def roles_as_planned(facts: JsonObject, ctx: RuleContext) -> Findings:
    """G01: secondary first, then primary; the roles are those that this run began with."""
    begun = ctx.outputs.get("roles") or {}
    now = {m["role"]: str(m["id"]).lower() for m in facts["group-roles"]["members"]}
    for role in ("Primary", "Secondary"):
        then = str(begun.get(role.lower(), "")).lower()
        if then and now.get(role) != then:
            text = f"the {role.lower()} was {then} and is now {now.get(role)}"
            advice = "The group failed over meanwhile. Plan again: the order depends on the roles."
            return (block("G01", text, advice),)
    return (ok("G01", "roles are as when this run began"),)


def same_material_on_secondary(facts: JsonObject, ctx: RuleContext) -> Findings:
    """G02: the secondary has the same key linked before the primary's protector changes."""
    del ctx
    group = facts["group"]
    secondary = [m for m in group["members"] if m["role"] == "Secondary"]
    if not secondary:
        return (ok("G02", "no secondary"),)
    host = group["target_host"]
    wanted = {
        thumbprint.upper()
        for m in group["members"]
        if not m.get("elsewhere")
        for name, uri, thumbprint in m["keys"]
        if name == m["protector"]["key_name"]
    }
    linked = {t.upper() for _, uri, t in secondary[0]["keys"] if f"//{host}/" in uri.lower()}
    if missing := wanted - linked:
        text = (
            f"{_short(secondary[0])} has no key of thumbprint {', '.join(sorted(missing))} linked"
        )
        advice = "Switching would fail with SameKeyMaterialNotFoundOnRemoteServer."
        return (block("G02", text, advice),)
    return (ok("G02", "the secondary holds the same key material"),)


def identities_may_use_keys(facts: JsonObject, ctx: RuleContext) -> Findings:
    """I02: every member has an identity that could use a key."""
    del ctx
    without = [_short(m) for m in facts["group"]["members"] if not m["principals"]]
    if without:
        text = f"{', '.join(without)} has no managed identity"
        return (block("I02", text, "AzureKeyVaultNoServerIdentity: assign one, then resume."),)
    return (ok("I02", "every member has a managed identity"),)


def auto_heal(facts: JsonObject, ctx: RuleContext) -> Findings:
    """T02: past the window databases do not come back by themselves; some settings are lost."""
    incident, window = ctx.inputs.get("incident_at"), ctx.inputs.get("autoheal_window")
    sick = [
        f"{_short(m)}/{name}"
        for m in facts["group"]["members"]
        for name, status in m["databases"]
        if status == "Inaccessible"
    ]
    if not sick:
        return (ok("T02", "no database is inaccessible"),)
    began = instant_ms(incident)
    if not isinstance(window, int) or began is None:
        return (warn("T02", f"{len(sick)} databases are inaccessible"),)
    left = began + window - ctx.now_ms
    if left > 0:
        text = (
            f"{len(sick)} databases are inaccessible; auto-heal works for {left // 60_000} min more"
        )
        return (warn("T02", text, "Once the key is reachable they come back by themselves."),)
    return (
        warn(
            "T02",
            f"{len(sick)} databases are inaccessible past the auto-heal window",
            "Reevaluation is the normal way now. Check and rebuild where needed: failover group"
            " settings, point-in-time restore history, database tags.",
            databases=sick,
        ),
    )


RULES: Final[tuple[Rule, ...]] = (
    rule_of("S01", "Members are ready", ("group",), "RB-4 step 5", instances_ready),
    rule_of("G01", "Roles have not changed", ("group-roles",), "seed 002", roles_as_planned),
    rule_of(
        "G02",
        "The secondary holds the same key material",
        ("group",),
        "seed 002; SameKeyMaterialNotFoundOnRemoteServer",
        same_material_on_secondary,
    ),
    rule_of("I02", "Members have identities", ("group",), "seed 002", identities_may_use_keys),
    rule_of(
        "T02", "The auto-heal window", ("group",), "seed 002 (8 h, historic); 30 min", auto_heal
    ),
)
