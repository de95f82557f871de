"""`drengine rules` and `explain`: what may be named in a runbook, and what a code means."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any, Final

import click

from drengine.cli import output
from drengine.cli.explanations import CODES, EXIT_CODES, SERVICE_CODES
from drengine.errors import InputError
from drengine.model.catalogue import ActionSpec, Repeat

_ACTIONS: Final = "drengine/action-catalogue/v1"
_REPEATS: Final = {
    Repeat.READ: "reads only",
    Repeat.BY_NAME: "same name, same result",
    Repeat.HARMLESS: "a repeat does no harm",
    Repeat.FINDABLE: "its effect is found by looking",
    Repeat.NEVER: "never repeated without a person",
}


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
        "quiet_ms": spec.quiet_ms,
    }


def _action_text(spec: ActionSpec) -> Iterator[str]:
    yield output.styled(spec.name, bold=True) + f"  {spec.title}"
    yield f"  REST      {spec.rest or 'none'}"
    yield f"  Repeat    {_REPEATS[spec.repeat]}"
    yield f"  Expected  {output.spell_ms(spec.expected_ms)} ({spec.expected_source})"
    if spec.quiet_ms:
        yield f'  Quiet     "absent" is not believed before {output.spell_ms(spec.quiet_ms)}'
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

    Works without a network. 'drengine explain exit-codes' lists all exit codes, 'drengine
    explain actions' what a runbook's steps can do.
    """
    if code == "exit-codes":
        return _exit_codes(output_format)
    if code == "actions":
        return _action_list(output_format)
    found = _explanation(code)
    if found is None:
        return _action(code, output_format)
    title, body = found
    if output_format == "json":
        output.emit("drengine/explanation/v1", {"code": code, "title": title, "text": body})
        return 0
    output.say(output.styled(code, bold=True) + f"  {title}")
    for line in textwrap.wrap(body, 96):
        output.say(f"  {line}")
    return 0


def _action_list(output_format: str) -> int:
    from drengine.actions.registry import CATALOGUE  # noqa: PLC0415 - only where it is asked for

    specs = list(CATALOGUE.actions.values())
    if output_format == "json":
        output.emit(_ACTIONS, {"actions": [_action_json(spec) for spec in specs]})
        return 0
    for spec in specs:
        output.say(f"{spec.name:30} {spec.title}  ({_REPEATS[spec.repeat]})")
    output.say("One of them: drengine explain NAME")
    return 0


def _action(name: str, output_format: str) -> int:
    from drengine.actions.registry import CATALOGUE  # noqa: PLC0415 - only where it is asked for

    spec = CATALOGUE.actions.get(name)
    if spec is None:
        raise InputError(
            f"nothing is known of '{name}'",
            hint="a code such as DR-O001, 'exit-codes', a rule ('drengine rules') or an action"
            " ('drengine explain actions')",
        )
    if output_format == "json":
        output.emit(_ACTIONS, {"actions": [_action_json(spec)]})
        return 0
    for line in _action_text(spec):
        output.say(line)
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
    return None
