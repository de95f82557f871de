"""`drengine actions`, `rules` and `explain`: what may be named, and what a code means."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import click

from drengine.cli import output
from drengine.cli.explanations import CODES, EXIT_CODES, SERVICE_CODES
from drengine.errors import InputError
from drengine.model.catalogue import ActionSpec, Repeat

_REPEATS = {
    Repeat.READ: "reads only",
    Repeat.BY_NAME: "same name, same result",
    Repeat.HARMLESS: "a repeat does no harm",
    Repeat.FINDABLE: "its effect is found by looking",
    Repeat.NEVER: "never repeated without a person",
}


@click.command("actions")
@click.argument("name", required=False)
@output.output_option
def actions(*, name: str | None, output_format: str) -> int:
    """List what a runbook's steps can do; with NAME, one action with its parameters."""
    from drengine.actions.registry import CATALOGUE  # noqa: PLC0415 - only its listing

    specs = CATALOGUE.actions
    if name is not None and name not in specs:
        raise InputError(f"there is no action '{name}'", hint="drengine actions")
    chosen = [specs[name]] if name else list(specs.values())
    if output_format == "json":
        output.emit("drengine/actions/v1", {"actions": [_action_json(spec) for spec in chosen]})
        return 0
    if name:
        for line in _action_text(chosen[0]):
            output.say(line)
        return 0
    for spec in chosen:
        output.say(f"{spec.name:30} {spec.title}  ({_REPEATS[spec.repeat]})")
    output.say("One of them: drengine actions NAME")
    return 0


def _action_json(spec: ActionSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "title": spec.title,
        "rest": spec.rest,
        "repeat": str(spec.repeat),
        "changes": spec.changes,
        "parameters": [
            {"name": each.name, "description": each.description, "required": each.required}
            for each in spec.parameters
        ],
        "outputs": list(spec.outputs),
        "expected_ms": spec.expected_ms,
        "expected_source": spec.expected_source,
    }


def _action_text(spec: ActionSpec) -> Iterator[str]:
    yield click.style(spec.name, bold=True) + f"  {spec.title}"
    yield f"  REST      {spec.rest or 'none'}"
    yield f"  Repeat    {_REPEATS[spec.repeat]}"
    yield f"  Expected  {output.spell_ms(spec.expected_ms)} ({spec.expected_source})"
    for each in spec.parameters:
        need = "" if each.required else " (optional)"
        yield f"  with      {each.name}: {each.description}{need}"
    yield f"  outputs   {', '.join(spec.outputs) or 'none'}"


@click.command("rules")
@output.output_option
def rules_command(*, output_format: str) -> int:
    """List the rules that guards and gates may name, with source and advice."""
    from drengine.actions.registry import KIT  # noqa: PLC0415 - only its listing

    rules = list(KIT.rules.values())
    if output_format == "json":
        listed = [
            {
                "id": rule.id,
                "title": rule.title,
                "needs": list(rule.needs),
                "source": rule.source,
                "advice": rule.advice,
            }
            for rule in rules
        ]
        output.emit("drengine/rules/v1", {"rules": listed})
        return 0
    for rule in rules:
        output.say(f"{rule.id:24} {rule.title}")
    output.say("One of them: drengine explain ID")
    return 0


@click.command("explain")
@click.argument("code")
@output.output_option
def explain_command(*, code: str, output_format: str) -> int:
    """Explain CODE: an error (DR-O001), an exit code (12), a rule, an action, or Azure's word.

    Works without a network. 'drengine explain exit-codes' lists all exit codes.
    """
    if code == "exit-codes":
        return _exit_codes(output_format)
    found = _explanation(code)
    if found is None:
        raise InputError(
            f"nothing is known of '{code}'",
            hint="a code such as DR-O001, 'exit-codes', a rule ('drengine rules') or an action",
        )
    title, body = found
    if output_format == "json":
        output.emit("drengine/explanation/v1", {"code": code, "title": title, "text": body})
        return 0
    output.say(click.style(code, bold=True) + f"  {title}")
    for line in textwrap.wrap(body, 96):
        output.say(f"  {line}")
    return 0


def _exit_codes(output_format: str) -> int:
    if output_format == "json":
        output.emit("drengine/exit-codes/v1", {"codes": dict(EXIT_CODES)})
        return 0
    for number, meaning in EXIT_CODES.items():
        output.say(f"{number:>4}  {meaning}")
    return 0


def _explanation(code: str) -> tuple[str, str] | None:
    if known := CODES.get(code.upper()):
        return known
    if known := SERVICE_CODES.get(code):
        return known
    if meaning := EXIT_CODES.get(code):
        return "exit code", meaning
    return _of_kit(code)


def _of_kit(code: str) -> tuple[str, str] | None:
    from drengine.actions.registry import KIT  # noqa: PLC0415 - only where it is asked for

    if rule := KIT.rules.get(code):
        needs = f" It looks at: {', '.join(rule.needs)}." if rule.needs else ""
        return rule.title, f"{rule.advice}{needs} Source: {rule.source}"
    if action := KIT.actions.get(code):
        return action.spec.title, " ".join(line.strip() for line in _action_text(action.spec))
    return None
