"""Making a plan, and showing it to the person who will start it."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from drengine import __version__
from drengine.actions.contract import StepContext
from drengine.actions.registry import KIT
from drengine.azure.auth import AuthKind
from drengine.cli import output
from drengine.cli.library import Library, catalogue, find_document
from drengine.cli.places import open_clock
from drengine.cli.secrets import SecretResolver
from drengine.cli.session import keep_file
from drengine.cli.signin import signed_in
from drengine.cli.stores import open_store
from drengine.cli.writing import read_bounded, write_private
from drengine.engine.genesis import targets_of
from drengine.engine.judging import foreseen
from drengine.errors import InputError, InputFileError
from drengine.journal.port import JournalStore
from drengine.model.canonical import Json, JsonObject, canonical, plain
from drengine.model.findings import Findings
from drengine.model.ids import RunId
from drengine.model.plan import Plan
from drengine.model.runbook import InputType, Runbook, RunClass
from drengine.model.times import utc_text
from drengine.runbook.planner import make_plan
from drengine.runbook.yaml import parse_yaml

Ahead: TypeAlias = Mapping[str, Findings]
"""Step -> what would refuse it now, and what would be warned of."""

MAX_INPUTS_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What a plan is to be made of."""

    runbook: str
    run_class: RunClass
    inputs: tuple[str, ...]
    inputs_file: Path | None
    out: Path
    auth: AuthKind


def make(request: PlanRequest, output_format: str) -> int:
    """Make the plan, write it, show it."""
    document = find_document(request.runbook)
    library = Library(catalogue(), Path(document.file).parent)
    runbook = library.load(document)
    given = _given(request)
    with open_store() as store:
        plan, ahead = asyncio.run(_discover(request, runbook, library, given, store))
    write_private(request.out, canonical(plan.to_json()) + b"\n", "the plan")
    begins = _begins(plan, given)
    if output_format == "json":
        facts = {**_facts(plan, request.out, ahead), "clock_begins_now": bool(begins)}
        output.emit("drengine/plan-made/v1", facts)
    else:
        _show(plan, runbook, request.out, ahead, begins)
    return 0


def _begins(plan: Plan, given: Mapping[str, Json]) -> str:
    """Say that the RTO's clock begins with the plan; empty where somebody said when it does."""
    named = plan.root.inputs.get("incident_at")
    if named is None or given.get("incident_at", "now") != "now":
        return ""
    return (
        f"now, {named}: nobody named the time of the incident. Where it began earlier:"
        " --input incident_at=UTC"
    )


def _given(request: PlanRequest) -> dict[str, Json]:
    given: dict[str, Json] = {}
    if request.inputs_file is not None:
        given.update(_inputs_of(request.inputs_file))
    for pair in request.inputs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InputError(f"--input {pair!r} is not NAME=VALUE")
        given[name.strip()] = value
    return given


def _inputs_of(path: Path) -> Mapping[str, Json]:
    text = read_bounded(path, "inputs", MAX_INPUTS_BYTES)
    tree = parse_yaml(text, str(path)).value
    if not isinstance(tree, dict):
        raise InputFileError(f"{path}: expected an object of inputs, NAME: VALUE")
    return tree


async def _discover(
    request: PlanRequest,
    runbook: Runbook,
    library: Library,
    given: Mapping[str, Json],
    store: JournalStore,
) -> tuple[Plan, Ahead]:
    clock, secret = open_clock(), SecretResolver()
    async with signed_in(request.auth) as session:
        looking = StepContext(
            run=RunId(""),
            root=RunId(""),
            step="",
            run_class=request.run_class,
            cloud=session.cloud,
            where=session.where,
            objects=store,
            secret=secret,
            now_ms=clock.now_ms(),
        )

        async def discover(source: str, values: JsonObject) -> Json:
            return plain(await KIT.discoverers[source](replace(looking, values=values)))

        plan = await make_plan(
            runbook=runbook,
            given=given,
            run_class=request.run_class,
            cloud=session.where,
            created_at=utc_text(clock.now_ms()),
            tool_version=__version__,
            load=library.by_name,
            discover=discover,
            read_file=lambda path: keep_file(store, path),
            allow_lab_names=session.where.lab,
            catalogue=catalogue(),
        )
        root = replace(looking, run=plan.run_id, root=plan.run_id)
        return plan, await foreseen(KIT, runbook, plan.root, root)


def _facts(plan: Plan, out: Path, ahead: Ahead) -> dict[str, Any]:
    return {
        "plan": str(out),
        "digest": plan.digest,
        "run": str(plan.run_id),
        "class": str(plan.run_class),
        "lab": plan.cloud.lab,
        "cloud": plan.cloud.to_json(),
        "claims": targets_of(plan),
        "summary": json.loads(canonical(plan.summary)),
        "refused_now": _listed(_only(ahead, refusing=True)),
        "warned_now": _listed(_only(ahead, refusing=False)),
        "next": _next(plan, out, ahead),
    }


