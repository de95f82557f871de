"""A changed copy is what `dataclasses.replace` would have made."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drengine.model.changed import changed, overwritten
from drengine.model.run import StepState, StepStatus


def test_a_changed_copy_equals_the_one_that_the_standard_library_makes():
    step = StepState("restore", looks=1)
    changes = {"status": StepStatus.RUNNING, "polls": 3, "outputs": {"uri": "https://x/"}}

    assert changed(step, changes) == replace(step, **changes)
    assert step == StepState("restore", looks=1)


def test_a_name_that_is_no_field_is_an_error():
    with pytest.raises(KeyError, match="pols"):
        changed(StepState("restore"), {"pols": 3})


def test_a_value_that_nobody_else_holds_is_changed_in_place():
    step = StepState("restore", looks=1)
    assert overwritten(step, {"looks": 2}) is step
    assert step == StepState("restore", looks=2)
