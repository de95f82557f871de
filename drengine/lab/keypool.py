"""RSA keys made ahead of need, in background threads, never inside a transaction.

Making an RSA key takes 20 milliseconds to several seconds; the interpreter lock is free
meanwhile, so other requests go on. A handler asks `take`; if the pool is empty it raises
`NotReadyYet` with `fill`, and is called again when there is a key.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from drengine.lab.wire import NotReadyYet

PUBLIC_EXPONENT: Final = 65537


class KeyPool:
    """Private RSA keys by size, as PKCS#8 DER.

    Parameters:
        threads: how many keys are made at the same time.
    """

    def __init__(self, threads: int = 2) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="rsa")
        self._ready: dict[int, deque[bytes]] = defaultdict(deque)
        self._lock = threading.Lock()

    def take(self, bits: int) -> bytes:
        """Return a key that nobody else gets.

        Raises:
            NotReadyYet: there is none; the work it carries makes one.
        """
        with self._lock:
            if self._ready[bits]:
                return self._ready[bits].popleft()
        raise NotReadyYet(lambda: self.fill(bits))

    def fill(self, bits: int, count: int = 1) -> None:
        """Make keys and wait for them."""
        for future in [self._start(bits) for _ in range(count)]:
            future.result()

    def fill_all(self, sizes: Sequence[int]) -> None:
        """Make keys of several sizes, the largest first, and wait for them."""
        for future in [self._start(bits) for bits in sorted(sizes, reverse=True)]:
            future.result()

    def fill_in_background(self, bits: int, count: int = 1) -> None:
        """Begin to make keys, so that `count` lie ready; return at once."""
        with self._lock:
            missing = count - len(self._ready[bits])
        for _ in range(missing):
            self._start(bits)

    def _start(self, bits: int) -> Future[None]:
        return self._executor.submit(self._make, bits)

    def _make(self, bits: int) -> None:
        key = rsa.generate_private_key(PUBLIC_EXPONENT, bits)
        der = key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        with self._lock:
            self._ready[bits].append(der)

    def close(self) -> None:
        """Stop making keys."""
        self._executor.shutdown(wait=False, cancel_futures=True)
