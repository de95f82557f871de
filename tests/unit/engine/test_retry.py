"""How long the engine waits before it asks again."""

from __future__ import annotations

import pytest

from drengine.engine.retry import look_again_ms


@pytest.mark.parametrize("age_ms", [0, 1, 59_999])
def test_the_first_minute_is_looked_at_every_two_seconds(age_ms):
    assert look_again_ms(age_ms, 30_000) == 2_000


@pytest.mark.parametrize(("later_ms", "wait_ms"), [(20_000, 20_000), (5_000, 10_000), (0, 10_000)])
def test_later_ten_seconds_are_the_least(later_ms, wait_ms):
    assert look_again_ms(60_000, later_ms) == wait_ms


@pytest.mark.parametrize("age_ms", [0, 600_000])
@pytest.mark.parametrize("asked_ms", [40, 1_000, 90_000])
def test_what_the_service_asks_for_is_obeyed_at_any_age(age_ms, asked_ms):
    assert look_again_ms(age_ms, 20_000, asked_ms) == asked_ms


def test_a_service_that_asks_for_no_wait_at_all_is_given_one():
    assert look_again_ms(0, 20_000, 0) == 2_000
