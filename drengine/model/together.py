"""Awaiting several things at once, and leaving none of them behind."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from drengine.errors import DrError

T = TypeVar("T")


async def together(*calls: Coroutine[Any, Any, T]) -> list[T]:
    """Await all at once and return what they return, in their order.

    Where one fails, the others are cancelled and their end is awaited, so that nothing goes
    on asking behind a failure. Its error is raised as it is: the first `DrError`, where there
    is one.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except BaseExceptionGroup as failures:
        found = list(_leaves(failures))
        raise next((one for one in found if isinstance(one, DrError)), found[0]) from None
    return [task.result() for task in tasks]


def _leaves(failures: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for failure in failures.exceptions:
        if isinstance(failure, BaseExceptionGroup):
            yield from _leaves(failure)
        else:
            yield failure
