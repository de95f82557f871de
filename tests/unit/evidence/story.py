"""Tells stories to a journal: the records a real run makes, through the real codec and store.

Loaded by conftest under one name. Every record is also folded, so that a story that the
lifecycle does not allow fails where it is told.
"""

from __future__ import annotations

import drengine
from drengine.engine.fold import apply, fold
from drengine.model.canonical import digest, sha256_hex
from drengine.model.ids import child_id
from drengine.model.plan import CloudIdentity, Plan, PlanPart
from drengine.model.records import Draft
from drengine.model.records import RecordType as R
from drengine.model.runbook import RunClass

MINUTE = 60_000
START_MS = 1_795_341_600_000  # 2026-11-22T10:00:00Z
SPEED = 60

ROOT = """\
apiVersion: drengine/v1
kind: Runbook
name: mhsm-full-recovery
title: Recover a Managed HSM from security domain and backup
objectives: {rto: 4h, rpo: 24h}
inputs:
  target_hsm: {type: hsm_name}
  incident_at: {type: time, optional: true}
  protects_sql: {type: bool, default: true}
steps:
  - {id: preflight, title: Check that everything needed is at hand, action: estate.check}
  - id: approve-create
    title: Approve the new HSM
    gate: {approvals: 1, facts: [target], ask: "Create the HSM with purge protection?"}
  - id: create-hsm
    title: Create the Managed HSM
    action: hsm.create
    irreversible: "${inputs.protects_sql}"
  - {id: exchange-key, title: Ask the HSM for its exchange key, action: hsm.init_recovery, group: security-domain}
  - id: blob
    title: Bring the restore blob
    group: security-domain
    delivery: {kind: restore_blob, expects: {exchange: "x"}, ask: "Combine the quorum's shares for this exchange key."}
  - {id: upload, title: Upload the security domain, action: hsm.upload_domain, group: security-domain}
  - {id: backup-target, title: Back up the empty HSM, action: hsm.backup}
  - id: approve-restore
    title: Approve the restore
    gate: {approvals: 2, facts: [backup, target], ask: "Restore this backup into this HSM?"}
  - {id: restore, title: Restore the backup, action: hsm.restore, irreversible: true, guards: {after: [restore-read-back]}}
  - {id: grant-roles, title: Grant roles by hand, action: hsm.grant, when: "${not inputs.protects_sql}"}
  - {id: prove-keys, title: Prove the keys, action: proof.keys}
  - {id: prove-roles, title: Prove the roles, action: proof.roles}
  - id: approve-repoint
    title: Approve the new protector
    gate: {approvals: 1, facts: [groups], ask: "Point these instances at the new HSM?"}
  - id: repoint
    title: Point the instances at the new HSM
    runbook: sqlmi-repoint-group
    foreach: {in: "${plan.groups}", as: group, canary: 1}
  - {id: prove-databases, title: Prove that the databases are back, action: proof.databases}
"""

CHILD = """\
apiVersion: drengine/v1
kind: Runbook
name: sqlmi-repoint-group
title: Point one failover group at the new HSM
steps:
  - {id: add-key, title: Add the key to both instances, action: sql.add_key}
  - {id: set-protector, title: Set the TDE protector, action: sql.set_protector}
  - {id: wait-online, title: Wait until the databases are Online, action: sql.wait_online}
"""

GROUPS = [
    {"name": "fog-weu", "id": "/subscriptions/s/fog-weu"},
    {"name": "fog-neu", "id": "/subscriptions/s/fog-neu"},
]


def part(text=ROOT, **fields):
    name = text.split("name: ", 1)[1].split("\n", 1)[0]
    return PlanPart(
        runbook_name=name,
        runbook_text=text,
        runbook_sha256=sha256_hex(text.encode()),
        inputs=fields.pop("inputs", {}),
        **fields,
    )


def make_plan(
    run_class=RunClass.DRILL,
    *,
    lab=True,
    root=ROOT,
    child=CHILD,
    taken_at="2026-11-22T02:14:07Z",
    groups=None,
    **inputs,
):
    given = {"target_hsm": "contoso-dr", "protects_sql": True, **inputs}
    children = {"repoint": part(child, inputs={})} if "repoint" in root else {}
    found = GROUPS if groups is None else groups
    fans = {"repoint": {"items": [group["name"] for group in found]}} if children else {}
    return Plan(
        run_class=run_class,
        created_at="2026-11-22T09:58:00.000Z",
        tool_version=drengine.__version__,
        cloud=CloudIdentity(
            "AzureCloud",
            "11111111-1111-1111-1111-111111111111",
            "22222222-2222-2222-2222-222222222222",
            "33333333-3333-3333-3333-333333333333",
            lab=lab,
        ),
        root=part(
            root,
            inputs=given,
            discovery={
                "backup": {"folder": "mhsm-contoso-2026112202", "taken_at": taken_at},
                "groups": found,
            },
            children=children,
        ),
        summary={"foreach": fans},
    )


def finding(rule, message, severity="ok", advice=""):
    return {"rule": rule, "severity": severity, "message": message, "advice": advice}


