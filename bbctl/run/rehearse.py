"""A rehearsal: everything that a run would ask is asked, nothing is changed; its steps say what was proven."""

from __future__ import annotations

import time
from dataclasses import replace

from bbctl.model import Fleet, HostRecord, RunRecord, StepRecord
from bbctl.run import preflight
from bbctl.run.plan import Plan, steps_for
from bbctl.run.preflight import Found
from bbctl.ssh.fanout import fanout
from bbctl.ssh.transport import Transport


def rehearse(plan: Plan, *, fleet: Fleet, transport: Transport, operator: str) -> RunRecord:
    """The record of a run that was not made. Outcome and error are those that the run would have met before it acted."""
    began = time.time()
    reached = [t.host for t in plan.targets.values() if t.facts.status == "ok"]
    found = fanout(
        reached,
        lambda host: preflight.check(
            transport, host, plan.targets[host.name].service, plan.job, known=fleet.hosts, count=True
        ),
    )
    rows = tuple(_row(plan, name, found.get(name)) for name in [*plan.order, *plan.skipped])
    refusal = plan.refused
    broken = [row for row in rows if any(s.outcome == "failed" for s in row.steps)]
    return RunRecord(
        run="rehearsal",
        kind=plan.job.kind,
        outcome="refused" if refusal else "failed" if broken else "done",
        reason=plan.job.reason,
        operator=operator,
        started=began,
        finished=time.time(),
        hosts=rows,
        error=refusal.as_json() if refusal else None,
    )


def _row(plan: Plan, name: str, found: Found | None) -> HostRecord:
    target = plan.targets[name]
    row = HostRecord(host=name, outcome="skipped" if name in plan.skipped else "untouched", vip=target.facts.vip)
    row = replace(row, hung=target.facts.process == "hung")
    if found is None:
        return replace(row, steps=(_step("lock", "failed", f"{target.facts.status}: {target.facts.error}"),))
    held = target.facts.lock
    if found.barred:
        steps = [_step("lock", "failed", found.barred)]
    elif held is None or held.left <= 0:
        steps = [_step("lock", "ok", "free")]
    else:
        steps = [_step("lock", "failed", f"held by {held.holder} ({held.run})")]
    steps.append(_step("preflight", "failed" if found.broken else "ok", found.broken or found.said))
    for step in plan.job.procedure.steps:
        if steps_for(plan.job, step, target.service) is None and (proof := found.proven.get(step.kind)):
            steps.append(_step(step.kind, "ok", proof))
    return replace(row, steps=tuple(steps))


def _step(step: str, outcome: str, detail: str) -> StepRecord:
    return StepRecord(step=step, outcome="failed" if outcome == "failed" else "ok", seconds=0.0, detail=detail)
