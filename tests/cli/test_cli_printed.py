"""Commands that are printed can be pasted into a shell, whatever a path or a name is made of."""

from __future__ import annotations

import shlex
from types import SimpleNamespace

import pytest

from drengine.cli.planning import _next as after_plan
from drengine.cli.quorum.fetching import joined_text
from drengine.model.canonical import digest
from drengine.model.ids import RunId
from drengine.model.records import RecordType as R
from drengine.model.runbook import RunClass

RUN = "r-0123456789ab"
EXCHANGE = "T" * 43
OPERATION = {"operation": {"kind": "arm", "url": "https://x"}}


def of(step, *records):
    return [(kind, {"step": step, **(body[0] if body else {})}) for kind, *body in records]


def words_of(line):
    """Return the words of a printed command as a shell reads them: what is behind # is none."""
    return shlex.split(line[line.index("drengine ") :], comments=True)


def line_with(ended, text):
    (line,) = [each for each in (ended.out + ended.err).splitlines() if text in each]
    return line


@pytest.fixture
def blob_asked(story):
    """Begin a run that waits for a restore blob for a kept exchange certificate."""

    def begin(run_class):
        told = story(run_class=run_class)
        outputs = {"x5t_256": EXCHANGE, "certificate": told.store.put_object(b"der")}
        probed = ((R.STEP_BEGUN, {"attempt": 1}), (R.PROBE_PRESENT, {"outputs": outputs}))
        asked = {"step": "restore-blob", "kind": "restore_blob", "ask": "bring it"}
        told.tell(*of("create-hsm", *probed, (R.STEP_SUCCEEDED,)))
        return told.tell((R.DELIVERY_REQUESTED, {**asked, "expects": {"exchange": EXCHANGE}}))

    return begin


@pytest.mark.parametrize("run_class", [str(each) for each in RunClass])
def test_the_commands_of_a_request_are_taken_as_they_are(command, blob_asked, tmp_path, run_class):
    blob_asked(run_class)
    folder = tmp_path / "my request"
    ended = command("request", RUN, "restore-blob", "--out", folder)
    for kind in ("open", "combine"):
        line = line_with(ended, f"drengine ceremony {kind}")
        words = words_of(line)
        assert str(folder / "exchange.cer") in words
        taken = command(*words[1:])
        assert taken.code != 2, taken.err
    assert (f"--class {run_class}" in line_with(ended, "ceremony open")) is (
        run_class != "tabletop"
    )


def test_a_role_that_a_shell_would_act_on_is_quoted(command, story):
    role = "incident commander; touch /tmp/x"
    story().asks(roles=[role])
    (first, *_) = command("status", "-o", "json").document["next"]
    assert words_of(first)[-1] == role
    wrong = command("approve", RUN, "declare", "--as", "ada", "--yes")
    assert shlex.split(line_with(wrong, "--role"))[-1] == role


def test_paths_with_spaces_are_quoted(command, story, tmp_path, monkeypatch):
    monkeypatch.setenv("PASS", "correct horse battery")
    shown = {"step": "declare", "ask": "Lost?", "facts": {"source-hsm": {"exists": False}}}
    shown |= {"findings": [], "approvals": 1, "roles": []}
    story().asks(digest=digest(shown))
    asked, key = tmp_path / "what is asked.json", tmp_path / "ada's.key"
    ended = command("approval", "request", RUN, "declare", "--out", asked)
    assert str(asked) in words_of(line_with(ended, "Next"))
    ended = command("approval", "import", asked)
    assert str(asked) in words_of(line_with(ended, "approval sign"))
    made = command("key", "init", key, "--passphrase", "env:PASS")
    assert str(key.with_suffix(".pub.pem")) in words_of(line_with(made, "Next"))
    signed = tmp_path / "signed by ada.json"
    how = ("--as", "ada", "--key", key, "--passphrase", "env:PASS", "--out", signed)
    ended = command("approval", "sign", asked, *how)
    assert str(signed) in words_of(line_with(ended, "Next"))


def test_a_plan_and_a_blob_under_a_path_with_spaces_are_quoted(tmp_path):
    plan, path = SimpleNamespace(run_class=RunClass.DRILL), tmp_path / "a plan.json"
    assert words_of(after_plan(plan, path, {})) == ["drengine", "run", str(path)]
    names = ("blob_size", "blob_sha256", "kept", "exchange_subject", "transcript", "head")
    found = dict.fromkeys((*names, "sentence"), "x")
    found |= {"out": str(path), "custodians": [], "misfits": []}
    found |= {"memory_locked": True, "swap_active": False}
    last = joined_text(found).splitlines()[-1]
    assert words_of(last) == ["drengine", "deliver", "RUN", "STEP", str(path)]


def test_what_follows_a_refused_skip_is_a_command(command, story):
    failed = (R.STEP_FAILED, {"error": {"message": "timeout"}})
    begun = ((R.STEP_BEGUN, {"attempt": 1}), (R.PROBE_ABSENT,), (R.GUARDS_HELD,))
    at_work = ((R.INTENT, {"action": "hsm.create"}), (R.ANSWER_OPERATION, OPERATION), failed)
    story().tell(*of("create-hsm", *begun, *at_work))
    ended = command("skip", RUN, "create-hsm", "--reason", "x")
    assert ended.code == 8
    assert words_of(line_with(ended, "Next")) == ["drengine", "resume", RUN]


def test_what_follows_a_take_over_is_what_moves_the_run_on(command, story):
    told = story(run_class="incident").plans()
    ended = command("take-over", RUN, "--reason", "hangs")
    assert f"Next: drengine resume {RUN} --copy-to FOLDER" in ended.out
    told.tell((R.RUN_OPENED, {"copies_to": ""}))
    told.tell((R.RUN_HANDED_OVER, {"to": "beta", "owner": "x", "token": 1}))
    shown = command("take-over", RUN, "--reason", "x", "-o", "json").document
    assert shown["taken_back_from"] == "beta"
    assert (shown["ended"], shown["next"]) == (None, f"drengine resume {RUN} --no-copy")
    again = command("take-over", RUN, "--reason", "x", "-o", "json").document
    assert again["taken_back_from"] is None
    assert RunId(again["run"]) == RUN
