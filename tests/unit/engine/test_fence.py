"""Whose turn it is: the holder tag, read before a send and set after a take-over."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from looked import target
from msgspec.structs import replace

from drengine.actions.base import HOLDER_TAG, RUN_TAG, our_target
from drengine.actions.contract import StepContext
from drengine.engine.fence import Turn, may_send
from drengine.engine.fold import apply, fold
from drengine.errors import AzureError, HandedOver, NotAuthorized, UnknownOutcome
from drengine.model.cloud import HsmResource
from drengine.model.ids import RunId
from drengine.model.plan import CloudIdentity
from drengine.model.records import GENESIS_PREV, Record
from drengine.model.records import RecordType as R
from drengine.model.runbook import RunClass
from drengine.model.secret import Secret

RUN = RunId("r-0123456789ab")
WHERE = CloudIdentity("AzureCloud", "t", "s", "p", "managedhsm.azure.net", "core.windows.net", True)
NOW, QUIET = 1_000_000, 60_000


def hsm(holder: str | None, **changes: Any) -> HsmResource:
    tags = {RUN_TAG: str(RUN), "theirs": "kept"} | ({HOLDER_TAG: holder} if holder else {})
    return target(**{"activation_status": "Active", "tags": tags} | changes)


@dataclass
class Arm:
    """The HSM as a resource: what is read, what was sent."""

    found: HsmResource | None
    answer: Exception | None = None
    patches: list[dict[str, Any]] = field(default_factory=list)

    async def get(self, group: str, name: str) -> HsmResource | None:
        assert (group, name) == ("rg", "target")
        return self.found

    async def start_update(self, group: str, name: str, patch: dict[str, Any]) -> None:
        assert (group, name) == ("rg", "target")
        self.patches.append(patch)
        if self.answer:
            raise self.answer


class Notes:
    """A chain that only takes notes, and the state after them."""

    def __init__(self, marked_ms: int | None = None) -> None:
        self.state = SimpleNamespace(marked_ms=marked_ms, opened_ms=NOW - 10)
        self.bodies: list[Any] = []

    def append(self, kind: R, body: Any) -> None:
        assert kind is R.NOTE
        self.bodies.append(body)


def ask(arm: Arm, holder: str, notes: Notes | None = None, **inputs: str):
    ctx = context(arm, holder, **inputs)
    turn = Turn(notes or Notes(), ctx, QUIET)  # type: ignore[arg-type]
    return asyncio.run(may_send(turn))


def context(arm: Arm, holder: str, **inputs: str) -> StepContext:
    cloud: Any = SimpleNamespace(hsms=arm)
    return StepContext(
        run=RUN,
        root=RUN,
        step="restore",
        run_class=RunClass.DRILL,
        cloud=cloud,
        where=WHERE,
        objects=SimpleNamespace(),  # type: ignore[arg-type]
        secret=Secret,
        now_ms=NOW,
        inputs=inputs or {"resource_group": "rg", "target_hsm": "target"},
        holder=holder,
    )


def test_a_run_that_never_moved_sends_without_a_word():
    arm, notes = Arm(hsm("0.abcd")), Notes()
    assert ask(arm, "0.abcd", notes) is None
    assert (arm.patches, notes.bodies) == ([], [])


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ("0.a", "1.aaaa"),
        ("0.a", "0.b"),
        ("1.aaaa", "2.bbbb"),
        ("1.aaaa", "1.bbbb"),
        ("9.a", "10.b"),
        ("1.a", "?"),
    ],
)
def test_a_later_or_an_equal_but_other_holder_stops_this_host(mine, theirs):
    arm = Arm(hsm(theirs))
    with pytest.raises(HandedOver, match="nothing was sent") as refusal:
        ask(arm, mine)
    assert refusal.value.exit_code == 7
    assert arm.patches == []
    with pytest.raises(HandedOver):
        asyncio.run(our_target(context(arm, mine)))


def test_the_host_that_took_over_sets_the_tag_first_and_keeps_the_others():
    arm, notes = Arm(hsm("0")), Notes()
    held = ask(arm, "1.abcd", notes)
    assert held is not None
    assert held.not_before_ms == NOW + QUIET
    assert arm.patches == [{"tags": {RUN_TAG: str(RUN), "theirs": "kept", HOLDER_TAG: "1.abcd"}}]
    assert notes.bodies[0]["holder"] == "1.abcd"


def test_nothing_is_sent_until_the_quiet_period_after_the_tag_is_over():
    assert ask(Arm(hsm("1.abcd")), "1.abcd", Notes(NOW - QUIET)) is None
    held = ask(Arm(hsm("1.abcd")), "1.abcd", Notes(NOW - QUIET + 1))
    assert held is not None
    assert held.not_before_ms == NOW + 1


@pytest.mark.parametrize(
    "answer",
    [UnknownOutcome("the answer was lost"), AzureError("409", status=409, transient=True)],
)
def test_a_tag_that_may_not_have_been_set_is_looked_at_again(answer):
    held = ask(Arm(hsm("0"), answer), "1.abcd")
    assert held is not None
    assert held.not_before_ms > NOW


def test_a_host_that_may_not_set_the_tag_sends_nothing():
    with pytest.raises(NotAuthorized):
        ask(Arm(hsm("0"), NotAuthorized("403", status=403)), "1.abcd")


def test_an_hsm_that_is_being_changed_is_not_marked_yet():
    arm = Arm(hsm("0", provisioning_state="Updating"))
    assert ask(arm, "1.abcd") is not None
    assert arm.patches == []


@pytest.mark.parametrize(
    "found", [None, hsm("7.else", tags={RUN_TAG: "r-another"})], ids=["no HSM", "not ours"]
)
def test_what_is_not_ours_or_not_there_is_left_to_the_guards_of_the_step(found):
    arm = Arm(found)
    assert ask(arm, "1.abcd") is None
    assert arm.patches == []


def test_a_run_without_a_target_hsm_has_nothing_to_mark():
    assert ask(Arm(None), "1.abcd", group="x") is None


def record(seq: int, kind: R, **body: Any) -> Record:
    digest = f"{seq:064x}"[::-1]
    return Record(seq, RUN, kind, "engine", body, NOW + seq, seq, None, GENESIS_PREV, digest)


def test_each_move_makes_a_new_holder_and_forgets_the_old_mark():
    genesis = {"class": "drill", "steps": ["one"], "cloud": {"lab": True}, "inputs": {}}
    state = fold([record(0, R.RUN_CREATED, **genesis)])
    assert (state.holder, state.handed_to) == ("0.000000000000", "")
    state = apply(state, record(1, R.RUN_HANDED_OVER, to="beta"))
    assert state.handed_to == "beta"
    state = apply(state, record(2, R.RUN_IMPORTED, chains=[]))
    assert (state.holder, state.handed_to) == ("1.200000000000", "")
    state = apply(state, record(3, R.NOTE, step="one", holder=state.holder))
    assert state.marked_ms == NOW + 3
    state = apply(state, record(4, R.RUN_IMPORTED, chains=[], reason="it burned"))
    assert (state.holder, state.marked_ms) == ("2.400000000000", None)


@pytest.mark.parametrize("tag", [None, "0"])
def test_a_target_that_nobody_marked_is_marked_by_the_first_who_sends(tag):
    arm, notes = Arm(hsm(tag)), Notes()
    assert ask(arm, "0.abcd", notes) is not None
    assert arm.patches[0]["tags"][HOLDER_TAG] == "0.abcd"


def test_the_same_plan_begun_in_two_homes_has_two_holders():
    genesis = {"class": "drill", "steps": ["one"], "cloud": {"lab": True}, "inputs": {}}
    homes = [replace(record(0, R.RUN_CREATED, **genesis), sha256=digit * 64) for digit in "ab"]
    assert {fold([home]).holder for home in homes} == {"0." + "a" * 12, "0." + "b" * 12}


def test_a_mark_of_the_future_counts_from_the_opening():
    held = ask(Arm(hsm("1.abcd")), "1.abcd", Notes(NOW + 86_400_000))
    assert held is not None
    assert held.not_before_ms == NOW - 10 + QUIET


def test_nothing_is_marked_behind_a_pause():
    arm, notes = Arm(hsm("0")), Notes()
    turn = Turn(notes, context(arm, "1.abcd"), QUIET, lambda: "the run is paused")  # type: ignore[arg-type]
    held = asyncio.run(may_send(turn))
    assert held is not None
    assert held.why == "the run is paused"
    assert (arm.patches, notes.bodies) == ([], [])
