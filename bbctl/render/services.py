"""Services, locks and signals on hosts, for people: the verdict first, then a line a service, what is wrong in words."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bbctl.look import Seen, fine
from bbctl.model import Facts, Lease, LockRecord, Proc
from bbctl.redact import mask
from bbctl.remote import lease
from bbctl.render import screen
from bbctl.render.inventory import columns
from bbctl.render.plain import stamp
from bbctl.render.screen import safe

_COLOURS = {
    "running": screen.GOOD, "ok": screen.GOOD, "in": screen.GOOD, "stopped": screen.BAD, "hung": screen.BAD,
    "failing": screen.BAD, "out": screen.BUSY, "unknown": screen.BUSY, "none": screen.DIM, "–": screen.DIM,
}  # fmt: skip


# -- status ----------------------------------------------------------------------------------------------------


def status_row(seen: Seen) -> dict[str, Any]:
    """One service of one host as programs get it."""
    f = seen.facts
    return {
        "host": f.host,
        "service": f.service or None,
        "status": f.status,
        "process": f.process,
        "pid": f.proc.pid if f.proc else None,
        "age": round(f.proc.age, 1) if f.proc else None,
        "health": f.health,
        "vip": f.vip,
        "error": f.error or f.vip_error,
        "health_detail": seen.health_detail or None,
        "hung_since": stamp(f.hung_since),
        "last_word": f.hung_line,
        "lock": lock_json(f.lock),
        "lease": lease_json(f.lease),
    }


def lease_json(held: Lease | None) -> dict[str, Any] | None:
    """On purpose out of the VIP: by whom, and until when."""
    if held is None:
        return None
    return {
        "operator": held.operator,
        "run": held.run,
        "reason": held.reason,
        "since": stamp(held.since),
        "until": stamp(held.until),
        "over": held.over,
    }


def lock_json(lock: LockRecord | None) -> dict[str, Any] | None:
    if lock is None or lock.left <= 0:
        return None
    return {
        "holder": lock.holder,
        "run": lock.run,
        "step": lock.step,
        "reason": lock.reason,
        "seen": round(lock.age, 1),
    }


def status(found: Sequence[Seen]) -> None:
    """The table of `bbctl status`, a verdict above it."""
    from rich.text import Text

    def cells(f: Facts) -> list[Text]:
        return [
            Text(safe(f.host)),
            Text(safe(f.service or "–")),
            Text(_process(f), style=_COLOURS.get(f.process if f.status == "ok" else "stopped", "")),
            Text("–" if f.status != "ok" else f.health, style=_COLOURS.get(f.health, "")),
            Text(f.vip, style=_COLOURS.get(f.vip, "")),
        ]

    screen.draw(_verdict(found))
    rows = [(cells(seen.facts), Text(_words(seen))) for seen in found]
    screen.noted(("host", "service", "process", "health", "vip"), rows)


def watched(found: Sequence[Seen], at: float) -> None:
    """The same, in place of the last one on a terminal."""
    if sys.stdout.isatty():
        screen.out("\x1b[H\x1b[2J", end="")
    screen.out(f"{screen.clock(at)} UTC · every 2s · Ctrl-C ends")
    status(found)


def _verdict(found: Sequence[Seen]) -> Any:
    from rich.text import Text

    bad = [s for s in found if not fine(s)]
    if not bad:
        return Text(f"{len(found)} of {len(found)} fine", style=screen.GOOD)
    return Text(
        f"{len(bad)} of {len(found)} not fine: {', '.join(dict.fromkeys(s.host.short for s in bad))}", style=screen.BAD
    )


def _process(f: Facts) -> str:
    if f.status != "ok":
        return f.status
    if f.proc is None:
        return f.process
    return f"{f.process} {f.proc.pid} · up {screen.age(f.proc.age)}"


def _words(seen: Seen) -> str:
    """What a person would act on, and nothing else."""
    f = seen.facts
    words = [safe(f.error)] if f.error else []
    if f.process == "hung":
        words.append(f'hung since {screen.clock(f.hung_since)}: "{safe((f.hung_line or "").strip()[-80:])}"')
    if f.health == "failing" and f.process != "stopped":
        words.append(f"health: {screen.cut(safe(seen.health_detail), 200)}")
    if f.vip_error:
        words.append(f"vip: {safe(f.vip_error)}")
    if f.lease is not None:
        words.append(
            f"drained by {safe(lease.words(f.lease))}" + (f" → bbctl undrain {seen.host.short}" if f.lease.over else "")
        )
    if f.lock is not None and f.lock.left > 0:
        words.append(f'locked by {safe(f.lock.holder)} ({safe(f.lock.run)}, at "{safe(f.lock.step)}")')
    return " · ".join(words)


# -- kill ------------------------------------------------------------------------------------------------------


def identity(proc: Proc | None) -> dict[str, Any] | None:
    """Who a process is, as programs get it."""
    if proc is None:
        return None
    started = proc.born if proc.born is not None else proc.started
    return {"pid": proc.pid, "started": stamp(started), "user": proc.user, "command": mask(proc.command)}


def proc_line(proc: Proc) -> str:
    return f"{proc.pid} {safe(proc.user)} · up {screen.age(proc.age)} · {screen.cut(safe(mask(proc.command)), 160)}"


def killed(rows: Sequence[Mapping[str, Any]]) -> str:
    """What became of each host's process."""
    lines = []
    for row in rows:
        mark = "✓" if row["outcome"] in ("ended", "signalled", "gone") else "✗"
        said = f"  {safe(row['error'])}" if row.get("error") else ""
        pid = f"{row['signal']} {row['pid']}" if row["pid"] else str(row["signal"])
        lines.append(f"{mark} {row['host']}  {pid}  {row['outcome']}{said}")
        lines += [f"  evidence  {path}" for path in row["evidence"]]
    return "\n".join(lines)


# -- unlock ----------------------------------------------------------------------------------------------------


def lock_words(lock: LockRecord) -> str:
    """A lock as a person needs it: who, which run, at what, how long ago, why."""
    why = f', "{safe(lock.reason)}"' if lock.reason else ""
    state = f"seen {screen.age(lock.age)} ago" if lock.left > 0 else f"expired {screen.age(-lock.left)} ago"
    return f'{safe(lock.holder)} ({safe(lock.run)}, at "{safe(lock.step)}", {state}{why})'


def locks(rows: Sequence[Mapping[str, Any]], records: Mapping[str, LockRecord | None]) -> str:
    def words(row: Mapping[str, Any]) -> tuple[str, str, str]:
        record = records.get(row["host"])
        there = "held" if row["held"] else "expired" if row["expired"] else "not locked"
        state = "released" if row["released"] else there
        return row["host"], row["error"] or state, lock_words(record) if record else ""

    return columns(map(words, rows), head=("host", "lock", "holder"))


# -- threads ---------------------------------------------------------------------------------------------------


def threads(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for row in rows:
        bad = row["deadlocks"] or row["error"]
        said = safe(row["error"]) if row["error"] else f"{len(row['files'])} file(s), no deadlock"
        if row["deadlocks"]:
            rings = (" ⇄ ".join(f'"{safe(t)}"' for t in d["threads"]) for d in row["deadlocks"])
            said = "deadlock " + "; ".join(rings)
        lines.append(f"{'✗' if bad else '✓'} {row['host']}  {row['pid'] or '–'}  {said}")
        lines += [f"  {path}" for path in row["files"]]
    return "\n".join(lines)
