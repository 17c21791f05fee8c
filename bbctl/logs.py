"""The log of a service on many hosts: its end, what matches, or what comes, line by line with bounded memory.

Bytes come in as the host sends them; `Feed` cuts them into lines, `Sieve` keeps those that are wanted; whole batches go on.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from bbctl.errors import UsageError
from bbctl.model import Host, Ran, Service
from bbctl.remote import follow, logs
from bbctl.remote.shell import script
from bbctl.remote.trail import Trail
from bbctl.ssh.transport import NotLoggedIn, Session, Transport

PIECE = 1 << 20  # bytes: a longer line is passed on in pieces, each a line of its own
WITHIN = 600.0  # seconds for reading a log to its end
PAUSE, LONGEST = 1.0, 10.0  # seconds before a connection that died is made anew: at first, at most
FOREVER = 10 * 365 * 86400.0
WINDOW = 65536  # bytes of one look into the middle of a log, in search of a time

Emit = Callable[[str, list[bytes]], None]
# What belongs to the line before it: the frames and causes of a Java stack trace, and its exception's own line.
_TRACE = re.compile(
    rb"\s+(?:at |\.\.\. \d+|- (?:locked|waiting))|\s*(?:Caused by|Suppressed): |\s*(?:[\w$]+\.)+[\w$]*(?:Exception|Error|Throwable)\b"
)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to read. `lines` None: all. Times in seconds since the epoch. `seconds`: how long to follow, None for ever."""

    lines: int | None = 100
    grep: re.Pattern[bytes] | None = None
    since: float | None = None
    until: float | None = None
    follow: bool = False
    seconds: float | None = None

    @property
    def dated(self) -> bool:
        return self.since is not None or self.until is not None


@dataclass(frozen=True, kw_only=True)
class Source:
    """One log of one host. `service` gives the user that may read it and the form of its dates."""

    host: Host
    path: str
    service: Service | None = None

    @property
    def run_as(self) -> str | None:
        return self.service.run_as if self.service else None


@dataclass(frozen=True, kw_only=True)
class Read:
    """How the reading of one log ended. `lines` that were passed on."""

    status: str
    error: str | None = None
    lines: int = 0


def source(host: Host, service: str | None, path: str | None) -> Source:
    """Which log of a host is meant. UsageError where none or several could be, naming them."""
    if service is not None and host.service(service) is None:
        names = ", ".join(s.name for s in host.services) or "none"
        raise UsageError(
            f"{host.name} has no service {service!r}; services: {names}", code="no-service", next="bbctl hosts"
        )
    own = [s for s in host.services if s.log and service in (None, s.name)]
    if path is not None:
        return Source(host=host, path=path, service=next((s for s in own if s.log == path or service), None))
    if len(own) != 1:
        names = ", ".join(s.name for s in own)
        said = (
            f"{host.name} has several services with a log: {names}" if own else f"{host.name} has no service with a log"
        )
        raise UsageError(said, code="service-needed", next="add --service NAME" if own else "add --path FILE")
    return Source(host=host, path=own[0].log or "", service=own[0])


def read(
    transport: Transport, where: Source, wanted: Wanted, *, emit: Emit, note: Callable[[str, str], None],
    cancel: threading.Event,
) -> Read:  # fmt: skip
    """Read one log and pass on what is wanted, as it comes. `note` gets what became of the file. Raises nothing a host causes.
    A log that is followed is gone on with where it was left when its connection dies."""
    try:
        session = transport.open(where.host)
        zone = _zone(session, where) if wanted.dated else None
    except NotLoggedIn as error:
        return Read(status=error.status, error=error.message)
    except ValueError as error:
        return Read(status="failed", error=str(error))
    start = _start(session, where, wanted.since, zone) if zone and wanted.since is not None else None
    reader = _Reader(where=where, emit=emit, note=lambda text: note(where.host.name, text), cancel=cancel)
    reader.sieve = Sieve(wanted=wanted, zone=zone)
    if wanted.follow and not wanted.lines:
        reader.begin(session, start)
    limit = WITHIN if not wanted.follow else FOREVER if wanted.seconds is None else wanted.seconds
    until = time.monotonic() + limit
    while True:
        ran = reader.run(session, _text(where, wanted, start), until)
        if not (wanted.follow and ran.status == "failed" and ran.unanswered):
            break
        try:
            back = reader.come_back(transport, until, ran.error or "")
        except NotLoggedIn as error:
            return Read(status=error.status, error=error.message, lines=reader.sieve.passed)
        if back is None:
            break
        session, start = back[0], back[1] if back[1] is not None else start
    reader.end()
    if wanted.follow and ran.status == "timeout":
        return Read(status="ok", lines=reader.sieve.passed)
    status = "interrupted" if cancel.is_set() else ran.status
    return Read(status=status, error=None if ran.ok else reader.errors.last or ran.error, lines=reader.sieve.passed)


