"""All checks over hosts and engine, made for cron: what is, what is news since the last sweep, and whom to page.

The memory of the last sweep is one file below `$BBCTL_HOME`; a lock beside it keeps overlapping sweeps apart.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from bbctl.alerts import Page
from bbctl.checks import CHECKS, State, Trouble
from bbctl.errors import Failed
from bbctl.look import Seen

Change = Literal["new", "worse", "still", "recovered"]
RANK: dict[str, int] = {"ok": 0, "warning": 1, "unknown": 2, "critical": 3}
_FIELDS = {"state", "since", "sweeps", "title"}  # what is remembered of a trouble, at the least
EXITS: dict[str, int] = {"ok": 0, "warning": 1, "critical": 2, "unknown": 3}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One check of one target. `since`: when its state began; `sweeps`: how many have seen it so, this one included."""

    id: str
    target: str
    state: State
    severity: int
    since: float | None = None
    title: str | None = None
    evidence: tuple[tuple[str, str], ...] = ()
    runbook: str | None = None
    next: str | None = None
    change: Change | None = None
    sweeps: int = 1

    @property
    def key(self) -> str:
        """What a page is known by: one trouble, one incident."""
        return f"{self.id}|{self.target}"


# -- what is ---------------------------------------------------------------------------------------------------


def rows(seen: Sequence[Seen], troubles: Sequence[Trouble], names: Sequence[str]) -> list[Row]:
    """A row for every check that applies to a host, in the order of the hosts; the worst trouble where there are several.

    What cannot be known of a host that was not reached is `unknown`.
    """
    worst: dict[str, Row] = {}
    for trouble in troubles:
        row = _row(trouble)
        if row.key not in worst or RANK[row.state] > RANK[worst[row.key].state]:
            worst[row.key] = row
    made: dict[str, Row] = {}
    for one in seen:
        for name in (n for n in names if applies(n, one)):
            blind = one.facts.status != "ok" and name != "host-down"
            state: State = "unknown" if blind else "ok"
            row = Row(
                id=name, target=one.host.name, state=state, severity=CHECKS[name].severity, runbook=CHECKS[name].runbook
            )
            made.setdefault(row.key, worst.get(row.key, row))
    return list({**made, **{k: r for k, r in worst.items() if r.id in names}}.values())


def engine_rows(troubles: Sequence[Trouble], targets: Mapping[str, Sequence[str]]) -> list[Row]:
    """The engine's rows: `targets` are those that were asked, by check."""
    found = {row.key: row for row in map(_row, troubles)}
    for name, asked in targets.items():
        for target in asked:
            row = Row(id=name, target=target, state="ok", severity=CHECKS[name].severity, runbook=CHECKS[name].runbook)
            found.setdefault(row.key, row)
    return list(found.values())


def applies(name: str, seen: Seen) -> bool:
    """Whether a check has anything to ask of this service of this host."""
    s = seen.service
    has = {
        "host-down": True, "disk-full": True, "clock-skew": True, "process-missing": s.process, "hung-stop": s.hang,
        "health-failing": s.health, "drained": s.vip is not None and s.vip.drain, "deadlock": s.log, "log-signature": s.log,
    }  # fmt: skip
    return bool(has.get(name))


def overall(found: Sequence[Row]) -> State:
    """The worst state. Checks of a host that is down are unknown because it is down: the host's own row says it."""
    return max((row.state for row in found), key=lambda state: RANK[state], default="ok")


def _row(trouble: Trouble) -> Row:
    f = trouble.finding
    return Row(
        id=f.id, target=f.target, state=trouble.state, severity=f.severity, since=f.since, title=f.title,
        evidence=f.evidence, runbook=f.runbook, next=f.next,
    )  # fmt: skip


# -- what is news ----------------------------------------------------------------------------------------------


def news(found: Sequence[Row], before: Mapping[str, Mapping[str, Any]], now: float) -> list[Row]:
    """The rows with their change against the memory of the last sweep. A check that could not be asked changes nothing."""
    return [_against(row, before.get(row.key), now) for row in found]


