"""Handlers for workers whose clocks are wrong: each run leaves its node, its wall clock and the machine's monotonic clock."""

from __future__ import annotations

import os
import time

from engine.handlers import activity, task


@activity(retry_interval=0)
def tick() -> None:
    line = f"{task().node.id} {time.time()} {time.monotonic()}\n".encode()
    file = os.open(os.environ["BB_TEST_RAN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line)
    os.close(file)