@dataclass
class _Reader:
    """What is kept while one log is read, over all its connections."""

    where: Source
    emit: Emit
    note: Callable[[str], None]
    cancel: threading.Event
    sieve: Sieve = field(init=False)
    feed: Feed = field(init=False)
    errors: Notes = field(init=False)
    trail: Trail = field(default_factory=Trail)

    def __post_init__(self) -> None:
        self.feed, self.errors = Feed(), Notes(self.note)

    def run(self, session: Session, text: str, until: float) -> Ran:
        limit = max(0.0, until - time.monotonic())
        return session.run(text, timeout=limit, keep=0, on_output=self._take, guard=True, cancel=self.cancel)

    def begin(self, session: Session, start: int | None) -> None:
        """Remember where the file ends before anything came. Where that cannot be told, nothing is known."""
        with suppress(ValueError):
            self.trail.begin(self._look(session, self.where.path, 1), start)

    def _take(self, stream: str, data: bytes) -> None:
        if stream == "err":
            self.errors.take(data)
        else:
            self.trail.add(data)
            self._pass_on(self.feed.lines(data))

    def _pass_on(self, lines: list[bytes]) -> None:
        if kept := self.sieve.keep(lines):
            self.emit(self.where.host.name, kept)

    def end(self) -> None:
        """The last line, and what was held back for the end."""
        if kept := self.sieve.keep(self.feed.rest()) + self.sieve.last():
            self.emit(self.where.host.name, kept)

    def come_back(self, transport: Transport, until: float, why: str) -> tuple[Session, int | None] | None:
        """A new session, and the offset to go on at (None: as at first, nothing had come). None: nobody waits any longer.
        Raises NotLoggedIn where the host is there and lets us in no more."""
        self.note(f"is out of sight, {why}: trying again until it is back")
        pause = PAUSE
        while not self.cancel.wait(min(pause, max(0.0, until - time.monotonic()))) and time.monotonic() < until:
            transport.forget(self.where.host)
            try:
                session = transport.open(self.where.host)
                return session, self._place(session)
            except NotLoggedIn as error:
                if error.status != "unreachable":
                    raise
            except ValueError:
                pass  # it died again while it was asked
            pause = min(2 * pause, LONGEST)
        return None

    def _place(self, session: Session) -> int | None:
        if not self.trail.last and self.trail.file is None:
            return None
        place = self.trail.place(self.where.path, lambda path, window: self._look(session, path, window))
        self._take("out", place.missed)
        self.note(
            f"is in sight again; {'goes on where it ended' if place.sure else 'lines may be missing, or come again'}"
        )
        return place.start

    def _look(self, session: Session, path: str, window: int) -> logs.Tail:
        ran = session.run(script(logs.tail(path, run_as=self.where.run_as, window=window)), timeout=15.0, guard=True)
        if not ran.ok:
            raise ValueError(ran.error or "no answer")
        return logs.understand(ran.stdout)


def _text(where: Source, wanted: Wanted, start: int | None) -> str:
    run_as = where.run_as
    if wanted.follow:
        return follow.follow(where.path, run_as=run_as, lines=wanted.lines or 0, start=start)
    if wanted.grep is None and not wanted.dated and wanted.lines is not None:
        return follow.last(where.path, run_as=run_as, lines=wanted.lines)
    return follow.whole(where.path, run_as=run_as, start=start or 0)


