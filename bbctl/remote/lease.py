"""A host that was drained on purpose says so itself: who did it, why, and until when. One small file beside its lock."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote as percent
from urllib.parse import unquote

from bbctl.model import Lease, Lock
from bbctl.remote.shell import quote

NEVER = 4e9
"""Seconds since the epoch, in the year 2096: a lease until then or later has no end."""
_WRITE = r"""
umask 077
f={folder}/drained
mkdir -p -m 700 -- {folder} || exit 1
now=$(date +%s)
printf 'operator %s\nrun %s\nreason %s\nsince %s\nuntil %s\n' {operator} {run} {reason} "$now" {until} > "$f.new" || exit 1
mv -f -- "$f.new" "$f"
"""


def beside(lock: Lock) -> str:
    """The folder of a host's lock, as a word for its shell."""
    folder = lock.path.rpartition("/")[0] or "/"
    return '"$HOME"' + (f"/{quote(folder[2:])}" if folder != "~" else "") if folder.startswith("~") else quote(folder)


def write(lock: Lock, *, operator: str, run: str, reason: str, seconds: float | None) -> str:
    """Shell text that leaves the lease on the host."""
    until = f"$((now + {round(seconds)}))" if seconds is not None else "-"
    words = {"operator": operator, "run": run, "reason": reason}
    return _WRITE.format(
        folder=beside(lock),
        until=until,
        **{key: quote(percent(text, safe=" @.,:") or "-") for key, text in words.items()},
    )


def remove(lock: Lock) -> str:
    """Shell text that takes the lease away; none there is fine."""
    return f"rm -f -- {beside(lock)}/drained"


def read(lock: Lock) -> str:
    """Shell text that prints the lease, if there is one."""
    return f"cat -- {beside(lock)}/drained 2>/dev/null || :"


def understand(output: bytes, *, now: float) -> Lease | None:
    """The lease out of what `read` printed at `now` by the host's clock; None where there is none, or it cannot be understood."""
    said = dict(line.split(" ", 1) for line in output.decode("utf-8", "replace").splitlines() if " " in line)
    try:
        since, until = float(said["since"]), None if said["until"] == "-" else float(said["until"])
        if not (0 <= since < NEVER and (until is None or until >= 0)):
            return None
        until = None if until is None or until >= NEVER else until
        words = {key: unquote("" if said[key] == "-" else said[key]) for key in ("operator", "run", "reason")}
        left = None if until is None else until - now
        return Lease(**words, since=since, until=until, left=left)
    except (KeyError, ValueError):
        return None


def words(lease: Lease) -> str:
    """Who took the host out, for how long, and why: `ann@ops1 (r-7f3a), until Nov 24 14:00 UTC: "heap dump"`."""
    until = ""
    if lease.until is not None:
        at = datetime.fromtimestamp(lease.until, UTC).strftime("%b %d %H:%M UTC")
        until = f", over since {at}" if lease.over else f", until {at}"
    why = f': "{lease.reason}"' if lease.reason.strip() else ""
    return f"{lease.operator} ({lease.run}){until}{why}"
