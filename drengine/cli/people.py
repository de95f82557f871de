"""What people decide at a gate: approve, reject; and how a word is sent to a run.

Each command puts a signal into the run's inbox; the process that drives the run (now or
after the next resume) records it. A signal that does not fit is recorded as a note.

Rules:
- A decision binds the request that was shown: its record and digest travel with it.
- A signed decision carries its envelope; the nonce in it is the signal's id.
- Played approvers exist only in a drill in a lab, and are marked as such for ever.
"""

from __future__ import annotations

import json
import secrets
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import click

from drengine.cli import output
from drengine.cli.family import Family, read_family
from drengine.cli.notices import handed_in_text
from drengine.cli.onward import ANSWERS, after_word, follow_up, next_commands
from drengine.cli.places import open_clock
from drengine.cli.register import another_key, why_uncounted
from drengine.cli.signing import (
    DEFAULT_VALID,
    Wish,
    asked_of,
    check_keys,
    require_signer,
    signed_decision,
    signer_of,
    signer_options,
)
from drengine.cli.stores import (
    find_step,
    open_store,
    run_argument,
    user_name,
)
from drengine.cli.times import option_ms
from drengine.engine.chain import refuse_if_handed_over
from drengine.engine.fold import fold
from drengine.errors import GuardError, InputError
from drengine.journal.port import JournalStore
from drengine.model.ids import RunId, root_of
from drengine.model.records import RecordType, Signal
from drengine.model.run import StepState
from drengine.model.run import StepStatus as S
from drengine.model.runbook import RunClass
from drengine.trust.signers import Signer

reason_option = click.option("--reason", default="", help="Why, for the journal.")


@dataclass(frozen=True, slots=True)
class Person:
    """Who decides.

    Attributes:
        simulated: a drill plays this person.
    """

    name: str
    role: str = ""
    simulated: bool = False

    def actor(self, part: str) -> str:
        """Return how the journal names this person."""
        return f"{'simulated:' if self.simulated else ''}{part}:{self.name}"


@dataclass(frozen=True, slots=True)
class Manner:
    """How a decision is given.

    Attributes:
        signer: what signs it; None where the run does not ask for signatures.
        valid_ms: for how long it may be used.
        break_glass: one approval shall do in an emergency.
    """

    signer: Signer | None = None
    valid_ms: int = 8 * 3_600_000
    break_glass: bool = False


_UNSIGNED: Final = Manner()


def send(
    store: JournalStore, run: RunId, kind: str, actor: str, body: Mapping[str, Any], id_: str = ""
) -> str:
    """Put a signal into a run's inbox and return its id.

    Raises:
        HandedOver: nobody here would ever read it.
    """
    refuse_if_given_away(store, run)
    name = id_ or secrets.token_hex(12)
    signal = Signal(name, run, kind, actor, dict(body), open_clock().now_ms())
    store.put_signal(signal)
    return signal.id


def refuse_if_given_away(store: JournalStore, run: RunId) -> None:
    """Refuse to leave a message for a run that another host has by now.

    Raises:
        HandedOver: the run's last record hands it over.
    """
    root = root_of(run)
    last = list(store.read(root, store.head(root).seq - 1))
    if last and last[-1].type is RecordType.RUN_HANDED_OVER:
        refuse_if_handed_over(fold(store.read(root)))


def waiting_step(family: Family, run: RunId, step_id: str, status: S) -> StepState:
    """Return a step that waits as `status` says.

    Raises:
        InputError: there is no such step, it waits for something else, or no answer would move
            anything: the run is over, or is being undone.
    """
    state = family.states[run]
    step = state.steps.get(step_id)
    if step is None:
        known = ", ".join(name for name, st in state.steps.items() if st.status is status)
        raise InputError(
            f"run {state.run} has no step '{step_id}'",
            hint=f"steps that are {status} now: {known or 'none'}",
        )
    if state.status.is_over:
        raise InputError(
            f"run {state.run} is {state.status}: nothing is waited for any more; nothing was sent",
            hint=f"drengine status {root_of(state.run)}",
        )
    if step.status.is_waiting and family.rolls_back:
        raise InputError(
            f"run {family.root_run} is being rolled back: nothing is approved or delivered any"
            " more; nothing was sent",
            hint=f"drengine status {family.root_run}",
        )
    if step.status is not status:
        raise InputError(
            f"step {step_id} of {state.run} is '{step.status}', expected '{status}'; nothing was"
            " sent",
            hint=f"drengine status {state.run.partition('/')[0]}",
        )
    return step


