"""Judging a simulated run: by the cloud's ledger and the journal, never by the engine's word.

Safety and liveness are told apart: what is unsafe is wrong whenever it happens; a run that
does not end is wrong because every seed's trouble ends after a while.
"""

from __future__ import annotations

from drengine.engine.fold import fold
from drengine.errors import JournalDamaged
from drengine.evidence.collect import collect
from drengine.journal.memory import MemoryStore
from drengine.model.records import RecordType
from drengine.model.run import RunStatus, StepState, StepStatus, UndoStatus
from sim.people import is_by_hand
from sim.repeats import doubled, harmful_deletes, left_out_at_work, two_hosts, unlooked
from sim.stops import Stops
from sim.trace import Written
from sim.watch import ONCE, STEP_OF
from sim.world import ENDS, Story

REPORTED_EVERY = 25
"""One seed in so many has its evidence collected and held against its journal (J4)."""


def judge(story: Story) -> list[str]:
    """Return what is wrong with how a seed went; empty where nothing is."""
    problems = unsafe(story) + unfinished(story)
    return [f"seed {story.seed}: {problem}" for problem in problems]


def _vouched(story: Story, name: str) -> int:
    """Return how often a person said of a request that nothing came of it: wrongly, perhaps.

    A restore shows its keys when its job ends, which may be behind the quiet period.
    """
    said = (entry for entry in story.trace.entries if isinstance(entry, Written))
    return sum(
        entry.record.type is RecordType.OUTCOME_ABSENT and entry.place[2] == STEP_OF[name]
        for entry in said
    )


def unsafe(story: Story) -> list[str]:
    """Return what must never be, however the run ended."""
    problems = list(story.watch.problems)
    most = 1 + story.count("delete")  # what a rollback took away, another host may make again
    problems += [
        f"J5: {name} took effect {story.count(name)} times"
        for name in ONCE
        if story.count(name) > most + _vouched(story, name)
    ]
    problems += Stops(story.trace).problems
    for look in (doubled, unlooked, left_out_at_work, harmful_deletes, two_hosts):
        problems += dict.fromkeys(look(story.trace))
    if not any(map(is_by_hand, story.state.steps.values())):  # who restores by hand proves it
        problems += dict.fromkeys(f"V6: {wrong}" for wrong in story.cloud.sql.wrongs)
    problems += _left_standing(story)
    problems += _damaged(story)
    if story.rests[-1] == "done" and story.seed % REPORTED_EVERY == 0:
        problems += _reported(story)
    return problems


def _left_standing(story: Story) -> list[str]:
    """V4: a rollback that says it is over has taken the target away, or says why not."""
    created = story.state.steps["create-hsm"]
    if story.fate.homes > 1:
        return []  # it may be the other host's
    if story.state.status is not RunStatus.ROLLED_BACK or "target" not in story.cloud.hsms_by_name:
        return []
    kept = created.undo is UndoStatus.KEPT and "not this run's" in created.detail
    return [] if kept else [f"V4: rolled back ({created.undo}), and the target stands"]


def _damaged(story: Story) -> list[str]:
    """J3: every chain of every home verifies."""
    problems = []
    for home in story.homes.values():
        for run in home.disk.runs:
            try:
                for _ in home.store.read(run):
                    pass
            except JournalDamaged as damage:
                problems.append(f"J3: {damage}")
    return problems


def unfinished(story: Story) -> list[str]:
    """Return what is lost: a run that never ends, or says done and is not."""
    if story.fate.homes > 1:
        return []  # which of two hosts goes on is people's matter
    ended = any(end in story.rests for end in ENDS)
    if story.homes["a"].given_up:
        return []  # what stands in the way, people have to take away
    if not ended:
        return [f"not finished: {story.rests[-5:]}"]
    return _not_done(story) if story.state.status is RunStatus.FINISHED else []


def _not_done(story: Story) -> list[str]:
    by_hand = {step.id for step in story.state.steps.values() if is_by_hand(step)}
    wanted = [name for name in ONCE if STEP_OF[name] not in by_hand]
    problems = [
        f"finished, but {name} never took effect" for name in wanted if not story.count(name)
    ]
    hsm = story.cloud.hsms_by_name.get("target")
    if "restore" in wanted and (
        hsm is None or len(hsm.restored or hsm.keys) != len(story.cloud.source_keys)
    ):
        problems.append("finished, but the keys are not there")
    left = story.cloud.sql.left_behind()
    if left and not any(map(is_by_hand, _all_steps(story))):
        problems.append(f"finished, but {', '.join(left)} are not on the target")
    undone = [step.id for step in story.state.steps.values() if not step.status.is_done]
    if undone:
        problems.append(f"finished with steps undone: {undone}")
    return problems


def _all_steps(story: Story) -> list[StepState]:
    home = story.homes["a"]
    states = [fold(home.store.read(run)) for run in home.disk.runs]
    return [step for state in states for step in state.steps.values()]


def _reported(story: Story) -> list[str]:
    """J4: what the evidence says was done is in the journal, and in the cloud's ledger."""
    store = MemoryStore(story.disk)
    facts = collect(story.plan, {run: store.read(run) for run in story.disk.runs})
    done = {
        step.id for run in facts.runs for step in run.steps if step.status is StepStatus.SUCCEEDED
    }
    held = {step.id for step in _all_steps(story) if step.status.is_done}
    return [f"J4: the evidence says {step} was done" for step in sorted(done - held)]
