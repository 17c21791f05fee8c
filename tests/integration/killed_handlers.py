"""Handlers for workers that are killed: each run leaves a line, node and attempt, in the file named by BB_TEST_RAN."""

from __future__ import annotations

import os
import time

from engine.handlers import activity, register, task

STEPS = 5


def _ran() -> None:
    line = f"{task().key} {task().node.name}\n".encode()
    file = os.open(os.environ["BB_TEST_RAN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line)
    os.close(file)
    time.sleep(0.005)


@activity(retry_interval=0)
def decide() -> None:
    _ran()
    for place in range(STEPS - 1):
        register(step, mode=("blocking", "non_blocking", "fire_and_forget")[place % 3])
    register(fails_once)


@activity(retry_interval=0)
def step() -> int:
    _ran()
    return 1


@activity(retries=1, retry_interval=0)
def fails_once() -> None:
    _ran()
    if task().node.attempt == 1:
        raise ValueError("the first time")
