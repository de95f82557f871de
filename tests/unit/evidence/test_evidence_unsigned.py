"""Runs that were held without signatures of approvers, and trust folders that expect some."""

from __future__ import annotations

import pytest

from drengine.evidence.reports import reports_of
from drengine.evidence.seal import SealRequest, seal
from drengine.evidence.sealed import verify_bundle
from drengine.journal.memory import MemoryStore
from drengine.trust.enrolling import Entry, enrol
from drengine.trust.keys import public_pem
from drengine.trust.register import read_trust


@pytest.fixture(scope="module")
def unsigned(tell, cast, tmp_path_factory):
    """A sealed bundle of a run that was held without `--approvers`."""
    store = MemoryStore()
    story = tell.recover(tell.Story(store, tell.make_plan()))
    out = tmp_path_factory.mktemp("unsigned") / story.run
    return seal(store, SealRequest(story.run, out, cast.sealer, reports_of))


@pytest.fixture(scope="module")
def sealer_only(cast, tmp_path_factory):
    """A trust folder that names nobody who approves."""
    folder = tmp_path_factory.mktemp("sealer") / "trust"
    enrol(folder, Entry("engine", "p256", public_pem(cast.sealer.key), sealer=True))
    return folder


def test_a_folder_that_names_nobody_expects_no_signature(unsigned, sealer_only, alone):
    report = verify_bundle(unsigned, read_trust(sealer_only))
    assert [str(problem) for problem in report.problems] == []
    assert "4 decisions are not signed." in report.notes
    done = alone(unsigned, sealer_only)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("the approval is not signed") == 4


def test_a_folder_that_names_people_wants_to_be_told_that_none_of_them_signed(
    unsigned, cast, alone
):
    trust = read_trust(cast.trust)
    (problem,) = map(str, verify_bundle(unsigned, trust).problems)
    assert "asked for decisions with no register of approvers" in problem
    assert "verify with --unsigned-decisions" in problem
    assert problem in alone(unsigned, cast.trust).stdout
    assert verify_bundle(unsigned, trust, takes_unsigned=True).holds
    assert alone(unsigned, cast.trust, "--unsigned-decisions").returncode == 0


def test_the_option_does_not_excuse_a_decision_of_a_run_that_has_a_register(forger):
    records = forger.records()
    for doc in records:
        if doc["type"] == "gate.approved":
            del doc["body"]["envelope"]
    forger.rechain(records)
    forger.rebuild()
    report = verify_bundle(forger.path, read_trust(forger.cast.trust), takes_unsigned=True)
    assert any("is not signed" in str(problem) for problem in report.problems)
    done = forger.alone("--unsigned-decisions")
    assert done.returncode == 9
    assert "is not signed" in done.stdout


def test_a_run_that_asked_nobody_needs_no_register(tell, cast, alone, tmp_path):
    store = MemoryStore()
    story = tell.Story(store, tell.make_plan()).create().reads("preflight")
    out = tmp_path / story.run
    seal(store, SealRequest(story.run, out, cast.sealer, reports_of))
    assert verify_bundle(out, read_trust(cast.trust)).holds
    assert alone(out, cast.trust).returncode == 0
