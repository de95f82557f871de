"""What a sealed bundle's chains must bear out beyond a folder's: who approved, and when.

Streaming: it sees each record once and keeps requests, signers and heads only.

Rules:
- Trust comes from the verifier's own register, never from the bundle.
- A signature anchors its chain up to the request it approves: the hash it signs covers
  every record before. What no signature or stamp covers is said, not hidden.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from drengine.errors import DrError
from drengine.evidence.bundle import SIGNED, approval_name
from drengine.evidence.contents import attached_of, probes_of
from drengine.evidence.merkle import Tree
from drengine.evidence.outline import outline_of
from drengine.evidence.reading import text, texts
from drengine.evidence.stamps import EARLY_MS, LATE_MS
from drengine.evidence.words import duration
from drengine.model.canonical import canonical, sha256_hex
from drengine.model.plan import Plan
from drengine.model.records import Record
from drengine.model.records import RecordType as R
from drengine.model.runbook import Runbook
from drengine.trust.approval import Approval, Asked
from drengine.trust.judging import judge, terms_of
from drengine.trust.register import Register

_BACK_MS: Final = 5_000
_WATCHED: Final = frozenset(
    {
        *(R.GATE_REQUESTED, R.STEP_SUCCEEDED, R.CHILD_FINISHED, *SIGNED),
        *(R.NOTE, R.STEP_MARKED),
    }
)
_NEW_PROCESS: Final = (
    R.RUN_OPENED,
    R.RUN_HANDED_OVER,
    R.RUN_IMPORTED,
    R.RUN_CANCELLED,
    R.NOTE,
    R.RUN_CREATED,
)


@dataclass(slots=True)
class _Request:
    body: Mapping[str, Any]
    sha256: str
    approvers: set[str] = field(default_factory=set)
    urgent: bool = False

    def suffices(self) -> bool:
        required = self.body.get("approvals", 1)
        return len(self.approvers) >= (1 if self.urgent else int(required))


@dataclass(slots=True)
class _Chain:
    genesis: Mapping[str, Any]
    runbook: Runbook | None
    wanted: set[int]
    requests: dict[int, _Request] = field(default_factory=dict)
    newest: dict[str, int] = field(default_factory=dict)
    heads: dict[int, tuple[str, int]] = field(default_factory=dict)
    last: Record | None = None
    shown: int = 0
    anchored: int = -1
    children: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(slots=True)
class BundleWatch:
    """Watches the chains of one bundle, and takes every record into the Merkle tree.

    Attributes:
        envelopes: file name -> digest of the signed decisions that the journals hold.
        signers: (person, run, step, decision) of every decision that counts.
        artifacts: file name -> digest of what steps read back; attached: digests of documents
            that records name.
        unregistered: runs that asked for decisions without a register of approvers.
    """

    plan: Plan
    register: Register
    wanted: Mapping[str, set[int]] = field(default_factory=dict)
    tree: Tree = field(default_factory=Tree)
    envelopes: dict[str, str] = field(default_factory=dict)
    signers: list[tuple[str, str, str, str]] = field(default_factory=list)
    chains: dict[str, _Chain] = field(default_factory=dict)
    nonces: dict[str, str] = field(default_factory=dict)
    unsigned: int = 0
    artifacts: dict[str, str] = field(default_factory=dict)
    attached: set[str] = field(default_factory=set)
    unregistered: set[str] = field(default_factory=set)

    def take(self, record: Record) -> Iterable[str]:
        """Return what is wrong with the next record."""
        self.tree.add(bytes.fromhex(record.sha256))
        chain = self.chains.get(record.run)
        if chain is None:
            wanted = self.wanted.get(record.run, set())
            chain = self.chains[record.run] = _Chain(record.body, self._runbook(record), wanted)
        shown = _shown(record)
        if record.seq in chain.wanted:
            chain.heads[record.seq] = (record.sha256, shown)
        if shown < chain.shown or record.type in _WATCHED:
            return self._looked_at(chain, record, shown)
        chain.last, chain.shown = record, shown  # nearly all of them
        return ()

    def _looked_at(self, chain: _Chain, record: Record, shown: int) -> Iterator[str]:
        if chain.last is not None:
            yield from _clock_problems(chain.last, record)
        if record.type in _WATCHED:
            yield from self._heed(chain, record)
        chain.last, chain.shown = record, shown

    def _heed(self, chain: _Chain, record: Record) -> Iterator[str]:
        match record.type:
            case R.GATE_REQUESTED:
                chain.requests[record.seq] = _Request(record.body, record.sha256)
                if not chain.genesis.get("approvers"):
                    self.unregistered.add(str(record.run))
                chain.newest[text(record.body.get("step"))] = record.seq
            case R.STEP_SUCCEEDED:
                made = probes_of(record)
                self.artifacts |= {name: sha256_hex(data) for name, data in made.items()}
                yield from _success_problems(chain, record)
            case R.NOTE | R.STEP_MARKED:
                self.attached.add(attached_of(record))
            case R.CHILD_FINISHED:
                end = (record.seq, int(record.body.get("seq", -1)))
                chain.children[text(record.body.get("run"))] = end
            case _:
                yield from self._decision(chain, record)

    def _runbook(self, record: Record) -> Runbook | None:
        try:
            return outline_of(self.plan, texts(record.body.get("path"))).runbook
        except DrError:
            return None

    def _decision(self, chain: _Chain, record: Record) -> Iterator[str]:
        body, envelope = record.body, record.body.get("envelope")
        if record.type is R.GATE_VOIDED and envelope is None:
            return
        if envelope is None:
            self.unsigned += 1
            if chain.genesis.get("approvers"):
                yield f"record {record.seq}: the decision of {record.actor} is not signed"
            self._count(chain, body.get("request_seq", -1), record)
            return
        self.envelopes[approval_name(record)] = sha256_hex(canonical(envelope) + b"\n")
        named = chain.newest.get(text(body.get("step")), -1)
        seq = named if record.type is R.GATE_VOIDED else body.get("request_seq", -1)
        request = chain.requests.get(seq)
        if request is None:
            yield f"record {record.seq}: a signed decision on a request that is not before it"
            return
        why = self._judged(chain, request, seq, record)
        if why:
            yield f"record {record.seq}: the decision of {record.actor} does not count: {why}"

    def _judged(self, chain: _Chain, request: _Request, seq: int, record: Record) -> str:
        genesis = chain.genesis
        asked = Asked(
            run=record.run,
            plan=text(genesis.get("plan")),
            run_class=text(genesis.get("class")),
            lab=genesis.get("cloud", {}).get("lab") is True,
            step=text(record.body.get("step")),
            seq=seq,
            digest=text(request.body.get("digest")),
            sha256=request.sha256,
            facts=request.body.get("facts", {}),
        )
        terms = terms_of(
            asked, request.body, initiator=text(genesis.get("initiator")), at_ms=record.at_ms
        )
        judged = judge(record.body["envelope"], terms, self.register)
        said, person = judged.approval, judged.person
        if judged.why or said is None or person is None:
            return judged.why
        if why := self._mismatch(said, record, person.actor):
            return why
        chain.anchored = max(chain.anchored, seq)
        self.signers.append((person.name, str(record.run), asked.step, said.decision))
        if record.type is R.GATE_APPROVED:
            request.approvers.add(person.name)
            request.urgent = request.urgent or said.break_glass
        return ""

    def _mismatch(self, said: Approval, record: Record, actor: str) -> str:
        kinds = {"approve": R.GATE_APPROVED, "reject": R.GATE_REJECTED, "withdraw": R.GATE_VOIDED}
        if kinds[said.decision] is not record.type:
            return f"it is signed as {said.decision}"
        if actor != record.actor:
            return f"it is {actor}'s"
        first = self.nonces.setdefault(said.nonce, f"{record.run} record {record.seq}")
        if first != f"{record.run} record {record.seq}":
            return f"its nonce was used before, in {first}"
        return ""

    def _count(self, chain: _Chain, seq: object, record: Record) -> None:
        request = chain.requests.get(seq) if isinstance(seq, int) else None
        if request is None or chain.genesis.get("approvers"):
            return
        if record.type is R.GATE_APPROVED:
            request.approvers.add(record.actor)
            request.urgent = request.urgent or record.body.get("break_glass") is True

    def spans(self) -> list[str]:
        """Return what no approver's signature and no time stamp covers, chain by chain."""
        out = []
        for run in sorted(self.chains):
            chain, end = self.chains[run], self._anchored(run)
            last = chain.last.seq if chain.last else -1
            if end < last:
                span = f"{end + 1} to {last}"
                out.append(f"{run}: {last - end} of {last + 1} records: {span}")
        return out

    def _anchored(self, run: str) -> int:
        """Return the last record of a chain that a signature covers, the parent's included."""
        found = self.chains[run].anchored
        for name, chain in self.chains.items():
            place = chain.children.get(run)
            if place is not None and name != run and place[0] <= self._anchored(name):
                found = max(found, place[1])
        return found

    def anchor(self, run: str, seq: int, sha256: str, stamped_ms: int) -> tuple[str, int]:
        """Take in a head that a time stamp covers, where it was made soon after it.

        Returns:
            What is wrong with it, or nothing; and the time that the record shows.
        """
        chain = self.chains.get(run)
        known, shown = ("", 0) if chain is None else chain.heads.get(seq, ("", 0))
        if chain is None or known != sha256:
            return f"names record {seq} of {run} with a digest that it does not have", shown
        if shown - stamped_ms > EARLY_MS:
            early = duration(shown - stamped_ms)
            return f"was stamped {early} before record {seq} of {run} is said to be made", shown
        if stamped_ms - shown < LATE_MS:
            chain.anchored = max(chain.anchored, seq)
        return "", shown

    @property
    def newest_ms(self) -> int:
        """The latest time that the last record of a chain shows."""
        return max((chain.shown for chain in self.chains.values()), default=0)


