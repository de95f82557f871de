"""A delivered file and the transcript of the ceremony that made it, as the engine takes them in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from gated import NOW, Person, Place
from sim.scene import restore_blob

from drengine.actions.registry import CATALOGUE
from drengine.engine.chain import Chain
from drengine.engine.genesis import create_run
from drengine.engine.inbox import absorb
from drengine.model.canonical import sha256_hex
from drengine.model.plan import PlanPart
from drengine.model.records import RecordType as R
from drengine.model.records import Signal
from drengine.runbook.loader import load_runbook

EXCHANGE = "AB" * 21 + "A"
STEP = "restore-blob"
RUNBOOK = f"""\
apiVersion: drengine/v1
kind: Runbook
name: waiting
title: A delivery
inputs:
  target_hsm: {{type: hsm_name}}
steps:
  - id: {STEP}
    title: Custodians make the blob
    delivery: {{kind: restore_blob, expects: {{exchange: {EXCHANGE}}}, ask: the blob}}
"""


@pytest.fixture
def delivered():
    """Deliver a file to a step, with transcripts of such files attached before; give the record."""

    def deliver(*transcripts: str):
        world = Place(Person("ada", "security-officer")).world
        runbook = load_runbook(RUNBOOK, "waiting", CATALOGUE)
        part = PlanPart("waiting", RUNBOOK, sha256_hex(RUNBOOK.encode()), {"target_hsm": "contoso"})
        plan = replace(world.plan, root=part)
        world = replace(world, plan=plan, load=lambda _: runbook)
        origin = {"initiator": "operator:ines", "tool": {}}
        create_run(world, plan.run_id, runbook, part=part, inputs=part.inputs, **origin)
        chain = Chain.open(world, plan.run_id)
        asked = {"step": STEP, "kind": "restore_blob", "ask": "", "generation": 0}
        chain.append(R.DELIVERY_REQUESTED, {**asked, "expects": {"exchange": EXCHANGE}})
        for blob in transcripts:
            facts = {"form": "ceremony", "blob": blob}
            attached = {"attached": "ceremony_transcript", "step": STEP, "facts": facts}
            chain.append(R.NOTE, attached)
        body = {"step": STEP, "sha256": world.store.put_object(restore_blob(EXCHANGE))}
        signal = Signal("s-1", plan.run_id, "deliver", "custodian:grace", body, NOW)
        world.store.put_signal(signal)
        absorb(world, chain, runbook)
        return list(world.store.read(plan.run_id))[-1]

    return deliver


def test_what_is_attached_is_taken_in_before_the_file_that_was_handed_in_first():
    place = Place(Person("ada", "security-officer"))
    run, step = place.chain.run, {"step": "ask"}
    for number, kind in enumerate(("deliver", "skip", "attach")):
        place.store.put_signal(Signal(f"s-{number}", run, kind, "operator:ada", step, NOW))
    absorb(place.world, place.chain, place.runbook)
    taken = [record.body.get("signal") for record in place.store.read(run)]
    assert [signal for signal in taken if signal] == ["s-2", "s-0", "s-1"]


def warnings_of(record) -> list[str]:
    return [each["message"] for each in record.body["findings"] if each["severity"] == "warn"]


def test_a_file_without_a_transcript_is_taken_and_nothing_is_said_of_one(delivered):
    record = delivered()
    assert (record.type, warnings_of(record)) == (R.DELIVERY_ACCEPTED, [])
    assert "ceremony" not in record.body


def test_a_file_that_its_transcript_knows_is_taken_with_how_it_was_made(delivered):
    record = delivered("cd" * 32, sha256_hex(restore_blob(EXCHANGE)))
    assert (record.type, warnings_of(record)) == (R.DELIVERY_ACCEPTED, [])
    assert record.body["ceremony"] == "ceremony"
    assert record.body["outputs"]["made"]["form"] == "ceremony"


def test_a_file_that_no_transcript_knows_is_taken_and_told(delivered):
    record = delivered("cd" * 32)
    assert record.type is R.DELIVERY_ACCEPTED
    (warning,) = warnings_of(record)
    assert warning.startswith("the attached transcript is of another file (cdcdcdcdcdcd…)")
    assert "ceremony" not in record.body
