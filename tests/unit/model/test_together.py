"""Several things at once: in order, and none left behind."""

from __future__ import annotations

import asyncio

import pytest

from drengine.errors import AzureError
from drengine.model.together import together


async def after(turns: int, value: object) -> object:
    for _ in range(turns):
        await asyncio.sleep(0)
    if isinstance(value, Exception):
        raise value
    return value


async def test_what_is_returned_is_in_the_order_of_the_calls():
    assert await together(after(3, "a"), after(1, "b"), after(0, "c")) == ["a", "b", "c"]
    assert await together() == []


async def test_a_failure_ends_the_others_and_is_raised_as_it_is():
    ended = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    failure = AzureError("no", transient=True)
    with pytest.raises(AzureError) as caught:
        await together(forever(), after(1, failure), forever())
    assert caught.value is failure
    assert ended == [True, True]


async def test_an_error_on_purpose_comes_before_one_of_the_interpreter():
    with pytest.raises(AzureError):
        await together(after(1, KeyError("a")), after(1, AzureError("b")))
    with pytest.raises(KeyError):
        await together(after(1, KeyError("a")), after(2, 1))
