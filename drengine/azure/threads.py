"""Calling what can only block, without ever waiting for it longer than one is ready to.

The Azure CLI's libraries know no timeout. Their calls run on a thread of their own that
neither holds up the event loop nor keeps the process from ending; what comes back too late is
dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


async def on_thread(call: Callable[[], T], seconds: float) -> T:
    """Return what `call` returns, on a thread that nobody waits for at the end.

    Raises:
        TimeoutError: it took longer than `seconds`; the thread is left to itself.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(value)  # type: ignore[arg-type] # None only beside an error

    def run() -> None:
        try:
            value, error = call(), None
        except BaseException as caught:  # noqa: BLE001 (whatever it is, it belongs to the caller)
            value, error = None, caught
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, value, error)

    Thread(target=run, name="blocking call", daemon=True).start()
    await asyncio.wait([answer], timeout=seconds)
    if not answer.done():
        answer.cancel()
        raise TimeoutError
    return answer.result()
