"""Times: one text for each, and what else is read as one."""

from __future__ import annotations

import pytest

from drengine.model.times import instant_ms, utc_ms, utc_text


@pytest.mark.parametrize("ms", [0, 1, 1_795_341_600_123, 253_402_300_799_999])
def test_times_go_to_text_and_back(ms):
    assert utc_ms(utc_text(ms)) == ms


@pytest.mark.parametrize("ms", [-1, 253_402_300_800_000, True, 1.0, "1", None])
def test_a_time_outside_the_years_that_can_be_written_is_refused(ms):
    with pytest.raises(ValueError, match="epoch milliseconds"):
        utc_text(ms)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T10:00:00.123+00:00",
        "2026-11-22T10:00:00.123z",
        "2026-11-22 10:00:00.123Z",
        "2026-11-22T10:00:00Z",
        "2026-11-22T10:00:00.123456Z",
        "2026-02-29T10:00:00.123Z",
        "2026-11-22T24:00:00.000Z",
        "2026-11-22T10:00:60.000Z",
        "1969-12-31T23:59:59.999Z",
        "0000-01-01T00:00:00.000Z",
        "\uff12026-11-22T10:00:00.123Z",
        "2026-11-22T10:00:00.123Z\n",
        "",
        None,
        1_795_341_600_123,
    ],
)
def test_a_time_in_any_other_form_is_refused(text):
    with pytest.raises(ValueError, match=r"is not a time|before 1970|must be in|out of range"):
        utc_ms(text)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-11-22T10:00:00Z", 1_795_341_600_000),
        ("2026-11-22 10:00:00.1234567Z", 1_795_341_600_123),
        ("2026-11-22T10:00:00.5+00:00", 1_795_341_600_500),
        ("2026-11-22T10:00:00+01:00", None),
        ("2026-13-22T10:00:00Z", None),
        ("2026-11-22", None),
        ("now", None),
        (1_795_341_600_000, None),
        (None, None),
    ],
)
def test_an_instant_of_a_person_or_a_service_is_read_with_any_fraction(text, ms):
    assert instant_ms(text) == ms
