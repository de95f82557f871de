"""What the command line refuses, against a real lab: nothing of it reaches the target."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drengine.model.canonical import digest


@pytest.fixture(autouse=True)
def nothing_is_changed(place):
    before = len(place.changes())
    yield
    assert place.changes()[before:] == []


def replanned(path, **cloud):
    """A plan whose digest agrees, but which was made for another cloud."""
    doc = json.loads(path.read_bytes())
    doc["cloud"].update(cloud)
    del doc["digest"]
    doc["digest"] = digest(doc)
    out = path.with_suffix(".changed.json")
    out.write_text(json.dumps(doc))
    return out


def test_missing_and_mistyped_inputs_are_told_at_once(place):
    code, said, out = place.plan(target_hsm="no good name!", location=None, sd_flie="x")
    assert code == 3
    assert "target_hsm" in said
    assert "location" in said
    assert "sd_file" in said
    assert not out.exists()


def test_an_input_file_that_is_not_there_is_named(place):
    code, said, _ = place.plan(sd_file="/nowhere/sd.json")
    assert code == 3
    assert "/nowhere/sd.json" in said


def test_the_inventory_of_another_hsm_is_refused(place):
    code, said, _ = place.plan(source_hsm="contoso--other")
    assert code == 3
    assert "contoso--other" in said


def test_a_security_domain_that_is_none_is_refused(place):
    bad = place.folder / "bad-sd.json"
    bad.write_text("{}")
    code, said, _ = place.plan(sd_file=str(bad))
    assert code == 15
    assert "bad-sd.json" in said or "security" in said


def test_a_folder_of_another_hsm_is_refused(place):
    code, said, _ = place.plan(backup="mhsm-contoso--other-2026010100000000")
    assert code == 3
    assert "mhsm-contoso--hsm-" in said


def test_a_plan_into_a_resource_group_that_is_not_there_says_so(place):
    code, said, out = place.plan(resource_group="contoso-nowhere")
    assert code == 0, "a plan is a plan: the group may be made before it is run"
    assert "create-hsm would be refused now" in said
    assert "H06" in said
    assert "az group create -n contoso-nowhere" in said
    assert out.exists()


def test_a_plan_into_a_region_without_hsms_says_where_there_are_some(place):
    code, said, _ = place.plan(location="France South")
    assert code == 0
    assert "create-hsm would be refused now" in said
    assert "Managed HSMs are not offered in francesouth" in said
    assert "northeurope" in said


def test_a_plan_for_another_geography_is_warned_of_and_not_refused(place):
    code, said, _ = place.plan(location="uksouth")
    assert code == 0
    assert "would be refused" not in said
    assert "create-hsm would begin with warnings" in said
    assert "uksouth lies in United Kingdom, the source's westeurope in Europe" in said


def test_an_identity_that_does_not_exist_is_told_with_the_plan(place):
    identity = f"{place.lab['identity']['id']}-none"
    code, said, _ = place.plan(storage_identity=identity)
    assert code == 0
    assert f"H05: the identity {identity} does not exist. az identity list" in said


def test_whoever_is_asked_to_declare_sees_what_the_first_step_would_be_refused_for(place):
    _, _, path = place.plan(target_hsm="contoso--far", location="francesouth")
    run = json.loads(path.read_bytes())["digest"][:12]
    code, said = place.run("run", path)
    assert code == 5, said
    assert said.count("✗ H06: Managed HSMs are not offered in francesouth") == 1
    assert "✗ declare: H06: Managed HSMs are not offered" in place.run("status", run)[1]
    code, said = place.run("status", run, "-o", "json")
    (asked,) = [
        step["request"]["findings"]
        for step in json.loads(said)["runs"][0]["steps"]
        if step["status"] == "awaiting approval"
    ]
    assert [one["rule"] for one in asked if one["severity"] == "block"] == ["H06"]
    place.run("cancel", run, "--reason", "test")


def test_a_secret_that_is_not_set_is_a_wait(place):
    code, said, _ = place.plan(storage_identity=None, storage_sas="env:NO_SUCH_SAS")
    assert code == 5
    assert "NO_SUCH_SAS" in said


def test_a_secret_itself_is_refused_and_not_repeated(place):
    code, said, _ = place.plan(storage_identity=None, storage_sas="sv=1&sig=verysecret")
    assert code == 3
    assert "verysecret" not in said


def test_a_plan_for_another_subscription_is_refused(place):
    code, _, path = place.plan()
    assert code == 0
    other = replanned(path, subscription="00000000-0000-0000-0000-000000000001")
    code, said = place.run("run", other)
    assert code == 8
    assert "subscription" in said
    assert "nothing was sent" in said


def test_a_plan_for_azure_is_refused_in_a_lab(place):
    _, _, path = place.plan()
    code, said = place.run("run", replanned(path, lab=False))
    assert code == 8
    assert "DRENGINE_LAB" in said


def test_what_the_run_would_refuse_is_told_with_the_plan(place):
    code, said, _ = place.plan(target_hsm="contoso--hsm")
    assert code == 0, said
    assert "create-hsm would be refused now" in said
    assert "takes a new plan" in said


def test_a_file_that_changed_since_the_plan_makes_it_stale(place):
    copy = place.folder / "sd-copy.json"
    copy.write_bytes(Path(place.lab["security_domain"]["file"]).read_bytes())
    code, _, path = place.plan(sd_file=str(copy))
    assert code == 0
    copy.write_bytes(copy.read_bytes() + b" ")
    code, said = place.run("run", path)
    assert code == 6
    assert "sd-copy.json" in said


def test_a_run_waits_cleanly_and_its_target_is_its_own(place):
    code, _, path = place.plan(target_hsm="contoso--mine")
    assert code == 0
    run = json.loads(path.read_bytes())["digest"][:12]
    code, said = place.run("run", path)
    assert code == 5
    assert f"drengine approve r-{run} declare --as NAME --role incident-commander" in said
    assert said.rstrip().splitlines()[-1].startswith("Next: drengine resume r-")

    code, said = place.run("approve", run, "declare", "--role", "janitor", "--yes")
    assert code == 8
    assert "incident-commander" in said

    _, _, second = place.plan(target_hsm="contoso--mine", soft_delete_days=7)
    code, said = place.run("run", second)
    assert code == 7
    assert f"r-{run}" in said

    code, said = place.run("deliver", run, "declare", path)
    assert code == 3
    code, said = place.run("status", run, "-o", "json")
    status = json.loads(said)
    assert status["schema"] == "drengine/status/v1"
    assert status["lab"] is True
    assert status["runs"][0]["steps"][0]["status"] == "awaiting approval"

    code, said = place.run("cancel", run, "--reason", "only a test")
    assert code == 0
    code, said = place.run("resume", run)
    assert code == 4
    code, said = place.run("resume", run)
    assert "has ended" in said
    code, said = place.run("run", second)
    assert code == 5, "a cancelled run gives its target up"
    place.run("cancel", json.loads(second.read_bytes())["digest"][:12], "--reason", "test")


def test_a_container_that_is_not_there_is_told_before_an_inventory_is_taken(place, tmp_path):
    account = place.lab["storage"]["account"]
    for name in (f"{account}.blob.core.windows.net/none", "nowhere.blob.core.windows.net/x"):
        code, said = place.run(
            *("inventory", "--hsm", "contoso--hsm", "--out", tmp_path / "i.json"),
            *("--container-url", f"https://{name}"),
        )
        assert code in (3, 4), said
        assert "Unclosed" not in said
        if account in name:
            assert (code, f"there is no container https://{name}" in said) == (3, True), said
            assert "Next: Mend --container-url" in said
    assert not (tmp_path / "i.json").exists()


def test_a_plan_says_when_the_clock_of_its_objective_begins(place):
    _, said, _ = place.plan()
    assert "RTO clock begins now, 20" in said
    assert "--input incident_at=UTC" in said
    _, said, _ = place.plan(incident_at="2026-11-22T03:00:00Z")
    assert "RTO clock begins" not in said
