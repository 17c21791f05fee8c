"""Calls of many threads made one: what is asked while a call is under way gathers, and goes together in the next.

Whoever is alone goes at once. A question is answered by work that began after it was asked, so no answer is older than
its question. Knows no store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from engine.errors import EngineError

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass
class _Call(Generic[Q]):
    question: Q
    answer: Any = None
    error: BaseException | None = None
    done: bool = False


class Together(Generic[Q, A]):
    """`work` answers questions in their order. An EngineError of its reaches all who asked with them; a defect only the
    one who is answered by it alone. Safe for threads; `work` must not ask here itself."""

    def __init__(self, work: Callable[[Sequence[Q]], Sequence[A]]) -> None:
        self._work = work
        self._turn = threading.Lock()
        self._gathering = threading.Lock()
        self._waiting: list[_Call[Q]] = []

    def ask(self, question: Q) -> A:
        call = _Call(question)
        with self._gathering:
            self._waiting.append(call)
        with self._turn:
            if not call.done:
                with self._gathering:
                    calls, self._waiting = self._waiting, []
                self._answer(calls)
        if call.error is not None:
            raise call.error
        answer: A = call.answer
        return answer

    def _answer(self, calls: list[_Call[Q]]) -> None:
        try:
            for call, answer in zip(calls, self._work([call.question for call in calls]), strict=True):
                call.answer = answer
        except BaseException as error:
            if len(calls) > 1 and not isinstance(error, EngineError):
                for call in calls:
                    self._answer([call])
                return
            for call in calls:
                call.error = error
        for call in calls:
            call.done = True
