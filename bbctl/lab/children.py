"""The processes of a lab host: started, waited for, and those that lost their parent buried, as init does."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

PR_SET_CHILD_SUBREAPER = 36


class Children:
    """Thread-safe. `adopt` makes this process the parent of whatever its descendants leave behind."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._own: dict[int, subprocess.Popen[bytes]] = {}

    def adopt(self) -> None:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)

    def start(
        self, words: Sequence[str], *, env: Mapping[str, str], stdin: int, stdout: int | IO[bytes], stderr: int | IO[bytes]
    ) -> subprocess.Popen[bytes]:  # fmt: skip
        """A child in a session of its own; `setsid -c …` makes that session itself, with its input as terminal."""
        with self._lock:
            process = subprocess.Popen(
                words, env=env, cwd=self._folder, stdin=stdin, stdout=stdout, stderr=stderr, bufsize=0,
                start_new_session=words[0] != "setsid",
            )  # fmt: skip
            self._own[process.pid] = process
        return process

    def wait(self, process: subprocess.Popen[bytes]) -> int:
        """Its end: an exit status, or minus a signal."""
        status = process.wait()
        with self._lock:
            self._own.pop(process.pid, None)
        return status

    def bury(self) -> None:
        """Take the status of every dead child that nobody waits for."""
        with suppress(ChildProcessError), self._lock:
            while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if found.si_pid in self._own:
                    return  # its own thread is about to
                os.waitpid(found.si_pid, 0)

    def end(self) -> None:
        """KILL what logins still run, process groups whole."""
        with self._lock:
            for process in self._own.values():
                if process.returncode is None:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