def _zone(session: Session, where: Source) -> logs.Zone:
    own = where.service
    ran = session.run(script("date '+%z %s'"), timeout=15.0)
    offset, _, now = ran.out.strip().partition(" ")
    if not now.isdigit():
        raise ValueError(ran.error or "the host's clock could not be read")
    zone = logs.zone_of(own.log_zone if own else None, offset)
    return logs.Zone(zone=zone, now=float(now), form=own.log_time if own else None)


def _start(session: Session, where: Source, since: float, zone: logs.Zone) -> int:
    """An offset before the first line of `since`, found by halving: no need to read gigabytes to find this morning."""

    def look(at: int) -> logs.Tail:
        ask = logs.tail(where.path, run_as=where.run_as, start=at, window=WINDOW)
        return logs.understand(session.run(script(ask), timeout=15.0).stdout)

    low, high = 0, look(0).size
    while high - low > 4 * WINDOW:
        middle = (low + high) // 2
        seen = look(high - WINDOW if middle > high - WINDOW else middle)
        first = next((x.latest for x in logs.lines(seen, zone) if x.latest is not None), None)
        if first is None or first >= since or seen.start != middle:
            high = middle
        else:
            low = middle
    return low


# -- bytes to lines --------------------------------------------------------------------------------------------


@dataclass
class Feed:
    """Bytes in, lines out (without their ends). Keeps at most PIECE bytes of a line whose end has not come."""

    _rest: bytes = b""

    def lines(self, data: bytes) -> list[bytes]:
        *done, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) >= PIECE:
            done.append(self._rest[:PIECE])
            self._rest = self._rest[PIECE:]
        return done

    def rest(self) -> list[bytes]:
        """The last line, where the file does not end with its end."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


@dataclass
class Notes:
    """What the host says on stderr: `note …` lines are passed on, of the others the last is remembered."""

    tell: Callable[[str], None]
    last: str | None = None
    _feed: Feed = field(default_factory=Feed)

    def take(self, data: bytes) -> None:
        for line in self._feed.lines(data):
            text = line.decode("utf-8", "replace").strip()
            if text.startswith("note "):
                self.tell(text.removeprefix("note "))
                self.last = text.removeprefix("note ") if "cannot be read" in text else self.last
            elif text:
                self.last = text


@dataclass
class Sieve:
    """Keeps the lines that are wanted: of a time, matching, with the stack trace that follows; the last N at the end."""

    wanted: Wanted
    zone: logs.Zone | None = None
    passed: int = 0
    _inside: bool = False  # the trace of a line that was kept goes on
    _in_time: bool = False
    _held: deque[bytes] = field(default_factory=deque)

    def __post_init__(self) -> None:
        if self._holds:
            self._held = deque(maxlen=self.wanted.lines)

    @property
    def _holds(self) -> bool:
        w = self.wanted
        return not w.follow and w.lines is not None and (w.grep is not None or w.dated)

    def keep(self, lines: list[bytes]) -> list[bytes]:
        if self.zone is not None:
            lines = [line for line in lines if self._of_the_time(line)]
        if self.wanted.grep is not None:
            lines = [line for line in lines if self._matches(line)]
        if self._holds:
            self._held.extend(lines)
            return []
        self.passed += len(lines)
        return lines

    def last(self) -> list[bytes]:
        """What was held back for the end: the last N."""
        self.passed += len(self._held)
        return list(self._held)

    def _matches(self, line: bytes) -> bool:
        assert self.wanted.grep is not None
        if self.wanted.grep.search(line):
            self._inside = True
        elif self._inside:
            self._inside = _TRACE.match(line) is not None
        return self._inside

    def _of_the_time(self, line: bytes) -> bool:
        assert self.zone is not None
        span = logs.written(line[: logs.LOOK].decode("utf-8", "replace"), self.zone)
        if span is not None:
            since, until = self.wanted.since, self.wanted.until
            self._in_time = (since is None or span[1] >= since) and (until is None or span[0] <= until)
        return self._in_time
