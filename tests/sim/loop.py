"""An event loop whose time jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import selectors


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.jumped = 0.0

    def select(self, timeout: float | None = None):
        if timeout is None:
            raise RuntimeError("the simulation waits for something that never comes")
        if timeout > 0:
            self.jumped += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """`loop.time()` starts at `start` seconds and only moves by jumping."""

    def __init__(self, start: float = 0.0) -> None:
        self._jumping = _JumpingSelector()
        self._start = start
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._start + self._jumping.jumped

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass while no process lives."""
        self._jumping.jumped += seconds


class VirtualClock:
    """`drengine.clock.Clock` over the running virtual loop."""

    def __init__(self, epoch_ms: int, loop: VirtualLoop) -> None:
        self._epoch_ms = epoch_ms
        self._loop = loop

    def now_ms(self) -> int:
        return self._epoch_ms + int(self._loop.time() * 1000)

    def mono_ms(self) -> int:
        return int(self._loop.time() * 1000)

    def wall_ms(self) -> None:
        return None

    async def sleep_until(self, at_ms: int) -> None:
        if (left := at_ms - self.now_ms()) > 0:
            await asyncio.sleep(left / 1000)
