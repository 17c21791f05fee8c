"""`bbctl silence …` and `bbctl alert test`: whom to leave in peace, and whether a page would arrive."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated, Any

import typer

from bbctl import silences
from bbctl.cli.audited import act
from bbctl.cli.front import Call, DryRun, Targets, seconds
from bbctl.errors import ConfigError, Failed, UsageError
from bbctl.render import plain, screen


def add(
    ctx: typer.Context,
    target: Targets = None,
    for_: Annotated[str, typer.Option("--for", metavar="D", help="How long, at most a week.")] = "1h",
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why: shown in every sweep.")] = None,
    dry_run: DryRun = False,
) -> None:
    """Page nobody about these hosts for a while. Sweeps still look, and say that they are silenced.

    \b
    Examples:
      bbctl silence add accounting-worker2 --for 2h --reason "disk is being replaced"
      bbctl silence add '*' --for 30m --reason "network maintenance"
    """
    call: Call = ctx.obj
    if not reason:
        raise UsageError("a silence needs --reason: somebody will wonder")
    names, lasts = _names(call, target), seconds(for_, "--for")
    if dry_run:
        call.show(
            {"dry_run": True, "plan": [{"host": n, "steps": []} for n in names]},
            lambda: f"would silence {', '.join(names)}",
        )
        return
    with act(call, targets={"hosts": list(names)}, reason=reason):
        made = silences.add(
            call.settings.home(), names, reason=reason, by=call.settings.operator(), now=time.time(), seconds=lasts
        )
    call.show(_row(made), lambda: f"{made.id}: {', '.join(names)} silenced until {screen.clock(made.until)}")


def list_silences(ctx: typer.Context) -> None:
    """Silences in force, the next to end first.

    \b
    Examples:
      bbctl silence list
    """
    call: Call = ctx.obj
    now = time.time()
    found = silences.active(call.settings.home(), now)
    call.show([_row(s) for s in found], lambda: _table(found, now), name="id")


def end(ctx: typer.Context, id: Annotated[str, typer.Argument(metavar="ID", help="See `bbctl silence list`.")]) -> None:
    """End a silence early.

    \b
    Examples:
      bbctl silence end s1
    """
    call: Call = ctx.obj
    meant = [name for s in silences.active(call.settings.home(), time.time()) if s.id == id for name in s.targets]
    with act(call, targets={"silence": id, "hosts": meant}, reason=""):
        gone = silences.end(call.settings.home(), id, time.time())
    call.show(_row(gone), lambda: f"{gone.id} ended: {', '.join(gone.targets)}")


def test(ctx: typer.Context) -> int:
    """Send a test page to every place the inventory names, and resolve it: proof that a real one would arrive.

    \b
    Examples:
      bbctl alert test
    """
    from bbctl import alerts

    call: Call = ctx.obj
    places = call.fleet.alerts
    if not places:
        raise ConfigError(
            "the inventory names no place for pages: alerts.pagerduty or alerts.webhook", next="bbctl config schema"
        )
    receipts = []
    for action in ("trigger", "resolve"):
        page = alerts.Page(
            key=f"bbctl-test-{call.fleet.site}",
            action="trigger" if action == "trigger" else "resolve",
            severity=5,
            target=call.fleet.site,
            text=f"[5] test of bbctl by {call.settings.operator()}: nothing is wrong",
        )
        receipts += alerts.send(page, alerts=places, spool=call.settings.home() / "spool", now=time.time())
    rows = [asdict(r) for r in receipts]
    call.show(rows, lambda: "\n".join(f"{r.where:<10} {r.outcome:<8} {r.detail}" for r in receipts), name="where")
    if any(r.outcome != "sent" for r in receipts):
        if call.output == "table":
            raise Failed(
                "not every page was taken; it is tried again with the next sweep", next="check the URL and the key file"
            )
        return 1
    return 0


def _names(call: Call, target: list[str] | None) -> tuple[str, ...]:
    from bbctl.targets import select

    if target == ["*"]:
        return ("*",)
    return tuple(h.name for h in select(call.fleet, target, needed=True))


def _row(silence: silences.Silence) -> dict[str, Any]:
    return {
        **asdict(silence), "targets": list(silence.targets),
        "since": plain.stamp(silence.since), "until": plain.stamp(silence.until),
    }  # fmt: skip


def _table(found: list[silences.Silence], now: float) -> str:
    if not found:
        return "no silence is in force"
    return "\n".join(
        f"{s.id:<4} {', '.join(s.targets)}  for another {screen.age(s.until - now)}  {s.by}: {screen.safe(s.reason)}"
        for s in found
    )