def _against(row: Row, old: Mapping[str, Any] | None, now: float) -> Row:
    blind = row.state == "unknown" and row.title is None  # nobody asked: what was known stays known
    was = old["state"] if old else "ok"
    if row.state == "ok":
        return row if was == "ok" else replace(row, change="recovered", since=now, title=old["title"] if old else None)
    if blind:
        return replace(row, since=old["since"] if old else None)
    if was == "ok":
        return replace(row, change="new", since=row.since or now)
    since = min(float(old["since"]), row.since or now) if old and old["since"] else row.since or now
    worse = RANK[row.state] > RANK[was]
    return replace(row, change="worse" if worse else "still", since=since, sweeps=int(old["sweeps"]) + 1 if old else 1)


def left(
    found: Sequence[Row], before: Mapping[str, Mapping[str, Any]], *, inventory: str, now: float,
    unasked: Container[str] = (),
) -> list[Row]:  # fmt: skip
    """The end of what a sweep of an inventory asks about no longer: the host left it, or what was checked there. `unasked`:
    the hosts that are in it and of which this sweep did not ask everything.

    What was remembered of another inventory stays, and so does what the engine could not be asked this time.
    """
    asked = {row.key for row in found}
    made = []
    for key, old in before.items():
        name, _, target = key.partition("|")
        check = CHECKS.get(name)
        ours = old.get("inventory") == inventory and not (check and check.scope == "engine")
        if key in asked or not ours or target in unasked:
            continue
        made.append(
            Row(
                id=name, target=target, state="ok", severity=check.severity if check else 5, since=now, title=old["title"],
                evidence=(("inventory", "it is no longer in the inventory"),), change="recovered",
            )
        )  # fmt: skip
    return made


def remember(
    found: Sequence[Row], before: Mapping[str, Mapping[str, Any]], paged: Mapping[str, bool], *, inventory: str = ""
) -> dict[str, Any]:
    """The memory for the next sweep: what is not ok now, and what this sweep did not look at. `paged`: what was sent."""
    kept = dict(before)
    for row in found:
        if row.state == "ok":
            kept.pop(row.key, None)
        elif not (row.state == "unknown" and row.title is None):
            told = paged.get(row.key, bool(before.get(row.key, {}).get("paged")))
            kept[row.key] = {
                "state": row.state, "since": row.since, "sweeps": row.sweeps, "title": row.title, "paged": told,
                "inventory": inventory,
            }  # fmt: skip
    return kept


class NotKept(Failed):
    """What was found could not be remembered: the next sweep takes it for news once more."""


@contextmanager
def memory(home: Path) -> Iterator[dict[str, Any]]:
    """The last sweep's memory, to be changed in place and kept at the end. Raises Failed where another sweep is at work, and
    at the end NotKept where it could not be written."""
    folder = home / "sweep"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "last.json"
    with os.fdopen(os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failed("another sweep is at work; this one is skipped", code="sweep-busy", exit=3) from None
        try:
            last = json.loads(path.read_bytes())
            kept = {key: old for key, old in last.items() if set(old) >= _FIELDS} if isinstance(last, dict) else {}
        except (OSError, ValueError, TypeError):
            kept = {}  # the first sweep, or a memory that was lost: all that is wrong is news
        yield kept
        new = folder / "last.new"
        try:
            new.write_text(json.dumps(kept), encoding="utf-8")
            new.replace(path)
        except OSError as error:
            raise NotKept(f"{new} cannot be written: {error.strerror}") from None


# -- whom to page ----------------------------------------------------------------------------------------------


def pages(
    found: Sequence[Row],
    before: Mapping[str, Mapping[str, Any]],
    *,
    quiet: Callable[[str], bool],
    links: Mapping[str, Mapping[str, str]],
    text: Callable[[Row], str],
) -> list[Page]:
    """A page for what is critical and was not paged yet, unless its target is `quiet` (then when that is over); the end of
    one for what is critical no more. `links` by target; `text` makes a page's words."""
    made = []
    for row in found:
        paged = bool(before.get(row.key, {}).get("paged"))
        words: dict[str, Any] = {"key": row.key, "severity": row.severity, "target": row.target}
        if row.state == "critical" and not paged and not quiet(row.target):
            made.append(Page(**words, action="trigger", text=text(row), links=links.get(row.target, {})))
        elif paged and row.state in ("ok", "warning"):
            said = f"[{row.severity}] {row.target}: recovered: {before[row.key].get('title') or row.id}"
            made.append(Page(**words, action="resolve", text=said))
    return made
