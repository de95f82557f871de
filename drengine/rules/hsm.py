"""Rules about the source, the target, the domain, the backup and who keeps access.

Ids follow the catalogue of the design notes (K, H, I) where it has one; others are words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from drengine.model.canonical import JsonObject
from drengine.model.findings import Finding, Findings, block, ok, warn
from drengine.model.folders import folder_form, is_folder_of
from drengine.model.ids import is_same_id
from drengine.model.times import instant_ms
from drengine.rules.contract import Rule, RuleContext, rule_of

ADMINISTRATOR: Final = "a290e904-7015-4bba-90c8-60543313cdb4"
USES_KEYS: Final = {
    "21dbd100-6940-42c2-9190-5d6cb909625b": "Managed HSM Crypto User",
    "515eb02d-2335-4d2d-92f2-b1cbdf9c3778": "Managed HSM Crypto Officer",
}
_CRYPTO_USER: Final = "21dbd100-6940-42c2-9190-5d6cb909625b"
_DAY_MS: Final = 86_400_000


def source_not_recoverable(facts: JsonObject, ctx: RuleContext) -> Findings:
    """The cheaper way first: an HSM that lives or is soft-deleted need not be rebuilt.

    Azure lists an HSM whose region is gone: `written_off` names one that is not waited for.
    """
    source = facts["source-hsm"]
    rule, name = "source-not-recoverable", source["name"]
    if deleted := source["soft_deleted"]:
        return (
            block(
                rule,
                f"{name} is only soft-deleted (until {deleted['scheduled_purge_date']}): recovering"
                " it brings back the same URI, keys and roles in minutes",
                f"az keyvault recover --hsm-name {name} --location {deleted['location']}",
            ),
        )
    written_off = str(ctx.inputs.get("written_off") or "").lower()
    if source["exists"] and written_off == str(name).lower():
        return (
            warn(
                rule,
                f"{name} is still listed ({source['provisioning']}, {source['activation']}) and"
                " was written off by whoever made the plan",
                "If it comes back, two HSMs hold the same keys: stop, and decide which one counts.",
            ),
        )
    if source["exists"]:
        return (
            block(
                rule,
                f"{name} exists and is {source['provisioning']}, {source['activation']}",
                "Is it really lost? If it only cannot be reached, see to the network first. Where"
                f" its region is gone and not waited for: plan with written_off={name}",
            ),
        )
    return (ok(rule, f"{name} is neither alive nor soft-deleted in this subscription"),)


def name_available(facts: JsonObject, ctx: RuleContext) -> Findings:
    """The target's name must be free everywhere."""
    seen, rule = facts["target-name"], "name-available"
    if seen["name"].lower() == str(ctx.inputs["source_hsm"]).lower():
        return (block(rule, "the target has the source's name", "Choose another name."),)
    if deleted := seen["soft_deleted"]:
        return (
            block(
                rule,
                f"{seen['name']} is soft-deleted until {deleted['scheduled_purge_date']}: the name"
                " is taken until then",
                "Choose another name. drengine never purges by itself.",
            ),
        )
    if seen["live"] or not seen["free"]:
        why = seen["message"] or seen["reason"] or seen["live"]
        return (
            block(rule, f"{seen['name']} is taken: {str(why).rstrip('.')}", "Choose another name."),
        )
    return (ok(rule, f"{seen['name']} is free"),)


def target_is_ours(facts: JsonObject, ctx: RuleContext) -> Findings:
    """The run's tag is read again before each send that cannot be undone."""
    target, rule = facts["target-hsm"], "target-is-ours"
    if not target["exists"]:
        return (block(rule, f"{target['name']} does not exist", "Look into the create step."),)
    if target["run_tag"] != ctx.root:
        return (
            block(
                rule,
                f"{target['name']} carries run tag {target['run_tag']!r}, expected {ctx.root!r}",
                "It is another run's HSM or nobody's. Nothing was sent.",
            ),
        )
    if target["name"].lower() == str(ctx.inputs["source_hsm"]).lower():
        return (block(rule, "the target is the source", "Nothing was sent."),)
    return (ok(rule, f"{target['name']} carries this run's tag"),)


def target_not_protected(facts: JsonObject, ctx: RuleContext) -> Findings:
    """Names that the inventory or the operator protects are never a target."""
    target = str(ctx.inputs["target_hsm"]).lower()
    names = [str(name).lower() for name in ctx.inputs.get("protected_names") or ()]
    names.append(str(facts["inventory"]["hsm"]["name"]).lower())
    if target in names:
        text = f"{target} is a protected name"
        return (block("target-not-protected", text, "Choose another target name."),)
    return (ok("target-not-protected", f"{target} is not among {len(names)} protected names"),)


