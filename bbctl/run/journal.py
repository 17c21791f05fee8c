"""A run's record on disk: what it was about to do, and what came of it.

`$BBCTL_HOME/runs/RUN/journal.jsonl` is the truth: one JSON line an event, synced to disk before the act that it
announces. The process that carries a run out holds an flock on it; when that process dies, however it dies, the kernel
lets go, and `resume` may go on. `record.json` beside it is the same, folded, for other programs; it is there only while
nobody is at work on the run, so it is never behind. The journal holds the token that owns the locks on the hosts, so it
is readable by its owner alone.

Events: `begin` (what was asked for), `resume` (a new holder, a new token), `intent` (about to do a step), `step` (done),
`note` (facts of a host: old process, hung, killed pid, evidence), `host` (its outcome), `end`.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from bbctl.errors import ConfigError, Failed, Refused, UsageError
from bbctl.model import HostOutcome, HostRecord, RunOutcome, RunRecord, StepOutcome, StepRecord

Event = Mapping[str, Any]
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


# What each event must hold for a record to be folded out of it: a file may have been edited.
_SHAPES: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "begin": {"run": str, "kind": str, "reason": str, "operator": str, "token": str, "hosts": list},
    "resume": {"token": str},
    "intent": {"host": str, "step": str},
    "step": {"host": str, "step": str, "outcome": str, "seconds": (int, float), "detail": str},
    "note": {"host": str},
    "host": {"host": str, "outcome": str},
    "end": {"outcome": str},
}
_OUTCOMES = {*get_args(RunOutcome), *get_args(HostOutcome), *get_args(StepOutcome)}


class NotWritten(Failed):
    """An event could not be brought to the disk. What it announces must not be done."""

    code = "journal"


class Journal:
    """One run's journal, held by this process from `create` or `reopen` until `close` (or death)."""

    def __init__(self, folder: Path, fd: int, now: Callable[[], float]) -> None:
        self.folder = folder
        self._fd = fd
        self._now = now
        self.report: Callable[[Event], None] = lambda event: None  # told of each event once it is on the disk
        self._guard = threading.Lock()
        self._closed = False
        self.broken: NotWritten | None = None  # the first event that was not written
        self.events: list[Event] = []

    @classmethod
    def create(cls, home: Path, begin: Mapping[str, Any], *, now: Callable[[], float] = time.time) -> Journal:
        """A new run with a new id and a new token. `begin` says what was asked for; `run`, `token`, `at` are added."""
        folder = None
        try:
            folder = _new_folder(home / "runs")
            made = cls(folder, _open(folder), now)
            made.write("begin", run=folder.name, token=secrets.token_hex(32), **begin)
        except (OSError, NotWritten) as error:
            if folder is not None:  # a run that never began leaves nothing
                (folder / "journal.jsonl").unlink(missing_ok=True)
                folder.rmdir()
            why = error.strerror if isinstance(error, OSError) else error.message
            raise Failed(
                f"{home / 'runs'}: the journal cannot be written, nothing was changed: {why}",
                code="journal",
                next="bbctl config show",
            ) from None
        return made

    @classmethod
    def reopen(cls, folder: Path, *, now: Callable[[], float] = time.time) -> Journal:
        """An earlier run, to go on with it. Refused while a living process holds it."""
        fd = _open(folder)
        end = _content(fd).rfind(b"\n") + 1  # a kill in mid-write leaves half a line: it was never acted upon
        if end < os.fstat(fd).st_size:
            os.ftruncate(fd, end)
        made = cls(folder, fd, now)
        (folder / "record.json").unlink(missing_ok=True)
        made.events += _parse(_content(fd), folder / "journal.jsonl")
        return made

    def write(self, event: str, **more: Any) -> None:
        """Append one event; it is on the disk when this returns. Raises NotWritten; what has happened already is then
        still a part of `record`, what was only announced is not."""
        value = {"event": event, "at": self._now(), **more}
        failure = None
        with self._guard:
            try:
                self._append((json.dumps(value, ensure_ascii=False, default=str) + "\n").encode("utf-8", "replace"))
            except OSError as error:
                failure = NotWritten(
                    f"{self.folder / 'journal.jsonl'} cannot be written: {error.strerror}",
                    next=f"make room · then bbctl runs resume {self.run}",
                )
                self.broken = self.broken or failure
            if failure is None or event != "intent":
                self.events.append(value)
        if failure is None or event != "intent":
            with suppress(Exception):  # a picture that cannot be drawn leaves no host half-way
                self.report(value)
        if failure is not None:
            raise failure

    def _append(self, line: bytes) -> None:
        """All of a line, or nothing of it."""
        size = os.fstat(self._fd).st_size
        try:
            _all(self._fd, line)
            os.fsync(self._fd)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, size)
            raise

    def _publish(self) -> None:
        text = json.dumps(as_json(fold(self.events, held=False)), ensure_ascii=False, indent=1) + "\n"
        new = self.folder / "record.json.new"
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _all(fd, text.encode("utf-8", "replace"))
            os.fsync(fd)
        finally:
            os.close(fd)
        new.replace(self.folder / "record.json")

    def record(self) -> RunRecord:
        """The run as it stands now, a living process at work on it."""
        return fold(list(self.events), held=True)

    @property
    def run(self) -> str:
        return self.folder.name

    @property
    def token(self) -> str:
        """The newest token: the one that a lock of this run answers to, unless `resume` was cut off before it was replaced."""
        return tokens(self.events)[-1]

    @property
    def acting_since(self) -> float | None:
        """Seconds since an earlier life of this run first acted; None for a run that had none, or never came to act."""
        acted = next((n for n, e in enumerate(self.events) if e["event"] == "intent"), None)
        if acted is None or not any(e["event"] == "resume" for e in self.events[acted:]):
            return None
        return max(0.0, self._now() - float(self.events[acted]["at"]))

    def close(self) -> None:
        """Let go; the record is written first. Closing twice is fine."""
        if not self._closed:
            self._closed = True
            with suppress(OSError, KeyError):  # the journal is the truth; this is a copy
                self._publish()
            os.close(self._fd)


