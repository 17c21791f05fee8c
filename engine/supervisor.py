"""`bbctl work`: starts worker processes, restarts those that end, and ends them when it is told to.

It has no thread and no connection, so nothing in it can hang. Workers are exec'd, never forked from a process with
connections, and die with it: the kernel sees to that, and they look for themselves.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from engine.settings import Settings

FIRST_PAUSE = 0.2
LAST_PAUSE = 30.0
STEADY = 60.0
"""Seconds a worker must have lived for its end to count as the first again."""


PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def _die_with_parent() -> None:
    if _prctl is not None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class Child:
    """One place for a worker; `again` is when the next may be started there."""

    process: subprocess.Popen[bytes] | None = None
    began: float = 0.0
    pause: float = FIRST_PAUSE
    again: float = 0.0


class Supervisor:
    """`say` gets a line whenever something happens that a person should know."""

    def __init__(
        self,
        settings: Settings,
        *,
        processes: int,
        modules: Sequence[str] = (),
        version: str = "",
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._told = {"settings": asdict(settings), "modules": list(modules), "version": version}
        self._grace = settings.grace
        self._children = [Child() for _ in range(processes)]
        self._say = say
        self._ending: int | None = None

    def run(self) -> int:
        """Until SIGTERM, SIGINT or SIGHUP; the number of the signal."""
        previous = {
            number: signal.signal(number, self._end) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        try:
            while self._ending is None:
                self._tend()
                time.sleep(0.1)
        finally:
            self._finish()
            for number, handler in previous.items():
                signal.signal(number, handler)
        return self._ending or 0

    @property
    def pids(self) -> list[int]:
        return [child.process.pid for child in self._children if child.process is not None]

    def _end(self, number: int, frame: object) -> None:
        if self._ending is not None:  # asked twice: do not wait
            for child in self._children:
                if child.process is not None:
                    child.process.kill()
        self._ending = number

    def _tend(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                self._ended(child, now)
            if child.process is None and now >= child.again:
                self._start(child, now)

    def _ended(self, child: Child, now: float) -> None:
        assert child.process is not None
        code = child.process.returncode
        if now - child.began > STEADY:
            child.pause = FIRST_PAUSE
        how = f"by signal {-code}" if code < 0 else f"with {code}"
        self._say(f"worker {child.process.pid} ended {how}; the next in {child.pause:.1f} s")
        child.process, child.again = None, now + child.pause
        child.pause = min(child.pause * 2, LAST_PAUSE)

    def _start(self, child: Child, now: float) -> None:
        argv = [sys.executable, "-m", "engine.worker"]
        # Between fork and exec, so that not even a worker that still imports outlives us; we have no thread that could mind.
        child.process = subprocess.Popen(argv, stdin=subprocess.PIPE, preexec_fn=_die_with_parent)
        child.began = now
        assert child.process.stdin is not None
        try:
            child.process.stdin.write(json.dumps({**self._told, "supervisor": os.getpid()}).encode())
            child.process.stdin.close()
        except BrokenPipeError:
            return  # it has ended already: we shall see

    def _finish(self) -> None:
        """TERM, then, when their grace is over, KILL."""
        running = [child.process for child in self._children if child.process is not None]
        for process in running:
            process.terminate()
        limit = time.monotonic() + self._grace + 2.0
        for process in running:
            try:
                process.wait(max(0.0, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
