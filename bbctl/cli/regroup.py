"""`bbctl workflow retry --group`: one cause, its nodes frozen when confirmed, so many a second, to be gone on with."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bbctl import regroup
from bbctl.cli.audited import act
from bbctl.cli.engine import runtime, translated
from bbctl.cli.front import Call
from bbctl.cli.steer import planned
from bbctl.errors import BbctlError, NotConfirmed, StoreDown, UsageError
from bbctl.render.screen import safe

if TYPE_CHECKING:
    from bbctl.regroup import Regroup
    from engine.runtime import Runtime


def retry_group(call: Call, group: str, *, rate: float, dry_run: bool, reason: str) -> int:
    """0 if all were sent again or had moved on by themselves, 1 if some were refused."""
    from engine import explain

    home = call.settings.home()
    with runtime(call) as rt:
        cut = regroup.unfinished(home, group)
        if cut is None:
            found = explain.stuck(rt, expected=call.fleet.expected, group=group)
            if not found:
                raise UsageError(
                    f"no group {group}: its cause is gone, or never was", code="not-found", next="bbctl wf stuck"
                )
            ids, about = list(found[0].nodes), f"{found[0].name} · {found[0].client} · {found[0].because}"
        else:
            ids, about = cut.left, f"going on with a retry that was cut: {len(cut.done)} of {len(cut.ids)} done"
        value: dict[str, Any] = {"action": "retry", "group": group, "nodes": ids}
        if dry_run:
            plan = planned(value, "retry", f"bbctl wf retry --group {group}")
            call.show(
                {"dry_run": True, "plan": [plan], "refusals": []},
                lambda: f"{_plan(group, ids, about, rate)}\nnothing was changed",
            )
            return 0
        if not call.yes:
            call.say(_plan(group, ids, about, rate))
        try:
            call.confirm("Go?")
        except NotConfirmed as error:
            error.result = {**value, "outcome": "refused", "error": dict(error.as_json())}
            raise
        work = cut or regroup.begin(home, group, ids)
        with act(call, targets={"group": group, "nodes": ids}, reason=reason) as outcome:
            refused = _send(call, rt, work, rate)
            outcome["refused"] = refused
    sent = len(ids) - len(refused)
    call.show(
        {**value, "outcome": "done", "sent": sent, "refused": refused},
        lambda: f"done     {sent} run again, {len(refused)} left alone",
    )
    return 1 if refused else 0


def _plan(group: str, ids: list[str], about: str, rate: float) -> str:
    tails = " ".join(id[-8:] for id in ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
    will = f"will     retry {len(ids)}, {rate:g} a second: {tails}"
    return (
        f"{group}  {safe(about)}\n{will}\n         each runs again as its next attempt; what is below it is deactivated"
    )


def _send(call: Call, rt: Runtime, work: Regroup, rate: float) -> list[dict[str, str]]:
    """Those that were refused, with why. A store that is gone stops it: the rest stays on the list."""
    from engine import workflows

    refused = []
    by = call.settings.operator()
    following = time.monotonic()
    for id in work.left:
        time.sleep(max(0.0, following - time.monotonic()))
        following = max(following, time.monotonic()) + 1 / rate
        try:
            with translated():
                workflows.resend(rt, id, by=by)
        except StoreDown as error:
            error.next = f"bbctl wf retry --group {work.group} goes on with the {len(work.left)} that are left"
            raise
        except BbctlError as error:
            refused.append({"node": id, "message": error.message})
        work.tick(id)
    work.close()
    return refused
