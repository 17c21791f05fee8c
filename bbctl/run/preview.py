"""What a plan would run, as text for people: the exact command of every step on every host. Changes and asks nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bbctl.drain import Gate
from bbctl.durations import format_duration
from bbctl.model import Facts, Service
from bbctl.remote.service import words
from bbctl.remote.shell import join
from bbctl.run.plan import Job, Plan, Target, steps_for
from bbctl.run.playbook import Step


def as_json(plan: Plan, gate: Callable[[Target], Gate]) -> dict[str, Any]:
    """The dry run as promised. `gate` gives a host's way out of its VIP, for the words that it would use."""
    names = [*plan.order, *plan.skipped]
    return {
        "dry_run": True,
        "plan": [{"host": n, "steps": host_steps(plan, plan.targets[n], gate)} for n in names],
        "batches": [list(batch) for batch in plan.batches],
        "refusals": [r.as_json() for r in plan.refusals if not (r.forced and plan.job.force)],
    }


def host_steps(plan: Plan, target: Target, gate: Callable[[Target], Gate]) -> list[dict[str, str]]:
    """Step and command, in order; none on a host that is already as wanted."""
    if target.name in plan.skipped:
        return []
    if target.facts.status != "ok":
        return [{"step": "lock", "command": f"none: {target.facts.status}: {target.facts.error}"}]
    made = [
        ("lock", f"take {target.host.lock.path}, renewed until the end"),
        ("preflight", "process, disks, sudo, commands and VIP proven; nothing changed"),
    ]
    for step in plan.job.procedure.steps:
        command = command_of(step, target, plan.job, gate)
        if command is not None:
            made.append((step.kind, command))
    return [
        {"step": step, "command": command} for step, command in [*made, ("unlock", f"rm -f {target.host.lock.path}")]
    ]


def command_of(step: Step, target: Target, job: Job, gate: Callable[[Target], Gate]) -> str | None:
    """What one step would run; None where it does not apply."""
    if steps_for(job, step, target.service) is not None:
        return None
    command = _COMMANDS[step.kind](step, target, gate)
    if command is None:
        return None
    conditions = [f"when {step.when}"] if step.when and not _holds(step.when, target.facts) else []
    conditions += [f"unless {step.unless}"] if step.unless else []
    return f"{', '.join(conditions)}: {command}" if conditions else command


def _holds(fact: str, facts: Facts) -> bool:
    return fact in (facts.process, facts.vip)


def _drain(step: Step, t: Target, gate: Callable[[Target], Gate]) -> str | None:
    return None if t.facts.vip == "out" else gate(t).command("out")


def _settle(step: Step, t: Target, gate: Callable[[Target], Gate]) -> str | None:
    if t.facts.vip == "out" or t.facts.process == "stopped":
        return None
    span = float(step.args.get("for", gate(t).drain.settle))
    until = ", or until its sessions are 0" if gate(t).drain.kind == "haproxy" else ""
    return f"wait {format_duration(span)}{until}"


def _stop(step: Step, t: Target, gate: Callable[[Target], Gate]) -> str | None:
    if t.facts.process in ("stopped", "hung"):
        return None
    return f"{_command(t.service, 'stop')}, then wait up to {format_duration(t.service.stop_timeout)}"


def _evidence(step: Step, t: Target, gate: Callable[[Target], Gate]) -> str | None:
    how = {"sigquit": "kill -QUIT", "jstack": "jstack", "none": ""}[t.service.thread_dump]
    dumps = f"{step.args['dumps']} × {how} {_pid(t)}, " if how else ""
    return f"{dumps}{step.args['log_lines']} lines of {t.service.log or 'no log'}"


def _kill(step: Step, t: Target, gate: Callable[[Target], Gate]) -> str | None:
    user = t.service.process.user if t.service.process else "?"
    return f"kill -{step.args['signal']} {_pid(t)} (proven to be the {t.service.name} of {user} in the same step)"


def _pid(t: Target) -> str:
    return str(t.facts.proc.pid) if t.facts.proc else "PID"


def _start(step: Step, t: Target, gate: Callable[[Target], Gate]) -> str | None:
    return f"{_command(t.service, 'start')}, then wait up to {format_duration(t.service.start_timeout)}"


def _command(service: Service, verb: str) -> str:
    return join(words(service.stop if verb == "stop" else service.start, service.run_as))


def _started(step: Step, t: Target, gate: Callable[[Target], Gate]) -> str | None:
    return f"wait for /{t.service.started}/ in {t.service.log}"


def _health(step: Step, t: Target, gate: Callable[[Target], Gate]) -> str | None:
    check = t.service.health
    if check is None:
        return None
    times = step.args.get("times", check.times)
    return f"GET {check.url} until {times} good answers in a row"


def _undrain(step: Step, t: Target, gate: Callable[[Target], Gate]) -> str | None:
    return gate(t).command("in")


_COMMANDS: dict[str, Callable[[Step, Target, Callable[[Target], Gate]], str | None]] = {
    "drain": _drain,
    "settle": _settle,
    "stop": _stop,
    "evidence": _evidence,
    "kill": _kill,
    "start": _start,
    "started": _started,
    "health": _health,
    "undrain": _undrain,
}
