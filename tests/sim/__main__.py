"""Run many seeds: `python -m sim --seeds 100000 --jobs 2`, or one: `python -m sim --seed 7`.

With `--seed`, `--told` prints the whole story line by line.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import gc
import sys
import time
from collections.abc import Sequence

from sim.telling import told
from sim.verdict import judge, unfinished
from sim.world import simulate

CHUNK = 200


def chunk(first: int) -> tuple[collections.Counter[str], list[str]]:
    counts: collections.Counter[str] = collections.Counter()
    problems: list[str] = []
    for seed in range(first, first + CHUNK):
        story = simulate(seed)
        found = judge(story)
        problems += [f"{text}   replay: python -m sim --seed {seed}" for text in found]
        counts["runs"] += 1
        counts["processes"] += story.processes
        counts["crashes"] += len(story.fate.names)
        counts["unknown outcomes"] += story.resolved
        counts["doubled"] += is_doubled(story.cloud.ledger)
        counts["not finished"] += bool(unfinished(story))
        counts["with operators"] += bool(story.fate.temper.verbs)
        counts["with instances"] += story.fate.sql
        counts["of two hosts"] += story.fate.homes > 1
    return counts, problems


def is_doubled(ledger: Sequence[str]) -> bool:
    """Whether what must not happen twice did; a new HSM, after a rollback deleted the first, may."""
    seen: set[str] = set()
    for effect in ledger:
        if effect == "delete":
            seen.clear()
        elif effect in ("create", "upload", "restore") and effect in seen:
            return True
        seen.add(effect)
    return False


def rarely_collect() -> None:
    """Walk the heap less often: what is imported stays, and a seed's waste is soon gone."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def one(seed: int, *, tell: bool) -> int:
    story = simulate(seed)
    if tell:
        print("\n".join(told(story.trace)))
    print(f"crashes at {story.fate.names}\nrests {story.rests}\nledger {story.cloud.ledger}")
    problems = judge(story)
    print("\n".join(problems) or "nothing is wrong")
    return 1 if problems else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sim")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--told", action="store_true", help="with --seed: line by line")
    asked = parser.parse_args()
    if asked.seed is not None:
        return one(asked.seed, tell=asked.told)
    started = time.monotonic()
    total: collections.Counter[str] = collections.Counter()
    problems: list[str] = []
    firsts = range(asked.first, asked.first + asked.seeds, CHUNK)
    with concurrent.futures.ProcessPoolExecutor(asked.jobs, initializer=rarely_collect) as pool:
        for counts, found in pool.map(chunk, firsts):
            total += counts
            problems += found
            print(f"\r{total['runs']} runs, {len(problems)} problems", end="", file=sys.stderr)
    seconds = time.monotonic() - started
    print(file=sys.stderr)
    print(", ".join(f"{total[name]} {name}" for name in sorted(total)) + f", {seconds:.0f} s")
    print("\n".join(problems[:20]))
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
