"""What all commands that carry out a playbook share: resolve, look, plan, refuse, ask, carry out, show, the exit code."""

from __future__ import annotations

import errno
import json
import re
import secrets
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bbctl import audit
from bbctl.capacity import Refusal
from bbctl.cli import copying
from bbctl.cli.front import Call
from bbctl.drain import Gate
from bbctl.durations import format_duration
from bbctl.errors import BbctlError, ConfigError, Interrupted, NotConfirmed, UsageError
from bbctl.model import Host, RunOutcome, RunRecord
from bbctl.near import hint
from bbctl.redact import mask
from bbctl.remote import lease
from bbctl.render import run as render
from bbctl.render import screen
from bbctl.run import journal, preview, rehearse, runner
from bbctl.run.halt import Halt, listening
from bbctl.run.journal import Journal
from bbctl.run.plan import Job, Plan, Target
from bbctl.run.playbook import Procedure, Step, Strategy
from bbctl.settings import shipped
from bbctl.ssh.transport import Transport

ASKED = {
    1: "will finish this host, then stop; once more stops at once",
    2: "stopping at once",
}


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a run is to be gone about. `resumed`: the run that is gone on with, `retrying` its journal (None: a dry run, which
    only read it), `known` what it knew of its hosts, `first` those that failed. `refusals`: what is known to be in its way."""

    dry_run: bool = False
    rehearse: bool = False
    resumed: str = ""
    retrying: Journal | None = None
    known: Mapping[str, dict[str, Any]] | None = None
    first: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    keep: Path | None = None  # where a dry run is kept, to be approved
    approved: list[dict[str, Any]] | None = None  # the plan that was: anything else is refused


def playbook_folders(call: Call) -> list[Path]:
    """Where playbooks are looked for: the site's own folder, then the shipped one."""
    return list(dict.fromkeys([Path(call.settings.playbooks().value), shipped("playbooks")]))


def service_for(hosts: Sequence[Host], name: str | None) -> str:
    """The service meant: the one named, or the only one there is. UsageError names the choices."""
    have = {s.name for host in hosts for s in host.services}
    if name is None:
        if len(have) == 1:
            name = next(iter(have))
        elif not have:
            raise UsageError(f"no service is named for {hosts[0].name} in the inventory", next="bbctl config check")
        else:
            raise UsageError(
                f"several services: {', '.join(sorted(have))}", next="add --service NAME", code="service-needed"
            )
    lacking = [host.name for host in hosts if host.service(name) is None]
    if lacking:
        near = "" if name in have else hint(name, have)
        raise UsageError(f"{lacking[0]} has no service {name!r}{near}", next="bbctl hosts -o json")
    return name


def go(call: Call, job: Job, hosts: Sequence[Host], manner: Manner) -> int:
    """Look, plan, and do what was asked for. The exit code."""
    job = replace(job, reason=mask(job.reason))
    with Transport(call.fleet) as transport:
        plan = runner.look_and_plan(
            job, hosts, fleet=call.fleet, transport=transport, run=manner.resumed, first=manner.first
        )
        plan = replace(plan, refusals=(*manner.refusals, *plan.refusals))
        if manner.dry_run:
            value = preview.as_json(plan, lambda t: gate(t, call, transport))
            if manner.keep is not None:
                _keep(manner.keep, value)
            call.show(value, lambda: render.dry_run(value))
            return 0
        if manner.approved is not None:
            now = preview.as_json(plan, lambda t: gate(t, call, transport))["plan"]
            plan = replace(plan, refusals=(*plan.refusals, *_changed(manner.approved, now)))
        if manner.rehearse:
            return _rehearsed(call, plan, transport)
        return _carried_out(call, plan, transport, manner)


