"""Figures of the evidence: sealing, verifying and rendering; `make bench` prints them.

A told run of 100,000 records goes through the real codec, is sealed and verified by the
command in a process of its own, whose memory is compared with that of the same run with a
tenth of the records: what is flat does not grow. Verifying is done three times, since others
on the machine only ever add to it: the best counts, the slowest stands beside it. `sha256sum`
reads the same files, so that a slow machine shows. A run of 10,000 steps is rendered as a page.

    python tests/benchmarks/evidence_bench.py [--json]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from drengine.evidence.collect import collect
from drengine.evidence.render import render_html
from drengine.evidence.reports import reports_of
from drengine.evidence.seal import SealRequest, seal
from drengine.journal.memory import MemoryStore
from drengine.model.canonical import canonical
from drengine.model.ids import RunId
from drengine.model.records import Draft
from drengine.model.records import RecordType as R

TALES = Path(__file__).resolve().parents[1] / "unit" / "evidence"
GOALS = {
    "drill_seal_seconds": 2.0,
    "drill_verify_seconds": 1.0,
    "records_verify_seconds": 2.0,
    "records_growth_mb": 20.0,
    "report_seconds": 5.0,
}
RECORDS = 100_000
STEPS = 10_000
_POLL = (
    "/subscriptions/22222222-2222-2222-2222-222222222222/providers/Microsoft.KeyVault/locations"
    "/northeurope/managedHsmOperationResults/9c1d2a3b-0000-4000-8000-000000000001"
    "?api-version=2026-05-15"
)
_VERIFY = """
import json, resource, sys, time
from pathlib import Path
from drengine.evidence.sealed import verify_bundle
from drengine.trust.register import read_trust
trust = read_trust(Path(sys.argv[2]))
verify_bundle(Path(sys.argv[3]), trust)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
seconds, used = [], time.process_time()
for _ in range(3):
    began = time.perf_counter()
    report = verify_bundle(Path(sys.argv[1]), trust)
    seconds.append(time.perf_counter() - began)
print(json.dumps({
    "problems": [str(problem) for problem in report.problems],
    "seconds": min(seconds),
    "slowest": max(seconds),
    "cpu": (time.process_time() - used) / len(seconds),
    "grown_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
}))
"""


def _load(name: str) -> ModuleType:
    """Load the storyteller of the evidence tests; it is no package."""
    known = f"evidence_{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, TALES / f"{name}.py")
        if spec is None or spec.loader is None:
            raise SystemExit(f"{TALES / name}.py is not there")
        sys.modules[known] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[known])
    return sys.modules[known]


def evidence(drill: Path | None = None) -> dict[str, float]:
    """Return every figure; `drill` is what `drengine drill --out` left."""
    figures = {} if drill is None else of_drill(drill)
    with tempfile.TemporaryDirectory() as place:
        return {**figures, **of_records(Path(place)), **of_report()}


# the drill's own bundle


def of_drill(out: Path) -> dict[str, float]:
    """Seal the drill's journals once more, and verify its bundle as a user does."""
    (bundle,) = (path for path in out.iterdir() if path.name.startswith("r-"))
    cast = _load("forging").Cast(out / "bench-trust")
    store, run = _store_of(bundle), RunId(bundle.name)
    began = time.perf_counter()
    seal(store, SealRequest(run, out / "again", cast.sealer, reports_of))
    sealed = time.perf_counter() - began
    found = _verified(bundle, out / "trust", bundle)
    command = [sys.executable, "-m", "drengine", "verify", str(bundle), "--trust"]
    began = time.perf_counter()
    subprocess.run([*command, str(out / "trust")], check=True, stdout=subprocess.DEVNULL)
    whole = time.perf_counter() - began
    return {
        "drill_seal_seconds": sealed,
        "drill_verify_seconds": found["seconds"],
        "drill_verify_command_seconds": whole,
    }


def _store_of(bundle: Path) -> MemoryStore:
    """Put a bundle's journals back into a store, record by record."""
    store, leases = MemoryStore(), {}
    root = RunId(bundle.name)
    for file in sorted((bundle / "journals").iterdir()):
        run = RunId(file.name.removesuffix(".jsonl").replace("~", "/"))
        for line in file.read_bytes().splitlines():
            doc = json.loads(line)
            if doc["seq"] == 0:
                store.create(run, doc["body"]["title"], doc["body"]["class"], _draft(doc))
                leases[run] = store.acquire(run, "bench")
            else:
                store.append(leases[run], store.head(run), [_draft(doc)])
    store.put_document(root, "plan", json.loads((bundle / "inputs/plan.json").read_bytes()))
    register = json.loads((bundle / "inputs/approvers.json").read_bytes())
    store.put_document(root, "approvers", register)
    for file in (bundle / "artifacts").rglob("*"):
        if file.is_file():
            store.put_object(file.read_bytes())
    return store


