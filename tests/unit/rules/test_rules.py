"""Every rule holds where it must and blocks where it must, on the smallest facts."""

from __future__ import annotations

import dataclasses

import pytest

from drengine.actions.observe import OBSERVERS
from drengine.model.findings import Severity
from drengine.model.plan import CloudIdentity
from drengine.model.runbook import RunClass
from drengine.model.times import utc_text
from drengine.rules.catalogue import RULES
from drengine.rules.contract import RuleContext
from drengine.rules.hsm import ADMINISTRATOR

ME = "me"
CRYPTO_USER = "21dbd100-6940-42c2-9190-5d6cb909625b"
CTX = RuleContext(
    run_class=RunClass.INCIDENT,
    root="r-1",
    step="s",
    now_ms=1_795_000_000_000,
    where=CloudIdentity("AzureCloud", "t", "s", ME),
    inputs={"source_hsm": "Old", "target_hsm": "new", "protects_sql": True},
    plan={},
    outputs={},
)


def judge(rule: str, facts: dict, **more) -> list:
    return list(RULES[rule].check(facts, dataclasses.replace(CTX, **more)))


def worst(rule: str, facts: dict, **more) -> Severity:
    order = list(Severity)
    return max((f.severity for f in judge(rule, facts, **more)), key=order.index)


def test_every_rule_needs_only_observations_that_exist_and_says_where_it_is_from():
    for rule in RULES.values():
        assert set(rule.needs) <= set(OBSERVERS)
        assert rule.source
        assert rule.title
        assert rule.advice


def source(**more) -> dict:
    return {"source-hsm": {"name": "old", "exists": False, "soft_deleted": None, **more}}


DELETED = {"scheduled_purge_date": "2027-01-01", "location": "westeurope"}


def test_a_source_that_is_written_off_by_its_name_is_warned_of_and_a_deleted_one_still_refused():
    alive = source(exists=True, provisioning="Succeeded", activation="Active")
    named = {**CTX.inputs, "written_off": "OLD"}
    (finding,) = judge("source-not-recoverable", alive, inputs=named)
    assert finding.severity is Severity.WARN
    assert "two HSMs hold the same keys" in finding.advice
    other = {**CTX.inputs, "written_off": "olde"}
    assert worst("source-not-recoverable", alive, inputs=other) is Severity.BLOCK
    gone = source(soft_deleted=DELETED)
    assert worst("source-not-recoverable", gone, inputs=named) is Severity.BLOCK


def test_a_living_or_recoverable_source_is_not_rebuilt():
    assert worst("source-not-recoverable", source()) is Severity.OK
    alive = source(exists=True, provisioning="Succeeded", activation="Active")
    assert worst("source-not-recoverable", alive) is Severity.BLOCK
    (finding,) = judge("source-not-recoverable", source(soft_deleted=DELETED))
    assert finding.severity is Severity.BLOCK
    assert "az keyvault recover" in finding.advice


def name(**more) -> dict:
    base = {"name": "new", "live": "", "soft_deleted": None, "free": True}
    return {"target-name": {**base, "reason": "", "message": "", **more}}


@pytest.mark.parametrize(
    "taken",
    [
        {"live": "/subscriptions/x"},
        {"free": False, "reason": "AlreadyExists"},
        {"soft_deleted": DELETED},
        {"name": "old"},
    ],
)
def test_a_taken_soft_deleted_or_source_name_is_no_target(taken):
    assert worst("name-available", name()) is Severity.OK
    assert worst("name-available", name(**taken)) is Severity.BLOCK


def target(**more) -> dict:
    base = {
        "name": "new",
        "exists": True,
        "provisioned": True,
        "activation": "Active",
        "run_tag": "r-1",
        "uri": "https://new.managedhsm.azure.net/",
        "purge_protection": True,
        "soft_delete_days": 90,
    }
    return {"target-hsm": {**base, **more}}


@pytest.mark.parametrize(
    "wrong", [{"exists": False}, {"run_tag": ""}, {"run_tag": "r-2"}, {"name": "OLD"}]
)
def test_only_an_hsm_with_this_runs_tag_is_ours(wrong):
    assert worst("target-is-ours", target()) is Severity.OK
    assert worst("target-is-ours", target(**wrong)) is Severity.BLOCK