def _keep(path: Path, value: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--plan {path}: {error.strerror}") from None


def _changed(approved: list[dict[str, Any]], now: list[dict[str, Any]]) -> list[Refusal]:
    """Why an approved plan no longer holds: the first thing that would be done otherwise."""
    if approved == now:
        return []
    before, after = _flat(approved), _flat(now)
    other = next((a for a in after if a not in before), None) or next(
        (b for b in before if b not in after), "the order"
    )
    return [Refusal(code="plan-changed", message=f"the plan is not the approved one any more: {other}")]


def _flat(plan: list[dict[str, Any]]) -> list[str]:
    return [f"{row.get('host')} {s.get('step')}: {s.get('command')}" for row in plan for s in row.get("steps", [])]


def gate(target: Target, call: Call, transport: Transport) -> Gate:
    """A host's way out of its VIP; only asked for where it has one."""
    assert target.service.vip is not None
    assert target.service.vip.drain is not None
    return Gate(transport=transport, hosts=call.fleet.hosts, host=target.host, drain=target.service.vip.drain)


def begin_of(call: Call, plan: Plan) -> dict[str, Any]:
    """What a journal says first: everything that a resume needs to do the same."""
    job = plan.job
    return {
        "kind": job.kind,
        "reason": job.reason,
        "operator": call.settings.operator(),
        "inventory": str(call.fleet.source) if call.fleet.source else None,
        "hosts": [*plan.order, *plan.skipped],
        "service": job.service,
        "procedure": asdict(job.procedure),
        "drain": job.drain,
        "force": job.force,
        "lease": job.lease,
    }


def job_of(begin: Mapping[str, Any]) -> Job:
    """The job of an earlier run, from its journal. ConfigError where somebody edited it."""
    try:
        return _job(begin, begin["procedure"])
    except (KeyError, TypeError) as error:
        raise ConfigError(f"the journal of run {begin['run']} does not say what was asked for: {error}") from None


def _job(begin: Mapping[str, Any], said: Mapping[str, Any]) -> Job:
    procedure = Procedure(
        name=said["name"],
        steps=tuple(Step(**s) for s in said["steps"]),
        strategy=Strategy(**said["strategy"]),
        goal=said["goal"],
    )
    return Job(
        kind=begin["kind"],
        procedure=procedure,
        service=begin["service"],
        reason=begin["reason"],
        drain=begin["drain"],
        force=begin["force"],
        lease=begin["lease"],
    )


def _rehearsed(call: Call, plan: Plan, transport: Transport) -> int:
    record = rehearse.rehearse(plan, fleet=call.fleet, transport=transport, operator=call.settings.operator())
    call.show(journal.as_json(record), lambda: render.show(record, next=None))
    return runner.exit_of(record, statuses=[t.facts.status for t in plan.targets.values()])


def _carried_out(call: Call, plan: Plan, transport: Transport, manner: Manner) -> int:
    home = call.settings.home()
    book = manner.retrying or Journal.create(home, begin_of(call, plan))
    halt = Halt(transport.stop)
    copying.beside(call, book.run)
    try:
        _permit(call, plan, book, resumed=manner.retrying is not None)
        if manner.retrying is not None:
            book.write("resume", token=secrets.token_hex(32), operator=call.settings.operator())
        run = runner.Run(
            plan=plan,
            journal=book,
            fleet=call.fleet,
            transport=transport,
            halt=halt,
            operator=call.settings.operator(),
            known=manner.known or {},
        )
        record, drawn = _with_progress(call, run, halt)
    finally:
        book.close()
    code = runner.exit_of(record, statuses=[t.facts.status for t in plan.targets.values()], signal=halt.signal)
    _audit(call, plan, book, result=record.outcome, exit=code)
    try:
        call.show(journal.as_json(record), lambda: render.result(record, drawn=drawn, next=next_for(record)))
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        # The terminal is gone, and its hang-up was heard: the exit code is all that can still be told.
    return code


def or_resume(home: Path, plan: Plan, refusal: Refusal) -> Refusal:
    """Where the lock is that of a run which was cut short on this machine: going on with that run is what to do."""
    lock = plan.targets[refusal.host].facts.lock if refusal.code == "locked" and refusal.host else None
    if lock is None or not any(r.run == lock.run and r.outcome == "interrupted" for r in journal.every(home)):
        return refusal
    return replace(refusal, next=f"bbctl runs resume {lock.run} · {refusal.next}")


def _permit(call: Call, plan: Plan, book: Journal, *, resumed: bool) -> None:
    """Refused, or asked and answered yes. What ends here is a refused run, with its record; a run that was to be resumed
    stays what it was."""
    refusal = plan.refused
    try:
        if refusal is not None:
            raise or_resume(call.settings.home(), plan, refusal).error()
        _confirm(call, plan)
    except (BbctlError, KeyboardInterrupt) as error:
        said = error if isinstance(error, BbctlError) else Interrupted("interrupted: nothing was changed")
        outcome: RunOutcome = "refused" if said.exit == 3 else "interrupted"
        if not resumed:
            book.write("end", outcome=outcome, error=dict(said.as_json()))
        _audit(call, plan, book, result=outcome, exit=said.exit)
        said.result = journal.as_json(replace(book.record(), outcome=outcome, error=said.as_json()))
        raise said from None
    _audit(call, plan, book, decision="asked" if not call.yes else "--yes")


def _with_progress(call: Call, run: runner.Run, halt: Halt) -> tuple[RunRecord, bool]:
    """Carry out with the live picture. The second: whether the hosts stand on the screen already."""
    quiet = call.output in ("json", "yaml") and not sys.stderr.isatty()
    progress = render.Progress(run.plan.order, quiet=quiet)
    warn = screen.err if quiet else progress.say  # that a signal was heard is said to everybody
    progress.say(f"run {run.journal.run} · Ctrl-C finishes the host under way, then stops")
    run.journal.report = progress.event
    with progress, listening(halt, lambda times: warn(ASKED[times])):
        return run.carry_out(), progress.drawn and sys.stdout.isatty()


def next_for(record: RunRecord) -> str | None:
    """What to type after a run, the most useful first."""
    if record.outcome == "done":
        return None
    if record.outcome == "running":
        return f"bbctl runs show {record.run} -w"
    if record.outcome == "refused":
        said = str((record.error or {}).get("next") or "")
        foreign = record.elsewhere is not None and re.search(r"[;&|<>`$\n]", said)  # more than a command of ours
        return said if said and not foreign else None
    if where := record.elsewhere:
        free = f" · bbctl unlock {','.join(short)}" if (short := _cut_short(record)) else ""
        home = f"BBCTL_HOME={shlex.quote(where.home)} " if where.home else ""
        return screen.safe(f"on {where.machine}: {home}bbctl runs resume {record.run}{free}")
    bad = [h.host.split(".", 1)[0] for h in record.hosts if h.outcome in ("failed", "interrupted")]
    look = f" · bbctl diagnose {','.join(bad)}" if bad else ""
    return f"bbctl runs resume {record.run}{look}"


def _cut_short(record: RunRecord) -> list[str]:
    return [h.host.split(".", 1)[0] for h in record.hosts if h.outcome == "interrupted"]


# -- the question --------------------------------------------------------------------------------------------------


def _confirm(call: Call, plan: Plan) -> None:
    if call.yes:
        return
    if not call.can_ask:
        raise NotConfirmed(
            f"not confirmed: {plan.job.kind} of {', '.join(plan.targets)} needs --yes where there is no terminal to ask on",
            next="the same command with --yes, or --dry-run",
        )
    screen.err(_question(call, plan))
    while True:
        screen.err("Go? [y/N/d = show every command] ", end="")
        answer = sys.stdin.readline().strip().lower()
        if answer in ("y", "yes"):
            return
        if answer != "d":
            raise NotConfirmed("not confirmed: nothing was changed")
        with Transport(call.fleet) as transport:
            screen.err(render.plan_text(preview.as_json(plan, lambda t: gate(t, call, transport))))


def _question(call: Call, plan: Plan) -> str:
    head = f"{call.fleet.site} · {call.fleet.source} · {plan.job.kind} {len(plan.order)} of {len(plan.targets)} hosts"
    rows = [(t.name, found_text(t)) for t in plan.targets.values()]
    chain = " → ".join(_chain(plan))
    will = [chain] if chain else ["nothing: all hosts are already so"]
    if len(plan.batches) > 1:
        will.append("in turn: " + " → ".join("+".join(n.split(".", 1)[0] for n in batch) for batch in plan.batches))
    warnings = [r.message + " (--force goes on)" for r in plan.refusals if r.forced and plan.job.force]
    return render.question(head, rows, will, warnings)


def found_text(target: Target) -> str:
    """What was found of a host, in a few words."""
    f = target.facts
    if f.status != "ok":
        return f"{f.status}: {f.error}"
    since = f" since {screen.clock(f.hung_since)}" if f.process == "hung" and f.hung_since else ""
    pid = f" {f.proc.pid}, up {format_duration(f.proc.age)}" if f.proc else ""
    parts = [
        f"{f.process}{since}{pid}",
        f"health {f.health}",
        "no VIP" if f.vip == "none" else f"{f.vip} of VIP" if f.vip == "out" else f"VIP: {f.vip}",
    ]
    if f.lease is not None:
        parts.append(f"drained by {lease.words(f.lease)}")
    if f.lock is not None:
        parts.append(f"lock of {f.lock.holder}" + (" expired" if f.lock.left <= 0 else f" ({f.lock.run})"))
    return " · ".join(parts)


def _chain(plan: Plan) -> list[str]:
    """The steps in one line, for the first host; what only a hang brings about is left out unless it hangs."""
    first = next((plan.targets[n] for n in plan.order), None)
    if first is None:
        return []
    hung = any(plan.targets[n].facts.process == "hung" for n in plan.order)
    words = []
    for step in plan.job.procedure.steps:
        if step.when == "hung" and not hung:
            continue
        if (step.kind in ("drain", "settle", "undrain") and not plan.job.drain) or step.kind == "settle":
            continue
        pid = f" {first.facts.proc.pid}" if step.kind == "kill" and first.facts.proc else ""
        words.append({"kill": f"kill -9{pid}", "undrain": "VIP"}.get(step.kind, step.kind))
    return words


# -- the audit -----------------------------------------------------------------------------------------------------


def _audit(call: Call, plan: Plan, book: Journal, **more: Any) -> None:
    entry = {
        "operator": call.settings.operator(),
        "command": call.command,
        "argv": audit.masked(call.words),
        "targets": list(plan.targets),
        "run": book.run,
        "kind": "result" if "result" in more else "intent",
    }
    if "result" not in more:
        audit.append(call.settings.home(), {**entry, **more})
    elif lost := audit.after(call.settings.home(), {**entry, **more}):
        call.say(f"the result is not in the audit: {lost}")
