"""Driving a run from the command line: checks, signals, progress, exit code.

Rules:
- Nothing is sent before plan, files, secrets and session were checked and the targets
  are claimed.
- The first Ctrl-C or SIGTERM stops cleanly: nothing new begins, what is under way may
  end. The second leaves at once; the journal holds what is needed to go on.
- The last line says what to do next.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from drengine import failpoints
from drengine.azure.auth import AuthKind
from drengine.cli import output
from drengine.cli.elsewhere import check_place, open_copy, place_as_before
from drengine.cli.exits import EXIT_OF, exit_of_evidence
from drengine.cli.family import Family, read_family
from drengine.cli.library import Library, catalogue
from drengine.cli.notices import in_flight_lines, noted_json, uncounted_lines, undone_lines
from drengine.cli.onward import next_commands
from drengine.cli.progress import Progress, progress_for
from drengine.cli.register import with_approvers
from drengine.cli.secrets import SecretResolver
from drengine.cli.session import (
    check_files,
    check_secrets,
    make_world,
)
from drengine.cli.signin import check_identity, signed_in
from drengine.cli.stores import find_run, open_store, user_name
from drengine.cli.writing import read_bounded
from drengine.engine.chain import refuse_if_handed_over
from drengine.engine.commands import Rest
from drengine.engine.driver import Outcome, drive
from drengine.engine.genesis import create_run, targets_of
from drengine.engine.world import Listener
from drengine.errors import InputError
from drengine.installed import tool_facts
from drengine.journal.copying import JournalCopy
from drengine.journal.sqlite import SqliteStore
from drengine.model.canonical import canonical
from drengine.model.ids import RunId, root_of
from drengine.model.plan import Plan
from drengine.model.records import Record
from drengine.model.run import RunState, RunStatus
from drengine.runbook.planner import read_plan

if TYPE_CHECKING:
    from drengine.evidence.along import StampsAlong

_MAX_PLAN_BYTES: Final = 16 * 1024 * 1024
_TERMINATED: Final = 143
_INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True)
class Manner:
    """How a run is driven."""

    auth: AuthKind
    wait: bool
    as_json: bool
    approvers: Path | None = None
    copy_to: Path | None = None
    no_copy: bool = False
    tsa: str | None = None


def start(path: Path, initiator: str | None, manner: Manner) -> int:
    """Start the run of a plan, or go on with it."""
    plan = read_plan(read_bounded(path, "plan", _MAX_PLAN_BYTES))
    with open_store() as store:
        if store.exists(plan.run_id) and _is_over(store, plan.run_id):
            output.talk(f"Nothing was done: run {plan.run_id} of this plan has ended already.")
            return _report(store, plan.run_id, None, manner)
        return _drive(store, plan, initiator or f"operator:{user_name()}", manner)


def go_on(named: str, manner: Manner) -> int:
    """Go on with a run of this home."""
    with open_store() as store:
        run = find_run(store, named)
        if "/" in run:
            root = root_of(run)
            raise InputError(f"{run} is a child run", hint=f"drengine resume {root}")
        if _is_over(store, run):
            output.talk(f"Nothing was done: run {run} has ended.")
            return _report(store, run, None, manner)
        plan = read_plan(canonical(store.get_document(run, "plan")))
        return _drive(store, plan, None, manner)


def _is_over(store: SqliteStore, run: RunId) -> bool:
    return read_family(store, run).root.status.is_over


@dataclass(slots=True)
class _Stop:
    """What the signals of the operating system came to."""

    event: asyncio.Event = field(default_factory=asyncio.Event)
    exit_code: int = 130


def _drive(store: SqliteStore, plan: Plan, initiator: str | None, manner: Manner) -> int:
    failpoints.refuse_for_incident(plan.run_class)
    family = read_family(store, plan.run_id) if store.exists(plan.run_id) else None
    if family is not None:
        refuse_if_handed_over(family.root)
        manner = _copying_as_before(manner, family)
    check_place(plan.run_class, manner.copy_to, store.home, goes_without=manner.no_copy)
    copy = open_copy(store, plan.run_id, manner.copy_to, family.root.copies_to if family else "")
    library, secret, stop = Library(catalogue()), SecretResolver(), _Stop()
    check_files(plan, store, resuming=initiator is None)
    check_secrets(plan, library, secret)
    with (
        _stamping(store, plan, manner) as stamps,
        progress_for(plan, family, quiet=manner.as_json) as progress,
    ):
        listener = _listener(copy, stamps, progress)
        outcome = asyncio.run(
            _drive_in_loop(store, plan, initiator, manner, library, secret, stop, listener)
        )
    return _report(store, plan.run_id, outcome, manner, stop.exit_code)


def _copying_as_before(manner: Manner, family: Family) -> Manner:
    before = family.root.copies_to
    if manner.copy_to is not None or manner.no_copy or not before:
        return manner
    return replace(manner, copy_to=place_as_before(before))


def _listener(copy: JournalCopy | None, stamps: StampsAlong | None, progress: Progress) -> Listener:
    if copy is None and stamps is None:
        return progress.listen

    def listen(state: RunState, record: Record) -> None:
        if copy is not None:
            copy.follow(record.run, record.type)
        if stamps is not None:
            stamps.follow(record)
        progress.listen(state, record)

    return listen


@contextmanager
def _stamping(store: SqliteStore, plan: Plan, manner: Manner) -> Iterator[StampsAlong | None]:
    """Stamp along the run where an authority is named; the run never waits for it."""
    if manner.tsa is None:
        yield None
        return
    from drengine.evidence.along import StampsAlong  # noqa: PLC0415 - loads the evidence rules
    from drengine.evidence.stamps import check_address  # noqa: PLC0415 - as above

    check_address(manner.tsa)
    stamps = StampsAlong(lambda: SqliteStore(store.home), plan, manner.tsa, output.talk)
    try:
        yield stamps
    finally:
        stamps.close()


async def _drive_in_loop(
    store: SqliteStore,
    plan: Plan,
    initiator: str | None,
    manner: Manner,
    library: Library,
    secret: SecretResolver,
    stop: _Stop,
    listener: Listener,
) -> Outcome | None:
    async with signed_in(manner.auth) as session:
        check_identity(plan.cloud, session.where)
        run = plan.run_id
        world = with_approvers(
            make_world(
                plan,
                store,
                session.cloud,
                library,
                secret,
                listener=listener,
                waits_for_people=manner.wait,
                copies_to=manner.copy_to and manner.copy_to.absolute(),
            ),
            run,
            manner.approvers,
        )
        store.put_document(run, "plan", plan.to_json())
        targets = targets_of(plan)
        if initiator is not None:
            create_run(
                world,
                run,
                library.from_text(plan.root.runbook_text),
                part=plan.root,
                inputs=plan.root.inputs,
                initiator=initiator,
                tool=tool_facts(),
                targets=targets,
            )
        store.claim(run, targets)
        work = asyncio.ensure_future(drive(world, run, stop.event))
        with _signals(stop, work):
            try:
                return await work
            except asyncio.CancelledError:
                return None


@contextmanager
def _signals(stop: _Stop, work: asyncio.Future[Outcome]) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def take(code: int) -> None:
        if stop.event.is_set():
            work.cancel()
            return
        stop.exit_code = code
        stop.event.set()
        output.talk("Stopping: nothing new begins. Once more leaves at once; both are safe.")

    codes = {signal.SIGINT: _INTERRUPTED, signal.SIGTERM: _TERMINATED}
    for number, code in codes.items():
        loop.add_signal_handler(number, take, code)
    try:
        yield
    finally:
        for number in codes:
            loop.remove_signal_handler(number)


def _report(
    store: SqliteStore,
    run: RunId,
    outcome: Outcome | None,
    manner: Manner,
    interrupted: int = _INTERRUPTED,
) -> int:
    family = read_family(store, run)
    code, verdict = _verdict(store, family, outcome, interrupted)
    commands = next_commands(family)
    if manner.as_json:
        output.emit("drengine/run-ended/v1", _facts(family, outcome, code, verdict, commands))
        return code
    state = family.root
    reasons = outcome.reasons if outcome else state.waiting_for
    rest = str(outcome.rest) if outcome else str(state.status)
    output.say()
    output.say(f"{output.banner(str(state.run_class), lab=family.lab)}  {run}  {verdict or rest}")
    for reason in reasons:
        output.say(f"  {reason}")
    left = in_flight_lines(family) if code in (_INTERRUPTED, _TERMINATED) else []
    for line in (*left, *undone_lines(family), *uncounted_lines(family)):
        output.say(f"  {line}")
    for text in commands:
        output.say(f"Next: {text}")
    return code


def _verdict(
    store: SqliteStore, family: Family, outcome: Outcome | None, interrupted: int
) -> tuple[int, str]:
    """Return the exit code and, for a run that has ended, what its evidence says."""
    state = family.root
    if state.status is RunStatus.FINISHED:
        return exit_of_evidence(store, family)
    if state.status is RunStatus.ROLLED_BACK:
        return EXIT_OF[Rest.ROLLED_BACK], ""
    if outcome is None:
        return EXIT_OF[Rest.CANCELLED] if state.status.is_over else interrupted, ""
    return interrupted if outcome.rest is Rest.INTERRUPTED else EXIT_OF[outcome.rest], ""


def _facts(
    family: Family, outcome: Outcome | None, code: int, verdict: str, commands: list[str]
) -> dict[str, Any]:
    state = family.root
    return {
        "run": str(state.run),
        "class": str(state.run_class),
        "lab": family.lab,
        "rest": str(outcome.rest) if outcome else None,
        "status": str(state.status),
        "verdict": verdict or None,
        "waiting_for": list(outcome.reasons if outcome else state.waiting_for),
        "head": {"seq": state.head.seq, "sha256": state.head.sha256},
        "exit_code": code,
        **noted_json(family),
        "next": commands,
    }