def test_purge_protection_fits_what_the_target_protects():
    assert worst("K09", target()) is Severity.OK
    assert worst("K09", target(purge_protection=False)) is Severity.BLOCK
    drill = {**CTX.inputs, "protects_sql": False}
    assert worst("K09", target(), inputs=drill) is Severity.WARN
    assert worst("K09", target(purge_protection=False), inputs=drill) is Severity.OK


def test_an_hsm_that_is_not_to_be_seen_yet_holds_no_purge_protection_k09():
    unseen = {"target-hsm": {"name": "new", "exists": False}}
    drill = {**CTX.inputs, "protects_sql": False}
    assert worst("K09", unseen) is Severity.BLOCK
    assert worst("K09", unseen, inputs=drill) is Severity.BLOCK


def test_provisioned_and_active_say_what_they_see():
    assert worst("hsm-provisioned", target(provisioned=False)) is Severity.BLOCK
    assert worst("hsm-active", target(activation="NotActivated")) is Severity.BLOCK
    assert worst("hsm-active", target()) is Severity.OK


DOMAIN = {"sha256": "a" * 64, "required": 2, "custodians": ["x", "y", "z"]}


def inventory(domain=DOMAIN, roles=()) -> dict:
    return {"inventory": {"hsm": {"name": "old"}, "security_domain": domain, "roles": list(roles)}}


def test_another_hsms_security_domain_is_refused_before_anything_is_created():
    assert worst("H01", inventory(), plan={"domain": DOMAIN}) is Severity.OK
    other = {**DOMAIN, "sha256": "b" * 64, "custodians": ["p", "q", "r"]}
    assert worst("H01", inventory(), plan={"domain": other}) is Severity.BLOCK
    again = {**DOMAIN, "sha256": "b" * 64}
    assert worst("H01", inventory(), plan={"domain": again}) is Severity.WARN
    assert worst("H01", inventory(domain=None), plan={"domain": DOMAIN}) is Severity.WARN


def test_a_quorum_that_cannot_be_met_is_refused():
    few = {**CTX.inputs, "custodians": ["x"]}
    assert worst("H01", inventory(), plan={"domain": DOMAIN}, inputs=few) is Severity.BLOCK


FOLDER = {"folder": "mhsm-old-20261118101200", "blobs": 5, "digest": "d", "taken_at_ms": 1}


@pytest.mark.parametrize(
    "wrong",
    [
        {"folder": "mhsm-other-20261118101200"},
        {"folder": "mhsm-old-dr-20261118101200"},
        {"folder": "mhsm-old-"},
        {"blobs": 0},
        {"digest": "e"},
    ],
)
def test_a_foreign_empty_or_changed_backup_folder_is_refused(wrong):
    plan = {"backup": FOLDER}
    assert worst("H04", {"backup-folder": FOLDER}, plan=plan) is Severity.OK
    assert worst("H04", {"backup-folder": {**FOLDER, **wrong}}, plan=plan) is Severity.BLOCK


def test_a_folder_of_another_hsm_is_refused_with_the_reason():
    other = {**FOLDER, "folder": "mhsm-old-dr-20261118101200"}
    (finding,) = judge("H04", {"backup-folder": other}, plan={"backup": other})
    assert "mhsm-old-dr-20261118101200 is not a backup of Old" in finding.message
    assert "mhsm-old- and 14 to 17 digits" in finding.message


def test_a_newer_backup_than_the_planned_one_is_pointed_out():
    plan = {"backup": {**FOLDER, "newer": ["mhsm-old-20261119101200"]}}
    assert worst("H04", {"backup-folder": FOLDER}, plan=plan) is Severity.WARN


def test_a_copy_of_the_recorded_folder_is_pointed_out():
    plan = {"backup": {**FOLDER, "copy_of": "https://acct.blob.core.windows.net/backups"}}
    found = judge("H04", {"backup-folder": FOLDER}, plan=plan)
    assert [finding.severity for finding in found] == [Severity.OK, Severity.WARN]
    assert "https://acct.blob.core.windows.net/backups: it is a copy" in found[1].message


