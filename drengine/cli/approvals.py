"""`drengine approval`: decide where the run is not, and take an approval back.

`request` writes what a gate asks into a file; `sign` needs only that file and a key, on a
machine without network or store; `import` hands the signed decision to the run.

The digest that is signed covers everything a gate shows, and `sign` computes it anew: a file
whose question or findings were changed on the way is refused before anybody reads it.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any, Final

import click

from drengine.cli import output
from drengine.cli.family import Family, read_family
from drengine.cli.onward import follow_up
from drengine.cli.people import (
    reason_option,
    request_lines,
    require_fitting,
    send,
    waiting_step,
)
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
from drengine.cli.stores import find_run, find_step, open_store, run_argument, user_name
from drengine.cli.times import option_ms
from drengine.errors import GuardError, InputError, InputFileError, JournalError
from drengine.journal.port import JournalStore
from drengine.journal.sqlite import SqliteStore
from drengine.model.canonical import digest, plain
from drengine.model.ids import RunId, root_of
from drengine.model.run import RunState
from drengine.model.run import StepStatus as S
from drengine.trust.approval import REQUEST_SCHEMA, Approval, Asked, read_approval
from drengine.trust.dsse import Envelope, parse_json
from drengine.trust.files import read_bounded, write_new
from drengine.trust.register import Register
from drengine.trust.signers import Signer

DOCUMENT: Final = "approvers"
_MOST: Final = 8 << 20
_WITHDRAWN_MS: Final = 8 * 3_600_000
_AROUND: Final = ("digest", "exchanges")  # of a request record, not covered by its digest
_out = click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The file to write; new."
)


@click.group("approval")
def approval() -> None:
    """Decide on a gate away from the run; withdraw an approval."""


@approval.command("request", short_help="Write what a gate asks into a file.")
@run_argument
@click.argument("step")
@_out
@output.output_option
def request_command(*, run: str, step: str, out: Path, output_format: str) -> int:
    """Write what gate STEP of RUN asks into a file for approvers elsewhere."""
    with open_store() as store:
        found, step = find_step(store, run, step)
        family = read_family(store, found)
    state = family.states[found]
    asked = asked_of(state, waiting_step(family, found, step, S.AWAITING_APPROVAL))
    request = family.requests[found, step]
    shown = {name: plain(request[name]) for name in request if name not in _AROUND}
    doc = {"schema": REQUEST_SCHEMA, "shown": shown, "asked": asked.to_json()}
    text = json.dumps(doc, indent=2, sort_keys=True, ensure_ascii=False)
    write_new(out, f"{text}\n".encode(), "the approval request")
    follow = f"drengine approval sign {shlex.quote(str(out))} --as NAME --key FILE --out FILE"
    facts = {"file": str(out), "run": found, "step": step, "digest": asked.digest}
    return _done(f"{out}", facts, "where the key is", follow, output_format)


def _done(told: str, facts: dict[str, Any], where: str, follow: str, output_format: str) -> int:
    if output_format == "json":
        output.emit("drengine/approval/v1", {**facts, "next": follow})
        return 0
    output.say(f"✓ {told}")
    output.say(f"Next{', ' if where else ''}{where}: {follow}")
    return 0


@approval.command("sign")
@click.argument("request", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--as", "name", help="Who decides; by default the user here.")
@click.option("--role", default="", help="In which role, where the gate asks one.")
@reason_option
@click.option("--reject", is_flag=True, help="Refuse instead of approving.")
@click.option("--break-glass", is_flag=True, help="Emergency: pass alone, in any role.")
@click.option("--valid", default=DEFAULT_VALID, show_default=True, help="How long it may be used.")
@click.option("--at", "at", metavar="UTC", help="The run's time, where it is not this machine's.")
@signer_options
@_out
@output.output_option
def sign_command(
    *,
    request: Path,
    name: str | None,
    role: str,
    reason: str,
    reject: bool,
    break_glass: bool,
    valid: str,
    at: str | None,
    out: Path,
    output_format: str,
    **keys: Any,
) -> int:
    """Decide on the REQUEST file, after showing it. Needs no network and no store."""
    check_keys(**keys)
    doc = _read(request, REQUEST_SCHEMA)
    asked, shown = _request(request, doc)
    _show(shown, asked)
    if not reject:
        require_fitting(shown, role, reason, break_glass=break_glass)
    wish = Wish(
        decision="reject" if reject else "approve",
        by=name or user_name(),
        role=role,
        reason=reason,
        now_ms=_now(at),
        valid_ms=option_ms("--valid", valid),
        break_glass=break_glass,
    )
    signer = signer_of(**keys)
    if signer is None:
        raise InputError("a decision made elsewhere is signed", hint="Give --key FILE.")
    _, envelope = signed_decision(asked, wish, signer)
    write_new(out, f"{json.dumps(envelope, indent=2)}\n".encode(), "the signed decision")
    facts = {"file": str(out), "run": asked.run, "step": asked.step, "digest": asked.digest}
    facts |= {"decision": wish.decision, "by": wish.by, "keyid": signer.keyid}
    told = f"{out}: {wish.decision} by {wish.by}"
    return _done(
        told,
        facts,
        "where the run is",
        f"drengine approval import {shlex.quote(str(out))}",
        output_format,
    )


def _now(at: str | None) -> int:
    from drengine.model.times import instant_ms  # noqa: PLC0415 - on this path only

    if at is None:
        return open_clock().now_ms()
    if (found := instant_ms(at)) is None:
        raise InputError(f"--at: {at[:40]!r} is not a UTC time like 2026-11-22T10:00:00Z")
    return found


def _read(path: Path, schema: str) -> dict[str, Any]:
    try:
        doc = parse_json(read_bounded(path, "the file", _MOST))
    except ValueError as error:
        raise InputFileError(f"reading {path}: it {error}") from None
    found = doc.get("schema", schema) if isinstance(doc, dict) else None
    if not isinstance(doc, dict) or found != schema:
        expected = f"of schema {schema}" if schema else "a signed decision"
        told = f"; it is of schema {str(found)[:60]}" if found else ""
        raise InputFileError(
            f"reading {path}: it is not {expected}{told}", hint=_way_to(path, found)
        )
    return doc


def _way_to(path: Path, schema: object) -> str:
    """Return what makes a decision of a request, and a request of a gate."""
    if schema == REQUEST_SCHEMA:
        named = shlex.quote(str(path))
        return f"Sign it first: drengine approval sign {named} --as NAME --key FILE --out FILE"
    return "'drengine approval request' writes a request, 'drengine approval sign' a decision."


def _request(path: Path, doc: dict[str, Any]) -> tuple[Asked, dict[str, Any]]:
    """Return what is asked and what is shown of it, which must be one and the same.

    Raises:
        InputFileError: the file is no request, or was changed.
    """
    try:
        asked, shown = Asked.from_json(doc["asked"]), doc["shown"]
        is_whole = digest(shown) == asked.digest
        is_same = (shown["step"], shown["facts"]) == (asked.step, plain(asked.facts))
    except (ValueError, KeyError, TypeError) as error:
        told = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise InputFileError(f"reading {path}: {told}; nothing was signed") from None
    if not (is_whole and is_same):
        raise InputFileError(
            f"reading {path}: what it shows is not what the gate asked; nothing was signed",
            hint="It was changed on its way. Ask for it again, by another way.",
        )
    return asked, shown


def _show(shown: dict[str, Any], asked: Asked) -> None:
    words = output.banner(asked.run_class, lab=asked.lab)
    output.talk(f"{words}  {asked.run} {asked.step}")
    for line in request_lines(shown):
        output.talk(line)
    roles = " or ".join(shown.get("roles", ())) or "any approver"
    output.talk(f"Asked     {shown.get('approvals', 1)} of {roles}")
    output.talk(f"Request   record {asked.seq}, digest {asked.digest}")


@approval.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@output.output_option
def import_command(*, file: Path, output_format: str) -> int:
    """Hand a signed decision FILE to its run; the engine judges it.

    One that will not count is handed in all the same, since what somebody tried stands in the
    journal; the exit code is then 8.
    """
    doc = _read(file, "")
    try:
        envelope, said = read_approval(doc)
    except ValueError as error:
        raise InputFileError(f"reading {file}: it {error}") from None
    with open_store() as store:
        run = find_run(store, said.asked.run)
        family = read_family(store, run)
        status = "being rolled back" if family.rolls_back else family.states[run].status
        if family.rolls_back or family.states[run].status.is_over:
            raise InputError(
                f"run {run} is {status}, and takes no decision any more; nothing was handed in",
                hint=f"drengine status {family.root_run}",
            )
        actor, again = _actor(store, run, envelope, said), _is_repeated(family, run, said)
        why = "" if again else _uncounted(store, family, run, said, doc, actor)
        _hand_over(store, run, said, doc, actor)
        follow = _next(store, run)
    facts: dict[str, Any] = {"run": run, "step": said.asked.step}
    facts |= {"decision": said.decision, "by": said.by}
    if output_format == "text" and (why or again):
        return _say_moves_nothing(facts, why, follow)
    facts |= {"counts": not why, "repeated": again, "why": why or None}
    told = f"{said.decision} of {run} {said.asked.step} by {said.by} handed in"
    return _done(told, facts, "", follow, output_format) or (_WILL_NOT_COUNT if why else 0)


_WILL_NOT_COUNT: Final = 8


def _say_moves_nothing(facts: dict[str, Any], why: str, follow: str) -> int:
    if why:
        output.talk(f"⚠ it will not count: {why}")
        output.say("· handed in all the same: what somebody tried stands in the journal")
    else:
        decision = facts["decision"]
        output.talk(f"⚠ this very {decision} was handed in before: it moves nothing more")
    output.say(f"Next: {follow}")
    return _WILL_NOT_COUNT if why else 0


def _is_repeated(family: Family, run: RunId, said: Approval) -> bool:
    """Whether this very decision was handed in before."""
    waiting = {signal.id for signal in family.inbox}
    return said.nonce in family.states[run].signals or said.nonce in waiting


def _uncounted(
    store: JournalStore,
    family: Family,
    run: RunId,
    said: Approval,
    doc: dict[str, Any],
    actor: str,
) -> str:
    """Say why the engine will not count a decision; empty where it will."""
    state, name = family.states[run], said.asked.step
    step = state.steps.get(name)
    if step is None:
        return f"run {run} has no step '{name}'"
    if said.decision == "withdraw":
        if step.gate is None or actor not in step.gate.approvers:
            return f"{actor} did not approve what step {name} asks now"
    elif step.status is not S.AWAITING_APPROVAL:
        return f"step {name} is '{step.status}' and asks nothing now"
    asked, request = asked_of(state, step), family.requests[run, name]
    if (said.asked.seq, said.asked.digest) != (asked.seq, asked.digest):
        return f"it decides on another request than record {asked.seq}, which step {name} asks now"
    return why_uncounted(store, state, asked, request, doc, actor, open_clock().now_ms())


def _next(store: SqliteStore, run: RunId) -> str:
    return follow_up(read_family(store, run))


def _actor(store: JournalStore, run: RunId, envelope: Envelope, said: Approval) -> str:
    """Return how the run's register names the signer; a stranger is refused by the engine."""
    try:
        register = Register.from_json(store.get_document(root_of(run), DOCUMENT))
    except (ValueError, JournalError):
        return f"approver:{said.by}"
    found = register.owner_of(envelope.signatures[0].keyid)
    return found[0].actor if found else f"approver:{said.by}"


