"""One row a host while a run goes on: fed with the journal's events, drawn again and again by whoever shows a run.

A row says where the host is and for how long, and the last thing worth knowing: what its log says while it stops, that
it hangs, the deadlock, the KILL. It never changes its width, so that nothing jumps.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from bbctl.render import screen
from bbctl.render.screen import BAD, BUSY, DIM, GOOD, age, safe

# The outcome of a host -> its mark and its colour.
ENDS = {
    "restarted": ("✓", GOOD), "started": ("✓", GOOD), "stopped": ("✓", GOOD), "drained": ("✓", GOOD), "undrained": ("✓", GOOD),
    "failed": ("✗", BAD), "interrupted": ("!", BUSY), "untouched": ("◦", DIM), "skipped": ("–", DIM),
}  # fmt: skip
# The step under way -> what is waited for.
WAITS = {
    "lock": "taking its lock", "preflight": "looking before touching", "drain": "leaving the VIP",
    "settle": "requests under way finish", "stop": "stopping", "evidence": "thread dumps and log, before the kill",
    "kill": "KILL to the proven process", "start": "starting", "started": "until its log says so",
    "health": "healthy, several times in a row", "undrain": "back into the VIP", "unlock": "",
}  # fmt: skip
WIDE = 52  # columns of the last word


@dataclass
class Row:
    """`step` under way since `since` (None: nothing is); `word`: the last thing worth knowing, and its colour;
    `says`: what its log says of its stop."""

    step: str = ""
    since: float | None = None
    began: float | None = None
    spent: float = 0.0
    outcome: str = ""
    word: str = ""
    colour: str = BUSY
    says: str = ""
    hung: bool = False
    killed: int | None = None


class HostRows:
    """The rows of one run. `now` is a monotonic clock in seconds."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self.rows = {host: Row() for host in hosts}

    def event(self, event: Mapping[str, Any], now: float | None = None) -> None:
        """One event of the journal; those of no host, or of another run's hosts, are passed over."""
        row, at = self.rows.get(str(event.get("host"))), time.monotonic() if now is None else now
        if row is None:
            return
        match event["event"]:
            case "intent":
                row.step, row.since, row.outcome = event["step"], at, ""
                row.began = row.began or at
            case "note":
                _note(row, event)
            case "step":
                _step(row, event)
            case "host":
                row.outcome, row.since, row.spent = event["outcome"], None, at - (row.began or at)
                if row.killed:
                    row.word, row.colour = f"hung, killed {row.killed}", BUSY

    def table(self, now: float | None = None) -> Table:
        """The rows as they are now."""
        made, at = screen.table("", "host", "", "", ""), time.monotonic() if now is None else now
        made.columns[3].min_width = 5
        made.columns[3].justify = "right"
        made.columns[2].min_width = 11
        for column in made.columns:
            column.no_wrap, column.overflow = True, "ellipsis"
        for host, row in self.rows.items():
            made.add_row(*_cells(host, row, at))
        return made


def _note(row: Row, event: Mapping[str, Any]) -> None:
    if event.get("killed_pid"):
        row.killed = event["killed_pid"]
    elif event.get("says"):
        row.says = event["says"]
        row.word, row.colour = f'log says "{row.says}"', BUSY
    elif event.get("hung"):
        row.hung, row.colour = True, BAD
        row.word = f'hangs: last word "{row.says}"' if row.says else "hangs"


def _step(row: Row, event: Mapping[str, Any]) -> None:
    told = event["step"] in ("evidence", "kill") and event["outcome"] == "ok"
    if told or (event["outcome"] == "failed" and not (row.hung and event["step"] == "stop")):
        row.word, row.colour = event["detail"], BAD
    elif event["step"] == "stop" and not row.hung:
        row.word = ""


def _cells(host: str, row: Row, now: float) -> tuple[Text | str, ...]:
    if row.outcome:
        mark, colour = ENDS.get(row.outcome, ("?", BUSY))
        state, spent = row.outcome, row.spent
    elif row.since is None:
        mark, colour, state, spent = "◦", DIM, "waits", 0.0
    else:
        mark, colour, state, spent = "▶", BAD if row.step == "kill" else BUSY, row.step, now - row.since
    word = row.word or ("" if row.outcome or row.since is None else WAITS.get(row.step, ""))
    said = safe(word)
    if len(said) > WIDE:
        said = f"{said[: WIDE // 3]}…{said[-(WIDE - WIDE // 3 - 1) :]}"
    return (
        Text(mark, colour), host, Text(state, colour), Text(age(spent) if spent else "", DIM),
        Text(said, row.colour if row.word else DIM),
    )  # fmt: skip
