"""A process of ours on this machine: how it is born, recognised, and ended. Used by the keeper of the stores and by the lab.

A process is recognised by its whole command line (which names a file of ours), its user and its start time, never by its
number alone; it is signalled through a pidfd opened before the proof, so that a number used again cannot be hit.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

PR_SET_PDEATHSIG = 1
KEPT = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "PYTHONUSERBASE", "VIRTUAL_ENV", "LD_LIBRARY_PATH",
)  # fmt: skip
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, kw_only=True)
class Born:
    """Who a process is, once and for all: its number, its start in ticks since boot, and which boot."""

    pid: int
    ticks: int
    boot: str

    @property
    def alive(self) -> bool:
        """Whether it still runs (a zombie does not)."""
        return born(self.pid) == self


def dies_with(parent: int) -> Callable[[], None]:
    """For `preexec_fn`: the child is killed when the thread that made it ends. Only for parents without threads."""

    def ask() -> None:
        _LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:
            os._exit(1)

    return ask


def environment() -> dict[str, str]:
    """No more of ours than a process that outlives us needs."""
    return {key: os.environ[key] for key in KEPT if key in os.environ}


def detach(module: str, *, said: bytes) -> None:
    """Run a module of ours beside us, in a session of its own and with nobody waiting for it. `said` is its stdin (less than
    a pipe holds). Raises OSError where it cannot be started."""
    made = subprocess.Popen(
        [sys.executable, "-P", "-m", module],
        env=environment(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True, cwd="/",
    )  # fmt: skip
    assert made.stdin is not None
    with made.stdin as pipe:
        pipe.write(said)


@functools.cache
def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def born(pid: int) -> Born | None:
    """Who runs under this number now; None where nobody does, or only a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else Born(pid=pid, ticks=int(fields[19]), boot=boot_id())


def command(pid: int) -> tuple[str, ...]:
    """Its command line; empty where it is gone or a zombie."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ()
    return tuple(os.fsdecode(part) for part in raw.rstrip(b"\0").split(b"\0")) if raw else ()


def find(matches: Callable[[tuple[str, ...]], bool]) -> list[Born]:
    """Every live process of this user whose command line satisfies `matches`."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid() and _mine(int(name)) and matches(command(int(name))):
            process = born(int(name))
            if process is not None:
                found.append(process)
    return found


def running(tail: Sequence[str]) -> list[Born]:
    """Every live process of this user whose arguments after the first word are exactly `tail`."""
    return find(lambda words: words[1:] == tuple(tail))


def end(processes: Iterable[Born], sent: int = signal.SIGTERM) -> None:
    """Signal each, if it still is who it was."""
    for process in processes:
        try:
            handle = os.pidfd_open(process.pid)
        except OSError:
            continue
        try:
            if process.alive:
                signal.pidfd_send_signal(handle, sent)
        except OSError:
            pass
        finally:
            os.close(handle)


def end_all(look: Callable[[], list[Born]], *, grace: float) -> None:
    """End all that `look` finds: TERM, and after `grace` seconds KILL (at once where it is 0). Returns once nothing is
    left, or 10 s after KILL."""
    began = time.monotonic()
    if grace > 0:
        end(look(), signal.SIGTERM)
    while left := look():
        passed = time.monotonic() - began
        if passed > grace + 10:
            return
        if passed >= grace:
            end(left, signal.SIGKILL)
        time.sleep(0.02)


def _mine(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}").stat().st_uid == os.geteuid()
    except OSError:
        return False
