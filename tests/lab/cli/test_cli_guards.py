"""The guards of 3 a.m. through the command line and a real lab: refused, and nothing sent."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from drengine.lab import commands

pytestmark = pytest.mark.timeout(240)


def changed_effects(place, before: int) -> list[str]:
    wanted = ("hsm.create", "hsm.domain.upload", "hsm.restore", "hsm.backup")
    return [effect for effect in place.changes()[before:] if effect in wanted]


def run_to_the_guard(place, plan: Path) -> tuple[int, str]:
    """Run, approve the first gate, and run on until the guards of the create speak."""
    run = "r-" + json.loads(plan.read_bytes())["digest"][:12]
    code, said = place.run("run", plan)
    assert code == 5, said
    code, said = place.run(
        "approve", run, "declare", "--role", "incident-commander", "--as", "ada", "--yes"
    )
    assert code == 0, said
    code, said = place.run("resume", run)
    place.run("cancel", run, "--reason", "end of the test")
    place.run("resume", run)
    return code, said


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("sp=rcwdl", "sp=rl", "lacks"),
        ("se=", "se=2020-01-01T00%3A00%3A00Z&x=", "expired at 2020-01-01"),
        ("sig=", "nosig=", "no signature"),
        ("sr=c", "sr=b", "it is for one blob (sr=b)"),
    ],
)
def test_a_sas_that_will_not_do_is_refused_when_the_plan_is_made(place, old, new, says):
    sas = place.lab["storage"]["sas"]
    assert old in sas
    token = place.folder / "sas.txt"
    token.write_text(sas.replace(old, new, 1))
    token.chmod(0o600)
    before = len(place.changes())
    code, said, out = place.plan(storage_sas=f"file:{token}", storage_identity=None)
    assert code == 3, said
    assert says in said
    assert "sig=" not in said
    assert not out.exists()
    assert changed_effects(place, before) == []


def test_a_good_sas_is_taken_and_its_signature_stands_nowhere(place):
    token = place.folder / "good-sas.txt"
    token.write_text(place.lab["storage"]["sas"])
    token.chmod(0o600)
    code, said, out = place.plan(storage_sas=f"file:{token}", storage_identity=None)
    assert code == 0, said
    signature = place.lab["storage"]["sas"].partition("sig=")[2]
    assert signature not in out.read_text()


def test_the_security_domain_of_another_hsm_creates_nothing(place):
    doc = json.loads(Path(place.lab["security_domain"]["file"]).read_bytes())
    for share in doc["SharedKeys"]["enc_shares"]:
        share["x5t_256"] = ("B" if share["x5t_256"][0] == "A" else "A") + share["x5t_256"][1:]
    other = place.folder / "other-sd.json"
    other.write_text(json.dumps(doc))
    inventory = json.loads((place.folder / "inventory.json").read_bytes())
    own = json.loads(Path(place.lab["security_domain"]["file"]).read_bytes())
    inventory["security_domain"] = {
        "sha256": "0" * 64,
        "required": own["SharedKeys"]["required"],
        "custodians": [share["x5t_256"] for share in own["SharedKeys"]["enc_shares"]],
    }
    recorded = place.folder / "inventory-with-domain.json"
    recorded.write_text(json.dumps(inventory))
    before = len(place.changes())
    code, said, plan = place.plan(
        sd_file=str(other), inventory=str(recorded), target_hsm="contoso--domain"
    )
    assert code == 0, said
    code, said = run_to_the_guard(place, plan)
    assert code == 8, said
    assert "H01" in said
    assert changed_effects(place, before) == []


def test_an_incomplete_backup_folder_is_refused_when_the_plan_is_made(place):
    inventory = json.loads((place.folder / "inventory.json").read_bytes())
    inventory["backups"] = [
        {"folder": place.lab["backup"]["folder"], "blobs": 9, "size": 1, "digest": "0" * 64}
    ]
    recorded = place.folder / "inventory-with-backups.json"
    recorded.write_text(json.dumps(inventory))
    before = len(place.changes())
    code, said, out = place.plan(inventory=str(recorded))
    assert code == 3, said
    assert "incomplete or was changed" in said
    assert not out.exists()
    assert changed_effects(place, before) == []


def test_a_protected_name_is_never_a_target(place):
    before = len(place.changes())
    code, said, plan = place.plan(target_hsm="contoso--safe", protected_names=["CONTOSO--SAFE"])
    assert code == 0, said
    code, said = run_to_the_guard(place, plan)
    assert code == 8, said
    assert "protected" in said
    assert changed_effects(place, before) == []


def test_a_taken_name_is_no_target(place):
    """The first run creates the HSM; a second run, of another plan, may not touch it."""
    code, said, first = place.plan(target_hsm="contoso--taken")
    assert code == 0, said
    run = "r-" + json.loads(first.read_bytes())["digest"][:12]
    place.run("run", first)
    place.run("approve", run, "declare", "--role", "incident-commander", "--as", "ada", "--yes")
    commands.set_clock(place.folder / "lab", speed=900)
    code, said = place.run("resume", run)
    assert code == 5, said
    place.run("cancel", run, "--reason", "end of the test")
    place.run("resume", run)
    before = len(place.changes())
    code, said, second = place.plan(target_hsm="contoso--taken", soft_delete_days=8)
    assert code == 0, said
    code, said = run_to_the_guard(place, second)
    assert code == 8, said
    assert run in said or "taken" in said
    assert changed_effects(place, before) == []


def test_an_incident_run_copies_its_journal_off_the_host_before_each_send(place):
    inputs = place.inputs(target_hsm="contoso--copied")
    plan = place.folder / "incident.json"
    code, said = place.run(
        *("plan", "mhsm-full-recovery", "--class", "incident"),
        *("--inputs", inputs, "--out", plan),
    )
    assert code == 0, said
    run = "r-" + json.loads(plan.read_bytes())["digest"][:12]
    before = len(place.changes())
    code, said = place.run("run", plan)
    assert code == 2, said
    assert "--copy-to" in said
    blocked = place.folder / "no-folder"
    blocked.write_text("a file, where a folder should be")
    code, said = place.run("run", plan, "--copy-to", blocked / "x")
    assert code == 3, said
    assert "nothing was sent" in said
    assert changed_effects(place, before) == []
    assert place.run("status", run)[0] == 3, "a refused place leaves no run behind"
    copies = place.folder / "copies"
    code, said = place.run("run", plan, "--copy-to", copies)
    assert code == 5, said
    assert "on the same disk as the journal" in said
    assert said.rstrip().endswith(f"Next: drengine resume {run}")
    code, said = place.run("journal", "verify", copies / run)
    assert code == 0, said
    assert (copies / run / "journals" / f"{run}.jsonl").read_bytes().count(b"gate.requested") == 1
    code, said = place.run("resume", run)
    assert (code, f"copied to {copies}, as before" in said) == (5, True), said
    copies.rename(place.folder / "unmounted")
    code, said = place.run("resume", run)
    assert code == 3, said
    assert "not there any more; nothing was sent" in said
    place.run("cancel", run, "--reason", "end of the test")


def _certificate_of_no_custodian(path):
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-subj",
                "/CN=another HSM",
            ),
            *("-keyout", path.with_suffix(".key"), "-out", path),
        ],
        check=True,
        capture_output=True,
    )
    return path


def test_a_blob_for_another_exchange_key_is_not_delivered(place):
    code, said, plan = place.plan(target_hsm="contoso--blob")
    assert code == 0, said
    run = "r-" + json.loads(plan.read_bytes())["digest"][:12]
    place.run("run", plan)
    place.run("approve", run, "declare", "--role", "incident-commander", "--as", "ada", "--yes")
    commands.set_clock(place.folder / "lab", speed=900)
    code, said = place.run("resume", run)
    assert code == 5, said
    request = place.folder / "request"
    code, said = place.run("request", run, "restore-blob", "--out", request)
    assert code == 0, said
    another = _certificate_of_no_custodian(place.folder / "another.cer")
    domain, keys = place.lab["security_domain"]["file"], place.lab["security_domain"]["keys"]
    wrong = place.folder / "wrong-blob.json"
    code, said = place.run(
        *("ceremony", "combine", "--sd-file", domain, "--exchange-cert", another),
        *("--key", keys[0], "--key", keys[1], "--out", wrong),
    )
    assert code == 0, said
    before = len(place.changes())
    code, said = place.run("deliver", run, "restore-blob", wrong)
    assert code == 15, said
    assert "exchange key" in said
    assert changed_effects(place, before) == []
    place.run("cancel", run, "--reason", "end of the test")
    place.run("resume", run)


def test_plan_and_first_gate_say_what_is_to_be_done(place):
    code, said, out = place.plan(storage_sas="mint:user-delegation", storage_identity=None)
    assert code == 0, said
    folder = json.loads(out.read_bytes())["root"]["discovery"]["backup"]["folder"]
    for line in (f"Backup    {folder}", "  target_hsm: contoso--new", "  location: northeurope"):
        assert line in said.splitlines(), said
    run = "r-" + json.loads(out.read_bytes())["digest"][:12]
    assert place.run("run", out)[0] == 5
    code, said = place.run("status", run, "-o", "json")
    facts = json.loads(said)["runs"][0]["steps"][0]["request"]["facts"]["planned"]
    place.run("cancel", run, "--reason", "end of the test")
    place.run("resume", run)
    assert (facts["source"], facts["target"]) == ("contoso--hsm", "contoso--new")
    assert (facts["backup"], facts["storage"]) == (folder, "mint:user-delegation")
    assert facts["location"] == "northeurope"


def test_a_container_that_is_not_there_is_an_input_to_be_mended(place):
    account = place.lab["storage"]["account"]
    code, said, out = place.plan(container_url=f"https://{account}.blob.core.windows.net/nope")
    assert code == 3, said
    assert "there is no container" in said
    assert "Next: Mend container_url, then plan again; nothing was sent." in said
    assert not out.exists()
