from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from drengine.evidence.stretches import Clocking, share_of, total_ms
from drengine.model.facts import Share, Stretch
from drengine.model.run import RunStatus, StepStatus


def test_every_status_under_way_has_a_share_and_no_other():
    rest = {StepStatus.PENDING, StepStatus.SUCCEEDED, StepStatus.SKIPPED}
    without = {status for status in StepStatus if share_of(status, RunStatus.RUNNING) is None}
    assert without == rest


def test_no_work_is_done_while_the_run_is_at_rest_but_the_cloud_goes_on():
    assert share_of(StepStatus.CHECKING, RunStatus.STOPPED) is Share.STOPPED
    assert share_of(StepStatus.RUNNING, RunStatus.STOPPED) is Share.CLOUD
    assert share_of(StepStatus.AWAITING_APPROVAL, RunStatus.PAUSED) is Share.WAIT


def test_equal_shares_in_a_row_are_one_stretch():
    clocking = Clocking()
    clocking.turn(Share.WORK, 0)
    clocking.turn(Share.WORK, 5)
    clocking.turn(None, 9)
    assert clocking.done == [Stretch(Share.WORK, 0, 9)]


@given(st.lists(st.tuples(st.sampled_from([None, *Share]), st.integers(0, 50)), max_size=30))
def test_stretches_never_overlap_and_add_up(turns):
    clocking, now = Clocking(), 0
    for share, gap in turns:
        now += gap
        clocking.turn(share, now)
    found = clocking.until(now)
    assert all(a.to_ms <= b.from_ms for a, b in pairwise(found))
    assert sum(total_ms(found, share) for share in Share) <= now