def _hand_over(
    store: JournalStore, run: RunId, said: Approval, doc: dict[str, Any], actor: str
) -> str:
    body: dict[str, Any] = {
        "step": said.asked.step,
        "request_seq": said.asked.seq,
        "digest": said.asked.digest,
        "reason": said.reason,
        "role": said.role,
        "envelope": doc,
    }
    if said.break_glass:
        body["break_glass"] = True
    return send(store, run, said.decision, actor, body, said.nonce)


def _refuse_withdrawal(
    store: JournalStore, family: Family, run: RunId, step: str, actor: str
) -> None:
    """Refuse to take back what this person never gave, or what the run has used.

    Raises:
        InputError: what stands in the way, and what still helps.
        GuardError: the approval is another's, or is taken back already.
    """
    state = family.states[run]
    if state.status.is_over:
        raise InputError(
            f"run {run} is {state.status}: no approval is used any more; nothing was sent",
            hint=f"drengine status {family.root_run}",
        )
    gate = state.steps[step].gate
    waiting = family.handed_in(run, step, "approve")
    given = [*(gate.approvers if gate else ()), *(signal.actor for signal in waiting)]
    if not given:
        raise InputError(f"gate {step} of {run} has no approval to take back; nothing was sent")
    if actor not in given:
        others = output.shorten(", ".join(given), 200)
        raise GuardError(
            f"this withdrawal would not count: {actor} did not approve what gate {step} of {run}"
            f" asks now, {others} did; nothing was sent",
            hint="Each takes back an approval of their own: give --as NAME as it was given.",
        )
    if any(signal.actor == actor for signal in family.handed_in(run, step, "withdraw")):
        raise GuardError(
            f"a withdrawal of {run} {step} by {actor} is handed in already and not taken in yet;"
            " nothing was sent",
            hint=follow_up(family),
        )
    _refuse_too_late(store, state, step)


