"""The paper script of a ceremony: numbered steps with boxes, from the run's own runbook.

Pure: values for the templates. The runbook's group around the delivery gives the frame,
so that paper and engine name the same steps; the delivery is written out for the room.

Not here: rendering (`evidence.render`), and what happened (`transcript`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from drengine.ceremony.request import CeremonyRequest
from drengine.errors import InputError
from drengine.model.runbook import Runbook, Step, StepKind

BLOB_KIND: Final = "restore_blob"
EXCEPTION_FORMS: Final = 6
_BLANK: Final = "______________________"


@dataclass(frozen=True, slots=True)
class ScriptStep:
    """One numbered line of the script; `command` may be empty."""

    number: int
    part: str
    who: str
    text: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Role:
    """Somebody in the room or at the other end of the line."""

    part: str
    name: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Script:
    """Everything that the templates print."""

    title: str
    run_class: str
    runbook: str
    runbook_sha256: str
    ceremony: str
    target: str
    exchange: str
    domain: str
    code: str
    words: str
    quorum: str
    roles: tuple[Role, ...]
    steps: tuple[ScriptStep, ...]
    exceptions: int = EXCEPTION_FORMS


def make_script(
    runbook: Runbook,
    *,
    run_class: str,
    required: int,
    custodians: int,
    names: Sequence[str] = (),
    request: CeremonyRequest | None = None,
) -> Script:
    """Return the script of a ceremony.

    Parameters:
        names: the custodians' names, where a register knows them.
        request: fills in what is known once the ceremony is open; without one the paper
            has lines to write on.

    Raises:
        InputError: the runbook has no step that waits for a restore blob.
    """
    delivery = _delivery_of(runbook)
    lines = list(_lines(runbook, delivery, required, run_class))
    steps = tuple(
        ScriptStep(number, part, who, text, command)
        for number, (part, who, text, command) in enumerate(lines, start=1)
    )
    return Script(
        title=runbook.title,
        run_class=run_class,
        runbook=runbook.name,
        runbook_sha256=runbook.sha256,
        ceremony=request.ceremony if request else _BLANK,
        target=request.target if request else _BLANK,
        exchange=request.exchange_x5t_256 if request else _BLANK,
        domain=request.domain_sha256 if request else _BLANK,
        code=request.code if request else _BLANK,
        words=request.words if request else _BLANK,
        quorum=f"{required} of {custodians}",
        roles=tuple(_roles(names, custodians, request, run_class)),
        steps=steps,
    )


def _delivery_of(runbook: Runbook) -> Step:
    for step in runbook.steps:
        if step.delivery is not None and step.delivery.kind == BLOB_KIND:
            return step
    raise InputError(f"runbook {runbook.name} has no step that waits for a restore blob")


def _roles(
    names: Sequence[str], custodians: int, request: CeremonyRequest | None, run_class: str
) -> Iterator[Role]:
    yield Role("Combiner", request.combiner if request else "", "offline machine, its own medium")
    yield Role("Operator", "", "networked machine; never in the combiner's room with a share")
    witnesses = request.witnesses if request else ()
    for witness in witnesses or ("",) * (1 if run_class == "incident" else 0):
        yield Role("Witness", witness, "neither combiner nor custodian")
    for number in range(custodians):
        yield Role(f"Custodian {number + 1}", names[number] if number < len(names) else "")


Line = tuple[str, str, str, str]


def _lines(runbook: Runbook, delivery: Step, required: int, run_class: str) -> Iterator[Line]:
    yield from _before(run_class)
    members = [
        step for step in runbook.steps if step.group == delivery.group and step.group is not None
    ]
    for step in members or [delivery]:
        part = f"{step.title or step.id} ({step.id})"
        if step.id == delivery.id:
            yield from _room(part, required)
        else:
            yield part, "Operator", _of_run(step), ""
    yield from _after()


def _before(run_class: str) -> Iterator[Line]:
    part = "Before"
    yield part, "Witness", "Everybody in the room shows who they are; roles are as listed.", ""
    yield (
        part,
        "Combiner",
        (
            "The combiner's machine was started from the known medium and has no network. "
            "Write the medium's bag number and SHA-256: ______________________________"
        ),
        "",
    )
    yield part, "Combiner", "The clock of the combiner's machine agrees with the wall clock.", ""
    yield (
        part,
        "Combiner",
        (
            "The security-domain file is the one that was kept since its download. "
            "Compare its SHA-256 with the safe's card, aloud."
        ),
        "drengine ceremony inspect --sd-file FILE",
    )
    if run_class == "incident":
        yield part, "Witness", "The incident is declared; its number is on this paper.", ""


def _of_run(step: Step) -> str:
    match step.kind:
        case StepKind.GATE:
            asked = step.gate.ask if step.gate else ""
            return f"The gate is decided by its approvers: {asked}"
        case StepKind.DELIVERY:
            asked = step.delivery.ask if step.delivery else ""
            return f"The run waits for: {asked}"
        case _:
            return "The run does this step and shows it as done."


def _room(part: str, required: int) -> Iterator[Line]:
    yield (
        part,
        "Operator",
        (
            "Write the exchange certificate for the combiner. Read its x5t#S256 aloud from the "
            "run's screen; the combiner compares."
        ),
        "drengine request RUN STEP --out FOLDER",
    )
    yield (
        part,
        "Combiner",
        "Open the ceremony. From now on its terminal stays open and in sight of the witness.",
        (
            "drengine ceremony open --session FOLDER --sd-file FILE --exchange-cert FILE "
            "--register REGISTER …"
        ),
    )
    yield (
        part,
        "Combiner",
        "Read target, x5t#S256 and class from the screen. The witness agrees.",
        "",
    )
    for number in range(1, required + 1):
        who = f"Custodian {_ordinal(number)} of {required}"
        yield (
            part,
            who,
            (
                "Gets the request. The combiner reads the request code aloud; the custodian types "
                "it, checks target and class, and contributes on their own machine or token."
            ),
            "drengine ceremony contribute --request FILE --sd-file FILE --name NAME …",
        )
        yield (
            part,
            "Combiner",
            f"Takes in the contribution. The screen shows {number} contributed.",
            ("drengine ceremony add --session FOLDER FILE"),
        )
    yield (
        part,
        "Combiner",
        (
            "Makes the blob. Write its SHA-256 and the time the plain domain existed: "
            "______________________________"
        ),
        "drengine ceremony combine --session FOLDER --out restore-blob.json",
    )
    yield part, "Combiner", "Write the transcript's head: ______________________________", ""
    yield part, "Witness", "The session has ended by itself; the one-time key is gone with it.", ""
    yield (
        part,
        "Operator",
        (
            "Attaches the transcript, then delivers the blob. The run shows the blob's SHA-256; "
            "the witness compares it with this paper."
        ),
        "drengine ceremony attach RUN STEP transcript.json && drengine deliver RUN STEP BLOB",
    )


def _after() -> Iterator[Line]:
    part = "After"
    yield part, "Custodians", "Keys and tokens go back into their bags. New bag numbers below.", ""
    yield (
        part,
        "Combiner",
        "The combiner's machine is switched off; its medium goes into a bag.",
        "",
    )
    yield (
        part,
        "Witness",
        "Verifies the transcript against the blob on another machine.",
        "drengine ceremony verify transcript.json --blob restore-blob.json --register REGISTER",
    )
    yield (
        part,
        "Witness",
        "All exceptions are written down on the exception pages, or there are none.",
        "",
    )


def _ordinal(number: int) -> str:
    return {1: "1st", 2: "2nd", 3: "3rd"}.get(number, f"{number}th")
