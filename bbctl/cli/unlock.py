"""`bbctl unlock`: release the locks of hosts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from bbctl.cli.front import Call, DryRun, Exclude, Label, Reason, Targets

if TYPE_CHECKING:
    from bbctl.unlock import Held


def unlock(
    ctx: typer.Context, target: Targets = None, exclude: Exclude = None, label: Label = None, dry_run: DryRun = False,
    reason: Reason = None,
) -> int:  # fmt: skip
    """Release the lock of each host, whoever holds it: shown first, with who, why and how long ago it was seen.

    \b
    Examples:
      bbctl unlock accounting-worker2 --dry-run     who holds it
      bbctl unlock accounting-worker2               asks, then releases exactly that lock
    """
    from bbctl import audit, unlock
    from bbctl.render import services as screens
    from bbctl.ssh.fanout import exit_over, fanout
    from bbctl.ssh.transport import Transport
    from bbctl.targets import select

    call: Call = ctx.obj
    hosts = select(call.fleet, target, exclude=exclude, labels=label, needed=True)
    with Transport(call.fleet) as transport:
        found = list(fanout(hosts, lambda host: unlock.look(transport, host)).values())
        if dry_run:
            plan = [_plan(seen) for seen in found if seen.there]
            refused = [_refusal(seen) for seen in found if seen.status == "host-key"]
            result = {"dry_run": True, "plan": plan, "refusals": refused, "locks": [_row(seen) for seen in found]}
            call.show(result, lambda: _shown(found) + "\nwould remove what lies there; nothing was changed")
            return 0
        if not call.yes:
            call.say(_shown(found))
        locked = [seen.host.short for seen in found if seen.there]
        call.confirm(f"Release {', '.join(locked) or 'nothing'}?", result=[_row(seen) for seen in found])
        done = list(
            fanout(hosts, lambda host: unlock.release(transport, {s.host.name: s for s in found}[host.name])).values()
        )
    if locked:
        entry = {"operator": call.settings.operator(), "argv": audit.masked(call.words), "act": "unlock"}
        there = [s.host.name for s in found if s.there]
        result = {s.host.name: "released" if s.released else "locked" for s in done}
        lost = audit.after(call.settings.home(), {**entry, "reason": reason or "", "targets": there, "result": result})
        if lost:
            call.say(f"the result is not in the audit: {lost}")
    call.show([_row(s) for s in done], lambda: screens.locks([_row(s) for s in done], _records(done)), name="host")
    return exit_over([s.status for s in done])


def _row(seen: Held) -> dict[str, Any]:
    from bbctl.render.plain import stamp

    r = seen.record
    return {
        "host": seen.host.name,
        "held": seen.held,
        "expired": seen.there and not seen.held,
        "holder": r.holder if r else None,
        "reason": r.reason if r else None,
        "since": stamp(r.since) if r else None,
        "run": r.run if r else None,
        "step": r.step if r else None,
        "renewed": stamp(r.renewed) if r else None,
        "expires": stamp(r.expires) if r else None,
        "released": seen.released,
        "status": seen.status,
        "error": seen.error,
    }


def _refusal(seen: Held) -> dict[str, Any]:
    return {"host": seen.host.name, "code": seen.status, "message": seen.error, "next": "bbctl hosts trust --help"}


def _plan(seen: Held) -> dict[str, Any]:
    return {"host": seen.host.name, "steps": [{"step": "unlock", "command": f"rm -f -- {seen.host.lock.path}"}]}


def _records(found: Sequence[Held]) -> dict[str, Any]:
    return {seen.host.name: seen.record for seen in found}


def _shown(found: Sequence[Held]) -> str:
    from bbctl.render import services as screens

    return screens.locks([_row(seen) for seen in found], _records(found))
