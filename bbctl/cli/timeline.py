"""timeline: who changed what, when; from the audit file and the runs of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from bbctl import audit
from bbctl.cli import knowing
from bbctl.cli.front import Call, moment
from bbctl.render import screen
from bbctl.run import journal

Since = Annotated[str, typer.Option("--since", metavar="D", help="How far back: 2h, 03:00, yesterday.")]


def timeline(ctx: typer.Context, since: Since = "1d") -> None:
    """Who changed what, when: every act of this machine and the runs of others, as far as MongoDB knows them.

    \b
    Examples:
      bbctl timeline
      bbctl timeline --since 03:00 -o json
    """
    call: Call = ctx.obj
    begin = moment(since, "--since")
    home = call.settings.home()
    runs, why = knowing.every(call)
    if why:
        call.say(f"the runs of other machines are not known: {why}")
    rows = sorted(
        [r for r in [*_runs(runs), *_acts(audit.entries(home))] if r["at"] >= begin],
        key=lambda r: r["at"],
    )
    times = [screen.clock(row["at"]) for row in rows]
    for row in rows:
        row["at"] = journal.stamp(row["at"])

    def human() -> str | None:
        if not rows:
            return f"nothing was changed from here since {since}"
        table = screen.table("when", "operator", "what", "outcome", "targets", "reason")
        for at, row in zip(times, rows, strict=True):
            names = [t.split(".", 1)[0] for t in row["targets"]]
            where = ", ".join(names[:3]) + (f" +{len(names) - 3}" if len(names) > 3 else "")
            shown = (row["operator"], row["what"], row["outcome"], where, row["reason"])
            table.add_row(at, *(screen.safe(cell) for cell in shown))
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
    """What was done outside of runs: a run tells its own story, but for whoever gave it up."""
    return [
        {
            "at": e["at"], "operator": str(e.get("operator", "")), "what": _what(e),
            "outcome": audit.outcome(e), "targets": _targets(e.get("targets", [])),
            "reason": str(e.get("reason", "")), "run": e.get("run"),
        }
        for e in entries
        if "result" in e and (not str(e.get("run", "")).startswith("r-") or audit.act(e) == "runs abort")
    ]  # fmt: skip


def _what(entry: Mapping[str, Any]) -> str:
    """The command, and for one that carries a command to hosts that one too."""
    words = [str(word) for word in entry.get("argv", [])]
    tail = words[words.index("--") + 1 :] if "--" in words else []
    return " ".join([audit.act(entry), *tail])


def _targets(said: Any) -> list[str]:
    """Names, however the act told them: a list, or lists by kind."""
    kinds = said.values() if isinstance(said, Mapping) else [said]
    return [str(name) for kind in kinds for name in (kind if isinstance(kind, list) else [kind])]
