"""Judging a simulated run: by the cloud's ledger and the journal, never by the engine's word.

Safety and liveness are told apart: what is unsafe is wrong whenever it happens; a run that
does not end is wrong because every seed's trouble ends after a while.
"""

from __future__ import annotations

from drengine.errors import JournalDamaged
from drengine.evidence.collect import collect
from drengine.journal.memory import MemoryStore
from drengine.model.run import StepStatus
from sim.watch import ONCE
from sim.world import Story

ENDS = ("done", "rolled back")
REPORTED_EVERY = 25
"""One seed in so many has its evidence collected and held against its journal (J4)."""


def judge(story: Story) -> list[str]:
    """Return what is wrong with how a seed went; empty where nothing is."""
    problems = unsafe(story) + unfinished(story)
    return [f"seed {story.seed}: {problem}" for problem in problems]


def unsafe(story: Story) -> list[str]:
    """Return what must never be, however the run ended."""
    problems = list(story.watch.problems)
    problems += [
        f"J5: {name} took effect {story.count(name)} times"
        for name in ONCE
        if story.count(name) > 1
    ]
    try:
        for _ in MemoryStore(story.disk).read(story.plan.run_id):
            pass
    except JournalDamaged as damage:
        problems.append(f"J3: {damage}")
    if story.rests[-1] == "done" and story.seed % REPORTED_EVERY == 0:
        problems += _reported(story)
    return problems


def unfinished(story: Story) -> list[str]:
    """Return what is lost: a run that never ends, or says done and is not."""
    if story.state.finished_ms is None or not any(end in story.rests for end in ENDS):
        return [f"not finished: {story.rests[-5:]}"]
    problems = [f"finished, but {name} never took effect" for name in ONCE if not story.count(name)]
    hsm = story.cloud.hsms_by_name.get("target")
    if hsm is None or len(hsm.restored or hsm.keys) != len(story.cloud.source_keys):
        problems.append("finished, but the keys are not there")
    undone = [step.id for step in story.state.steps.values() if not step.status.is_done]
    if undone:
        problems.append(f"finished with steps undone: {undone}")
    return problems


def _reported(story: Story) -> list[str]:
    """J4: what the evidence says was done is in the journal, and in the cloud's ledger."""
    store = MemoryStore(story.disk)
    facts = collect(story.plan, {story.plan.run_id: store.read(story.plan.run_id)})
    done = {
        step.id for run in facts.runs for step in run.steps if step.status is StepStatus.SUCCEEDED
    }
    held = {step.id for step in story.state.steps.values() if step.status.is_done}
    return [f"J4: the evidence says {step} was done" for step in sorted(done - held)]
