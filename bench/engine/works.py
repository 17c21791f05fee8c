"""The works as our handlers: B1 a decision and five activities in sequence, B2 fifty at once and a join, B3 a long chain."""

from __future__ import annotations

import os
import time

from engine.handlers import activity, register


@activity
def chain(length: int) -> None:
    for _ in range(length):
        register(step)


@activity
def fan(width: int) -> None:
    for _ in range(width):
        register(step, mode="non_blocking")
    register(join)


@activity
def step() -> None:
    return None


@activity
def join() -> None:
    return None


@activity
def stamp(sent: float) -> None:
    """B4: how long from the start of a workflow to its first handler; monotonic clocks agree on one machine."""
    line = f"{time.monotonic() - sent}\n".encode()
    file = os.open(os.environ["BENCH_STAMPS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line)
    os.close(file)
