"""Proof of recovery, databases: each is Online, on the target's key, and returns its known row.

Rules:
- What is expected is named by plan and inventory, not by what is listed now.
- Where nothing is expected and nothing is listed, nothing is proved, and nobody reads that it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from drengine.actions.base import BaseAction
from drengine.actions.contract import StepContext, Verified
from drengine.actions.documents import inventory_of
from drengine.actions.hosts import is_elsewhere, is_on_target
from drengine.model.canonical import JsonObject
from drengine.model.catalogue import ActionSpec, Parameter, Repeat
from drengine.model.cloud import Database, Operation, Protector
from drengine.model.findings import Finding, Findings, block, ok, warn

_NAMED: Final = 10


@dataclass(frozen=True, slots=True)
class _Member:
    """An instance, and what plan and inventory say of it; databases by lower-cased name.

    Attributes:
        inventory: its entry in the inventory, empty where there is none.
        planned: the status of each database when the plan was made.
        recorded: each database of the inventory.
        protector: the URI of its protector when the plan was made, empty where it is not known.
    """

    id: str
    inventory: Mapping[str, Any]
    planned: Mapping[str, str]
    recorded: Mapping[str, Mapping[str, Any]]
    names: Mapping[str, str]
    protector: str = ""

    @property
    def name(self) -> str:
        """The last part of its id."""
        return self.id.rsplit("/", 1)[-1]

    @property
    def thumbprint(self) -> str:
        """The protector's thumbprint before the disaster, empty where it is not known."""
        return str((self.inventory.get("protector") or {}).get("thumbprint", ""))


def _members(
    groups: Sequence[Mapping[str, Any]], inventory: Mapping[str, Any]
) -> tuple[_Member, ...]:
    known = {str(each["id"]).lower(): each for each in inventory.get("instances") or ()}
    return tuple(
        _member(member, known.get(str(member["id"]).lower(), {}))
        for group in groups
        for member in group["members"]
    )


def _member(planned: Mapping[str, Any], known: Mapping[str, Any]) -> _Member:
    there, before = planned.get("databases") or (), known.get("databases") or ()
    return _Member(
        id=str(planned["id"]),
        inventory=known,
        planned={str(d["name"]).lower(): str(d["status"]) for d in there},
        recorded={str(d["name"]).lower(): d for d in before},
        protector=str((planned.get("protector") or {}).get("uri") or ""),
        names={str(d["name"]).lower(): str(d["name"]) for d in (*before, *there)},
    )


class ProveDatabases(BaseAction):
    """Wait until every database is Online, points to the target, and returns its known row.

    Every database that the plan or the inventory names is asked for, and every one that its
    instance lists: one that is not listed any more is not recovered. Where there is none at
    all, nothing is proved, and that is what is said.

    With `watch_ms` it keeps looking for that long and every look must hold (rule T01: the
    service checks its keys about every ten minutes).
    """

    async def start(self, ctx: StepContext) -> Operation | JsonObject:
        """Note when the watch began."""
        return {"since": ctx.now_ms}

    async def verify(self, ctx: StepContext) -> Verified:
        """Read protectors, database states and canary rows of every member."""
        inventory = inventory_of(ctx)
        members = _members(ctx.values["groups"], inventory)
        answers = await asyncio.gather(*(self._instance(ctx, member) for member in members))
        rows = [row for answer in answers for row in answer]
        bare = [member.name for member, found in zip(members, answers, strict=True) if not found]
        notes = (*_without_databases(bare if rows else []), *_not_in_plan(ctx, inventory, members))
        bad = [row for row in rows if row["problem"]]
        evidence = {"databases": [{k: v for k, v in row.items() if k != "problem"} for row in rows]}
        if bad:
            found = (_not_recovered(ctx, bad, len(rows)), *notes)
            return Verified(found, evidence=evidence, again_ms=30_000)
        if not rows:
            found = (_nothing_to_prove(members), *notes)
            return Verified(found, evidence=evidence)
        left = _watch_left_ms(ctx)
        if left > 0:
            text = f"all {len(rows)} databases are Online; watching for {left // 1000} s more"
            again = max(min(left, 300_000), 1_000)
            found = (block("soak", text), *notes)
            return Verified(found, evidence=evidence, again_ms=again, watches=True)
        return Verified((_recovered(rows), *notes), evidence=evidence)

    async def _instance(self, ctx: StepContext, member: _Member) -> list[dict[str, Any]]:
        protector, databases = await asyncio.gather(
            ctx.cloud.sql.protector(member.id), ctx.cloud.sql.databases(member.id)
        )
        rows = []
        for database in databases:
            row = _row(member, protector, database.name, database.status)
            row["problem"] = _problem(ctx, member, protector, database)
            if not row["problem"]:
                await self._canary(ctx, row, member)
            rows.append(row)
        listed = {database.name.lower() for database in databases}
        for place in sorted(member.names.keys() - listed):
            row = _row(member, protector, member.names[place], "not listed")
            row["problem"] = "it is not listed"
            rows.append(row)
        return rows

    async def _canary(self, ctx: StepContext, row: dict[str, Any], member: _Member) -> None:
        expected = member.recorded.get(row["name"].lower(), {}).get("canary")
        fqdn = str(member.inventory.get("fqdn", ""))
        if not expected or not fqdn:
            row["canary"] = "no row in the inventory"
            return
        found = await ctx.cloud.rows.canary(fqdn, row["name"])
        if found is None:
            row["canary"] = "not read: no way to query the database from here"
        elif found == expected:
            row["canary"] = "equal"
        else:
            row["canary"] = "different"
            row["problem"] = "its known row reads differently"

    def manual(self, ctx: StepContext) -> str:
        """Return the az commands."""
        del ctx
        return "az sql midb list -g RG --mi INSTANCE --query '[].{name:name,status:status}'"