def decide(
    store: JournalStore,
    family: Family,
    run: RunId,
    step_id: str,
    kind: str,
    person: Person,
    reason: str,
    manner: Manner = _UNSIGNED,
) -> str:
    """Send an approval or rejection of what a gate asks now.

    Raises:
        InputError: nothing is asked there.
        GuardError: the person may not decide it, or the signature would not count.
    """
    state = family.states[run]
    require_signer(state, manner.signer)
    step = waiting_step(family, run, step_id, S.AWAITING_APPROVAL)
    request = family.requests[run, step_id]
    if person.simulated and not (family.lab and state.run_class is RunClass.DRILL):
        raise GuardError(
            f"run {run} is {'no drill' if family.lab else 'not in a lab'}: nobody plays an "
            "approver there; nothing was sent"
        )
    require_fitting(request, person.role, reason, break_glass=manner.break_glass)
    asked = asked_of(state, step)
    body: dict[str, Any] = {
        "step": step_id,
        "request_seq": asked.seq,
        "digest": asked.digest,
        "reason": reason,
        "role": person.role,
    }
    if manner.break_glass:
        body["break_glass"] = True
    nonce = ""
    if manner.signer is not None:
        wish = Wish(
            decision=kind,
            by=person.name,
            role=person.role,
            reason=reason,
            now_ms=open_clock().now_ms(),
            valid_ms=manner.valid_ms,
            break_glass=manner.break_glass,
        )
        nonce, body["envelope"] = signed_decision(asked, wish, manner.signer)
        actor = person.actor("approver")
        envelope = body["envelope"]
        if why := why_uncounted(store, state, asked, request, envelope, actor, wish.now_ms):
            raise GuardError(
                f"this decision would not count: {why}; nothing was sent", hint=another_key(run)
            )
    return send(store, run, kind, person.actor("approver"), body, nonce)


def require_fitting(
    request: Mapping[str, Any], role: str, reason: str, *, break_glass: bool
) -> None:
    """Refuse a decision that the gate cannot count: another role, a glass that is none.

    Raises:
        GuardError: the message says what the gate asks for.
    """
    step, roles = request["step"], list(request.get("roles", ()))
    if roles and role not in roles and not break_glass:
        raise GuardError(
            f"gate {step} asks for {' or '.join(roles)}, not for "
            f"{role or 'somebody without a role'}; nothing was sent",
            hint=f"Give --as NAME --role {shlex.quote(roles[0])}",
        )
    if break_glass and not (request.get("break_glass") and reason.strip()):
        raise GuardError(
            f"gate {step}: break-glass needs a runbook that allows it there, and a reason;"
            " nothing was sent"
        )


def _person_options(command: Any) -> Any:
    command = click.option(
        "--simulated", is_flag=True, hidden=True, help="Played by a drill in a lab."
    )(command)
    command = click.option("--role", default="", help="In which role, where the gate asks one.")(
        command
    )
    return click.option("--as", "name", help="Who decides; by default the user here.")(command)


