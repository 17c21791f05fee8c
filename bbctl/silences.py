"""Silences: page nobody about these targets for a while. One file below `$BBCTL_HOME`; each has an owner and an end.

A silence that has ended is forgotten with the next write, so none stays for ever.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bbctl.errors import UsageError

LONGEST = 7 * 86400.0  # a longer one is a decision about monitoring, not a silence


@dataclass(frozen=True, kw_only=True)
class Silence:
    """`targets` are host names and finding targets, or `*`; times are seconds since the epoch."""

    id: str
    targets: tuple[str, ...]
    reason: str
    by: str
    since: float
    until: float

    def covers(self, target: str) -> bool:
        return "*" in self.targets or target in self.targets


def add(home: Path, targets: tuple[str, ...], *, reason: str, by: str, now: float, seconds: float) -> Silence:
    """Add one. UsageError for a duration that is not positive or beyond a week."""
    if not 0 < seconds <= LONGEST:
        raise UsageError(
            "a silence lasts more than nothing and at most a week", next="bbctl silence add TARGET --for 2h --reason …"
        )
    with _held(home) as kept:
        made = Silence(id=_free_id(kept), targets=targets, reason=reason, by=by, since=now, until=now + seconds)
        _write(home, [s for s in kept if s.until > now] + [made])
    return made


def active(home: Path, now: float) -> list[Silence]:
    """Those in force, the next to end first."""
    return sorted((s for s in _read(home) if s.until > now), key=lambda s: s.until)


def end(home: Path, id: str, now: float) -> Silence:
    """End one early. UsageError where no such silence is in force."""
    with _held(home) as kept:
        gone = next((s for s in kept if s.id == id and s.until > now), None)
        if gone is None:
            raise UsageError(f"no silence {id} is in force", next="bbctl silence list")
        _write(home, [s for s in kept if s.until > now and s.id != id])
    return gone


def _free_id(kept: list[Silence]) -> str:
    taken = {s.id for s in kept}
    return next(word for n in range(1, len(taken) + 2) if (word := f"s{n}") not in taken)


def _path(home: Path) -> Path:
    return home / "silences.json"


def _read(home: Path) -> list[Silence]:
    try:
        said = json.loads(_path(home).read_bytes())
        return [Silence(**{**row, "targets": tuple(row["targets"])}) for row in said]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError):
        raise UsageError(f"{_path(home)} cannot be read", next=f"mv {_path(home)} {_path(home)}.broken") from None


def _write(home: Path, silences: list[Silence]) -> None:
    new = _path(home).with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
        json.dump([asdict(s) for s in silences], file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(_path(home))


@contextmanager
def _held(home: Path) -> Iterator[list[Silence]]:
    """The silences, with the file to oneself."""
    fd = os.open(home / "silences.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield _read(home)
    finally:
        os.close(fd)
