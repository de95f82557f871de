from __future__ import annotations

import pytest

from drengine.runbook.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("4h", 14_400_000),
        ("30m", 1_800_000),
        ("90s", 90_000),
        ("1h30m", 5_400_000),
        ("2d", 172_800_000),
        ("1d2h3m4s", 93_784_000),
        ("0s", 0),
    ],
)
def test_durations_are_milliseconds(text: str, milliseconds: int) -> None:
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize(
    "text", ["", "4", "h", "4 h", "30m1h", "-1h", "1.5h", "4H", "1h ", "1h1h", "4h\n", "٤h", "PT4H"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "0s"), (1, "1s"), (90_000, "1m30s"), (14_400_000, "4h"), (86_400_000, "1d")],
)
def test_durations_are_shown_as_they_are_written(milliseconds: int, text: str) -> None:
    assert format_duration(milliseconds) == text