def _shown(record: Record) -> int:
    return record.at_ms if record.wall_ms is None else record.wall_ms


def _clock_problems(before: Record, record: Record) -> Iterator[str]:
    """Compare how far the two clocks of a process went from one record to the next."""
    if record.type in _NEW_PROCESS or before.type in _NEW_PROCESS[1:]:
        return
    ran, shown, was = record.mono_ms - before.mono_ms, _shown(record), _shown(before)
    if shown - was < -_BACK_MS and ran >= 0:
        yield (
            f"record {record.seq}: the clock was set back by {was - shown} ms while the process"
            f" ran for {ran} ms"
        )


def _success_problems(chain: _Chain, record: Record) -> Iterator[str]:
    step_id = text(record.body.get("step"))
    if chain.runbook is None or step_id not in {step.id for step in chain.runbook.steps}:
        return
    step = chain.runbook.step(step_id)
    if step.gate is not None:
        request = chain.requests.get(chain.newest.get(step_id, -1))
        if request is None or not request.suffices():
            have = len(request.approvers) if request else 0
            yield (
                f"record {record.seq}: gate {step_id} passed with {have} valid approvals of"
                f" {step.gate.approvals} that it needs"
            )
        return
    found = record.body.get("findings")
    held = {str(each.get("rule")) for each in found} if isinstance(found, list) else set()
    if missing := [rule for rule in step.guards_after if rule not in held]:
        yield (
            f"record {record.seq}: step {step_id} is said to have succeeded, but nothing was read"
            f" back for {', '.join(missing)}"
        )
    elif step.action and not held:
        # Whatever an action is, its verification says at least one thing of what it saw.
        yield (
            f"record {record.seq}: step {step_id} is said to have succeeded, but nothing was read"
            " back"
        )