def hsm_provisioned(facts: JsonObject, ctx: RuleContext) -> Findings:
    """The new HSM is ready and waits for a domain."""
    del ctx
    target, rule = facts["target-hsm"], "hsm-provisioned"
    if target["exists"] and target["provisioned"]:
        return (ok(rule, f"{target['name']} is provisioned at {target['uri']}"),)
    found = "is not provisioned yet" if target["exists"] else "does not exist"
    return (block(rule, f"{target['name']} {found}"),)


def hsm_active(facts: JsonObject, ctx: RuleContext) -> Findings:
    """The HSM has a security domain."""
    del ctx
    target, rule = facts["target-hsm"], "hsm-active"
    if target["exists"] and target["activation"] == "Active":
        return (ok(rule, f"{target['name']} is active"),)
    return (block(rule, f"{target['name']} is {target.get('activation', 'absent')}"),)


def recovery_level(facts: JsonObject, ctx: RuleContext) -> Findings:
    """K09: a target that will hold a protector needs purge protection; a drill must not have it."""
    target = facts["target-hsm"]
    if not target["exists"]:
        return (block("K09", f"{target['name']} is not to be seen, nor is its purge protection"),)
    if not ctx.inputs.get("protects_sql", True):
        if target["purge_protection"]:
            text = "purge protection is on although no SQL instance needs it"
            return (warn("K09", text, "It is billed for the whole retention after a delete."),)
        return (ok("K09", "purge protection is off, and no SQL instance needs it"),)
    if not target["purge_protection"]:
        return (
            block(
                "K09",
                "purge protection is off: SQL Managed Instance refuses keys whose recovery level"
                " is purgeable (SecurityInvalidAzureKeyVaultRecoveryLevel)",
                "az keyvault update-hsm --enable-purge-protection true"
                f" --hsm-name {target['name']}",
            ),
        )
    return (ok("K09", f"purge protection on, retention {target['soft_delete_days']} days"),)


def domain_fits(facts: JsonObject, ctx: RuleContext) -> Findings:
    """H01: security domain, quorum and inventory belong together, before anything is created."""
    recorded, rule = facts["inventory"]["security_domain"], "H01"
    given: Mapping[str, Any] = ctx.plan.get("domain") or {}
    findings: list[Finding] = []
    if not recorded:
        findings.append(
            warn(
                rule,
                "the inventory records no security domain: that this file belongs to the backup is"
                " shown only by the restore itself",
                "Take the inventory with --sd-file next time.",
            )
        )
    elif recorded["sha256"] != given["sha256"] and (
        recorded["custodians"] != given["custodians"] or recorded["required"] != given["required"]
    ):
        return (
            block(
                rule,
                f"security-domain file {given['sha256'][:12]}… is not the one that the inventory"
                f" records ({recorded['sha256'][:12]}…), and its custodians differ",
                "Find the file that belongs to this HSM before anything is created.",
            ),
        )
    elif recorded["sha256"] != given["sha256"]:
        text = "the file's bytes differ from the inventory's record, its custodians are the same"
        findings.append(warn(rule, text, "It may be a later download of the same domain."))
    have = ctx.inputs.get("custodians")
    if have is not None:
        reachable = [x5t for x5t in given["custodians"] if x5t in have]
        if len(reachable) < given["required"]:
            text = (
                f"{len(reachable)} of the domain's custodians are named, {given['required']} needed"
            )
            return (block(rule, text, "Without a quorum nothing can be recovered. Do not begin."),)
    required, holders = given["required"], len(given["custodians"])
    findings.append(ok(rule, f"the domain needs {required} of {holders} custodians"))
    return tuple(findings)


