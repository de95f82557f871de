"""What an operator does beside the engine: skip, mark-done, take-over.

Rules:
- A gate or a delivery is never skipped and never done by hand.
- What was done by hand is read back like everything else; where it cannot be read, a
  second person says so of the same evidence.
- Taking a run over ends the old process first, and says why in the journal.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from drengine.cli import output
from drengine.cli.behind import refuse_behind_word
from drengine.cli.effects import left_by, runbook_of, steps_behind
from drengine.cli.elsewhere import bring_up_to_date, refuse_behind
from drengine.cli.family import Family, read_family
from drengine.cli.onward import after_word, bare_resume
from drengine.cli.people import Said, nothing_new, say_sent, send
from drengine.cli.places import open_clock
from drengine.cli.stores import (
    find_run,
    find_step,
    open_store,
    owner_name,
    run_argument,
    user_name,
)
from drengine.engine.fold import fold
from drengine.engine.handover import take_back
from drengine.errors import GuardError, InputError, InputFileError, LimitExceeded
from drengine.journal.sqlite import SqliteStore
from drengine.model.canonical import JsonObject
from drengine.model.ids import RunId, root_of
from drengine.model.records import Draft, RecordType
from drengine.model.run import Effect, StepState
from drengine.model.run import StepStatus as S
from drengine.model.runbook import Runbook, StepKind

_SHOWS_IT = "Give the file that shows it (a transcript, a screenshot): --evidence FILE"
_WILL_NOT_COUNT = 8
_MAX_EVIDENCE_BYTES = 64 * 1024 * 1024
_name = click.option("--as", "name", help="Who says so; by default the user here.")


def _step_of(family: Family, run: RunId, step: str, allowed: tuple[S, ...]) -> StepState:
    state = family.states[run]
    found = state.steps.get(step)
    if found is None:
        raise InputError(f"run {run} has no step '{step}'", hint=f"drengine status {run}")
    if state.status.is_over:
        raise InputError(
            f"run {run} is {state.status}; nothing was sent", hint=f"drengine status {root_of(run)}"
        )
    if found.status not in allowed:
        listed = ", ".join(allowed)
        kept = "   # what was skipped stays so; a step behind it can be marked as done"
        raise InputError(
            f"step {step} of {run} is '{found.status}', expected one of: {listed}; nothing was"
            " sent",
            hint=f"drengine status {root_of(run)}{kept if found.status is S.SKIPPED else ''}",
        )
    return found


def _is_peoples(runbook: Runbook | None, step: str) -> bool:
    """Whether a step is a person's part: the engine then notes the attempt, and no more."""
    known = runbook.steps if runbook else ()
    return any(each.id == step and each.kind in _PEOPLE for each in known)


_PEOPLE: Final = (StepKind.GATE, StepKind.DELIVERY)


def _tell_noted(said: Said, family: Family, output_format: str) -> int:
    """Say that an attempt moves nothing; what somebody tried stands in the journal."""
    why = f"{said.step} is a decision or a delivery, which is neither skipped nor done by hand"
    follow = f"drengine status {family.root_run}   # has the command that answers it"
    if output_format == "json":
        facts = {**said.facts(), "counts": False, "why": why, "next": follow}
        output.emit("drengine/signal/v1", facts)
        return _WILL_NOT_COUNT
    output.talk(f"⚠ {said.kind} will not count: {why}")
    output.say("· handed in all the same: what somebody tried stands in the journal")
    output.say(f"Next: {follow}")
    return _WILL_NOT_COUNT


def _tell(said: Said, family: Family, output_format: str, **facts: object) -> None:
    say_sent(said, after_word(family), output_format, **facts)


