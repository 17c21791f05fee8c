"""timeline: who changed what, when; from the audit file and the runs of this machine."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from bbctl import audit
from bbctl.cli.front import Call
from bbctl.durations import parse_when
from bbctl.errors import UsageError
from bbctl.render import screen
from bbctl.run import journal

Since = Annotated[str, typer.Option("--since", metavar="D", help="How far back: 2h, 03:00, yesterday.")]


def timeline(ctx: typer.Context, since: Since = "1d") -> None:
    """Who changed what, when: every act of this machine, with what came of it on each host.

    \b
    Examples:
      bbctl timeline
      bbctl timeline --since 03:00 -o json
    """
    call: Call = ctx.obj
    try:
        begin = parse_when(since, now=time.time())
    except ValueError as error:
        raise UsageError(f"--since {since}: {error}") from None
    home = call.settings.home()
    rows = sorted(
        [r for r in [*_runs(journal.every(home)), *_acts(audit.entries(home))] if r["at"] >= begin],
        key=lambda r: r["at"],
    )
    for row in rows:
        row["at"] = journal.stamp(row["at"])

    def human() -> str | None:
        if not rows:
            return f"nothing was changed from here since {since}"
        table = screen.table("when", "operator", "what", "outcome", "targets", "reason")
        for row in rows:
            where = ", ".join(t.split(".", 1)[0] for t in row["targets"])
            table.add_row(row["at"], row["operator"], row["what"], row["outcome"], where, screen.safe(row["reason"]))
        screen.draw(table)
        return None

    call.show(rows, human)


def _runs(records: list[Any]) -> list[dict[str, Any]]:
    return [
        {
            "at": r.started, "operator": r.operator, "what": f"{r.kind} {r.run}", "outcome": r.outcome,
            "targets": [h.host for h in r.hosts if h.outcome != "untouched"], "reason": r.reason, "run": r.run,
        }
        for r in records
    ]  # fmt: skip


def _acts(entries: Any) -> list[dict[str, Any]]:
    """What was done outside of runs: a run tells its own story."""
    return [
        {
            "at": e["at"], "operator": str(e.get("operator", "")), "what": str(e.get("command", "")),
            "outcome": str(e.get("result", "")), "targets": [str(t) for t in e.get("targets", [])],
            "reason": str(e.get("reason", "")), "run": None,
        }
        for e in entries
        if "run" not in e and "result" in e
    ]  # fmt: skip