def backup_fits(facts: JsonObject, ctx: RuleContext) -> Findings:
    """H04: the folder is the source's, is as it was planned, and is not empty."""
    seen, planned = facts["backup-folder"], ctx.plan["backup"]
    source = str(ctx.inputs["source_hsm"])
    if not is_folder_of(source, str(seen["folder"])):
        text = f"folder {seen['folder']} is not a backup of {source}, whose folders are named"
        text += f" {folder_form(source)}"
        return (block("H04", text, "Plan again with the right folder."),)
    if not seen["blobs"]:
        return (block("H04", f"folder {seen['folder']} is empty or gone", "Plan again."),)
    if seen["digest"] != planned["digest"]:
        return (
            block(
                "H04",
                f"folder {seen['folder']} is not what it was when the plan was made"
                f" ({seen['blobs']} blobs now, {planned['blobs']} then)",
                "Somebody changed the backup. Find out who, then plan again.",
            ),
        )
    out = [ok("H04", f"{seen['folder']}: {seen['blobs']} blobs, unchanged since the plan")]
    if original := planned.get("copy_of"):
        text = f"{seen['folder']} has the names and sizes of the one in {original}: it is a copy"
        out.append(warn("H04", text, "What it holds is checked by the HSM when it is restored."))
    if newer := planned.get("newer"):
        text = f"{len(newer)} newer backups existed when the plan was made, latest {newer[-1]}"
        out.append(warn("H04", text, "The plan names an older one: meant?"))
    return tuple(out)


def recovery_point(facts: JsonObject, ctx: RuleContext) -> Findings:
    """RPO: how much is lost between the backup and the incident."""
    taken = facts["backup-folder"]["taken_at_ms"]
    incident = instant_ms(ctx.inputs.get("incident_at"))
    if not isinstance(taken, int) or incident is None:
        return (warn("RPO", "the backup's age cannot be told"),)
    age_ms = max(incident - taken, 0)
    limit = ctx.inputs.get("rpo_ms")
    text = f"the backup is {_age(age_ms)} older than the incident"
    if isinstance(limit, int) and age_ms > limit:
        advice = "What was made or changed since is lost."
        return (warn("RPO", f"{text}, the objective is {_age(limit)}", advice),)
    return (ok("RPO", text),)


def _age(ms: int) -> str:
    minutes = ms // 60_000
    if minutes < 60:  # noqa: PLR2004 - an hour
        return f"{minutes}m"
    return f"{minutes // 60}h{minutes % 60:02d}m" if minutes < 48 * 60 else f"{ms // _DAY_MS} days"


def target_empty(facts: JsonObject, ctx: RuleContext) -> Findings:
    """H03: a full restore replaces everything, so the target must hold nothing."""
    names = facts["target-keys"]["names"]
    allowed = str(ctx.inputs.get("overwrite") or "")
    if not names:
        return (ok("H03", "the target holds no key"),)
    shown = ", ".join(names[:5])
    if allowed.lower() == str(ctx.inputs["target_hsm"]).lower():
        text = f"the target holds {len(names)} keys ({shown}) that the restore will replace"
        return (warn("H03", text, "The operator named it in `overwrite`."),)
    return (
        block(
            "H03",
            f"the target holds {len(names)} keys ({shown}); a full restore would replace them",
            "Is this the right HSM? If so, plan with the input `overwrite` set to its name.",
        ),
    )


def blob_made(facts: JsonObject, ctx: RuleContext) -> Findings:
    """Who made the blob and how: it becomes the domain for ever."""
    del ctx
    made, rule = facts["restore-blob"].get("made") or {}, "CEREMONY"
    if not made.get("transcript"):
        met = "whoever delivered it says that the keys of a quorum met in one process"
        told = met if made else "nobody says how that was"
        text = f"no transcript that is attached shows how the blob was made; {told}"
        advice = "Ask the combiner. It counts when it is attached before the blob is taken in."
        return (warn(rule, text, advice),)
    gave, signed = len(made["custodians"]), len(made["signed"])
    shown = f"transcript {made['transcript'][:12]}…"
    if made["form"] == "combine":
        text = f"the keys of a quorum met in one process on one machine; {shown}"
        findings = [warn(rule, text)]
    else:
        text = f"{gave} custodians gave shares, {made['required']} are needed; {signed} signed"
        findings = [ok(rule, f"{text}; {shown}")]
    if made["form"] != "combine" and signed < gave:
        findings.append(warn(rule, f"{gave - signed} contributions are not signed"))
    findings += [warn(rule, f"deviation of the ceremony: {text}") for text in made["deviations"]]
    if (more := made["deviation_count"] - len(made["deviations"])) > 0:
        findings.append(warn(rule, f"and {more} deviations more: read the transcript"))
    return tuple(findings)


def target_backed_up(facts: JsonObject, ctx: RuleContext) -> Findings:
    """H02: a backup of the target comes before any restore, even when it is empty."""
    del ctx
    seen = facts["target-backup"]
    if not seen["blobs"]:
        return (block("H02", "no backup of the target lies in storage", "Resume from the backup."),)
    return (ok("H02", f"{seen['folder']} holds {seen['blobs']} blobs"),)