def _refuse_too_late(store: JournalStore, state: RunState, step: str) -> None:
    """Refuse to take back what the run has begun to use.

    Raises:
        InputError: names what has begun, or says that it cannot be told.
    """
    from drengine.cli.effects import runbook_of  # noqa: PLC0415 - loads the engine
    from drengine.engine.inbox import using  # noqa: PLC0415 - as above

    run = state.run
    runbook = runbook_of(store, state)
    if runbook is None:
        raise InputError(
            f"withdrawing an approval of {run}: this version cannot read the plan beside its"
            " journal, so that nothing tells whether the approval is used; nothing was sent",
            hint=f"drengine pause {root_of(run)}   # then nothing new is sent",
        )
    if late := using(runbook, step, state):
        raise InputError(
            f"too late to withdraw: {', '.join(late)} of {run} has begun with that approval;"
            " nothing was sent",
            hint=f"drengine pause {root_of(run)}   # then nothing new is sent",
        )


def _withdrawal(
    store: JournalStore,
    family: Family,
    run: RunId,
    step: str,
    by: str,
    reason: str,
    signer: Signer | None,
) -> tuple[str, dict[str, Any]]:
    """Return nonce and body of a withdrawal, signed where there is a signer.

    Raises:
        GuardError: the run's register would not count the signature.
    """
    state = family.states[run]
    asked = asked_of(state, state.steps[step])
    body: dict[str, Any] = {"step": step, "reason": reason, "role": ""}
    if signer is None:
        return "", body
    wish = Wish("withdraw", by, "", reason, open_clock().now_ms(), _WITHDRAWN_MS)
    nonce, body["envelope"] = signed_decision(asked, wish, signer)
    told = (body["envelope"], f"approver:{by}", wish.now_ms)
    if why := why_uncounted(store, state, asked, family.requests[run, step], *told):
        raise GuardError(
            f"this withdrawal would not count: {why}; nothing was sent", hint=another_key(run)
        )
    return nonce, body


