"""`--copy-to`: a place that cannot be used is refused, one on the journal's own disk is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drengine.cli.elsewhere import check_place
from drengine.errors import InputError, UsageError
from drengine.model.runbook import RunClass


@pytest.fixture
def check(tmp_path):
    def call(folder, run_class=RunClass.INCIDENT, *, goes_without=False):
        check_place(run_class, folder, tmp_path, goes_without=goes_without)

    return call


def test_a_place_on_the_journals_own_disk_is_made_used_and_warned_of(check, tmp_path, capsys):
    place = tmp_path / "not" / "yet"
    check(place)
    assert place.is_dir()
    said = capsys.readouterr()
    assert f"{place} is on the same disk as the journal in {tmp_path}" in said.err
    assert "see whether it is mounted" in said.err
    assert not said.out, "a warning is no result: -o json must stay JSON"


def test_a_place_on_another_disk_is_not_warned_of(check, tmp_path, capsys, monkeypatch):
    place = tmp_path / "share"
    place.mkdir()
    real = Path.stat

    def stat(path, **more):
        found = real(path, **more)
        if path != place:
            return found
        return os.stat_result([*found[:2], found.st_dev + 1, *found[3:10]])

    monkeypatch.setattr(Path, "stat", stat)
    check(place)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("run_class", list(RunClass))
def test_a_place_that_is_not_there_and_cannot_be_made_is_refused(check, tmp_path, run_class):
    (tmp_path / "a-file").write_text("where a folder should be")
    with pytest.raises(
        InputError, match=r"cannot be made.*Not a directory; nothing was sent"
    ) as no:
        check(tmp_path / "a-file" / "share", run_class)
    assert "Mount the share" in no.value.hint


def test_a_place_that_may_not_be_written_is_refused(check, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(InputError, match="may not write there; nothing was sent"):
        check(tmp_path / "share")


def test_an_incident_without_a_place_is_refused_unless_it_goes_without(check):
    with pytest.raises(UsageError, match="no place was given") as no:
        check(None)
    assert "--no-copy" in no.value.hint
    check(None, goes_without=True)
    check(None, RunClass.DRILL)