def lock_out(facts: JsonObject, ctx: RuleContext) -> Findings:
    """The restore replaces role assignments: who keeps a way in?"""
    roles, me, rule = facts["inventory"]["roles"], ctx.where.principal, "LOCKOUT"
    findings: list[Finding] = []
    admins = [r for r in roles if is_same_id(r["role"], ADMINISTRATOR) and r["scope"] == "/"]
    if not admins:
        text = "LOCK-OUT RISK: no administrator stands in the backup's role assignments"
        findings.append(block(rule, text, "After the restore nobody could administer this HSM."))
    elif not any(is_same_id(r["principal"], me) for r in admins):
        names = ", ".join(sorted({str(r["principal"]) for r in admins})[:5])
        text = f"LOCK-OUT RISK: after the restore this principal ({me}) is no administrator"
        advice = f"Make sure that one of these can be reached: {names}."
        findings.append(warn(rule, text, advice))
    else:
        findings.append(ok(rule, f"{len(admins)} administrators remain, this principal among them"))
    if not any(
        is_same_id(r["principal"], me)
        and str(r["role"]).lower() in USES_KEYS
        and r["scope"] in ("/", "/keys")
        for r in roles
    ):
        text = "LOCK-OUT RISK: after the restore this principal may not list or use keys"
        advice = "The proof of recovery would stop there; an administrator must grant Crypto User."
        findings.append(warn(rule, text, advice))
    return tuple(findings)


def rights_to_verify(facts: JsonObject, ctx: RuleContext) -> Findings:
    """After the restore: may this principal still look?"""
    del ctx
    seen = facts["target-access"]
    wrong = [f"{what}: {seen[what]}" for what in ("keys", "roles") if seen[what] is not True]
    if wrong:
        return (
            block(
                "access",
                f"principal {seen['principal']} may not read {'; '.join(wrong)}",
                "An administrator that stands in the backup must grant Managed HSM Crypto User"
                f" ({_CRYPTO_USER}) at /keys, then resume.",
            ),
        )
    return (ok("access", "this principal may list keys and roles"),)


RULES: Final[tuple[Rule, ...]] = (
    rule_of(
        "source-not-recoverable",
        "The source is neither alive nor recoverable from soft delete",
        ("source-hsm",),
        "RB-1 step 0",
        source_not_recoverable,
    ),
    rule_of(
        "name-available",
        "The target's name is free",
        ("target-name",),
        "checkMhsmNameAvailability; H5",
        name_available,
    ),
    rule_of(
        "target-not-protected",
        "The target is not a protected name",
        ("inventory",),
        "W4",
        target_not_protected,
    ),
    rule_of(
        "target-is-ours", "The target carries this run's tag", ("target-hsm",), "W4", target_is_ours
    ),
    rule_of(
        "hsm-provisioned",
        "The target is provisioned",
        ("target-hsm",),
        "RB-1 step 2",
        hsm_provisioned,
    ),
    rule_of("hsm-active", "The target is active", ("target-hsm",), "RB-1 step 5", hsm_active),
    rule_of(
        "K09",
        "Purge protection fits what the target protects",
        ("target-hsm",),
        "SQL error SecurityInvalidAzureKeyVaultRecoveryLevel; seed 002",
        recovery_level,
    ),
    rule_of(
        "H01",
        "Security domain, quorum and inventory belong together",
        ("inventory",),
        "seed 004; W1",
        domain_fits,
    ),
    rule_of(
        "H02",
        "The target was backed up before the restore",
        ("target-backup",),
        "seed 004",
        target_backed_up,
    ),
    rule_of("H03", "The target holds no key", ("target-keys",), "backup-restore; W4", target_empty),
    rule_of(
        "H04",
        "The backup folder is the source's and unchanged",
        ("backup-folder",),
        "seed 004; W3",
        backup_fits,
    ),
    rule_of("RPO", "The backup's age", ("backup-folder",), "objectives", recovery_point),
    rule_of(
        "CEREMONY",
        "How the restore blob was made",
        ("restore-blob",),
        "docs/ceremony.md",
        blob_made,
    ),
    rule_of(
        "LOCKOUT",
        "Somebody keeps administering the target after the restore",
        ("inventory",),
        "backup-restore: role assignments are replaced",
        lock_out,
    ),
    rule_of(
        "access",
        "This principal may still verify after the restore",
        ("target-access",),
        "pitfall 17",
        rights_to_verify,
    ),
)