def _decision(
    kind: str,
    run: str,
    step: str,
    person: Person,
    reason: str,
    output_format: str,
    manner: Manner,
    keys: Mapping[str, Any],
    *,
    sure: bool,
) -> int:
    check_keys(**keys)
    with open_store() as store:
        found, step = find_step(store, run, step)
        family = read_family(store, found)
        waiting_step(family, found, step, S.AWAITING_APPROVAL)
        # Nobody is asked for a passphrase only to hear that the role was the wrong one.
        require_signer(
            family.states[found], keys["key"] or keys["ssh_key"] or keys["certificate"] or None
        )
        request = family.requests[found, step]
        require_fitting(request, person.role, reason, break_glass=manner.break_glass)
        _refuse_second(family, found, step, kind, person.actor("approver"))
        if output_format == "text":
            _show_request(family, found, step)
        if not sure:
            _confirm(kind, can_ask=output_format == "text" and sys.stdin.isatty())
        manner = replace(manner, signer=signer_of(**keys))
        family = _still_asked(store, family, found, step)
        _refuse_second(family, found, step, kind, person.actor("approver"))
        sent = decide(store, family, found, step, kind, person, reason, manner)
    said = Said(kind, sent, found, step, person.actor("approver"))
    say_sent(said, follow_up(family), output_format)
    return 0


def _still_asked(store: JournalStore, shown: Family, run: RunId, step: str) -> Family:
    """Read again what is asked: whoever decides may have taken hours, and decides what was shown.

    Raises:
        InputError: the run is over by now, or the step waits no more.
        GuardError: something else is asked than was shown.
    """
    family = read_family(store, run)
    now = waiting_step(family, run, step, S.AWAITING_APPROVAL).gate
    before = shown.states[run].steps[step].gate
    if now is None or before is None or (now.seq, now.digest) != (before.seq, before.digest):
        told = "nothing" if now is None else f"record {now.seq}, digest {now.digest}"
        was = "nothing" if before is None else f"record {before.seq}, digest {before.digest}"
        raise GuardError(
            f"gate {step} of {run} asks something else by now: {was}, was shown, {told}, is asked;"
            " nothing was sent",
            hint="Give the command again: it shows what is asked now.",
        )
    return family


def _refuse_second(family: Family, run: RunId, step: str, kind: str, actor: str) -> None:
    """Refuse to send what the same person has sent already."""
    for signal in family.handed_in(run, step, "approve", "reject"):
        if signal.actor == actor:
            raise InputError(
                f"{signal.kind} of {run} {step} by {actor} is handed in already and not taken in"
                " yet; nothing was sent",
                hint=after_word(family)
                if signal.kind == kind
                else f"{after_word(family)}   # takes in the {signal.kind}; then decide anew",
            )


def _confirm(kind: str, *, can_ask: bool) -> None:
    if not can_ask:
        raise InputError(
            f"{kind} asks before it sends, and there is no terminal to ask at; nothing was sent",
            hint=f"With --yes the command itself is the decision: drengine {kind} … --yes",
        )
    answer = click.prompt(f"To {kind}, type {kind}", default="", show_default=False, err=True)
    if answer.strip() != kind:
        raise InputError(
            f"'{output.shorten(answer, 20)}' was typed, not '{kind}'; nothing was sent",
            hint=f"To {kind}, run it again and type {kind}; --yes does not ask.",
        )


def _show_request(family: Family, run: RunId, step: str) -> None:
    request, state = family.requests[run, step], family.states[run]
    gate = state.steps[step].gate
    output.say(f"{output.banner(str(state.run_class), lab=family.lab)}  {run} {step}")
    for line in request_lines(request):
        output.say(line)
    if gate:
        have = ", ".join(gate.approvers) or "nobody yet"
        output.say(f"Request   record {gate.seq}, digest {gate.digest}")
        output.say(f"Approvals {len(gate.approvers)} of {request.get('approvals', 1)}: {have}")
    for signal in family.handed_in(run, step, *ANSWERS):
        output.say(f"Handed in {handed_in_text(signal)}; {after_word(family)} takes it in")