@click.command("skip")
@run_argument
@click.argument("step")
@click.option("--reason", required=True, help="Why; it stands in the report as a deviation.")
@_name
@output.output_option
def skip_command(*, run: str, step: str, reason: str, name: str | None, output_format: str) -> int:
    """Leave STEP of RUN out: one that has not begun, failed or was refused.

    Steps that need it go on as if it were done. Gates and deliveries cannot be skipped,
    nor a step whose request may have taken effect.
    """
    with open_store() as store:
        found, step = find_step(store, run, step)
        family = read_family(store, found)
        _refuse_rolling_back(family)
        _refuse_at_work(found, _step_of(family, found, step, (S.PENDING, S.FAILED, S.REFUSED)))
        refuse_behind_word(family, found, step)
        runbook = runbook_of(store, family.states[found])
        # What it means is known before it is sent: nothing fails behind a word that is on its way.
        notes = tuple(_behind(runbook, family.states[found].steps[step]))
        waits, reads = steps_behind(runbook, step) if runbook else ([], [])
        actor = f"operator:{name or user_name()}"
        sent = send(store, found, "skip", actor, {"step": step, "reason": reason})
    if _is_peoples(runbook, step):
        return _tell_noted(Said("skip", sent, found, step, actor), family, output_format)
    said = Said("skip", sent, found, step, actor, notes=notes)
    named = {"behind": [each.id for each in waits], "read_by": [each.id for each in reads]}
    _tell(said, family, output_format, **(named if runbook else {}))
    return 0


def _refuse_rolling_back(family: Family) -> None:
    """Refuse a word about a step of a run that is being undone: it would move nothing forward.

    Raises:
        InputError: it is; names the run.
    """
    if family.rolls_back:
        raise InputError(
            f"run {family.root_run} is being rolled back: no step is left out or done by hand any"
            " more; nothing was sent",
            hint=f"drengine status {family.root_run}",
        )


def _behind(runbook: Runbook | None, st: StepState) -> Iterator[str]:
    """Yield what a skip means for the rest of the run."""
    if runbook is None:
        return
    waits, reads = steps_behind(runbook, st.id)
    title = next((each.title for each in runbook.steps if each.id == st.id), "") or st.id
    if st.effect is Effect.HAD:
        yield f"It was sent and took effect; whether it is as it must be stays unread: {title}"
    else:
        yield f"What will not be true by this run: {title}"
    if waits:
        listed = ", ".join(f"{each.id} ({each.title})" if each.title else each.id for each in waits)
        yield f"Goes on as if it were, once all before it is done: {listed}"
    if reads:
        listed = ", ".join(each.id for each in reads)
        yield f"⚠ reads what it would have told, and fails without: {listed}"


def _refuse_at_work(run: RunId, st: StepState) -> None:
    if st.effect is Effect.AT_WORK:
        raise GuardError(
            f"skipping {st.id} of {run}: its request was sent and nothing has said how it ended; it"
            " may still be at work. Nothing was done",
            hint=f"drengine resume {root_of(run)}   # looks again and follows it",
        )
    if still := [child.run for child in st.children.values() if not child.status.is_over]:
        raise GuardError(
            f"skipping {st.id} of {run}: its child runs are still open: {', '.join(still)}. Nothing"
            " was done",
            hint=f"drengine cancel {still[0]} --reason TEXT   # each of them, then skip again",
        )


@click.command("mark-done")
@run_argument
@click.argument("step")
@click.option(
    "--evidence",
    type=click.Path(path_type=Path),
    required=True,
    help="What shows it (a transcript, a screenshot); kept by its SHA-256.",
)
@click.option("--reason", default="", help="Why it was done by hand.")
@_name
@output.output_option
def mark_done_command(
    *, run: str, step: str, evidence: Path, reason: str, name: str | None, output_format: str
) -> int:
    """Say that STEP of RUN was done by hand.

    The engine reads the truth back, as after a step of its own. Where it cannot, the step
    fails; then a second person gives the same command with the same evidence, and the
    step counts as attested by two.
    """
    data = _evidence(evidence)
    with open_store() as store:
        found, step = find_step(store, run, step)
        family = read_family(store, found)
        _refuse_rolling_back(family)
        _step_of(family, found, step, (S.PENDING, S.FAILED, S.REFUSED, S.UNKNOWN))
        refuse_behind_word(family, found, step)
        runbook = runbook_of(store, family.states[found])
        actor = f"operator:{name or user_name()}"
        body: JsonObject = {"step": step, "evidence": store.put_object(data), "reason": reason}
        sent = send(store, found, "mark", actor, body)
    said = Said("mark-done", sent, found, step, actor)
    if _is_peoples(runbook, step):
        return _tell_noted(said, family, output_format)
    _tell(said, family, output_format)
    return 0