def tokens(events: Iterable[Event]) -> list[str]:
    """Every token that this run ever had, oldest first."""
    return [str(e["token"]) for e in events if e["event"] in ("begin", "resume")]


def fold(events: list[Event], *, held: bool) -> RunRecord:
    """Events → record. A run without an end is `running` while its process lives, else `interrupted`; so are the hosts
    that it is at work on."""
    first = events[0]
    hosts = {name: HostRecord(host=name, outcome="untouched") for name in first["hosts"]}
    for e in events:
        if "host" in e and e["host"] in hosts:
            hosts[e["host"]] = _apply(hosts[e["host"]], e)
        elif e["event"] == "resume":
            hosts = _cut_off(hosts)
    ended = next((e for e in reversed(events) if e["event"] in ("end", "resume")), None)
    end = ended if ended is not None and ended["event"] == "end" else None
    aborted = any(e.get("aborted") for e in events)
    outcome: RunOutcome = "interrupted" if aborted else end["outcome"] if end else "running" if held else "interrupted"
    hosts = hosts if outcome == "running" else _cut_off(hosts)
    return RunRecord(
        run=first["run"], kind=first["kind"], outcome=outcome, reason=first["reason"], operator=first["operator"],
        started=first["at"], finished=end["at"] if end else None, hosts=tuple(hosts.values()),
        error=end.get("error") if end else None, aborted=aborted, inventory=first.get("inventory"),
    )  # fmt: skip


def unfold(record: RunRecord) -> list[Event]:
    """A record told as events, for whoever draws a run but has no journal of it: steps, what is under way, ends."""
    told: list[Event] = []
    for host in record.hosts:
        about = {"host": host.host}
        told += [{"event": "step", **about, **asdict(step)} for step in host.steps]
        if host.outcome == "running" and host.step:
            told.append({"event": "intent", **about, "step": host.step})
        elif host.outcome not in ("running", "untouched"):
            told.append({"event": "host", **about, "outcome": host.outcome, "vip": host.vip})
    return told


def _cut_off(hosts: Mapping[str, HostRecord]) -> dict[str, HostRecord]:
    """The same with nobody at work on them any more."""
    return {n: replace(h, outcome="interrupted") if h.outcome == "running" else h for n, h in hosts.items()}


def _apply(host: HostRecord, e: Event) -> HostRecord:
    match e["event"]:
        case "intent":
            return replace(host, outcome="running", step=e["step"])
        case "step":
            step = StepRecord(step=e["step"], outcome=e["outcome"], seconds=e["seconds"], detail=e["detail"])
            return replace(host, steps=(*host.steps, step))
        case "note":
            known = {k: v for k, v in e.items() if k in ("hung", "killed_pid", "vip")}
            return replace(host, **known, evidence=(*host.evidence, *e.get("evidence", ())))
        case "host":
            cut = host.step if e["outcome"] == "interrupted" else None
            return replace(host, outcome=e["outcome"], vip=e.get("vip", host.vip), step=cut)
    return host


