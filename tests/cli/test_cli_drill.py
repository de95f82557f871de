"""How `drengine drill` says that a drill did not end well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drengine.drills import embedded
from drengine.model.ids import RunId

REASONS = ("the run is stopped", "restore: refused\nby the service")
RUN = RunId("r-0123456789ab")


@pytest.fixture
def end_with(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def end(code: int, *reasons: str, lab: Path | None = None) -> None:
        verdict = "not finished" if reasons else "recovered"
        result = embedded.DrillResult(RUN, code, verdict, reasons, (), Path("/out") / RUN, lab, 1.0)
        monkeypatch.setattr(embedded, "hold", lambda _request, _watching: result)

    return end


def test_what_was_not_finished_comes_with_its_reason_and_a_next_step(
    command: Any, end_with: Any
) -> None:
    end_with(4, *REASONS)
    ended = command("drill")
    assert ended.code == 4
    assert "✗ not finished in 1.0 s" in ended.out
    assert "  the run is stopped\n  restore: refused\n  by the service\n" in ended.out
    assert ended.out.splitlines()[-1].startswith("Next ")
    assert "drill --keep " in ended.out.splitlines()[-1]


def test_a_kept_lab_is_where_to_look(command: Any, end_with: Any) -> None:
    end_with(4, *REASONS, lab=Path("/tmp/kept"))
    last = command("drill", "--keep").out.splitlines()[-1]
    assert "lab exec --home /tmp/kept/lab -- " in last
    assert f"status {RUN}" in last


def test_a_program_gets_the_reasons_too(command: Any, end_with: Any) -> None:
    end_with(4, *REASONS)
    assert command("drill", "-o", "json").document["reasons"] == list(REASONS)


def test_a_drill_that_recovered_needs_no_next_step(command: Any, end_with: Any) -> None:
    end_with(0)
    assert "Next " not in command("drill").out


@pytest.mark.parametrize(
    ("pair", "advice"),
    [
        ("create_hsn=1", "there is no such setting; did you mean create_hsm?"),
        ("create_hsm=soon", "expected a number, zero or more, found 'soon'."),
        ("upload_on_active=410", "expected one of 409, 400, found 410."),
    ],
)
def test_a_wrong_setting_is_refused_before_a_lab_is_built(
    command: Any, end_with: Any, pair: str, advice: str
) -> None:
    end_with(0)
    ended = command("drill", "--set", pair)
    assert (ended.code, ended.out) == (3, "")
    assert f"--set {pair}: {advice}" in ended.err
    assert "docs/lab.md" in ended.err