def test_the_backups_age_is_judged_against_the_objective():
    inputs = {**CTX.inputs, "incident_at": "2026-11-18T12:12:00.000Z", "rpo_ms": 3_600_000}
    taken = {"backup-folder": {**FOLDER, "taken_at_ms": 1_795_000_000_000}}
    fresh = {**inputs, "rpo_ms": 10**12}
    assert worst("RPO", taken, inputs=fresh) is Severity.OK
    old = {"backup-folder": {**FOLDER, "taken_at_ms": 0}}
    assert worst("RPO", old, inputs=inputs) is Severity.WARN
    assert worst("RPO", {"backup-folder": {**FOLDER, "taken_at_ms": None}}) is Severity.WARN


def test_a_target_that_holds_keys_needs_its_name_typed():
    held = {"target-keys": {"names": ["a"]}}
    assert worst("H03", {"target-keys": {"names": []}}) is Severity.OK
    assert worst("H03", held) is Severity.BLOCK
    assert worst("H03", held, inputs={**CTX.inputs, "overwrite": "other"}) is Severity.BLOCK
    assert worst("H03", held, inputs={**CTX.inputs, "overwrite": "New"}) is Severity.WARN


def test_no_restore_without_a_backup_of_the_target():
    assert worst("H02", {"target-backup": {"folder": "f", "blobs": 1}}) is Severity.OK
    assert worst("H02", {"target-backup": {"folder": "", "blobs": 0}}) is Severity.BLOCK


def role(role_id: str, principal: str, scope: str = "/") -> dict:
    return {"name": "n", "scope": scope, "role": role_id, "principal": principal}


def test_lock_out_is_seen_before_the_restore():
    mine = [role(ADMINISTRATOR, ME), role(CRYPTO_USER, ME, "/keys")]
    assert worst("LOCKOUT", inventory(roles=mine)) is Severity.OK
    shouted = [{**each, "role": each["role"].upper(), "principal": ME.upper()} for each in mine]
    assert worst("LOCKOUT", inventory(roles=shouted)) is Severity.OK
    assert worst("LOCKOUT", inventory(roles=[])) is Severity.BLOCK
    others = [role(ADMINISTRATOR, "ann"), role(CRYPTO_USER, ME, "/keys")]
    (finding, _) = [*judge("LOCKOUT", inventory(roles=others)), None]
    assert finding.severity is Severity.WARN
    assert "LOCK-OUT RISK" in finding.message
    assert "ann" in finding.advice
    blind = [role(ADMINISTRATOR, ME)]
    assert worst("LOCKOUT", inventory(roles=blind)) is Severity.WARN


def test_a_way_to_the_storage_that_will_not_do_is_refused():
    good = {"by": "identity", "identity": "/id", "problems": []}
    assert worst("H05", {"storage-access": good}) is Severity.OK
    afar = {**good, "elsewhere": "0000-another"}
    assert worst("H05", {"storage-access": afar}) is Severity.WARN
    made = {"by": "delegation", "rights": "cdlrw", "problems": []}
    assert worst("H05", {"storage-access": made}) is Severity.OK
    gone = {**good, "exists": False, "unread": ""}
    assert worst("H05", {"storage-access": gone}) is Severity.BLOCK
    unread = {**good, "exists": True, "unread": "no right"}
    assert worst("H05", {"storage-access": unread}) is Severity.WARN
    given = {"by": "sas", "rights": "cdlrw", "problems": []}
    day = 86_400_000
    long = {**given, "expires_ms": CTX.now_ms + day}
    assert worst("H05", {"storage-access": long}) is Severity.OK
    short = {**given, "expires_ms": CTX.now_ms + day - 1}
    assert worst("H05", {"storage-access": short}) is Severity.WARN
    bad = {"by": "sas", "rights": "rl", "problems": ["it grants lr, and lacks cdw"]}
    assert worst("H05", {"storage-access": bad}) is Severity.BLOCK


@pytest.mark.parametrize(
    ("minutes", "said"), [(15, "15m older"), (90, "1h30m older"), (3 * 1440, "3 days older")]
)
def test_the_age_of_a_backup_is_told_as_people_say_it(minutes, said):
    incident_ms = 1_795_046_400_000
    taken = {"backup-folder": {**FOLDER, "taken_at_ms": incident_ms - minutes * 60_000}}
    (finding,) = judge("RPO", taken, inputs={"incident_at": utc_text(incident_ms)})
    assert said in finding.message