def _evidence(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputFileError(
            f"reading the evidence {path}: {error.strerror}; nothing was sent", hint=_SHOWS_IT
        ) from None
    if not data:
        raise InputFileError(f"the evidence {path} is empty; nothing was sent", hint=_SHOWS_IT)
    if len(data) > _MAX_EVIDENCE_BYTES:
        raise LimitExceeded(
            f"the evidence {path} is larger than {_MAX_EVIDENCE_BYTES} bytes; nothing was sent",
            hint=_SHOWS_IT,
        )
    return data


@click.command("rollback")
@run_argument
@click.option("--reason", required=True, help="Why; it stands in the report.")
@_name
@output.output_option
def rollback_command(*, run: str, reason: str, name: str | None, output_format: str) -> int:
    """Undo what RUN may have done, as far as that is possible, and end it.

    Only what may have had an effect is undone, the last first, and each is read back. The
    HSM that the run created is soft-deleted (never purged), unless an instance has one of
    its keys linked. What stays is named with the reason.
    """
    with open_store() as store:
        found = find_run(store, run)
        family = read_family(store, found)
        if family.states[found].status.is_over:
            raise InputError(
                f"run {found} is {family.states[found].status}; nothing was sent",
                hint=f"drengine status {family.root_run}",
            )
        if "/" in found:
            raise InputError(
                f"{found} is a child run; only a whole run is rolled back; nothing was sent",
                hint=f"drengine rollback {family.root_run} --reason TEXT",
            )
        if family.rolls_back:
            already = f"a rollback of {found} was asked for already"
            return nothing_new("rollback", found, already, family, output_format)
        actor = f"operator:{name or user_name()}"
        left = left_by(store, family, found)
        sent = send(store, found, "rollback", actor, {"reason": reason})
    notes = [f"To be undone, as far as it can be: {each}" for each in reversed(left)]
    said = Said("rollback", sent, found, "", actor, notes=tuple(notes))
    _tell(said, family, output_format, to_undo=[each.to_json() for each in reversed(left)])
    return 0


@click.command("take-over")
@run_argument
@click.option("--reason", required=True, help="Why; it stands in the report.")
@output.output_option
def take_over_command(*, run: str, reason: str, output_format: str) -> int:
    """End the process that holds RUN, so that it can be resumed here.

    A request of the old process may still take effect: the resume looks before it sends,
    and what cannot be told becomes an unknown outcome. A run that was handed over to
    another host and never arrived there is taken back.
    """
    with open_store() as store:
        found = find_run(store, run)
        family = read_family(store, found)
        if family.root.status.is_over and family.owner is None:
            # A sealed journal that grows by a remark would no longer be the one that was sealed.
            raise InputError(
                f"run {found} is {family.root.status}, and nobody holds it; nothing was done",
                hint=f"drengine status {family.root_run}",
            )
        given = family.root.handed_to
        ended = store.end_owner(root_of(found))
        if ended:
            output.talk(f"Ended: {ended}")
        _record_take_over(store, root_of(found), ended or "nobody held it", reason)
        follow = bare_resume(read_family(store, found))
    if output_format == "json":
        facts = {"run": found, "ended": ended, "taken_back_from": given or None}
        output.emit("drengine/take-over/v1", {**facts, "next": follow})
        return 0
    output.say(f"✓ {found}: {'ended ' + ended if ended else 'nobody held it'}")
    if given:
        output.say(f"  Taken back from {given}")
    output.say(f"Next: {follow}")
    return 0


def _record_take_over(store: SqliteStore, run: RunId, ended: str, reason: str) -> None:
    clock, actor = open_clock(), f"operator:{user_name()}"
    lease = store.acquire(run, owner_name())
    try:
        state = fold(store.read(run))
        refuse_behind(store, run, state.copies_to)
        if state.handed_to:
            output.talk(
                f"⚠ {run} was handed over to {state.handed_to}, and is taken back: make sure that"
                " it is not gone on with there, or two hosts keep two histories of one run"
            )
            take_back(store, lease, state, reason, actor, clock)
        else:
            body = {"take_over": ended, "reason": reason, "token": lease.token}
            times = (clock.now_ms(), clock.mono_ms(), clock.wall_ms())
            store.append(lease, state.head, [Draft(RecordType.NOTE, actor, body, *times)])
        bring_up_to_date(store, run, state.copies_to)
    finally:
        store.release(lease)
