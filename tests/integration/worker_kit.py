"""A supervisor with its workers as a real process, for tests that kill, freeze and replace them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from engine.settings import Settings
from tests.integration.servers import tidy_environment, wait_for

MAIN = """
import json, sys
from engine.settings import Settings
from engine.supervisor import Supervisor
told = json.loads(sys.stdin.readline())
settings = Settings(**told["settings"])
sys.exit(Supervisor(settings, processes=told["processes"], modules=told["modules"], say=lambda line: print(line, flush=True)).run())
"""


def children_of(pid: int) -> list[int]:
    """Live children of a process, from /proc."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@dataclass
class Crew:
    """`start()` as often as it was killed: that is what an init system does."""

    settings: Settings
    processes: int
    modules: list[str]
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "crew.log").open("ab") as log:
            environment = {**tidy_environment(), **self.environment}
            self.process = subprocess.Popen(
                [sys.executable, "-c", MAIN], stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment
            )
        told = {"settings": asdict(self.settings), "processes": self.processes, "modules": self.modules}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(told).encode() + b"\n")
        self.process.stdin.close()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def workers(self) -> list[int]:
        return children_of(self.pid)

    def log(self) -> str:
        return (self.folder / "crew.log").read_text()

    def kill_parent(self) -> None:
        """The supervisor alone; its workers must not outlive it."""
        assert self.process is not None
        workers = self.workers()
        self.process.kill()
        self.process.wait()
        wait_for("the workers to end with their supervisor", lambda: not any(map(alive, workers)), 10)

    def kill_all(self) -> None:
        for pid in [*self.workers(), self.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)


@contextmanager
def crew(settings: Settings, processes: int, modules: list[str], folder: Path, **environment: str) -> Iterator[Crew]:
    found = Crew(settings, processes, modules, folder, environment)
    found.start()
    try:
        yield found
    finally:
        found.kill_all()
