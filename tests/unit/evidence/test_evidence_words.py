from __future__ import annotations

import pytest

from drengine.evidence import words


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "—"),
        (0, "0s"),
        (400, "<1s"),
        (12_000, "12s"),
        (60_000, "1m"),
        (270_000, "4m30s"),
        (4_320_000, "1h12m"),
        (3_600_000, "1h"),
        (86_400_000, "1d"),
        (90_000_000, "1d01h"),
        (-60_000, "-1m"),
    ],
)
def test_durations_read_as_people_write_them(ms, text):
    assert words.duration(ms) == text


def test_times_are_utc():
    assert words.utc(1_795_341_600_123) == "2026-11-22 10:00:00Z"
    assert words.clock(1_795_341_600_123) == "10:00"


def test_text_that_hides_or_reorders_is_written_out():
    assert words.visible("a\u202eb\u0000c\u200bd\ufeff") == "a⟦U+202E⟧b⟦U+0000⟧c⟦U+200B⟧d⟦U+FEFF⟧"
    assert words.visible("zwei\nZeilen\tund ümläut 日本") == "zwei\nZeilen\tund ümläut 日本"


def test_a_long_digest_is_shortened_visibly():
    assert words.short("ab" * 32) == "abababababab…"
    assert words.short("abc") == "abc"