def _row(member: _Member, protector: Protector, name: str, status: str) -> dict[str, Any]:
    old = member.thumbprint
    return {
        "instance": member.name,
        "name": name,
        "status": status,
        "canary": "not read",
        "protector": protector.uri,
        "thumbprint_equal": bool(old) and protector.thumbprint.upper() == old.upper(),
        "problem": "",
        "before": member.planned.get(name.lower(), "not in the plan"),
    }


def _problem(ctx: StepContext, member: _Member, protector: Protector, database: Database) -> str:
    """Return why a database that is listed is not recovered, by what is listed of it."""
    old = member.thumbprint
    if database.status != "Online":
        return f"it is {database.status} {database.reason_code}".strip()
    if not is_on_target(ctx, protector.uri) and not _was_left(ctx, member, protector):
        return f"its protector is {protector.uri}"
    if old and protector.thumbprint.upper() != old.upper():
        return f"the protector's thumbprint is not {old}"
    return ""


def _was_left(ctx: StepContext, member: _Member, protector: Protector) -> bool:
    """Whether the protector is no key of the lost HSM, and the one that it was before."""
    before = (member.inventory.get("protector") or {}).get("uri") or member.protector
    same = str(before or "").lower() == protector.uri.lower()
    return is_elsewhere(ctx, protector.uri) and same


def _not_recovered(ctx: StepContext, bad: Sequence[Mapping[str, Any]], of: int) -> Finding:
    first = bad[0]
    text = f"{len(bad)} of {of} databases are not recovered: "
    text += f"{first['instance']}/{first['name']}: {first['problem']}"
    gone = [f"{row['instance']}/{row['name']}" for row in bad if row["status"] == "not listed"]
    if not gone:
        return block("databases", text)
    if len(bad) > 1:
        text += f"; not listed by their instances: {', '.join(gone[:_NAMED])}"
        text += f" and {len(gone) - _NAMED} more" if len(gone) > _NAMED else ""
    advice = "Plan or inventory names them. A database that was dropped comes back by a restore to"
    advice += " a point in time; where one was meant to go, two people say so:"
    advice += f" drengine mark-done {ctx.run} {ctx.step} --evidence FILE"
    return block("databases", text, advice)


def _recovered(rows: Sequence[Mapping[str, Any]]) -> Finding:
    read = sum(row["canary"] == "equal" for row in rows)
    text = f"{len(rows)} databases are Online on the target's key"
    if read == len(rows):
        return ok("databases", f"{text} and return their known rows")
    return ok("databases", f"{text}; {read} of them return a row known from before")


def _nothing_to_prove(members: Sequence[_Member]) -> Finding:
    text = "no databases, nothing to prove: neither plan nor inventory names one"
    if not members:
        return warn("databases", f"{text}, and no instance is to be proved")
    names = ", ".join(sorted(member.name for member in members)[:_NAMED])
    return warn("databases", f"{text}, and none is listed by {names}")


def _without_databases(names: Sequence[str]) -> Findings:
    if not names:
        return ()
    shown = ", ".join(sorted(names)[:_NAMED])
    text = f"{len(names)} instances have no databases, nothing to prove of them: {shown}"
    return (warn("databases", text),)


def _not_in_plan(
    ctx: StepContext, inventory: Mapping[str, Any], members: Sequence[_Member]
) -> Findings:
    """Return which instances of the inventory are proved nowhere; one group says nothing of it."""
    if ctx.plan.get("groups") != ctx.values["groups"]:
        return ()
    planned = {member.id.lower() for member in members}
    known = [str(each["id"]) for each in inventory.get("instances") or ()]
    gone = sorted(each.rsplit("/", 1)[-1] for each in known if each.lower() not in planned)
    if not gone:
        return ()
    text = f"{len(gone)} instances of the inventory used no key of the source when the plan was"
    text += f" made, or were gone; their databases are not proved: {', '.join(gone[:_NAMED])}"
    return (warn("databases", text, "Find out what became of them."),)


def _watch_left_ms(ctx: StepContext) -> int:
    watch_ms = int(ctx.values.get("watch_ms") or 0)
    return int(ctx.outputs[ctx.step].get("since", ctx.now_ms)) + watch_ms - ctx.now_ms


DATABASES = ProveDatabases(
    ActionSpec(
        name="proof.databases",
        title="Prove that the databases are Online on the target's keys",
        parameters=(
            Parameter("groups", "groups with their members"),
            Parameter("watch_ms", "how long every look must hold", required=False),
        ),
        outputs=("since",),
        repeat=Repeat.READ,
        settle_ms=7_200_000,
        expected_ms=300_000,
    )
)
