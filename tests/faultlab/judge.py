"""The verdict on a trial: the lab's own call log first, then the journal, then the evidence.

`doubled` and `lost` are told by what the lab logged, never by what the engine says of itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drengine.engine.fold import fold
from drengine.evidence.folder import write_evidence
from drengine.evidence.verify import verify_folder
from drengine.journal.sqlite import SqliteStore
from drengine.journal.verify import verify_run
from drengine.lab import commands
from drengine.model.ids import RunId
from drengine.model.records import RecordType as R
from drengine.model.run import RunStatus
from faultlab.trial import Ended

ONCE = {"hsm.create": "create-hsm", "hsm.domain.upload": "upload-domain", "hsm.restore": "restore"}
NEEDED = (*ONCE, "hsm.restore.done", "sql.protector.set", "sql.database.online")
HARMLESS = ("hsm.backup", "hsm.role.assign", "sql.key.link", "sql.protector.set", "sql.reevaluate")


@dataclass
class Verdict:
    """What a trial showed; no `problems` is good."""

    fault: str
    doubled: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    reached: bool = True
    kills: int = 0
    starts: int = 0
    unknown: int = 0
    stops: int = 0
    repeated: list[str] = field(default_factory=list)
    seconds: float = 0.0
    codes: list[int] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not (self.doubled or self.lost or self.problems)


def judge(ended: Ended, run: RunId, *, with_evidence: bool) -> Verdict:
    """Look at what is left of a trial."""
    verdict = Verdict(
        str(ended.fault),
        kills=ended.kills,
        starts=len(ended.codes),
        unknown=len(ended.resolved),
        seconds=ended.seconds,
        codes=ended.codes,
        stops=sum(code not in (-9, 0, 10, 12) for code in ended.codes),
    )
    wanted = len([point for point in ended.fault.points if point.endswith(":kill")])
    verdict.reached = ended.kills >= wanted and _proxy_hit(ended)
    calls = [call for call in commands.log(ended.home) if call["effect"]]
    counts = Counter(str(call["effect"]) for call in calls)
    verdict.doubled = [f"{name} x{counts[name]}" for name in ONCE if counts[name] > 1]
    verdict.repeated = [f"{name} x{counts[name]}" for name in HARMLESS if counts[name] > 1]
    if ended.trouble:
        verdict.problems.append(ended.trouble)
    with SqliteStore(ended.home / "drengine") as store:
        finished = _journal(store, run, calls, verdict)
        if finished:
            verdict.lost = [name for name in NEEDED if not counts[name]]
            if with_evidence:
                _evidence(store, run, ended.folder / "evidence", verdict)
    return verdict


def _proxy_hit(ended: Ended) -> bool:
    trace = ended.folder / "exchanges.jsonl"
    return not ended.fault.proxy or f'"fault": "{ended.fault.proxy[0]}"' in trace.read_text()


def _journal(store: SqliteStore, run: RunId, calls: list[dict[str, Any]], verdict: Verdict) -> bool:
    if not store.exists(run):
        verdict.problems.append("there is no journal")
        return False
    verdict.problems += [f"journal: {problem}" for problem in verify_run(store, run)]
    state = fold(store.read(run))
    if state.status is not RunStatus.FINISHED:
        verdict.problems.append(f"the run is {state.status}")
        return False
    undone = [step.id for step in state.steps.values() if not step.status.is_done]
    if undone:
        verdict.problems.append(f"finished with steps undone: {undone}")
    intents = {
        str(record.body["step"]): record.at_ms
        for record in reversed(list(store.read(run)))
        if record.type is R.INTENT
    }
    for call in calls:
        step = ONCE.get(str(call["effect"]))
        if step and intents.get(step, 1 << 62) > call["virtual_ms"]:
            verdict.problems.append(f"{call['effect']} had its effect before any intent")
    return True


def _evidence(store: SqliteStore, run: RunId, out: Path, verdict: Verdict) -> None:
    report = verify_folder(write_evidence(store, run, out))
    verdict.problems += [f"evidence: {problem}" for problem in report.problems]


def summary(verdicts: list[Verdict]) -> Iterator[str]:
    """Yield the lines of a campaign's result."""
    starts = sum(v.starts for v in verdicts)
    stops = sum(v.stops for v in verdicts)
    finished = sum(not v.problems for v in verdicts)
    yield f"doubled            {sum(bool(v.doubled) for v in verdicts)}"
    yield f"lost               {sum(bool(v.lost) for v in verdicts)}"
    yield f"resumed            {finished} of {len(verdicts)}"
    yield f"unknown outcomes   {sum(v.unknown for v in verdicts)} (a person looked and said)"
    yield f"kills              {sum(v.kills for v in verdicts)}; processes started {starts}"
    yield f"clean stops        {stops} (exit 4, 5 or 8, then resumed)"
    yield f"point not reached  {sum(not v.reached for v in verdicts)}"
    repeated = Counter(text.split()[0] for v in verdicts for text in v.repeated)
    yield f"harmless repeats   {dict(sorted(repeated.items()))}"
