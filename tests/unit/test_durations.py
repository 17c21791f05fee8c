"""Durations and points in time as people type them."""

from __future__ import annotations

from datetime import datetime

import pytest

from bbctl.durations import parse_duration, parse_when

NOW = datetime(2026, 11, 24, 10, 30).timestamp()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("5s", 5), ("2m", 120), ("1h", 3600), ("3d", 259_200), ("1w", 604_800), ("0s", 0), (" 5s ", 5)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["5", "", "s", "-5s", "1.5s", "05s", "5 s", "5s5m", "5S", "٥s", "1e3s", "9999999999s"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration such as"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("2h", "2026-11-24 08:30:00"),
        ("03:00", "2026-11-24 03:00:00"),
        ("23:15:10", "2026-11-23 23:15:10"),
        ("yesterday", "2026-11-23 00:00:00"),
        ("today", "2026-11-24 00:00:00"),
        ("now", "2026-11-24 10:30:00"),
        ("2026-11-20", "2026-11-20 00:00:00"),
        ("2026-11-20T05:06:07", "2026-11-20 05:06:07"),
    ],
)
def test_a_moment_is_a_duration_back_a_clock_time_a_word_or_iso_8601(text: str, local: str) -> None:
    assert datetime.fromtimestamp(parse_when(text, now=NOW)).isoformat(" ") == local


def test_a_moment_with_a_zone_is_taken_at_its_word() -> None:
    assert parse_when("1970-01-01T01:00:00+01:00", now=NOW) == 0
    assert parse_when("1970-01-01T00:00:10Z", now=NOW) == 10


@pytest.mark.parametrize("text", ["", "25:00", "3:7", "soon", "2026-13-01", "0000-01-01", "-2h"])
def test_anything_else_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration back"):
        parse_when(text, now=NOW)
