from __future__ import annotations

from collections.abc import Callable

import pytest

from drengine.model.catalogue import Catalogue
from drengine.model.runbook import Runbook
from drengine.runbook.lint import lint

Load = Callable[[str], Runbook]


@pytest.fixture
def codes(load: Load, catalogue: Catalogue) -> Callable[[str], list[str]]:
    return lambda text: [advice.code for advice in lint(load(text), catalogue)]


def test_good_runbook_gets_no_advice_but_on_what_it_does_not_use(
    load: Load, catalogue: Catalogue, good: str
) -> None:
    assert [str(advice) for advice in lint(load(good), catalogue)] == [
        "r.yaml:12:3: no expression uses discovery 'backup'; does a rule read it? [unused-discovery]"
    ]


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("description: A small one\n", "", "no-description"),
        ("description: Account", "optional: true", "no-description"),
        ("rto: 4h, ", "", "no-objective"),
        ("    title: Look\n", "", "no-title"),
        ("title: Look", "title: 'Look at ${inputs.target}'", "expression-in-title"),
        ("    title: Look\n", "    title: Look\n    group: g\n", "group-of-one"),
        ("    expected: {duration: 10m, source: drill}\n", "", "no-expected-duration"),
        ("    expected: {duration: 15m, source: measured}\n", "", "no-expected-duration"),
        (", source: measured", "", "no-source"),
        ("facts: [target], ", "", "gate-without-facts"),
        (', ask: "Create ${inputs.target}?"', "", "gate-without-question"),
        ("approvals: 2, ", "", "one-approval"),
        ("before: [name-available], ", "", "no-guard-before"),
        ("${inputs.storage}", "x", "unused-input"),
        (
            "    title: Look\n",
            "    title: Look\n    when: '${inputs.protects}'\n",
            "output-of-skipped",
        ),
    ],
)
def test_what_had_better_not_be_is_advised_on(
    codes: Callable[[str], list[str]], good: str, old: str, new: str, code: str
) -> None:
    assert old in good
    before = codes(good)
    assert code not in before
    assert code in codes(good.replace(old, new, 1))


WHEN = "    when: '${inputs.protects}'\n"


def test_coalesce_covers_a_skipped_step(codes: Callable[[str], list[str]], good: str) -> None:
    skipped = good.replace("    title: Look\n", f"    title: Look\n{WHEN}")
    path = "steps.look.outputs.state"
    assert "output-of-skipped" in codes(skipped)
    assert "output-of-skipped" not in codes(skipped.replace(path, f"coalesce({path}, '')"))


def test_same_condition_covers_a_skipped_step(codes: Callable[[str], list[str]], good: str) -> None:
    for title in ("Look", "Create", "Bring"):
        good = good.replace(f"    title: {title}\n", f"    title: {title}\n{WHEN}")
    assert "output-of-skipped" not in codes(good)


def test_action_that_must_not_be_sent_twice_should_be_irreversible(
    codes: Callable[[str], list[str]], with_steps: Callable[[str], str]
) -> None:
    step = "  - {id: a, action: hsm.restore, with: {folder: x}, guards: {after: [K09]}}\n"
    assert "not-irreversible" in codes(with_steps(step))
