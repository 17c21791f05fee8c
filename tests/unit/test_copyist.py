"""The copyist of a run where MongoDB does not answer: it asks ever more rarely, and once more when the run is over."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bbctl import copyist
from bbctl.errors import StoreDown


class Hour:
    """A clock that only waiting moves. The run is over at `over`."""

    def __init__(self, over: float) -> None:
        self.now, self.over = 0.0, over
        self.asked: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def load(self, folder: Path) -> tuple[list[dict[str, Any]], bool]:
        return [{"event": "begin"}], self.now < self.over

    def keep(self, *args: Any, held: bool) -> None:
        self.asked.append(self.now)
        raise StoreDown("MongoDB: refused")


def test_a_mongodb_that_is_down_is_asked_ever_more_rarely_and_again_at_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hour = Hour(over=600.0)
    monkeypatch.setattr(copyist, "time", hour)
    monkeypatch.setattr(copyist.journal, "load", hour.load)
    monkeypatch.setattr(copyist, "_keep", hour.keep)
    assert not copyist.follow(object(), tmp_path, "r-1")
    during = [at for at in hour.asked if at < hour.over]
    gaps = [b - a for a, b in pairwise(during)]
    assert gaps == sorted(gaps)
    assert (gaps[0], max(gaps), len(during) < 40) == (0.5, copyist.LONGEST, True)
    assert [at for at in hour.asked if at >= hour.over], "its end is tried whatever the pause was"
