"""Durations and points in time as people type them: `500ms 5s 2m 1h 3d 1w`, `03:00`, `yesterday`, ISO 8601."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
DURATION = r"(0|[1-9][0-9]{0,8})(ms|s|m|h|d|w)"
EXPECTED = "a duration such as 500ms, 5s, 2m, 1h, 3d or 1w"
EXPECTED_WHEN = "a duration back from now (2h), a time (03:00), yesterday, or ISO 8601 (2026-11-24T03:00:00Z)"

_DURATION = re.compile(DURATION)
_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?")


def parse_duration(text: str) -> float:
    """Seconds. Raises ValueError (what was expected) for anything else: a bare number has no unit and is refused."""
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise ValueError(f"expected {EXPECTED}")
    return round(int(found[1]) * SECONDS[found[2]], 3)


def format_duration(seconds: float) -> str:
    """For people, two units at most: `0.3s`, `41s`, `4m14s`, `6h3m`, `12d4h`."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f}s".replace(".0s", "s")
    left = round(seconds)
    for (big, size), (small, step) in (
        (("d", 86400), ("h", 3600)),
        (("h", 3600), ("m", 60)),
        (("m", 60), ("s", 1)),
    ):
        if left >= size:
            more = left % size // step
            return f"{left // size}{big}" + (f"{more}{small}" if more else "")
    return f"{left}s"


def parse_when(text: str, *, now: float) -> float:
    """Seconds since the epoch. Times without a zone are local; a clock time is the last one before `now`.

    Raises ValueError saying what was expected.
    """
    word = text.strip()
    here = datetime.fromtimestamp(now).astimezone()
    midnight = here.replace(hour=0, minute=0, second=0, microsecond=0)
    if _DURATION.fullmatch(word):
        return now - parse_duration(word)
    if word in ("now", "today", "yesterday"):
        return {"now": now, "today": _local(midnight), "yesterday": _local(midnight - timedelta(days=1))}[word]
    if clock := _CLOCK.fullmatch(word):
        at = midnight.replace(hour=int(clock[1]), minute=int(clock[2]), second=int(clock[3] or 0))
        moment = _local(at)
        return moment if moment <= now else _local(at - timedelta(days=1))
    try:
        parsed = datetime.fromisoformat(word)
        return parsed.timestamp()
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"expected {EXPECTED_WHEN}") from None


def _local(moment: datetime) -> float:
    """The wall-clock time of `moment` as it holds on its own day (a change of summer time lies in between, perhaps)."""
    return moment.replace(tzinfo=None).timestamp()
