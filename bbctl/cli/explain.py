"""`bbctl explain`: what a code means, and what to do."""

from __future__ import annotations

from typing import Annotated

import typer

from bbctl.cli.front import Call
from bbctl.errors import UsageError


def explain(
    ctx: typer.Context,
    code: Annotated[str | None, typer.Argument(metavar="[CODE]", help="Without: all of them.")] = None,
) -> None:
    """What an error code, a status word or a finding means, and what to do.

    \b
    Examples:
      bbctl explain locked
      bbctl explain host-key
      bbctl explain                    all codes
    """
    from bbctl.codes import CODES
    from bbctl.near import hint, shown
    from bbctl.render.inventory import columns

    call: Call = ctx.obj
    if code is None:
        rows = [{"code": word, "means": said.means, "do": said.do, "exit": said.exit} for word, said in CODES.items()]
        call.show(rows, lambda: columns([str(row["code"]), str(row["means"])] for row in rows), name="code")
        return
    found = CODES.get(code)
    if found is None:
        entry = _finding(call, code)
        if entry is None:
            raise UsageError(f"no code {shown(code)}{hint(code, CODES)}", code="unknown-code", next="bbctl explain")
        call.show(entry, lambda: f"{code}: {entry['means']}\ndo       {entry['do']}", name="code")
        return
    value = {"code": code, "means": found.means, "do": found.do, "exit": found.exit}
    exits = f"\nexit     {found.exit}" if found.exit is not None else ""
    call.show(value, lambda: f"{code}: {found.means}\ndo       {found.do}{exits}", name="code")


def _finding(call: Call, code: str) -> dict[str, object] | None:
    """A finding's word is explained by its row in the runbook."""
    from bbctl.runbook import load

    entry = load(call.settings.runbook()).entry(code)
    if entry is None:
        return None
    return {"code": code, "means": entry.problem, "do": f"bbctl runbook show {entry.id}", "exit": 1}
