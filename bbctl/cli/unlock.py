"""`bbctl unlock`: release the locks of hosts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from bbctl.cli.front import Call, DryRun, Exclude, Label, Reason, Targets

if TYPE_CHECKING:
    from bbctl.ssh.transport import Transport
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
    from bbctl import unlock
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
        locked = [seen for seen in found if seen.there]
        names = ", ".join(seen.host.short for seen in locked)
        call.confirm(f"Release {names or 'nothing'}?", result=[_row(seen) for seen in found])
        done = {seen.host.name: seen for seen in found} | _released(call, transport, locked, reason or "")
    rows = [_row(seen) for seen in done.values()]
    call.show(rows, lambda: screens.locks(rows, _records(list(done.values()))), name="host")
    return exit_over([s.status for s in done.values()])


def _released(call: Call, transport: Transport, locked: Sequence[Held], reason: str) -> dict[str, Held]:
    """The locks that were shown, let go; on record before and after."""
    from bbctl import unlock
    from bbctl.cli.audited import act
    from bbctl.ssh.fanout import fanout

    if not locked:
        return {}
    seen = {one.host.name: one for one in locked}
    with act(call, targets={"hosts": list(seen)}, reason=reason) as outcome:
        done = fanout([one.host for one in locked], lambda host: unlock.release(transport, seen[host.name]))
        outcome["result"] = {name: "released" if one.released else "locked" for name, one in done.items()}
    return done


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
