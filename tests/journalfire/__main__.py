"""`python -m journalfire COUNT [SEED]`: mutations of a journal; prints how many went unseen."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import Counter

from journalfire.mutations import Result, campaign

_WORKERS = 2


def _part(arguments: tuple[int, int, int]) -> Result:
    count, seed, first = arguments
    return campaign(count, seed, stride=_WORKERS, first=first)


def main() -> int:
    """Hold the campaign; return 0 where every mutation was refused."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    began = time.monotonic()
    with multiprocessing.Pool(_WORKERS) as pool:
        parts = pool.map(_part, [(count, seed, first) for first in range(_WORKERS)])
    tried = sum((part.tried for part in parts), Counter[str]())
    undetected = [each for part in parts for each in part.undetected]
    escaped = [each for part in parts for each in part.escaped]
    print(f"seed {seed}: {sum(tried.values())} mutations in {time.monotonic() - began:.0f} s")
    print(f"by kind: {dict(tried)}")
    print(f"undetected: {len(undetected)} {undetected[:5]}")
    print(f"errors that are not ours: {len(escaped)} {escaped[:5]}")
    print(f"slowest: {max(part.slowest_ms for part in parts):.1f} ms")
    return 1 if undetected or escaped else 0


if __name__ == "__main__":
    sys.exit(main())
