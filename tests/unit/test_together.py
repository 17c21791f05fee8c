"""Calls of many threads made one (engine/together.py): who goes with whom, and whom an error reaches."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.errors import StoreDown
from engine.together import Together
from tests.integration.servers import wait_for


class Work:
    """Doubles; the first call waits until `go`. `bad` breaks it as a defect would, `down` as a store that is gone."""

    def __init__(self, bad: int = -1, down: int = -1) -> None:
        self.go = threading.Event()
        self.lists: list[list[int]] = []
        self.bad, self.down = bad, down

    def __call__(self, asked: Sequence[int]) -> list[int]:
        self.lists.append(list(asked))
        if len(self.lists) == 1:
            assert self.go.wait(30)
        if self.bad in asked:
            raise ZeroDivisionError
        if self.down in asked:
            raise StoreDown("gone")
        return [2 * number for number in asked]


def asked_at_once(work: Work, count: int) -> list[object]:
    """What came of 0, which goes alone, and of 1 … `count`, all asked while 0 is under way."""
    together: Together[int, int] = Together(work)

    def ask(number: int) -> object:
        try:
            return together.ask(number)
        except Exception as error:
            return type(error)

    with ThreadPoolExecutor(count + 1) as pool:
        calls = [pool.submit(ask, 0)]
        wait_for("the first to be under way", lambda: work.lists)
        calls += [pool.submit(ask, number) for number in range(1, count + 1)]
        wait_for("the others to gather", lambda: len(together._waiting) == count)
        work.go.set()
        return [call.result(30) for call in calls]


def test_what_is_asked_while_a_call_is_under_way_goes_together_and_everyone_gets_his_own_answer() -> None:
    work = Work()
    assert asked_at_once(work, 6) == [0, 2, 4, 6, 8, 10, 12]
    assert [sorted(one) for one in work.lists] == [[0], [1, 2, 3, 4, 5, 6]]


def test_who_is_alone_goes_at_once() -> None:
    work = Work()
    work.go.set()
    together: Together[int, int] = Together(work)
    assert [together.ask(number) for number in range(3)] == [0, 2, 4]
    assert work.lists == [[0], [1], [2]]


def test_a_store_that_is_gone_is_told_to_all_who_asked_together_and_to_nobody_else() -> None:
    work = Work(down=2)
    assert asked_at_once(work, 3) == [0, StoreDown, StoreDown, StoreDown]
    assert len(work.lists) == 2, "nobody waits for it once for each of them"


@pytest.mark.parametrize("bad", [1, 2, 3])
def test_a_defect_reaches_only_whoever_asked_for_it(bad: int) -> None:
    found = asked_at_once(Work(bad=bad), 3)
    assert found == [ZeroDivisionError if number == bad else 2 * number for number in range(4)]
