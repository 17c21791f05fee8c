"""A log on a host: the end of it as bytes whose place in the file is known, and when each line was written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from bbctl.remote.shell import quote

WINDOW = 131072  # bytes of the end of a log that one look reads: what a service says while it stops is in there

# A log that the login user may not read is read as the user of the service, where sudo lets us.
_AS = r"""
as() {{ if [ -r "$f" ] || [ -z {user} ]; then "$@"; else sudo -n -u {user} -- "$@"; fi; }}
"""
_TAIL = r"""
f={path}
{become}
if place=$(as stat -L -c '%f %s %i %d %Y' -- "$f" 2>/dev/null); then
  case $place in 8???' '*) ;; *) echo 'log denied is no regular file'; exit;; esac  # a pipe would be waited for
  place=${{place#* }}
  size=${{place%% *}} from={start}
  [ "$from" -le "$size" ] || from=0
  [ $((size - from)) -le {window} ] || from=$((size - {window}))
  printf 'log %s %s\n' "$from" "$place"
  as tail -c +$((from + 1)) -- "$f" | head -c {window}
elif [ -e "$f" ]; then echo 'log denied'
else echo 'log missing'
fi
"""


@dataclass(frozen=True, kw_only=True)
class Tail:
    """The end of a log. `start` is the offset of its first byte, `size` the file's; `file` names the inode on its device.

    `state`: `ok`, `missing`, or `denied` (it is there and may not be read, or is no file that has an end: `why` says).
    """

    state: str
    start: int = 0
    size: int = 0
    file: str = ""
    mtime: float = 0.0
    data: bytes = b""
    why: str = "may not be read"

    @property
    def end(self) -> int:
        """The offset just behind the last byte read: where to go on."""
        return self.start + len(self.data)


def reader(run_as: str | None) -> str:
    """Shell text that defines `as`: run a command that reads `$f`, as the service's user where we may not read it."""
    return _AS.format(user=quote(run_as or ""))


def tail(path: str, *, run_as: str | None = None, start: int | None = None, window: int = WINDOW) -> str:
    """Shell text for the last `window` bytes of a log, or for what comes after offset `start` (but no more than `window`).

    Where the file is shorter than `start` it was cut or replaced: then from its beginning.
    """
    return _TAIL.format(path=quote(path), become=reader(run_as), start=start or 0, window=window)


_PLACE = re.compile(rb"^log (?:(\d+) (\d+) (\d+) (\d+) (\d+)|denied(?: (.+))?|missing)\n", re.MULTILINE)


def understand(output: bytes) -> Tail:
    """The tail out of what the host printed; what a login shell says before it is passed over."""
    found = _PLACE.search(output)
    if found is None or found[1] is None:
        if found and found[0] == b"log missing\n":
            return Tail(state="missing")
        return Tail(state="denied", why=found[6].decode()) if found and found[6] else Tail(state="denied")
    start, size, inode, device, mtime = (int(n) for n in found.groups()[:5])
    return Tail(state="ok", start=start, size=size, file=f"{device}:{inode}", mtime=mtime, data=output[found.end() :])


# -- when was a line written -----------------------------------------------------------------------------------

_MONTHS = {
    "Jan": 1,
    "Feb": 2,
    "Mar": 3,
    "Apr": 4,
    "May": 5,
    "Jun": 6,
    "Jul": 7,
    "Aug": 8,
    "Sep": 9,
    "Oct": 10,
    "Nov": 11,
    "Dec": 12,
}
_ISO = re.compile(r"(\d{4})[-/](\d\d)[-/](\d\d)[ T](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?[ ]?(Z\b|[+-]\d\d:?\d\d\b)?")
_SYSLOG = re.compile(r"\b([A-Z][a-z]{2})  ?(\d{1,2}) (\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?\b")
_CLOCK = re.compile(r"^\W{0,2}(\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?\b")
LOOK = 80  # a line's date stands in its first characters


@dataclass(frozen=True, kw_only=True)
class Zone:
    """How the dates of a log are read: the zone of those without one, now (seconds), and a strptime form if it is special."""

    zone: tzinfo
    now: float
    form: str | None = None


def zone_of(name: str | None, offset: str) -> tzinfo:
    """The zone of a log: `log_zone` (a name such as Europe/Berlin, or an offset), else the host's offset (`+0100`).

    Raises ValueError for a zone that does not exist.
    """
    text = name or offset or "+0000"
    if found := re.fullmatch(r"(?:UTC)?([+-])(\d\d):?(\d\d)", text):
        minutes = int(found[2]) * 60 + int(found[3])
        return timezone(timedelta(minutes=-minutes if found[1] == "-" else minutes))
    if text in ("UTC", "Z", "GMT"):
        return UTC
    try:
        return ZoneInfo(text)
    except (KeyError, OSError, ValueError):
        raise ValueError(f"no time zone {text!r}") from None


def written(line: str, zone: Zone) -> tuple[float, float] | None:
    """When a line says it was written, as the earliest and the latest moment that its date can mean; None without a date.

    Known: ISO 8601 and log4j (`2026-11-24 03:02:58,123`), syslog (`Nov 24 03:02:58`), a time alone (the last such time).
    """
    head = line[:LOOK]
    try:
        if zone.form:
            return _special(head, zone)
        if found := _ISO.search(head):
            year, month, day, hour, minute, second = (int(n) for n in found.groups()[:6])
            where = zone_of(None, found[8].replace("Z", "+0000")) if found[8] else zone.zone
            return _span(datetime(year, month, day, hour, minute, second, tzinfo=where), found[7])
        if (found := _SYSLOG.search(head)) and found[1] in _MONTHS:
            return _yearless(found, zone)
        if found := _CLOCK.search(head):
            today = datetime.fromtimestamp(zone.now, zone.zone)
            at = today.replace(hour=int(found[1]), minute=int(found[2]), second=int(found[3]), microsecond=0)
            if at.timestamp() > zone.now + 60:
                at -= timedelta(days=1)
            return _span(at, found[4])
    except (ValueError, OverflowError):
        return None
    return None


def _span(at: datetime, fraction: str | None) -> tuple[float, float]:
    base = at.timestamp()
    if fraction is None:
        return base, base + 0.999
    return base + float(f"0.{fraction}"), base + float(f"0.{fraction}") + 10.0 ** -len(fraction)


def _yearless(found: re.Match[str], zone: Zone) -> tuple[float, float]:
    year = datetime.fromtimestamp(zone.now, zone.zone).year
    day, hour, minute, second = (int(n) for n in found.groups()[1:5])
    at = datetime(year, _MONTHS[found[1]], day, hour, minute, second, tzinfo=zone.zone)
    if at.timestamp() > zone.now + 86400:
        at = at.replace(year=year - 1)
    return _span(at, found[6])


def _special(head: str, zone: Zone) -> tuple[float, float] | None:
    """A date in the service's own form, wherever it begins in the line's head: the longest text that fits it."""
    wide = len(datetime(2000, 12, 30, 23, 59, 59, 123456, tzinfo=zone.zone).strftime(zone.form or "")) + 3
    for start in range(min(len(head), 24)):
        if start and head[start - 1].isalnum():
            continue
        for end in range(min(len(head), start + wide), start + 3, -1):
            try:
                at = datetime.strptime(head[start:end], zone.form or "")
            except ValueError:
                continue
            if at.year == 1900:
                at = at.replace(year=datetime.fromtimestamp(zone.now, zone.zone).year)
            at = at if at.tzinfo else at.replace(tzinfo=zone.zone)
            return _span(at, f"{at.microsecond:06d}" if "%f" in (zone.form or "") else None)
    return None


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a log. `earliest` and `latest` frame when it was written (its own date, or that of the line it belongs to)."""

    text: str
    earliest: float | None = None
    latest: float | None = None
    offset: int = 0
    dated: bool = False  # by a date of its own


def lines(found: Tail, zone: Zone) -> list[Line]:
    """The whole lines of a tail, each dated. The first is left out where it may be the rest of a longer one."""
    pieces = found.data.split(b"\n")
    offset = found.start
    made: list[Line] = []
    span: tuple[float, float] | None = None
    for number, piece in enumerate(pieces):
        whole = (number > 0 or found.start == 0) and (number < len(pieces) - 1)
        if whole:
            text = piece.decode("utf-8", "replace").rstrip("\r")
            own = written(text, zone)
            span = own or span
            early, late = span or (None, None)
            made.append(Line(text=text, earliest=early, latest=late, offset=offset, dated=own is not None))
        offset += len(piece) + 1
    return made