def _draft(doc: Mapping[str, Any]) -> Draft:
    from drengine.model.times import utc_ms

    wall = utc_ms(doc["wall"]) if "wall" in doc else None
    kind, at = R(doc["type"]), utc_ms(doc["at"])
    return Draft(kind, doc["actor"], doc["body"], at, doc["mono"], wall)


def _verified(bundle: Path, trust: Path, warm: Path) -> dict[str, Any]:
    """Verify in a process of its own, warmed by a small bundle; return what it measured."""
    done = subprocess.run(
        [sys.executable, "-c", _VERIFY, str(bundle), str(trust), str(warm)],
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    if bundle.exists() and found["problems"]:
        raise SystemExit(f"{bundle} does not verify: {found['problems'][:3]}")
    return found


# many records


def of_records(place: Path) -> dict[str, float]:
    """Verify a long run; compare its memory with that of a short one."""
    cast = _load("forging").Cast(place / "trust")
    small = _long_run(place / "small", cast, RECORDS // 10)
    large = _long_run(place / "large", cast, RECORDS)
    short, long = (_verified(each, cast.trust, small) for each in (small, large))
    began = time.perf_counter()
    subprocess.run(["sha256sum", "-c", "--quiet", "--strict", "SHA256SUMS"], cwd=large, check=True)
    sums = time.perf_counter() - began
    return {
        "records_verify_seconds": long["seconds"],
        "records_verify_slowest_seconds": long["slowest"],
        "records_verify_cpu_seconds": long["cpu"],
        "records_megabytes": sum(f.stat().st_size for f in large.rglob("*") if f.is_file()) / 1e6,
        "records_growth_mb": long["grown_mb"] - short["grown_mb"],
        "records_against_sha256sum": long["seconds"] / sums,
    }


def _long_run(folder: Path, cast: Any, records: int) -> Path:
    """Seal a plain recovery in which the service took very many looks."""
    tell = {**vars(_load("story")), **vars(_load("tales"))}
    cast.number = 0
    store = MemoryStore()
    story = tell["Story"](store, tell["make_plan"](), cast=cast)
    follow = story.followed

    def followed(step: str, minutes: float, run: str | None = None) -> object:
        if step == "restore":
            _poll(story, step, minutes, records)
        return follow(step, minutes, run)

    story.followed = followed
    tell["recover"](story)
    request = SealRequest(story.run, folder, cast.sealer, reports_of)
    return seal(store, request)


def _poll(story: Any, step: str, minutes: float, records: int) -> None:
    """Look many times, a thousand records a commit."""
    run = story.run
    state, each = story.states[run], minutes * 60_000 / records
    for first in range(0, records, 1000):
        drafts = []
        for number in range(first, min(first + 1000, records)):
            call = story.call("GET", _POLL, 202)
            body = {"step": step, "polls": number, "detail": "InProgress", "exchanges": [call]}
            body["not_before"] = story.now + int(number * each)
            drafts.append(story.draft(R.OPERATION_POLLED, body, "engine"))
        story.store.append(story.leases[run], story.store.head(run), drafts)
    story.states[run] = _state(story, state)


def _state(story: Any, state: Any) -> Any:
    from drengine.engine.fold import apply

    for record in story.store.read(story.run, state.head.seq):
        state = apply(state, record)
    return state


# many steps


def of_report() -> dict[str, float]:
    """Render a run of many child runs as one page."""
    tell = {**vars(_load("story")), **vars(_load("tales"))}
    groups = [{"name": f"fog-{n}", "id": f"/subscriptions/s/fog-{n}"} for n in range(STEPS // 3)]
    tell["finish"].__globals__["GROUPS"] = groups
    store = MemoryStore()
    plan = tell["make_plan"](groups=groups)
    tell["recover"](tell["Story"](store, plan))
    facts = collect(plan, {row.run: store.read(row.run) for row in store.runs()})
    steps = sum(len(run.steps) for run in facts.runs)
    began = time.perf_counter()
    page = render_html(facts)
    return {
        "report_seconds": time.perf_counter() - began,
        "report_steps": steps,
        "report_megabytes": len(page.encode()) / 1e6,
    }


def peak_mb() -> float:
    """Return this process's highest resident size."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def show(figures: Mapping[str, float]) -> None:
    """Print figures with their goals."""
    for name, value in figures.items():
        goal = f"   goal <= {GOALS[name]:g}" if name in GOALS else ""
        print(f"{name:29} {value:9.2f}{goal}")


def main() -> int:
    """Measure and print; a folder of a drill may be named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("drill", nargs="?", type=Path)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    figures = evidence(asked.drill)
    if asked.json:
        print(canonical({name: f"{value:.3f}" for name, value in figures.items()}).decode())
    else:
        show(figures)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
