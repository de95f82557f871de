"""The main job on this machine: a lab, a disaster, a recovery, evidence that verifies.

What is real: HTTPS with Azure's own clients, keys, wrapped database keys, the quorum, the
journal. What is played: time runs compressed, and people answer at once.

Rules:
- One engine process makes the recovery, as a client of the lab; this process only starts
  it, follows its journal and plays the people.
- The lab is thrown away at the end, unless it is kept; the evidence stays.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from drengine.cli.family import Family, Follower
from drengine.clock import Clock, LabClock
from drengine.drills.cast import engage
from drengine.drills.children import Engine
from drengine.drills.databases import databases_of
from drengine.drills.pace import WORKING_SPEED, Pace
from drengine.drills.people import PlayedPeople
from drengine.errors import StepFailed, UsageError, VerificationError
from drengine.journal.sqlite import SqliteStore
from drengine.lab import commands
from drengine.model.facts import EvidenceFacts, Verdict
from drengine.model.ids import RunId, run_id_of
from drengine.model.records import Record
from drengine.model.run import RunState
from drengine.trust.register import read_trust
from drengine.trust.signers import KeySigner

RUNBOOKS: Final = ("mhsm-full-recovery",)
DEFAULT_SPEED: Final = 900.0
TRUST: Final = "trust"
"""The folder beside the bundle: whose keys count. An auditor gets it by another way."""
TARGET: Final = "contoso--hsm-new"
_CHILD_SECONDS: Final = 60.0
_LONGEST_SECONDS: Final = 300.0
_LONGEST_VIRTUAL_SECONDS: Final = 6 * 3600.0
_LOOK_SECONDS: Final = 0.05
_CYCLE_SECONDS: Final = 150.0
_LOOKS: Final = 200
_INACCESSIBLE: Final = "sql.database.inaccessible"

Say = Callable[[str], None]
Listen = Callable[[RunState, Record], None]


@dataclass(frozen=True, slots=True)
class DrillRequest:
    """What is to be drilled.

    Attributes:
        out: the folder of bundle and trust; it must be new.
        keep: whether the lab stays, running, when the drill has ended.
        speed: virtual seconds per second while only the cloud works.
        tsa: a time-stamp authority for checkpoints of the run.
        settings: of the lab, by name; what they leave out is the default.
    """

    out: Path
    keep: bool = False
    speed: float = DEFAULT_SPEED
    runbook: str = RUNBOOKS[0]
    tsa: str | None = None
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class DrillResult:
    """How a drill ended.

    Attributes:
        exit_code: the run's own.
        verdict: what the evidence says.
        reasons: why it says no better than that; empty where all is well.
        problems: what does not verify; empty is good.
    """

    run: RunId
    exit_code: int
    verdict: str
    reasons: tuple[str, ...]
    problems: tuple[str, ...]
    evidence: Path
    lab: Path | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Watching:
    """How the parent shows a run.

    Attributes:
        say: a line about the drill itself.
        follow: opens what shows the run's records, by the lab's clock.
    """

    say: Say
    follow: Callable[[Family, Clock], AbstractContextManager[Listen]]


def hold(request: DrillRequest, watching: Watching) -> DrillResult:
    """Hold the drill.

    Raises:
        UsageError: no such drill, or the folder is taken.
        StepFailed: the lab or a child process failed; the message says what.
        VerificationError: the evidence could not be written.
    """
    if request.runbook not in RUNBOOKS:
        raise UsageError(
            f"there is no drill '{request.runbook}'", hint=f"drengine drill {RUNBOOKS[0]}"
        )
    if request.out.exists():
        raise UsageError(f"{request.out} exists already", hint="Choose another --out.")
    began = time.monotonic()
    with _lab_folder(keep=request.keep) as folder:
        lab = _open_lab(folder / "lab", watching.say, request.settings)
        with closing(Engine(_environment(folder, request), folder / "engine.log")) as engine:
            stage = _Stage(request, watching, folder, lab, engine)
            stage.prepare()
            run = stage.recover()
            if request.tsa:
                engine.code(_CHILD_SECONDS)  # the last stamp belongs into the bundle
            # The journal is complete: sealing it need not wait for the engine's last words.
            judged = stage.seal(run)
            code = engine.code(_CHILD_SECONDS)
        if code is None:
            raise engine.failure("did not end")
        last_words = engine.failure(f"ended with {code}").message
    kept = folder if request.keep else None
    seconds = time.monotonic() - began
    reasons = reasons_of(judged.facts, last_words)
    verdict, bundle = str(judged.facts.verdict), request.out / run
    return DrillResult(run, code, verdict, reasons, judged.problems, bundle, kept, seconds)


def reasons_of(facts: EvidenceFacts, last_words: str) -> tuple[str, ...]:
    """Return why the evidence says no better than it does; empty where all is well.

    Parameters:
        last_words: of the engine; they stand in where the journal names no reason, because
            the engine ended in the middle.
    """
    if facts.verdict is not Verdict.NOT_FINISHED:
        return facts.verdict_reasons
    below = [f"{run.run}: {why}" for run in facts.runs if run.parent for why in run.waiting_for]
    named = any(run.waiting_for for run in facts.runs)
    return (*facts.verdict_reasons, *below, *(() if named else (last_words,)))


def _environment(folder: Path, request: DrillRequest) -> dict[str, str]:
    """Return the engine's environment: the lab is its whole network, but for the authority."""
    environment = dict(commands.env(folder / "lab"))
    if request.tsa:
        host = urlsplit(request.tsa).hostname or ""
        environment |= {"no_proxy": host, "NO_PROXY": host}
    return environment


