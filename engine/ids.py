"""Ids and tokens: ids are time-ordered uuids (version 7) whose ends are random, so that people type the end."""

from __future__ import annotations

import random
import re
import threading

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TAIL = 8


class _Order:
    """Within a millisecond ids grow by random steps: what one process makes sorts as it was made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = self._bits = 0

    def next(self, now: int) -> int:
        with self._lock:
            step = random.getrandbits(48) + 1
            grown = self._bits + step if now == self._now else 0
            self._bits = grown if 0 < grown < 1 << 74 else random.getrandbits(73)
            self._now = now
            return self._bits


_order = _Order()


def new_id(now: int) -> str:
    """`now` in ms. Of one millisecond the later is the larger."""
    bits = _order.next(now)
    word = f"{now & (1 << 48) - 1:012x}7{bits >> 62:03x}{8 | bits >> 60 & 3:x}{bits & (1 << 60) - 1:015x}"
    return f"{word[:8]}-{word[8:12]}-{word[12:16]}-{word[16:20]}-{word[20:]}"


def first_of(at: int) -> str:
    """No id made at `at` (ms) or later sorts before it."""
    word = f"{at & (1 << 48) - 1:012x}"
    return f"{word[:8]}-{word[8:]}"


def tail(id: str) -> str:
    return id[-TAIL:]


def token() -> str:
    return f"{random.getrandbits(64):016x}"


def is_id(text: str) -> bool:
    return UUID.fullmatch(text) is not None
