"""audit list and verify: every act, by whom, and whether the file still says what was written."""

from __future__ import annotations

from typing import Annotated

import typer

from bbctl import audit
from bbctl.cli import knowing
from bbctl.cli.front import Call
from bbctl.render import screen

Last = Annotated[int, typer.Option("-n", metavar="N", min=1, help="The last N acts.")]


def list_acts(ctx: typer.Context, last: Last = 50) -> None:
    """Every act: who, when, which words, and what came of it.

    \b
    Examples:
      bbctl audit list
      bbctl audit list -n 500 -o json
    """
    call: Call = ctx.obj
    rows = list(audit.entries(call.settings.home()))[-last:]

    def human() -> None:
        table = screen.table("when", "operator", "what", "run", "words")
        for row in rows:
            words = " ".join(map(str, row.get("argv", [])))
            table.add_row(
                screen.clock(row["at"]), str(row.get("operator", "")), f"{audit.act(row)} {audit.outcome(row)}".strip(),
                str(row.get("run", "")), screen.safe(words),
            )  # fmt: skip
        screen.draw(table)

    call.show(rows, human)


def verify(ctx: typer.Context) -> None:
    """Is the audit file whole? The first line that was edited, moved or cut off is named. Its last lines are compared with
    what MongoDB remembers of them, where it answers.

    \b
    Examples:
      bbctl audit verify
    """
    call: Call = ctx.obj
    told, why = knowing.heads(call)
    count = audit.verify(call.settings.home(), told=told)
    agrees = (
        f"; MongoDB agrees, up to line {max(told)[0]}"
        if told
        else f"; MongoDB could not be asked: {why}"
        if why
        else ""
    )
    torn = audit.torn(call.settings.home())
    value = {
        "lines": count, "whole": True, "torn": torn, "remembered": max(told)[0] if told else None, "unasked": why,
    }  # fmt: skip
    killed = f"; a writer was killed in mid-write before line {', '.join(map(str, torn))}" if torn else ""
    call.show(value, lambda: f"{count} lines, all as they were written{killed}{agrees}")