@contextmanager
def _lab_folder(*, keep: bool) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="drengine-drill-"))
    try:
        yield folder
    finally:
        if not keep:
            _take_down(folder / "lab")
            shutil.rmtree(folder, ignore_errors=True)


def _take_down(home: Path) -> None:
    if (home / "identity.json").exists():
        commands.down(home)


def _open_lab(home: Path, say: Say, settings: Mapping[str, Any] | None) -> Mapping[str, Any]:
    say("Building a lab: one HSM, three instances, a backup, a quorum of 2 of 3 …")
    # The inventory waits for nothing that takes virtual time: real time keeps it exact.
    return commands.up(home, speed=1.0, settings=settings)


@dataclass(frozen=True, slots=True)
class _Judged:
    """What the sealed evidence says, and what of it does not verify."""

    facts: EvidenceFacts
    problems: tuple[str, ...]


class _Stage:
    """The drill while it is held."""

    def __init__(
        self,
        request: DrillRequest,
        watching: Watching,
        folder: Path,
        lab: Mapping[str, Any],
        engine: Engine,
    ) -> None:
        self._request = request
        self._watching = watching
        self._folder = folder
        self._home = folder / "lab"
        self._lab = lab
        self._engine = engine
        self._trust = request.out / TRUST
        self._cast = engage(self._trust)

    def prepare(self) -> None:
        """Take the inventory, and lose the HSM."""
        say, source = self._watching.say, str(self._lab["source_hsm"]["name"])
        say(f"Taking the inventory of {source} …")
        self._engine.do(
            *("inventory", "--hsm", source, "--out", str(self._inventory)),
            *("--sd-file", str(self._lab["security_domain"]["file"])),
            *("--container-url", self._container_url),
            seconds=_CHILD_SECONDS,
        )
        commands.disaster(self._home, "purge")
        commands.set_clock(self._home, speed=min(WORKING_SPEED, self._request.speed))
        say(f"Disaster: {source} is deleted and purged. Waiting for the databases …")
        self._await_inaccessible()

    def recover(self) -> RunId:
        """Plan and run, playing the people, until the run's journal or its command ends."""
        plan = self._folder / "plan.json"
        self._watching.say("Planning the recovery …")
        self._engine.do(
            *("plan", self._request.runbook, "--class", "drill"),
            *("--inputs", self._inputs(), "--out", str(plan)),
            seconds=_CHILD_SECONDS,
        )
        run = run_id_of(str(json.loads(plan.read_bytes())["digest"]))
        self._watching.say(f"Run {run}:")
        self._engine.begin(
            *("run", str(plan), "--wait", "--initiator", "simulated:operator:drill"),
            *("--approvers", str(self._trust)),
            *(("--tsa", self._request.tsa) if self._request.tsa else ()),
        )
        with SqliteStore(self._home / "drengine") as store:
            environment = commands.env(self._home)
            people = PlayedPeople(store, self._lab, environment, self._folder, self._cast)
            with closing(people):
                self._follow(Follower(store, run), people)
            begun = store.exists(run)
        if not begun:
            raise self._engine.failure("did not begin")
        return run

    def seal(self, run: RunId) -> _Judged:
        """Seal the evidence, verify it as a stranger would, and return what that found."""
        from drengine.evidence.checkpoints import kept_checkpoints  # noqa: PLC0415 - with urllib
        from drengine.evidence.reports import reports_of  # noqa: PLC0415 - loads the templates
        from drengine.evidence.seal import SealRequest, seal  # noqa: PLC0415 - as above
        from drengine.evidence.sealed import verify_bundle  # noqa: PLC0415 - as above

        with SqliteStore(self._home / "drengine") as store:
            signer = KeySigner(self._cast.sealing)
            reports = partial(reports_of, pdf=("executive",) if self._can_make_pdf() else ())
            kept = kept_checkpoints(store, run)
            out = self._request.out / run
            folder = seal(store, SealRequest(run, out, signer, reports, checkpoints=kept))
        report = verify_bundle(folder, read_trust(self._trust))
        if report.facts is None:
            raise VerificationError(
                f"{folder}: {'; '.join(str(problem) for problem in report.problems)}"
            )
        return _Judged(report.facts, tuple(str(problem) for problem in report.problems))

    def _can_make_pdf(self) -> bool:
        from drengine.evidence.pdf import why_no_pdf  # noqa: PLC0415 - loads WeasyPrint

        if why := why_no_pdf():
            self._watching.say(f"No executive.pdf in the bundle: {why}.")
        return not why

    @property
    def _inventory(self) -> Path:
        return self._folder / "inventory.json"

    @property
    def _container_url(self) -> str:
        storage = self._lab["storage"]
        return f"https://{storage['account']}.blob.core.windows.net/{storage['container']}"

    def _inputs(self) -> str:
        """Write the inputs of the plan and return their path."""
        lab = self._lab
        values = {
            "source_hsm": lab["source_hsm"]["name"],
            "target_hsm": TARGET,
            "resource_group": lab["resource_group"],
            "location": lab["failover_groups"][0]["locations"][1],
            "inventory": str(self._inventory),
            "sd_file": lab["security_domain"]["file"],
            "container_url": self._container_url,
            "storage_identity": lab["identity"]["id"],
        }
        path = self._folder / "inputs.json"
        path.write_text(json.dumps(values, indent=2), encoding="utf-8")
        return str(path)

    def _await_inaccessible(self) -> None:
        """Let virtual time pass until every instance has checked its key and found it gone.

        Raises:
            StepFailed: one has not after many key-check cycles.
        """
        left, lost = len(databases_of(self._inventory)), set[str]()
        for _ in range(_LOOKS):
            rows = commands.log(self._home)
            lost = {str(row["target"]) for row in rows if row["effect"] == _INACCESSIBLE}
            if len(lost) >= left:
                return
            commands.set_clock(self._home, advance_seconds=_CYCLE_SECONDS)
            time.sleep(_LOOK_SECONDS)
        raise StepFailed(f"{left - len(lost)} databases of the lab do not miss their HSM")

    def _follow(self, follower: Follower, people: PlayedPeople) -> None:
        """Follow the run until its journal or its process ends."""
        from drengine.evidence import reports, seal, sealed  # noqa: F401, PLC0415 - warmed up
        from drengine.evidence.pdf import why_no_pdf  # noqa: PLC0415 - as above

        why_no_pdf()

        longest = _LONGEST_SECONDS + _LONGEST_VIRTUAL_SECONDS / self._request.speed
        until = time.monotonic() + longest
        pace = Pace(self._home, self._request.speed)
        clock = LabClock(self._home / "clock.json")
        with self._watching.follow(follower.family, clock) as listen:
            while True:
                ended = self._engine.code() is not None
                for state, record in follower.advance():
                    listen(state, record)
                if ended or _is_over(follower.family):
                    return
                pace.follow(follower.family)
                people.answer(follower.family)
                if time.monotonic() > until:
                    raise StepFailed(f"the run did not end within {longest:.0f} s")
                time.sleep(_LOOK_SECONDS)


def _is_over(family: Family) -> bool:
    return family.root_run in family.states and family.root.status.is_over