def test_a_target_without_its_resource_group_is_refused_with_the_command_that_makes_it():
    assert worst("H06", place()) is Severity.OK
    (finding,) = judge("H06", place(exists=False))
    assert finding.severity is Severity.BLOCK
    assert "az group create -n contoso-dr -l northeurope" in finding.advice


def place(**more) -> dict:
    base = {
        "group": "contoso-dr",
        "exists": True,
        "location": "northeurope",
        "registration": "Registered",
        "usable": True,
        "regions": ["northeurope", "westeurope"],
        "unread": "",
    }
    return {"target-place": {**base, **more}}


def test_while_the_provider_is_being_registered_nothing_is_refused():
    assert worst("H06", place(registration="Registering")) is Severity.WARN


@pytest.mark.parametrize("state", ["NotRegistered", "Unregistering", "Unregistered"])
def test_a_subscription_whose_provider_is_not_registered_creates_no_hsm(state):
    (finding,) = judge("H06", place(registration=state, usable=False, exists=None))
    assert finding.severity is Severity.BLOCK
    assert state in finding.message
    assert "az provider register -n Microsoft.KeyVault" in finding.advice


def test_a_region_without_hsms_is_refused_with_those_that_have_them():
    (finding,) = judge("H06", place(location="francesouth"))
    assert finding.severity is Severity.BLOCK
    assert "francesouth" in finding.message
    assert finding.advice.endswith("northeurope, westeurope")


@pytest.mark.parametrize(
    "silent", [{"unread": "no right"}, {"registration": ""}, {"regions": []}], ids=str
)
def test_what_the_provider_does_not_say_is_not_known_and_not_refused(silent):
    found = judge("H06", place(**silent))
    assert [finding.severity for finding in found] == [Severity.OK, Severity.WARN]
    assert "is not known" in found[-1].message


def geography(source=("westeurope", "Europe"), target=("northeurope", "Europe"), unread="") -> dict:
    named = zip(("source", "target"), (source, target), strict=True)
    places = {role: {"location": at, "geography": name} for role, (at, name) in named}
    return {"geography": {**places, "unread": unread}}


def test_another_geography_than_the_sources_is_warned_of():
    assert worst("geography", geography()) is Severity.OK
    (finding,) = judge("geography", geography(target=("uksouth", "United Kingdom")))
    assert finding.severity is Severity.WARN
    assert "United Kingdom" in finding.message
    assert "a region of Europe" in finding.advice


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (geography(source=("", "")), "the inventory does not say"),
        (geography(target=("moon", "")), "moon is not told"),
        (geography(("westeurope", ""), ("northeurope", ""), "no right"), "no right"),
    ],
    ids=["no source", "no such region", "unread"],
)
def test_a_geography_that_nobody_tells_is_not_known(facts, why):
    (finding,) = judge("geography", facts)
    assert finding.severity is Severity.WARN
    assert why in finding.message


def rights(lacking=(), unread=()) -> dict:
    found = {"principal": ME, "scopes": 3, "lacking": list(lacking), "unread": list(unread)}
    return {"operator-rights": found}


def test_a_right_that_is_lacking_is_warned_of_and_never_refused():
    assert worst("rights", rights()) is Severity.OK
    keys, hsms = "Microsoft.Sql/managedInstances/keys/write", "Microsoft.KeyVault/x/write"
    (finding,) = judge("rights", rights([[f"/mi/{n}", keys] for n in range(7)]))
    assert finding.severity is Severity.WARN
    assert finding.message.endswith(f"may not do {keys} on 0, 1, 2, 3, 4 and 2 more")
    assert "SQL Managed Instance Contributor" in finding.advice
    found = judge("rights", rights([["/rg", hsms]], [["/mi/0", "no right"]]))
    assert [finding.severity for finding in found] == [Severity.WARN, Severity.WARN]
    assert "on 1 scopes is not known; /mi/0: no right" in found[1].message


def made(**more) -> dict:
    base = {
        "form": "contribute",
        "transcript": "ab" * 32,
        "required": 2,
        "custodians": ["x", "y"],
        "signed": ["Ada", "Ben"],
        "deviations": [],
        "deviation_count": 0,
    }
    return {"restore-blob": {"sha256": "b", "made": {**base, **more}}}


