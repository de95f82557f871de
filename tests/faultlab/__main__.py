"""`python -m faultlab`: count the points of a recovery, then spoil each once a seed."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from drengine import failpoints
from faultlab import images, proxy
from faultlab.judge import Verdict, judge, summary
from faultlab.stage import QUICK, Stage, prepare, reopen
from faultlab.trial import Ended, Fault, Trial, exchanges
from faultlab.zygote import Zygote

KILLED_AT = (*failpoints.PLACES,)
MEMORY = Path("/dev/shm")
READ_FAULTS = ("dropped", "503", "garbage")
# The open questions about the services: a trial's seed picks the value of each.
SWITCHES: dict[str, tuple[Any, ...]] = {
    "transfer_key_on_reget": ("same", "new"),
    "upload_on_active": (409, 400),
    "restore_requires_backup": (True, False),
    "restore_without_backup": ("refuse", "fail"),
    "restore_busy_status": (409, 429),
    "restoring_refusal": (503, 403),
    "not_activated_refusal": (403, 503),
    "restore_failed_error": ("object", "null"),
    "put_while_busy": (409, 202),
    "unknown_hsm": ("not-found", "no-name"),
    "enforce_roles": (True, False),
    "reevaluate_needed_after_protector": (True, False),
    "effect_visible_after_ms": (0, 8_000),
    "protector_put_when_inaccessible": ("accept", "CMKOperationNotAllowed"),
    "late_heal_drops": ("nothing", "group-and-tags", "group-tags-and-history"),
    "fog_forced_with_inaccessible": ("accept", "refuse"),
    "writes_when_primary_lost": ("accept", "refuse"),
    "quota_counts_deleted": (False, True),
}


def switches(seed: int, fault: Fault) -> dict[str, Any]:
    """Return the lab's answers to the open questions in a trial; seed 0 takes the defaults."""
    if not seed:
        return {}
    rng = random.Random(f"{seed}/{fault if fault.world is None else fault.world}")
    return {name: rng.choice(values) for name, values in SWITCHES.items()}


def points_of(stage: Stage, zygote: Zygote, folder: Path) -> tuple[Counter[str], Counter[str]]:
    """Run the recovery without a fault; count its failpoints and its exchanges."""
    counted = folder / "points"
    dry = Trial(stage, zygote, folder / "dry", Fault((f"*:0:count={counted}",))).play()
    _must_be_good(dry, stage)
    seen = Trial(stage, zygote, folder / "dry", Fault(proxy=("", "change", 0))).play()
    _must_be_good(seen, stage)
    traffic = Counter(str(line["which"]) for line in exchanges(folder / "dry"))
    return Counter(counted.read_text().split()), traffic


def _must_be_good(dry: Ended, stage: Stage) -> None:
    verdict = judge(dry, stage.run, with_evidence=True)
    if not verdict.is_good:
        raise SystemExit(f"the recovery fails without any fault: {verdict}\nlook in {dry.folder}")


def all_faults(points: Counter[str], traffic: Counter[str], parts: set[str]) -> list[Fault]:
    """Return every single fault of the wanted parts."""
    found: list[Fault] = []
    if "kills" in parts:
        found += [
            Fault((f"{place}:{number}:kill",))
            for place in KILLED_AT
            for number in range(1, points[place] + 1)
        ]
    if "exchanges" in parts:
        for which, faults in (("change", proxy.FAULTS), ("read", READ_FAULTS)):
            found += [
                Fault(proxy=(fault, which, number))
                for fault in faults
                for number in range(1, traffic[which] + 1)
            ]
    if "images" in parts:
        found += [Fault(world=world) for world in range(images.WORLDS)]
    return found


def pairs(points: Counter[str], count: int, seed: int) -> list[Fault]:
    """Return random pairs of kills, the second in the process that resumes."""
    rng = random.Random(f"pairs/{seed}")
    singles = [(place, total) for place, total in points.items() if total > 1]

    def one(share: float) -> str:
        place, total = rng.choice(singles)
        return f"{place}:{rng.randint(1, max(1, int(total * share)))}:kill"

    return [Fault((one(0.8), one(0.3))) for _ in range(count)]


Job = tuple[int, Fault]


