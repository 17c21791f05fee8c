"""Evidence before force: the log's end, how the process stands and its thread dumps, saved here before anything is killed.

Whatever cannot be had is noted and never holds up what comes next: all of it ends within the time that it is given.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bbctl import dumps as reading
from bbctl.model import Host, Proc, Ran, Service
from bbctl.redact import mask
from bbctl.remote import logs, process, proof
from bbctl.remote.shell import script
from bbctl.ssh.transport import Session

Act = Callable[[str], Ran]
MOST = 16 << 20  # bytes of one file
DUMP = 5.0  # seconds for a dump to appear in the log; a process that is deaf to QUIT is asked once
QUIET = 0.6  # a dump that has begun and grows no more for this long is whole
AFTER = 0.3  # the same behind its last line: a JVM names deadlocks and the heap after that
LOOK = 0.15
EVERY = 2.0  # seconds between two dumps
NOTES = "notes.txt"


def capture(
    session: Session, host: Host, service: Service, proc: Proc | None, folder: Path, *, dumps: int = 3, every: float = EVERY,
    log_lines: int = 2000, act: Act | None = None, wait: Callable[[float], object] = time.sleep, timeout: float = 60.0,
) -> list[Path]:  # fmt: skip
    """Save everything that may explain a hang below `folder` (made with mode 0700); the files written, in that order.

    `act` runs a text that changes the host (a QUIT is a change), proving the run's lock; without it nothing is proven.
    """
    saving = _Saving(
        session=session, host=host, service=service, folder=folder, act=act, wait=wait, end=time.monotonic() + timeout
    )
    saving.log(log_lines)
    if proc is not None:
        saving.stand(proc)
        saving.threads(proc, dumps, every)
    return saving.close()


def threads(session: Session, host: Host, service: Service, proc: Proc, folder: Path, *, dumps: int) -> list[Path]:
    """Thread dumps alone, as `capture` takes them, with time for all of them."""
    end = time.monotonic() + 30.0 + dumps * 2 * EVERY
    saving = _Saving(session=session, host=host, service=service, folder=folder, act=None, wait=time.sleep, end=end)
    saving.threads(proc, dumps, EVERY)
    return saving.close()


def text(paths: Sequence[Path]) -> str:
    """What stands in the thread dumps among the files."""
    return "\n".join(p.read_text("utf-8", "replace") for p in paths if p.name.startswith("threads-"))


def summary(paths: Sequence[Path]) -> str:
    """One line for a person: how many dumps and log lines, the deadlocks in them, what could not be had."""
    found = [p for p in paths if p.name.startswith("threads-")]
    lines = sum(p.read_bytes().count(b"\n") for p in paths if p.suffix == ".log")
    parts = [f"{len(found)} dump{'' if len(found) == 1 else 's'}"]
    if lines:
        parts.append(f"{lines:,} log lines")
    words = ", ".join(parts)
    if stuck := reading.said(reading.deadlocks(text(found))):
        words += f": {stuck}"
    for note in (p for p in paths if p.name == NOTES):
        words += "; " + "; ".join(note.read_text("utf-8", "replace").strip().splitlines())
    return words


@dataclass(kw_only=True)
class _Saving:
    session: Session
    host: Host
    service: Service
    folder: Path
    act: Act | None
    wait: Callable[[float], object]
    end: float
    paths: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def left(self) -> float:
        return max(0.5, self.end - time.monotonic())

    def log(self, lines: int) -> None:
        if not self.service.log or not lines:
            return
        ask = proof.log(self.service.log, run_as=self.service.run_as, lines=lines, most=MOST)
        ran = self.session.run(script(ask), timeout=min(20.0, self.left), guard=True)
        name = re.sub(r"[^\w.-]", "_", self.service.log.rpartition("/")[2]).removesuffix(".log") or "service"
        if ran.stdout:
            self._write(f"{name}.log", ran.stdout)
        if not ran.ok or not ran.stdout:
            self.notes.append(f"no log: {ran.err.strip()[-200:] or ran.error or 'it is empty'}")

    def stand(self, proc: Proc) -> None:
        ran = self.session.run(script(proof.stand(proc)), timeout=min(20.0, self.left), guard=True)
        if ran.stdout:  # command lines tell secrets
            self._write("process.txt", mask(ran.stdout.decode("utf-8", "replace")).encode())

    def threads(self, proc: Proc, dumps: int, every: float) -> None:
        """As many dumps as are wanted and there is time for; none more after one that did not come."""
        take = {"sigquit": self._quit, "jstack": self._jstack}.get(self.service.thread_dump)
        if take is None:
            return
        for number in range(1, dumps + 1):
            if number > 1:
                if self.end - time.monotonic() < every + 1:
                    self.notes.append(f"{number - 1} of {dumps} dumps: the time was over")
                    return
                self.wait(every)
            try:
                dump = take(proc)
            except ValueError as error:
                self.notes.append(f"no thread dump: {error}")
                return
            self._write(f"threads-{number}.txt", dump)

    def close(self) -> list[Path]:
        if self.notes:
            self._write(NOTES, "".join(f"{note}\n" for note in self.notes).encode())
        return self.paths

    def _quit(self, proc: Proc) -> bytes:
        """A dump by SIGQUIT, out of the log that it lands in. Raises ValueError with the cause where none came."""
        where = self.service.dump_log or self.service.log
        if not where:
            raise ValueError("no log is named that it would land in")
        before = self._tail(where, window=0)
        if before.state == "denied":
            raise ValueError(f"{where}, where it would land, {before.why}")
        ask = process.signal(proc, "QUIT", become=process.become(self.host.ssh.user, proc))
        sent = process.understand_signal(self._change(process.if_heard(proc, ask)).stdout)
        if sent.outcome != "sent":
            raise ValueError(f"the QUIT was not sent: {sent.outcome} {sent.detail}".strip())
        until, grown, size = time.monotonic() + min(DUMP, self.left), time.monotonic(), 0
        while True:
            now = self._tail(where, window=MOST, start=before.size)
            same = now.file == before.file or before.state != "ok"
            data = now.data if same else self._tail(where, window=MOST).data
            said = data.decode("utf-8", "replace")
            if len(data) != size:
                grown, size = time.monotonic(), len(data)
            quiet = time.monotonic() - grown
            if reading.BEGIN in said and quiet > (AFTER if reading.whole(said) else QUIET):
                return data
            if time.monotonic() > until:
                raise ValueError(f"none came into {where} within {min(DUMP, self.left):g} s: it is deaf to QUIT")
            self.wait(LOOK)

    def _jstack(self, proc: Proc) -> bytes:
        become = process.become(self.host.ssh.user, proc)
        ran = self._change(proof.jstack(proc, become=become, seconds=min(15.0, self.left)))
        if reading.BEGIN.encode() in ran.stdout:
            return ran.stdout
        if self.service.dump_log or self.service.log:  # the JVM answers no tool: the signal may still be heard
            return self._quit(proc)
        raise ValueError(ran.err.strip()[-200:] or ran.error or "jstack gave none")

    def _tail(self, path: str, *, window: int, start: int | None = None) -> logs.Tail:
        ask = logs.tail(path, run_as=self.service.run_as, start=start, window=window)
        return logs.understand(self.session.run(script(ask), timeout=min(10.0, self.left)).stdout)

    def _change(self, body: str) -> Ran:
        return self.act(body) if self.act is not None else self.session.run(script(body), timeout=min(20.0, self.left))

    def _write(self, name: str, data: bytes) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / name
        number = 1
        while path.exists():  # an earlier life of the run saved its own: nothing is overwritten
            number += 1
            path = self.folder / f"{Path(name).stem}-{number}{Path(name).suffix}"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        self.paths.append(path)
