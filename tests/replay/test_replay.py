"""Journals of every released version are read, verified and decided upon as they were then.

A folder per version holds the journals of one lab drill (`drengine drill`), its plan, and the
heads of its chains. `damaged/` holds a journal with one changed record: it must be refused.
A release adds its folder; none is ever changed or removed.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from drengine.actions.registry import CATALOGUE, KIT
from drengine.engine.decide import Session, decide
from drengine.engine.fold import apply, begin, fold
from drengine.engine.genesis import part_of
from drengine.errors import JournalDamaged
from drengine.journal import codec
from drengine.journal.lines import split_lines
from drengine.journal.verify import verify_folder
from drengine.model.ids import RunId
from drengine.model.records import Head
from drengine.model.run import RunStatus
from drengine.runbook.loader import load_runbook
from drengine.runbook.plan_file import read_plan

HERE = Path(__file__).parent
VERSIONS = sorted(path.name for path in HERE.iterdir() if (path / "heads.json").exists())
SPECS = {name: action.spec for name, action in KIT.actions.items()}


def _unpacked(version: str, to: Path) -> Path:
    for packed in (HERE / version).glob("*.jsonl.gz"):
        (to / packed.name.removesuffix(".gz")).write_bytes(gzip.decompress(packed.read_bytes()))
    return to


def _heads(version: str) -> dict[RunId, list[Head]]:
    doc = json.loads((HERE / version / "heads.json").read_text())
    return {RunId(run): [Head(head["seq"], head["sha256"])] for run, head in doc.items()}


def test_there_is_a_journal_of_a_released_version():
    assert "0.1.0" in VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_it_verifies_to_the_heads_it_had(tmp_path, version):
    assert verify_folder(_unpacked(version, tmp_path), _heads(version)) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_every_chain_folds_to_a_finished_run(tmp_path, version):
    for file in _unpacked(version, tmp_path).iterdir():
        with file.open("rb") as stream:
            state = fold(codec.records_of(split_lines(stream)))
        assert state.status is RunStatus.FINISHED, file.name
        assert all(step.status.is_done for step in state.steps.values()), file.name


@pytest.mark.parametrize("version", VERSIONS)
def test_a_decision_can_be_made_at_every_record_and_none_at_the_end(tmp_path, version):
    plan = read_plan(gzip.decompress((HERE / version / "plan.json.gz").read_bytes()))
    for file in _unpacked(version, tmp_path).iterdir():
        with file.open("rb") as stream:
            records = list(codec.records_of(split_lines(stream)))
        state = begin(records[0])
        part = part_of(plan, state.genesis["path"])
        runbook = load_runbook(part.runbook_text, "runbook", CATALOGUE)
        for record in records[1:]:
            if not state.status.is_over:
                decision = decide(runbook, part, SPECS, state, Session(), record.at_ms)
                assert decision.commands or decision.rest or decision.wake_at_ms is not None
            state = apply(state, record)
        at_the_end = decide(runbook, part, SPECS, state, Session(), records[-1].at_ms)
        assert at_the_end.commands == ()


def test_a_damaged_journal_is_refused_at_its_record(tmp_path):
    record = int((HERE / "damaged" / "record").read_text())
    (file,) = _unpacked("damaged", tmp_path).iterdir()
    with file.open("rb") as stream, pytest.raises(JournalDamaged, match=f"record {record}: prev"):
        codec.verify_lines(split_lines(stream))
    assert verify_folder(tmp_path) != []