def work(stage_folder: str, folder: str, jobs: Any, results: Any, keep: bool) -> None:
    """Be one worker: take jobs until there are none."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    zygote = Zygote()
    stage, place = reopen(Path(stage_folder)), Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    with closing(zygote), contextlib.suppress(queue.Empty):
        while (job := jobs.get()) is not None:
            seed, fault = job
            if fault.world is not None and not fault.points:
                for verdict in one_world(stage, zygote, place, seed, fault, keep=keep):
                    results.put((seed, Fault.parse(verdict.fault), verdict))
            else:
                results.put((seed, fault, attempt(stage, zygote, place, seed, fault, keep=keep)))
            results.put(None)


def one_world(
    stage: Stage, zygote: Zygote, place: Path, seed: int, fault: Fault, *, keep: bool
) -> Iterator[Verdict]:
    """Play one recovery of a world, and go on from each image that was taken of it."""
    assert fault.world is not None
    with closing(images.Camera(place / f"images-{seed}-{fault.world}", fault.world)) as camera:
        whole = attempt(stage, zygote, place, seed, fault, keep=keep, camera=camera)
    if missing := camera.missing():
        whole.problems.append(f"no image was taken at {missing}")
    yield whole
    for image in camera.images:
        yield attempt(stage, zygote, place, seed, image.fault(fault), keep=keep, image=image)
    shutil.rmtree(camera.folder)


def attempt(
    stage: Stage, zygote: Zygote, place: Path, seed: int, fault: Fault, *, keep: bool, **given: Any
) -> Verdict:
    """Play one trial and judge it; its folder stays only where something is wrong.

    Parameters:
        given: a camera, or an image: see `Trial`.
    """
    name = hashlib.sha256(f"{seed}/{fault}".encode()).hexdigest()[:12]
    trial = Trial(stage, zygote, place / name, fault, settings=switches(seed, fault), **given)
    try:
        ended = trial.play()
        verdict = judge(ended, stage.run, with_evidence=int(name[0], 16) < 2)
    except Exception as error:
        verdict = Verdict(str(fault), problems=[f"{type(error).__name__}: {error}"])
    if verdict.is_good and not keep:
        shutil.rmtree(place / name, ignore_errors=True)
    return verdict


def campaign(
    stage: Stage, folder: Path, jobs: list[Job], workers: int, keep: bool
) -> list[Verdict]:
    """Play all jobs on some workers; print what is wrong as soon as it is known."""
    context = multiprocessing.get_context("fork")
    todo, results = context.Queue(), context.Queue()
    children_ = [
        context.Process(
            target=work, args=(str(stage.folder), str(folder / f"w{n}"), todo, results, keep)
        )
        for n in range(workers)
    ]
    for child in children_:
        child.start()
    for job in [*jobs, *[None] * workers]:
        todo.put(job)
    done: list[Verdict] = []
    left = [len(jobs)]
    began = time.monotonic()
    with contextlib.suppress(KeyboardInterrupt):
        _listen(left, results, done, began)
    for child in children_:
        child.terminate()
        child.join()
    return done, left[0]


def _listen(left: list[int], results: Any, done: list[Verdict], began: float) -> None:
    while left[0]:
        found = results.get(timeout=300)
        if found is None:
            left[0] -= 1
            continue
        seed, fault, verdict = found
        done.append(verdict)
        if not verdict.is_good:
            print(failure(seed, fault, verdict), flush=True)
        if len(done) % 50 == 0:
            pace = (time.monotonic() - began) / len(done)
            print(f"  … {len(done)} trials, {pace:.2f} s each, {left[0]} jobs left", flush=True)


def failure(seed: int, fault: Fault, verdict: Verdict) -> str:
    """Return what went wrong and the line that replays it."""
    facts = {k: v for k, v in asdict(verdict).items() if v and k not in ("fault", "reached")}
    return (
        f"FAILED {fault} {json.dumps(facts)}\n"
        f"  replay: make faults FAULTS_ARGS=\"--only '{fault}' --seed {seed}\" # at {commit()}"
    )


def commit() -> str:
    """Name the tree that is tested."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "no commit"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m faultlab", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="seeds a fault; default 1")
    parser.add_argument("--seed", type=int, default=1, help="the first seed; 0: lab defaults")
    parser.add_argument("--parts", default="kills,exchanges", help="of kills, exchanges, images")
    parser.add_argument("--pairs", type=int, default=0, help="instead: random pairs of kills")
    parser.add_argument("--sample", type=int, default=0, help="only so many, picked by the seed")
    parser.add_argument("--only", action="append", help="only this fault; may be repeated")
    parser.add_argument("--jobs", type=int, default=3, help="trials at the same time")
    parser.add_argument("--keep", action="store_true", help="keep the folders of all trials")
    parser.add_argument("--folder", type=Path, help="where trials work; default: a new folder")
    return parser.parse_args()


def chosen(options: argparse.Namespace, points: Counter[str], traffic: Counter[str]) -> list[Job]:
    """Return what the command line asks for."""
    if options.only:
        return [(options.seed, Fault.parse(text)) for text in options.only]
    if options.pairs:
        return [(options.seed, fault) for fault in pairs(points, options.pairs, options.seed)]
    seeds = range(options.seed, options.seed + options.seeds)
    faults = all_faults(points, traffic, set(options.parts.split(",")))
    jobs = [(seed, fault) for seed in seeds for fault in faults]
    random.Random(f"order/{options.seed}").shuffle(jobs)
    return jobs[: options.sample] if options.sample else jobs


def main() -> int:
    """Hold a campaign; return 0 where nothing is wrong."""
    # Stopped early, a campaign still says what it has found so far.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = arguments()
    base = MEMORY if os.access(MEMORY, os.W_OK) else None
    folder = options.folder or Path(tempfile.mkdtemp(prefix="drengine-faults-", dir=base))
    began = time.monotonic()
    zygote = Zygote()
    stage = prepare(folder / "stage", **QUICK)
    points, traffic = points_of(stage, zygote, folder)
    zygote.close()
    jobs = chosen(options, points, traffic)
    print(f"commit {commit()}  seeds from {options.seed}  folder {folder}")
    print(f"points of one recovery: {dict(points)}; exchanges {dict(traffic)}")
    print(f"K = {sum(points.values())} points, {len(jobs)} jobs", flush=True)
    verdicts, left = campaign(stage, folder, jobs, options.jobs, options.keep)
    for line in summary(verdicts):
        print(line)
    bad = [verdict for verdict in verdicts if not verdict.is_good]
    print(f"failed             {len(bad)} of {len(verdicts)} in {time.monotonic() - began:.0f} s")
    if left:
        print(f"STOPPED EARLY      {left} of {len(jobs)} jobs were not played to their end")
    if not bad and not options.keep and options.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if bad or left else 0


if __name__ == "__main__":
    sys.exit(main())
