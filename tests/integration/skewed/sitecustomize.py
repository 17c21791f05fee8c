"""On PYTHONPATH of a worker under test: its wall clock is off by the seconds in the file BB_TEST_SKEW, read anew each time.

Its monotonic clock is as true as ever, as on a machine whose clock somebody sets.
"""

from __future__ import annotations

import datetime
import os
import time
from pathlib import Path

_FILE = Path(os.environ["BB_TEST_SKEW"])
_time, _time_ns = time.time, time.time_ns


def _skew() -> float:
    return float(_FILE.read_text())


class Skewed(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> datetime.datetime:
        return cls.now(datetime.UTC).replace(tzinfo=None)


time.time = lambda: _time() + _skew()
time.time_ns = lambda: _time_ns() + int(_skew() * 1e9)
datetime.datetime = Skewed  # type: ignore[misc]