def as_json(record: RunRecord) -> dict[str, Any]:
    """The run record as promised: times ISO 8601."""
    value = asdict(record)
    value["started"], value["finished"] = stamp(record.started), stamp(record.finished)
    for row in value["hosts"]:
        if row["outcome"] == "running":  # no word of the record's: the run's own outcome and the host's step tell it
            row["outcome"] = "interrupted"
        row["evidence"] = list(row["evidence"])
        row["steps"] = [{**s, "seconds": round(s["seconds"], 3)} for s in row["steps"]]
    return value


def stamp(at: float | None) -> str | None:
    """Seconds since the epoch as ISO 8601 in UTC, milliseconds kept."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def load(folder: Path) -> tuple[list[Event], bool]:
    """An earlier run's events, and whether a living process is at work on it. Reads only."""
    path = folder / "journal.jsonl"
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        held = False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            held = True
        return [*_parse(_content(fd), path)], held
    finally:
        os.close(fd)


def read(folder: Path) -> RunRecord:
    """An earlier run's record, from its journal."""
    events, held = load(folder)
    return fold(events, held=held)


def find(home: Path, run: str) -> Path:
    """The folder of a run, by its id or an unambiguous beginning of it. UsageError names near ids."""
    runs = home / "runs"
    have = sorted(p.name for p in runs.iterdir() if (p / "journal.jsonl").exists()) if runs.is_dir() else []
    fits = [name for name in have if name == run] or [name for name in have if run and name.startswith(run)]
    if len(fits) == 1:
        return runs / fits[0]
    if fits:
        raise UsageError(f"{run} could be {', '.join(fits[:8])}", next="bbctl runs list")
    raise UsageError(f"no run {run!r} in {runs}", next="bbctl runs list", code="unknown-run")


def every(home: Path) -> list[RunRecord]:
    """All runs of this home, newest first. One that cannot be read is left out."""
    runs = home / "runs"
    found = []
    for folder in runs.iterdir() if runs.is_dir() else ():
        with suppress(OSError, ConfigError):
            found.append(read(folder))
    return sorted(found, key=lambda r: (r.started, r.run), reverse=True)


def _parse(data: bytes, path: Path) -> Iterable[Event]:
    lines = data.split(b"\n")[:-1]  # what follows the last newline was cut off in mid-write
    if not lines:
        raise ConfigError(f"{path}:1: an empty journal", code="journal")
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict) or not _is_event(event, first=number == 1):
            raise ConfigError(f"{path}:{number}: not an event of a run", code="journal")
        yield event


def _is_event(event: Event, *, first: bool) -> bool:
    kind, at = event.get("event"), event.get("at")
    if not isinstance(kind, str) or not isinstance(at, int | float) or not 0 <= at < 1e11 or (kind == "begin") != first:
        return False
    told = all(isinstance(event.get(key), type_) for key, type_ in _SHAPES.get(kind, {}).items())
    lists = (event.get(key, []) for key in ("hosts", "evidence"))
    said = all(isinstance(names, list) and all(isinstance(n, str) for n in names) for names in lists)
    return told and said and event.get("outcome", "done") in _OUTCOMES


def alive(folder: Path) -> Refused:
    """That nobody may go on with a run, or give it up, while its process lives."""
    return Refused(
        f"run {folder.name} is being carried out by a living process",
        next=f"bbctl runs show {folder.name} -w",
        code="run-alive",
    )


def _open(folder: Path) -> int:
    fd = os.open(folder / "journal.jsonl", _FLAGS, 0o600)
    if os.fstat(fd).st_uid != os.geteuid():
        os.close(fd)
        raise Refused(f"{folder} belongs to another user", next="resume it as that user", code="not-yours")
    for last in (False,) * 10 + (True,):  # somebody who only looks holds it for a moment
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except OSError:
            if last:
                os.close(fd)
                raise alive(folder) from None
            time.sleep(0.05)
    raise AssertionError("unreachable")


def _new_folder(runs: Path) -> Path:
    runs.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        folder = runs / f"r-{secrets.token_hex(3)}"
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        fd = os.open(runs, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)  # the name of the run, too, outlives a loss of power
        finally:
            os.close(fd)
        return folder


def _content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def _all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