def test_whoever_lets_a_blob_become_the_domain_reads_who_made_it():
    (finding,) = judge("CEREMONY", made())
    assert finding.severity is Severity.OK
    assert "2 custodians gave shares, 2 are needed; 2 signed; transcript abab" in finding.message


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"restore-blob": {}}, "shows how the blob was made; nobody says"),
        (
            {"restore-blob": {"made": {"form": "combine", "transcript": ""}}},
            "says that the keys of a quorum met",
        ),
        (made(form="combine", custodians=[], signed=[]), "met in one process"),
        (made(signed=["Ada"]), "1 contributions are not signed"),
        (
            made(deviations=["Olga: late"], deviation_count=1),
            "deviation of the ceremony: Olga: late",
        ),
        (made(deviations=["a"] * 10, deviation_count=14), "and 4 deviations more"),
    ],
)
def test_what_is_not_as_it_should_be_with_a_ceremony_is_warned_of(facts, said):
    warned = [each.message for each in judge("CEREMONY", facts) if each.severity is Severity.WARN]
    assert any(said in text for text in warned), warned


def test_protected_names_are_never_a_target():
    assert worst("target-not-protected", inventory()) is Severity.OK
    protected = {**CTX.inputs, "protected_names": ["NEW"]}
    assert worst("target-not-protected", inventory(), inputs=protected) is Severity.BLOCK


def member(role_name: str, **more) -> dict:
    base = {
        "id": f"/mi/{role_name.lower()}",
        "role": role_name,
        "state": "Ready",
        "busy": [],
        "principals": ["p"],
        "keys": [
            ["old_k_1", "https://old/keys/k/1", "AB"],
            ["new_k_1", "https://new/keys/k/1", "ab"],
        ],
        "protector": {"key_name": "old_k_1"},
        "databases": [["db", "Online"]],
    }
    return {**base, **more}


def group(*members) -> dict:
    return {"group": {"name": "g", "target_host": "new", "members": list(members)}}


def test_busy_or_stopped_members_are_not_touched():
    assert worst("S01", group(member("Primary"))) is Severity.OK
    assert worst("S01", group(member("Primary", busy=["UpsertKey"]))) is Severity.BLOCK
    assert worst("S01", group(member("Primary", state="Stopped"))) is Severity.BLOCK


def test_roles_that_changed_meanwhile_stop_the_group():
    begun = {"roles": {"primary": "/mi/primary", "secondary": "/mi/secondary"}}
    same = {"group-roles": {"members": [member("Primary"), member("Secondary")]}}
    assert worst("G01", same, outputs=begun) is Severity.OK
    swapped = [member("Primary", id="/mi/secondary"), member("Secondary", id="/mi/primary")]
    assert worst("G01", {"group-roles": {"members": swapped}}, outputs=begun) is Severity.BLOCK


def test_the_primary_waits_until_the_secondary_holds_the_same_material():
    assert worst("G02", group(member("Primary"), member("Secondary"))) is Severity.OK
    bare = member("Secondary", keys=[["old_k_1", "https://old/keys/k/1", "AB"]])
    assert worst("G02", group(member("Primary"), bare)) is Severity.BLOCK
    assert worst("G02", group(member("Primary"))) is Severity.OK


def test_an_instance_without_identity_is_named():
    assert worst("I02", group(member("Primary", principals=[]))) is Severity.BLOCK


def test_past_the_auto_heal_window_what_must_be_rebuilt_is_listed():
    sick = group(member("Primary", databases=[["db", "Inaccessible"]]))
    inputs = {**CTX.inputs, "incident_at": "2026-11-18T10:00:00.000Z", "autoheal_window": 1_800_000}
    (finding,) = judge("T02", sick, inputs=inputs)
    assert finding.severity is Severity.WARN
    assert "Reevaluation is the normal way" in finding.advice
    (early,) = judge("T02", sick, inputs={**inputs, "autoheal_window": 10**12})
    assert "auto-heal works for" in early.message
    assert worst("T02", group(member("Primary")), inputs=inputs) is Severity.OK


def test_what_the_service_says_of_a_taken_name_ends_in_one_full_stop():
    (finding,) = judge("name-available", name(free=False, message="It is in use."))
    assert (
        f"{finding.message}. {finding.advice}" == "new is taken: It is in use. Choose another name."
    )