def request_lines(request: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a gate asks, as whoever decides must see it: question, facts, findings."""
    yield f"{request.get('ask', '')}"
    for name, facts in request.get("facts", {}).items():
        yield f"  {name}:"
        for line in json.dumps(facts, indent=2, ensure_ascii=False).splitlines():
            yield f"    {line}"
    for finding in request.get("findings", ()):
        symbol = {"ok": "✓", "info": "·", "warn": "⚠"}.get(finding["severity"], "✗")
        advice = f". {finding['advice']}" if finding.get("advice") else ""
        told = output.one_line(f"{finding['rule']}: {finding['message']}{advice}")
        yield f"  {symbol} {told}"


@dataclass(frozen=True, slots=True)
class Said:
    """What somebody has said to a run, for the answer of the command.

    Attributes:
        signal: its id; empty where it was recorded at once.
        as_what: what was said, where the kind alone does not tell: "as ABSENT".
        notes: what whoever said it should know.
    """

    kind: str
    signal: str
    run: RunId
    step: str
    actor: str
    as_what: str = ""
    notes: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Return it as JSON gives it."""
        facts = {"signal": self.signal or None, "kind": self.kind, "run": self.run}
        return {**facts, "step": self.step, "actor": self.actor}


def say_sent(said: Said, follow: str, output_format: str, **facts: Any) -> None:
    """Print that a signal is on its way, and what comes next."""
    if output_format == "json":
        output.emit("drengine/signal/v1", {**said.facts(), **facts, "next": follow})
        return
    where = f"{said.run} {said.step}".rstrip()
    how = f"{said.as_what} " if said.as_what else ""
    output.say(f"✓ {said.kind} of {where} {how}sent as {said.actor}")
    for note in said.notes:
        output.say(f"  {note}")
    output.say(f"Next: {follow}")


def nothing_new(kind: str, run: RunId, already: str, family: Family, output_format: str) -> int:
    """Say that a word was not sent since it would change nothing, and what comes next."""
    follow = next_commands(family)[0]
    if output_format == "json":
        facts = Said(kind, "", run, "", f"operator:{user_name()}").facts()
        output.emit("drengine/signal/v1", {**facts, "already": already, "next": follow})
        return 0
    output.say(f"· {already}; nothing was sent")
    output.say(f"Next: {follow}")
    return 0


@click.command("approve")
@run_argument
@click.argument("step")
@reason_option
@_person_options
@signer_options
@click.option(
    "--valid", default=DEFAULT_VALID, show_default=True, help="For how long it may be used."
)
@click.option(
    "--break-glass",
    is_flag=True,
    help="Emergency: pass alone, in any role; needs a reason, and every report shows it.",
)
@click.option("--yes", "sure", is_flag=True, help="Do not ask; the command is the decision.")
@output.output_option
def approve_command(
    *,
    run: str,
    step: str,
    reason: str,
    name: str | None,
    role: str,
    simulated: bool,
    sure: bool,
    output_format: str,
    valid: str,
    break_glass: bool,
    **keys: Any,
) -> int:
    """Agree to what gate STEP of RUN asks, after showing it.

    The approval binds the facts that are shown: the engine reads them again before it
    acts, and asks anew where they have changed. With a key it is signed; a run that was
    started with a register of approvers counts no other.
    """
    person = Person(name or user_name(), role, simulated)
    manner = Manner(valid_ms=option_ms("--valid", valid), break_glass=break_glass)
    return _decision("approve", run, step, person, reason, output_format, manner, keys, sure=sure)


@click.command("reject")
@run_argument
@click.argument("step")
@click.option("--reason", required=True, help="Why, for the journal and the report.")
@_person_options
@signer_options
@click.option("--yes", "sure", is_flag=True, help="Do not ask; the command is the decision.")
@output.output_option
def reject_command(
    *,
    run: str,
    step: str,
    reason: str,
    name: str | None,
    role: str,
    simulated: bool,
    sure: bool,
    output_format: str,
    **keys: Any,
) -> int:
    """Refuse what gate STEP of RUN asks; the run stops there, and 'resume' asks again."""
    person = Person(name or user_name(), role, simulated)
    return _decision("reject", run, step, person, reason, output_format, Manner(), keys, sure=sure)
