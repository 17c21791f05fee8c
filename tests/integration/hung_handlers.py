"""Handlers that never come back the first time they run, each run noted in the file named by BB_TEST_RAN."""

from __future__ import annotations

import os
import time
from pathlib import Path

from engine.handlers import activity, task


def _first_time(name: str) -> bool:
    ran = Path(os.environ["BB_TEST_RAN"])
    with ran.open("a") as file:
        file.write(f"{name} {task().key}\n")
    return ran.read_text().split().count(name) == 1


def _hang(name: str) -> str:
    while _first_time(name):
        time.sleep(3600)
    return name


@activity(retries=0, timeout=0.5)
def hangs() -> str:
    return _hang("hangs")


@activity(retries=0, timeout=0.5, slow=True)
def hangs_in_a_thread() -> str:
    return _hang("hangs_in_a_thread")