def _show(plan: Plan, runbook: Runbook, out: Path, ahead: Ahead, begins: str) -> None:
    summary: Mapping[str, Any] = plan.summary
    cloud = plan.cloud
    say = output.say
    say(output.banner(str(plan.run_class), lab=cloud.lab) + f"  {summary['title']}")
    say()
    say(f"Plan      {out}")
    say(f"Digest    {plan.digest}")
    say(f"Run       {plan.run_id}   (this plan starts exactly this run)")
    say(f"Acts in   {cloud.name}, subscription {cloud.subscription}, as {cloud.principal}")
    say(f"Claims    {', '.join(targets_of(plan)) or 'nothing'}")
    backup = plan.root.discovery.get("backup")
    if isinstance(backup, Mapping):
        say(f"Backup    {backup.get('folder')}")
    say(f"Expected  {_expected(summary)}")
    if begins:
        say(f"RTO clock begins {begins}")
    _list("Inputs", list(_inputs(plan, runbook)), lambda each: output.shorten(each, 320))
    _list("Points of no return", summary["points_of_no_return"], _point)
    _list("Gates", summary["gates"], _gate)
    _list("Deliveries", summary["deliveries"], lambda each: f"{each['step']}: {each['ask']}")
    fans = [{"step": step, **facts} for step, facts in summary["foreach"].items()]
    _list("Child runs", fans, _fan_out)
    _list("Warnings", summary["warnings"], str)
    refused = _only(ahead, refusing=True)
    _show_ahead(refused, "would be refused now", "✗")
    _show_ahead(_only(ahead, refusing=False), "would begin with warnings", "⚠")
    say()
    if refused:
        say("The plan is frozen: what its inputs say wrongly takes a new plan.")
    say(f"Next: {_next(plan, out, ahead)}")


def _only(ahead: Ahead, *, refusing: bool) -> Ahead:
    """Return the findings that refuse, or those that only warn; steps without one are left out."""
    chosen = {
        step: tuple(finding for finding in found if finding.holds is not refusing)
        for step, found in ahead.items()
    }
    return {step: found for step, found in chosen.items() if found}


def _listed(ahead: Ahead) -> dict[str, list[dict[str, object]]]:
    return {step: [finding.to_json() for finding in found] for step, found in ahead.items()}


def _show_ahead(ahead: Ahead, what: str, mark: str) -> None:
    for step, found in ahead.items():
        output.say()
        output.say(output.styled(f"{step} {what}", bold=True))
        for finding in found:
            told = f"{mark} {finding.rule}: {finding.message}. {finding.advice}"
            output.say(f"  {output.one_line(told)}")


def _next(plan: Plan, out: Path, ahead: Ahead) -> str:
    elsewhere = " --copy-to FOLDER" if plan.run_class is RunClass.INCIDENT else ""
    refused = _only(ahead, refusing=True)
    first = "   # once that is mended, or with another plan" if refused else ""
    return f"drengine run {shlex.quote(str(out))}{elsewhere}{first}"


def _inputs(plan: Plan, runbook: Runbook) -> Iterator[str]:
    """Yield the inputs that say something, as a person reads them."""
    for name, value in plan.root.inputs.items():
        if value not in (None, "", [], {}):
            is_time = runbook.inputs[name].type is InputType.DURATION and isinstance(value, int)
            yield f"{name}: {output.spell_ms(value) if is_time else _shown(value)}"


def _shown(value: object) -> str:
    """Return an input as one short text; a file by its path and digest."""
    if isinstance(value, Mapping) and {"path", "sha256"} <= value.keys():
        return f"{value['path']} (SHA-256 {str(value['sha256'])[:12]}…)"
    return value if isinstance(value, str) else canonical(value).decode()


def _list(title: str, entries: list[Any], line: Any) -> None:
    output.say()
    output.say(output.styled(title, bold=True) + ("" if entries else ": none"))
    for entry in entries:
        output.say(f"  {line(entry)}")


def _expected(summary: Mapping[str, Any]) -> str:
    rto = summary["objectives"]["rto_ms"]
    legs = summary["critical_path"]
    longest = max(legs, key=lambda leg: leg["expected_ms"] * leg["times"], default=None)
    parts = [output.spell_ms(summary["expected_ms"]), f"over {len(legs)} steps in a row"]
    if longest:
        spelled = output.spell_ms(longest["expected_ms"])
        source = f" ({longest['source']})" if longest["source"] else ""
        parts.append(f"the longest is {longest['step']}, {spelled}{source}")
    if rto is not None:
        parts.append(f"objective {output.spell_ms(rto)}")
    return ", ".join(parts)


def _point(entry: Mapping[str, Any]) -> str:
    when = f", if {entry['when']}" if entry["when"] else ""
    return f"{entry['step']}: {entry['title']}; behind gate {entry['gate'] or '(none)'}{when}"


def _gate(entry: Mapping[str, Any]) -> str:
    roles = f" of {', '.join(entry['roles'])}" if entry["roles"] else ""
    return f"{entry['step']}: {entry['approvals']} approval(s){roles}: {entry['ask']}"


def _fan_out(entry: Mapping[str, Any]) -> str:
    items = ", ".join(entry["items"]) or "no item"
    return f"{entry['step']}: {entry['runbook']} for {items}; {entry['parallel']} at once"
