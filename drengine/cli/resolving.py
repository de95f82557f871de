"""`drengine resolve`: a person says how an unknown outcome turned out.

Rules:
- What was looked at is the last request; the answer names it, and never counts for a later one.
- The answer repeats what was said: "found" for "absent" would be believed, and acted upon.
"""

from __future__ import annotations

import click

from drengine.cli import output
from drengine.cli.behind import refuse_behind_word
from drengine.cli.family import read_family
from drengine.cli.onward import after_word
from drengine.cli.people import Said, say_sent, send, waiting_step
from drengine.cli.stores import find_step, open_store, run_argument, user_name
from drengine.errors import InputError
from drengine.model.canonical import JsonObject
from drengine.model.run import StepState
from drengine.model.run import StepStatus as S
from drengine.model.times import utc_seconds


@click.command("resolve")
@run_argument
@click.argument("step")
@click.option("--found", is_flag=True, help="It happened.")
@click.option("--absent", is_flag=True, help="It did not.")
@click.option("--reason", required=True, help="How you know; it stands in the report.")
@click.option(
    "--set",
    "outputs",
    multiple=True,
    metavar="NAME=VALUE",
    help="With --found: an output that later steps need.",
)
@click.option("--as", "name", help="Who looked; by default the user here.")
@output.output_option
def resolve_command(
    *,
    run: str,
    step: str,
    found: bool,
    absent: bool,
    reason: str,
    outputs: tuple[str, ...],
    name: str | None,
    output_format: str,
) -> int:
    """Say how the unknown outcome of STEP turned out, after looking in Azure by hand.

    --found: the request had its effect; it is verified and the run goes on.
    --absent: it had none; the step begins again.
    """
    if found == absent:
        told = "not both; nothing was sent" if found else "or the other"
        raise click.UsageError(f"Say --found or --absent, {told}.")
    actor = f"operator:{name or user_name()}"
    with open_store() as store:
        run_id, step = find_step(store, run, step)
        family = read_family(store, run_id)
        st = waiting_step(family, run_id, step, S.UNKNOWN)
        refuse_behind_word(family, run_id, step)
        if output_format == "text":
            output.say(f"{_sends(st)}")
        body: JsonObject = {
            "step": step,
            "found": found,
            "reason": reason,
            "outputs": _pairs(outputs),
            # What was looked at is this request, not one that is sent later.
            "unknown_seq": st.unknown_seq,
        }
        sent = send(store, run_id, "resolve", actor, body)
    outcome = "found" if found else "absent"
    said = Said("resolve", sent, run_id, step, actor, f"as {outcome.upper()}")
    say_sent(said, after_word(family), output_format, outcome=outcome)
    return 0


def _sends(st: StepState) -> str:
    """Say what an answer is about: the last request, or what the run found and did not send."""
    if not st.sends:
        found = "which found it under way; what you say is about that."
        return f"{st.id} was not sent by this run, {found}"
    when = "" if st.intent_at_ms is None else f", last at {utc_seconds(st.intent_at_ms)}"
    count = "once" if st.sends == 1 else f"{st.sends} times"
    return f"{st.id} was sent {count}{when}; what you say is about the last one."


def _pairs(pairs: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"{pair!r} is not NAME=VALUE")
        found[name] = value
    return found
