"""The log of a service on many hosts: its end, what matches, or what comes, line by line with bounded memory.

Bytes come in as the host sends them; `Feed` cuts them into lines, `Sieve` keeps those that are wanted; whole batches go on.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bbctl.errors import UsageError
from bbctl.model import Host, Service
from bbctl.remote import follow, logs
from bbctl.remote.shell import script
from bbctl.ssh.transport import NotLoggedIn, Session, Transport

PIECE = 1 << 20  # bytes: a longer line is passed on in pieces, each a line of its own
WITHIN = 600.0  # seconds for reading a log to its end
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
    """Read one log and pass on what is wanted, as it comes. `note` gets what became of the file. Raises nothing a host causes."""
    try:
        session = transport.open(where.host)
    except NotLoggedIn as error:
        return Read(status=error.status, error=error.message)
    try:
        zone = _zone(session, where) if wanted.dated else None
    except ValueError as error:
        return Read(status="failed", error=str(error))
    sieve = Sieve(wanted=wanted, zone=zone)
    feed, errors = Feed(), Notes(lambda text: note(where.host.name, text))

    def on_output(stream: str, data: bytes) -> None:
        if stream == "err":
            errors.take(data)
        elif kept := sieve.keep(feed.lines(data)):
            emit(where.host.name, kept)

    start = _start(session, where, wanted.since, zone) if zone and wanted.since is not None else None
    limit = WITHIN if not wanted.follow else FOREVER if wanted.seconds is None else wanted.seconds
    ran = session.run(
        _text(where, wanted, start), timeout=limit, keep=0, on_output=on_output, guard=True, cancel=cancel
    )
    if kept := sieve.keep(feed.rest()) + sieve.last():
        emit(where.host.name, kept)
    if wanted.follow and ran.status == "timeout":
        return Read(status="ok", lines=sieve.passed)
    said = None if ran.ok else errors.last or ran.error
    return Read(status=ran.status, error=said, lines=sieve.passed)


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
