"""When is the next try? Pure: randomness is handed in."""

from __future__ import annotations

DEFAULT_RETRIES = 6
DEFAULT_INTERVAL = 1200
DEFAULT_TIMEOUT = 172_800
"""Seconds a client may take when its data names no `timeout`."""

NOTIFY_FIRST = 15
NOTIFY_MAX = 3600


def delay(left: int, interval: int, random: float) -> int:
    """Milliseconds until the next try; `left` retries remain after this one is taken, `random` in [0, 1).

    Backbeat's rule: interval x (0.8 to 1.2) x 2^max(0, 6 - left).
    """
    return int(interval * 1000 * (0.8 + 0.4 * random) * 2 ** max(0, min(DEFAULT_RETRIES - left, 20)))


def notify_delay(tries: int) -> int:
    """Milliseconds before a notification that failed `tries` times goes out again: 15 s, doubling, at most an hour."""
    return int(min(NOTIFY_FIRST * 2 ** min(tries - 1, 20), NOTIFY_MAX) * 1000)
