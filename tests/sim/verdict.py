"""Judging a simulated run: by the cloud's ledger and the journal, never by the engine's word."""

from __future__ import annotations

from sim.world import Story

ONCE = ("create", "upload", "restore")


def judge(story: Story) -> list[str]:
    """Return what is wrong with how a seed went; empty where nothing is."""
    problems = [
        f"seed {story.seed}: {name} took effect {story.count(name)} times"
        for name in ONCE
        if story.count(name) > 1
    ]
    if story.rests[-1] != "done":
        problems.append(f"seed {story.seed}: not finished: {story.rests[-5:]}")
        return problems
    never = [name for name in ONCE if story.count(name) == 0]
    problems += [f"seed {story.seed}: finished, but {name} never took effect" for name in never]
    hsm = story.cloud.hsms_by_name.get("target")
    if hsm is None or len(hsm.restored or hsm.keys) != len(story.cloud.source_keys):
        problems.append(f"seed {story.seed}: finished, but the keys are not there")
    undone = [step.id for step in story.state.steps.values() if not step.status.is_done]
    if undone:
        problems.append(f"seed {story.seed}: finished with steps undone: {undone}")
    return problems
