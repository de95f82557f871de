"""A recovery whose blob is made by custodians with homes of their own, one with a token."""

from __future__ import annotations

import json
import os

import pytest

STEP = "restore-blob"
TOKEN = ("--module", "/usr/lib/softhsm/libsofthsm2.so", "--token-label", "custodian1")


def descriptor(content):
    read_end, write_end = os.pipe()
    os.write(write_end, content)
    os.close(write_end)
    return read_end


def approve_until(world, wanted):
    """Answer gates and resume until the run waits for `wanted` or has finished."""
    for _ in range(30):
        found = world.status()
        steps = {step["step"]: step for run in found["runs"] for step in run["steps"]}
        if found["status"] == wanted or steps.get(wanted, {}).get("status") == "awaiting delivery":
            return found
        for run in found["runs"]:
            for step in run["steps"]:
                if step["status"] == "awaiting approval" and step["request"]:
                    roles = step["request"].get("roles") or ["incident-commander"]
                    words = ("--as", f"Person {roles[0]}", "--role", roles[0], "--yes")
                    world.run("operator", "approve", run["run"], step["step"], *words)
        world.run("operator", "resume", found["run"], code=None)
    raise AssertionError(f"the run did not get to {wanted}: {world.status()['waiting_for']}")


def enroll(world, number, *holder, env=None, **options):
    home = world.folder / f"custodian{number}"
    home.mkdir(exist_ok=True)
    words = ("--location", f"safe {number}", "--contact", f"+49 {number}", "--acknowledge")
    world.run(
        f"custodian{number}",
        *("ceremony", "enroll", "--name", f"Custodian {number}", *words),
        *("--register", world.folder / "register", "--new-signing-key", home / "signing.key"),
        *("--without-passphrase", *holder),
        env=env or {},
        **options,
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_three_custodians_with_their_own_homes_recover_the_hsm(lost):
    domain = lost.lab["security_domain"]
    env = lost.softhsm("custodian1", domain["keys"][0])
    pin = descriptor(b"4711-pin\n")
    holder = (*TOKEN, "--cert", domain["certificates"][0], "--pin-fd", pin)
    enroll(lost, 1, *holder, env=env, pass_fds=(pin,))
    for number in (2, 3):
        enroll(lost, number, "--key", domain["keys"][number - 1])
    ready = lost.run(
        *("auditor", "ready", "--sd-file", domain["file"], "--register", lost.folder / "register")
    )
    assert "3 of 3 custodians are ready, 2 are needed (1 to spare)" in ready

    plan = lost.folder / "plan.json"
    lost.run(
        *("operator", "plan", "mhsm-full-recovery", "--class", "drill"),
        *("--inputs", lost.inputs(), "--out", plan),
    )
    lost.run("operator", "run", plan, code=None)
    found = approve_until(lost, STEP)
    run = found["run"]

    request = lost.folder / "operator" / "request"
    lost.run("operator", "request", run, STEP, "--out", request)
    session = lost.folder / "combiner" / "session"
    running = lost.open(
        *("--session", session, "--sd-file", domain["file"], "--target", "contoso--new"),
        *("--exchange-cert", request / "exchange.cer", "--combiner", "Olga"),
        *(
            "--purpose",
            "drill",
            "--valid-hours",
            "168",
            "--register",
            lost.folder / "register",
            "--class",
            "drill",
        ),
    )
    code = json.loads((session / "request.json").read_bytes())
    assert [one["name"] for one in code["custodians"]] == [f"Custodian {n}" for n in (1, 2, 3)]

    pin = descriptor(b"4711-pin\n")
    holder = (*TOKEN, "--cert", domain["certificates"][0], "--pin-fd", pin)
    contribute(lost, 1, session, *holder, env=env, pass_fds=(pin,))
    attestations = sorted((session / "attestations").iterdir())
    lost.run("operator", "ceremony", "attach", run, STEP, *attestations)
    lost.run("operator", "resume", run, code=5)
    assert any("1 of 2 contributed" in why for why in lost.status()["waiting_for"])
    assert "1 of 2 contributed" in lost.run("operator", "status", run)

    contribute(lost, 3, session, "--key", domain["keys"][2])
    blob = lost.folder / "combiner" / "blob.json"
    lost.run("combiner", "ceremony", "combine", "--session", session, "--out", blob)
    assert running.wait(20) == 0
    verified = lost.run(
        *("auditor", "ceremony", "verify", session / "transcript.json", "--blob", blob),
        *("--register", lost.folder / "register", "-o", "json"),
    )
    assert json.loads(verified)["signed"] == ["Custodian 1", "Custodian 3"]

    lost.run("operator", "ceremony", "attach", run, STEP, session / "transcript.json")
    lost.run("operator", "deliver", run, STEP, blob)
    done = approve_until(lost, "finished")
    assert done["status"] == "finished"
    journal = lost.folder / "operator" / "journal"
    lost.run("operator", "journal", "export", run, "--out", journal)
    lines = [json.loads(x) for x in next(journal.rglob(f"{run}.jsonl")).read_text().splitlines()]
    accepted = next(line for line in lines if line["type"] == "delivery.accepted")
    assert accepted["body"]["ceremony"] == "contribute"
    notes = [line["body"].get("attached") for line in lines if line["type"] == "note"]
    assert notes == ["ceremony_attestation", "ceremony_transcript"]


def contribute(world, number, session, *holder, env=None, **options):
    home = world.folder / f"custodian{number}"
    shown = json.loads(
        world.run("combiner", "ceremony", "status", "--session", session, "-o", "json")
    )
    world.run(
        f"custodian{number}",
        *("ceremony", "contribute", "--request", session / "request.json"),
        *("--sd-file", world.lab["security_domain"]["file"], "--name", f"Custodian {number}"),
        *("--code", shown["request_code"], "--out", home / "share.json"),
        *("--signing-key", home / "signing.key", *holder),
        env=env or {},
        **options,
    )
    world.run("combiner", "ceremony", "add", "--session", session, home / "share.json")