def exchange(method, path, status, number, *, sent=False, host="contoso-dr.managedhsm.azure.net"):
    return {
        "method": method,
        "host": host,
        "path": path,
        "status": status,
        "request_id": f"5e7a0000-0000-4000-8000-{number:012x}",
        "client_request_id": f"c11e0000-0000-4000-8000-{number:012x}",
        "ms": 31,
        "sent": sent,
        "body_sha256": "",
    }


def error(message, *, code="DR-A001", transient=False):
    return {
        "kind": "AzureError",
        "code": code,
        "message": message,
        "hint": "",
        "exit_code": 4,
        "transient": transient,
    }


class Story:
    """One run and its children, told record by record."""

    def __init__(
        self, store, plan, *, wall=True, initiator="operator:dana", cast=None, start=START_MS
    ):
        self.cast, self.start = cast, start
        self.store, self.plan = store, plan
        self.run = plan.run_id
        self.now = start
        self.wall = wall and plan.cloud.lab
        self.initiator = initiator
        self.states, self.leases = {}, {}
        self.number = 0
        store.put_document(self.run, "plan", plan.to_json())

    @property
    def register(self):
        """The register of approvers that the run keeps, None where it has none."""
        return self.cast.register.to_json() if self.cast else None

    # time and records

    def wait(self, minutes):
        self.now += int(minutes * MINUTE)
        return self

    def draft(self, kind, body, actor):
        ran = (self.now - self.start) // SPEED
        return Draft(kind, actor, body, self.now, ran, self.start + ran if self.wall else None)

    def create(self, run=None, *, text=ROOT, path=(), item=None, parent=None, inputs=None):
        run = run or self.run
        here = self.plan.root
        for step in path:
            here = here.children[step]
        given = dict(here.inputs) if inputs is None else inputs
        ids = [
            line.split("id: ", 1)[1].split(",")[0].strip()
            for line in text.splitlines()
            if line.startswith(("  - id: ", "  - {id: "))
        ]
        body = {
            "class": str(self.plan.run_class),
            "title": text.split("title: ", 1)[1].split("\n", 1)[0],
            "plan": self.plan.digest,
            "runbook": {"name": here.runbook_name, "sha256": here.runbook_sha256},
            "inputs": given,
            "inputs_digest": digest(given),
            "objectives": {"rto_ms": 240 * MINUTE, "rpo_ms": 1440 * MINUTE}
            if not path
            else {"rto_ms": None, "rpo_ms": None},
            "steps": ids,
            "path": list(path),
            "item": item,
            "parent": parent,
            "cloud": self.plan.cloud.to_json(),
            "initiator": self.initiator,
            "tool": {"version": drengine.__version__, "files_sha256": "ab" * 32},
        }
        if self.cast:
            body["approvers"] = self.cast.register.digest
            self.store.put_document(self.run, "approvers", self.cast.register.to_json())
        self.store.create(
            run, body["title"], body["class"], self.draft(R.RUN_CREATED, body, self.initiator)
        )
        self.open(run)
        return self

    def open(self, run=None):
        run = run or self.run
        if run in self.leases:
            self.store.release(self.leases[run])
        self.leases[run] = self.store.acquire(run, "host-1")
        self.states[run] = fold(self.store.read(run))
        return self.say(
            R.RUN_OPENED,
            chain=run,
            owner="host-1",
            token=self.leases[run].token,
            tool=drengine.__version__,
        )

    def say(self, kind, step=None, /, *, chain=None, actor="engine", **body):
        run = chain or self.run
        if step is not None:
            body = {"step": step, **body}
        state = self.states[run]
        (record,) = self.store.append(self.leases[run], state.head, [self.draft(kind, body, actor)])
        self.states[run] = apply(state, record)
        self.last = record
        return self

    def call(self, method, path, status=200, *, sent=False):
        self.number += 1
        return exchange(method, path, status, self.number, sent=sent)

    # whole steps

    def begin(self, step, run=None):
        st = self.states[run or self.run].steps[step]
        return self.say(
            R.STEP_BEGUN, step, chain=run, attempt=st.attempt + 1, generation=st.generation
        )

    def cleared(self, step, run=None, *, findings=()):
        self.begin(step, run).say(
            R.PROBE_ABSENT,
            step,
            chain=run,
            why="not there",
            exchanges=[self.call("GET", f"/{step}", 404)],
        )
        return self.say(R.GUARDS_HELD, step, chain=run, findings=list(findings))

    def intent(self, step, run=None):
        return self.say(R.INTENT, step, chain=run, action=step, attempt=1, rest="", manual="az …")

    def running(self, step, run=None, *, findings=()):
        self.cleared(step, run, findings=findings).intent(step, run)
        operation = {
            "kind": "arm",
            "url": "https://x/op/1",
            "job": "9c1",
            "resource": "",
            "request_id": "",
        }
        return self.say(
            R.ANSWER_OPERATION,
            step,
            chain=run,
            operation=operation,
            exchanges=[self.call("PUT", f"/{step}", 202, sent=True)],
        )

    def followed(self, step, minutes, run=None):
        for polls in (1, 2):
            self.wait(minutes / 2).say(
                R.OPERATION_POLLED,
                step,
                chain=run,
                polls=polls,
                detail="InProgress",
                exchanges=[self.call("GET", "/op/1")],
            )
        return self.say(R.OPERATION_SUCCEEDED, step, chain=run, detail="", outputs={})

    def proved(self, step, run=None, *, findings=(), evidence=None, outputs=None):
        more = {} if evidence is None else {"evidence": evidence}
        self.wait(0.2)
        if not findings and step not in self.plan.root.children:
            findings = [finding(f"{step}-read-back", "as it must be")]
        return self.say(
            R.STEP_SUCCEEDED,
            step,
            chain=run,
            findings=list(findings),
            outputs=outputs or {},
            **more,
        )

    def does(self, step, minutes=1.0, run=None, *, findings=(), **more):
        """A step that changes something and goes well."""
        self.running(step, run).followed(step, minutes, run)
        return self.proved(step, run, findings=findings, **more)

    def reads(self, step, run=None, *, minutes=0.2, **more):
        """A step that only reads."""
        self.begin(step, run).say(R.GUARDS_HELD, step, chain=run, findings=[])
        self.wait(minutes).say(
            R.ANSWER_DONE, step, chain=run, outputs={}, exchanges=[self.call("GET", f"/{step}")]
        )
        return self.proved(step, run, **more)

    def ask(self, step, approvals=1, facts=None, findings=(), roles=(), *, break_glass=False):
        st = self.states[self.run].steps[step]
        shown = {
            "step": step,
            "ask": f"{step}?",
            "facts": facts
            or {"target": {"name": "contoso-dr", "uri": "https://contoso-dr.managedhsm.azure.net"}},
            "findings": list(findings),
            "generation": st.generation,
            "approvals": approvals,
            "roles": list(roles),
        }
        if break_glass:
            shown["break_glass"] = True
        shown["digest"] = digest(shown)
        return self.say(R.GATE_REQUESTED, **shown)

    def approve(
        self, step, actor="simulated:approver:alice", reason="checked", said=R.GATE_APPROVED
    ):
        more = {} if said is R.GATE_APPROVED else {"error": error("rejected", code="DR-G020")}
        return self._decides(step, actor, reason, said, more)

    def break_glass(self, step, actor, reason="nobody else can be reached"):
        """One person decides for all."""
        urgent = {"break_glass": True}
        return self._decides(step, actor, reason, R.GATE_APPROVED, urgent, **urgent)

    def _decides(self, step, actor, reason, said, more, **manner):
        gate = self.states[self.run].steps[step].gate
        if self.cast:
            more = more | self.cast.sign(self, gate, step, actor, reason, said, **manner)
        return self.say(
            said,
            step,
            actor=actor,
            request_seq=gate.seq,
            digest=gate.digest,
            reason=reason,
            role="",
            sent_at=self.now,
            signal=f"s-{self.now}-{actor}",
            **more,
        )

    def passed(self, step):
        approvers = list(self.states[self.run].steps[step].gate.approvers)
        return self.say(R.STEP_SUCCEEDED, step, outputs={"approvers": approvers})

    def gate(
        self, step, minutes=7.0, facts=None, approvers=("simulated:approver:alice",), findings=()
    ):
        self.ask(step, len(approvers), facts, findings)
        for actor in approvers:
            self.wait(minutes / len(approvers)).approve(step, actor)
        return self.passed(step)

    def deliver(self, step, minutes=9.0, **outputs):
        st = self.states[self.run].steps[step]
        self.say(
            R.DELIVERY_REQUESTED,
            step,
            kind="restore_blob",
            ask="Combine the quorum's shares for this exchange key.",
            expects={"exchange": "Zm9v" * 8},
            generation=st.generation,
        )
        given = {"sha256": sha256_hex(b"blob"), "size": 8123, **outputs}
        return self.wait(minutes).say(
            R.DELIVERY_ACCEPTED,
            step,
            actor="simulated:custodian:erin",
            outputs=given,
            findings=[finding("blob-fits", "made for this exchange key")],
            signal=f"d-{self.now}",
        )

    def child(self, step, item, minutes=14.0):
        run = child_id(child_id(self.run, step), item["name"])
        self.say(R.CHILD_STARTED, step, name=item["name"], run=run, item=item)
        self.create(run, text=CHILD, path=(step,), item=item, parent=self.run, inputs={})
        self.does("add-key", 2, run).does("set-protector", minutes - 6, run).reads(
            "wait-online", run, minutes=4
        )
        return self.end_child(step, item, run)

    def end_child(self, step, item, run):
        self.say(R.RUN_FINISHED, chain=run, why="done")
        head = self.states[run].head
        return self.say(
            R.CHILD_FINISHED,
            step,
            name=item["name"],
            run=run,
            status="finished",
            seq=head.seq,
            sha256=head.sha256,
        )