@approval.command("withdraw", short_help="Take your approval back, unless it is used.")
@run_argument
@click.argument("step")
@click.option("--reason", required=True, help="Why, for the journal and the report.")
@click.option("--as", "name", help="Who withdraws; by default the user here.")
@signer_options
@output.output_option
def withdraw_command(
    *, run: str, step: str, reason: str, name: str | None, output_format: str, **keys: Any
) -> int:
    """Take your approval of gate STEP of RUN back, as long as nothing has used it."""
    by = name or user_name()
    check_keys(**keys)
    with open_store() as store:
        found, step = find_step(store, run, step)
        family = read_family(store, found)
        state = family.states[found]
        if step not in state.steps:
            raise InputError(f"run {found} has no step '{step}'")
        actor = f"approver:{by}"
        _refuse_withdrawal(store, family, found, step, actor)
        require_signer(state, keys["key"] or keys["ssh_key"] or keys["certificate"] or None)
        signer = signer_of(**keys)
        nonce, body = _withdrawal(store, family, found, step, by, reason, signer)
        send(store, found, "withdraw", actor, body, nonce)
        follow = _next(store, found)
    facts = {"run": found, "step": step, "decision": "withdraw", "by": by}
    told = f"withdrawal of {found} {step} sent as {actor}"
    return _done(told, facts, "", follow, output_format)
