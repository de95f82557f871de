"""`python -m fuzz [EXAMPLES] [TARGET …]`: the long form; each target in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import sys

from fuzz.running import hold_alone
from fuzz.targets import TARGETS


def main() -> int:
    """Hold all targets, or those named; return 0 where nothing escaped."""
    examples = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    number = int(os.environ.get("SEED", "1"))
    names = sys.argv[2:] or [each.name for each in TARGETS]
    print(
        f"{'target':<18} {'examples':>8} {'refused':>8} {'read':>7} {'slowest':>9} {'memory':>7} {'cpu':>6}"
    )
    failures = 0
    context = multiprocessing.get_context("spawn")
    with context.Pool(2, maxtasksperchild=1) as pool:
        for found, peak, spent in pool.imap(
            hold_alone, [(name, examples, number) for name in names]
        ):
            failures += bool(found.failure)
            print(
                f"{found.name:<18} {found.examples:>8} {found.refused:>8} {found.read:>7} "
                f"{found.slowest_ms:>6.0f} ms {peak:>3} MiB {spent:>4.0f} s",
                flush=True,
            )
            if found.failure:
                print(f"  FAILED (SEED={number}): {found.failure}", flush=True)
    print(f"seed {number}: {len(names)} targets, failures {failures}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
