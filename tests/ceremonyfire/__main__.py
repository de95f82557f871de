"""`python -m ceremonyfire [EVERY]`: change every byte (or every n-th); print what got through."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time

from ceremonyfire.mutations import MASKS, Result, Scene, campaign, readers

_WORKERS = max(1, min(4, os.cpu_count() or 1))
_scene: Scene | None = None


def _part(arguments: tuple[int, int]) -> Result:
    assert _scene is not None
    every, first = arguments
    return campaign(_scene, every=every, first=first)


def main() -> int:
    """Hold the campaign; return 0 where nothing wrong came out."""
    global _scene  # noqa: PLW0603 - the workers are forks and read it, keys need not be pickled
    every = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    _scene = Scene()
    whole = readers(_scene)
    began = time.monotonic()
    steps = every * _WORKERS
    total = Result()
    with multiprocessing.get_context("fork").Pool(_WORKERS) as pool:
        for part in pool.imap_unordered(_part, [(steps, n * every) for n in range(_WORKERS)]):
            total.add(part)
    for name, (document, _) in whole.items():
        print(
            f"{name:<26} {len(document):>5} bytes x {len(MASKS)}: refused {total.refused[name]:>6}, "
            f"same domain {total.harmless[name]:>4}"
        )
    tried = total.refused.total() + total.harmless.total() + len(total.wrong) + len(total.escaped)
    print(
        f"{tried} mutations in {time.monotonic() - began:.0f} s, slowest {total.slowest_ms:.0f} ms"
    )
    print(f"wrong blobs or nothing said: {len(total.wrong)} {total.wrong[:5]}")
    print(f"errors that are not ours: {len(total.escaped)} {total.escaped[:5]}")
    return 1 if total.wrong or total.escaped else 0


if __name__ == "__main__":
    sys.exit(main())
