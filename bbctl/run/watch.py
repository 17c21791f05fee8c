"""Eyes on one service while it stops or starts: one exec a glance, and a memory of what its log said meanwhile.

A glance asks for the processes, the log from where the last glance ended, and how the command of this run stands. Lines
without a date count from where this command first looked; a log that was renamed or cut is read from its beginning.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bbctl import hang
from bbctl.model import Host, Proc, ProcessState, Ran, Service
from bbctl.remote import logs, process
from bbctl.remote import service as commands
from bbctl.remote.sections import apart, together
from bbctl.remote.shell import script

BURST = 4 << 20  # bytes of new log that one glance takes in
LINES = 4000  # lines that are remembered

Ask = Callable[[str, float], Ran]
Place = dict[str, Any]  # of a log: `file`, and `at`, an offset in it; `-` for one that was not there


@dataclass(frozen=True, kw_only=True)
class Glance:
    """What was seen at one moment. `error`: the host did not answer, nothing is known."""

    proc: Proc | None = None
    candidates: tuple[Proc, ...] = ()
    ambiguous: str | None = None
    verdict: hang.Verdict = hang.NOTHING
    command: commands.Command = field(default_factory=lambda: commands.Command(state="none"))
    now: float = 0.0
    dated: bool = False  # whether any line that was read of its log bears a date
    error: str | None = None

    @property
    def process(self) -> ProcessState:
        if self.error or self.ambiguous:
            return "unknown"
        return "stopped" if self.proc is None else "hung" if self.verdict.hung else "running"


def identity(proc: Proc | None) -> list[Any] | None:
    """Who a process is, once and for all, in a form that a journal can hold."""
    return None if proc is None else [proc.pid, proc.ticks, proc.boot]


class Watch:
    """Watches one service on one host. `ask` runs text there. `launches`: verb → the launch of its command, see
    `commands.launch`. `since`: the place in the log from which its lines are our own, from `place` of an earlier watch."""

    def __init__(
        self, host: Host, service: Service, ask: Ask, *, launches: Mapping[str, str], since: Place | None = None
    ) -> None:
        self.host, self.service, self._ask, self._launches = host, service, ask, launches
        self._lines: list[logs.Line] = []
        self._file, self._at = "", 0
        self._from: int | None = None
        self._seen_at: float | None = None
        self._touched = 0.0
        self._first: tuple[float, float] | None = None  # the host's clock and its uptime at the first look
        self.proven: tuple[list[Any], ...] = ()  # who was proven to be the service before, in this run
        if since is not None:
            self.go_on(since)

    def go_on(self, since: Place) -> None:
        """Take up where an earlier watch began: all that came since is ours, however long ago and however much. Of what
        stands before it a window is read again, whose lines count by their dates."""
        self._lines, self._from = [], since["at"]
        self._file, self._at = since["file"], max(0, since["at"] - logs.WINDOW)

    @property
    def place(self) -> Place:
        """Where in the log this command's own lines begin."""
        return {"file": self._file, "at": self._at}

    def begin_here(self) -> None:
        """From now on only what is written later proves anything (before a start)."""
        self._lines, self._from = [], self._at

    def glance(self, verb: str = "") -> Glance:
        """Look once. `verb`: the command (start or stop) to ask after. Two processes are looked at again 300 ms later."""
        seen = self._look(verb)
        return seen if not seen.ambiguous else self._look(verb, pause="sleep 0.3\n")

    def _look(self, verb: str, pause: str = "") -> Glance:
        marker = secrets.token_hex(8)
        ran = self._ask(script(pause + together(self._parts(verb), marker=marker)), 10.0)
        said = apart(ran.stdout, marker=marker)
        if "procs" not in said or self.service.process is None:
            return Glance(error=ran.error or "the answer of the host is not whole")
        try:
            listed = process.understand(said["procs"])
        except ValueError as error:
            return Glance(error=str(error))
        pidfile = process.understand_pidfiles(said["pidfile"])[0] if "pidfile" in said else None
        found = process.choose(listed, self.service.process, pidfile)
        if "log" in said:
            self._remember(logs.understand(said["log"]), said.get("zone", b"").decode().strip(), listed.now)
        proc, ambiguous = self._still(found, listed)
        verdict = hang.NOTHING
        if proc is not None:
            verdict = hang.judge(
                self._lines, service=self.service, started=proc.started, now=self._steady(listed),
                seen_from=self._from, seen_at=self._seen_at, touched=self._touched,
            )  # fmt: skip
        command = commands.understand(said["command"]) if "command" in said else commands.Command(state="none")
        return Glance(
            proc=proc,
            candidates=found.candidates,
            ambiguous=ambiguous,
            verdict=verdict,
            command=command,
            now=listed.now,
            dated=any(line.latest is not None for line in self._lines),
        )

    def _still(self, found: process.Found, listed: process.Listing) -> tuple[Proc | None, str | None]:
        """The service's process, and why none can be named. One that was proven before is known again though its pid file
        is gone, which its stop script took away, or its command line, which it loses before its end."""
        if found.ambiguous and len(found.candidates) == 1 and identity(found.candidates[0]) in self.proven:
            return found.candidates[0], None
        if found.proc is None and not found.ambiguous:
            ending = (p for p in listed.procs if not p.ended and not p.command and identity(p) in self.proven)
            return next(ending, None), None
        return found.proc, found.ambiguous

    def _steady(self, listed: process.Listing) -> float:
        """Now by the host's clock, but for a leap of it: time that did not pass proves no hang."""
        self._first = self._first or (listed.now, listed.up)
        return min(listed.now, self._first[0] + listed.up - self._first[1])

    def _parts(self, verb: str) -> dict[str, str]:
        own, proc = self.service, self.service.process
        parts = {"procs": process.listing([proc.user])} if proc else {}
        if proc and proc.pidfile:
            parts["pidfile"] = process.pidfiles([proc.pidfile])
        if own.log:
            # From the newline before: the first line is then a whole one.
            again = max(0, self._at - 1) if self._file else None
            window = logs.WINDOW if again is None else BURST
            parts["log"] = logs.tail(own.log, run_as=own.run_as, start=again, window=window)
            parts["zone"] = "date +%z"
        if launch := self._launches.get(verb):
            parts["command"] = commands.poll(self.host.lock, f"{own.name}.{verb}", launch=launch)
        return parts

    def _remember(self, tail: logs.Tail, offset: str, now: float) -> None:
        if tail.state == "denied":
            return
        if self._seen_at is None:
            self._seen_at = now
        if tail.state == "missing":
            if self._from is None:
                self._file, self._at, self._from = "-", 0, 0
            return
        known = self._file == tail.file and tail.size >= max(self._at, self._from or 0)
        if self._file and not known:  # renamed, cut or new: all of it was written since
            first_time = tail.start > 0
            self._file, self._at, self._lines, self._from = tail.file, 0, [], 0
            if first_time:
                return  # the next glance reads it from its beginning
        if self._from is None:
            self._from = tail.end
        zone = logs.Zone(zone=logs.zone_of(self.service.log_zone, offset), now=now, form=self.service.log_time)
        self._lines = [*self._lines, *logs.lines(tail, zone)][-LINES:]
        self._file, self._touched = tail.file, tail.mtime
        self._at = tail.start + tail.data.rfind(b"\n") + 1 if b"\n" in tail.data else max(self._at, tail.start)
