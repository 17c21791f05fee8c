"""`bbctl kill`: signal one proven process on each host."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bbctl.cli.front import Call, DryRun, Exclude, Label, Reason, ServiceName, Targets

if TYPE_CHECKING:
    from bbctl.kill import Aim, Killed
    from bbctl.model import Host

Pid = Annotated[
    int | None, typer.Option("--pid", metavar="N", help="This process; it must belong to a service of the host.")
]
SignalName = Annotated[
    str | None, typer.Option("-s", "--signal", metavar="NAME", help="TERM (default), KILL, QUIT, … by name or number.")
]
Nine = Annotated[bool, typer.Option("-9", help="The same as --signal KILL.")]
NoEvidence = Annotated[
    bool, typer.Option("--no-evidence", help="KILL without saving log, state and thread dumps first.")
]


def kill(
    ctx: typer.Context, target: Targets = None, exclude: Exclude = None, label: Label = None, service: ServiceName = None,
    pid: Pid = None, signal: SignalName = None, nine: Nine = False, no_evidence: NoEvidence = False,
    dry_run: DryRun = False, reason: Reason = None,
) -> int:  # fmt: skip
    """Signal the one process that is proven to be the service; nothing is guessed, and no other process can be hit.

    \b
    Examples:
      bbctl kill accounting-worker2 --service jboss          TERM, then wait for its end
      bbctl kill accounting-worker2 --service jboss -9       evidence is saved, then KILL
      bbctl kill accounting-worker2 --pid 18244 -s QUIT      a thread dump into its log
      bbctl kill accounting-worker2 -9 --dry-run             who would be hit
    """
    from bbctl import kill as killing
    from bbctl.redact import mask
    from bbctl.render import services as screens
    from bbctl.ssh.fanout import fanout
    from bbctl.ssh.transport import Transport
    from bbctl.targets import select

    call: Call = ctx.obj
    name = signal_name(signal, nine)
    hosts = select(call.fleet, target, exclude=exclude, labels=label, needed=True)
    check_words(hosts, service, pid)
    with Transport(call.fleet) as transport:
        aims = fanout(hosts, lambda host: killing.find(transport, host, service=service, pid=pid))
        if dry_run:
            result = {"dry_run": True, "plan": [_plan(aim, name, no_evidence) for aim in aims.values()],
                      "refusals": [said for aim in aims.values() if (said := _refusal(aim))]}  # fmt: skip
            call.show(result, lambda: _preview(list(aims.values()), name, no_evidence) + "\nnothing was changed")
            return 0
        if not call.yes:
            call.say(_preview(list(aims.values()), name, no_evidence))
        refused = [
            _row(killing.Killed(aim=aim, outcome="refused", error="not confirmed"), name) for aim in aims.values()
        ]
        if any(aim.proc is not None for aim in aims.values()):
            call.confirm("Go?", result=refused)
        done = _carry_out(call, transport, aims, name, no_evidence, mask(reason or ""))
    rows = [_row(one, name) for one in done]
    call.show(rows, lambda: screens.killed(rows), name="host")
    for one in done:
        if one.next and not call.json:
            call.say(f"next     {one.next}")
    return exit_of([one.outcome for one in done])


def _carry_out(
    call: Call, transport: Any, aims: dict[str, Aim], name: str, no_evidence: bool, reason: str
) -> list[Killed]:
    from bbctl import audit
    from bbctl import kill as killing
    from bbctl.render import services as screens
    from bbctl.run.holding import Holding
    from bbctl.settings import machine
    from bbctl.ssh.fanout import fanout

    home, operator, run = call.settings.home(), call.settings.operator(), f"k-{secrets.token_hex(4)}"
    act = {"operator": operator, "argv": audit.masked(call.words), "act": "kill", "run": run, "reason": reason}
    targets = {aim.host.name: screens.identity(aim.proc) for aim in aims.values()}
    audit.append(home, {**act, "targets": targets, "decision": "intent", "signal": name})
    fields = {"operator": operator, "machine": machine(), "run": run, "reason": reason}
    holding = Holding(transport, token=secrets.token_hex(16), fields=fields)
    holding.start()
    folder = home / "evidence" / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{run}"
    try:
        done = list(
            fanout(
                [aim.host for aim in aims.values()],
                lambda host: killing.carry_out(
                    transport, aims[host.name], signal=name, holding=holding, folder=folder, evidence=not no_evidence
                ),
            ).values()
        )
    finally:
        holding.close()
    result = {d.aim.host.name: d.outcome for d in done}
    if lost := audit.after(home, {**act, "targets": list(targets), "decision": "result", "result": result}):
        call.say(f"the result is not in the audit: {lost}")
    return done


def signal_name(text: str | None, nine: bool) -> str:
    """The signal meant, by name (`TERM`, `SIGTERM`, `term`) or number. UsageError for what is none, and for two at once."""
    from bbctl.errors import UsageError
    from bbctl.remote.process import NUMBERS, SIGNALS

    if text is not None and nine:
        raise UsageError("-9 and --signal exclude each other", next="bbctl kill --help")
    said = "KILL" if nine else (text or "TERM").upper().removeprefix("SIG")
    if said.isdigit():
        said = next((n for n, number in NUMBERS.items() if number == int(said)), said)
    if said not in SIGNALS:
        raise UsageError(
            f"no signal {text!r}; signals: {' '.join(SIGNALS)}", code="no-signal", next="bbctl kill --help"
        )
    return said


def check_words(hosts: Sequence[Host], service: str | None, pid: int | None) -> None:
    """What was asked for can be meant on every host. UsageError names the services to choose from."""
    from bbctl.errors import UsageError

    if pid is not None and pid < 2:
        raise UsageError(f"--pid {pid}: a pid is at least 2", code="bad-pid", next="bbctl kill --help")
    if pid is not None and len(hosts) > 1:
        raise UsageError(f"--pid is for one host, the target means {len(hosts)}", next="bbctl kill HOST --pid N")
    names = sorted({s.name for host in hosts for s in host.services})
    if service is not None and not all(host.service(service) for host in hosts):
        lacking = next(host for host in hosts if not host.service(service))
        raise UsageError(
            f"{lacking.name} has no service {service!r}; services: {', '.join(s.name for s in lacking.services) or 'none'}",
            code="no-service",
            next="bbctl hosts",
        )
    if service is None and pid is None and any(len([s for s in host.services if s.process]) != 1 for host in hosts):
        raise UsageError(
            f"--service is needed; services: {', '.join(names) or 'none'}", code="service-needed", next="bbctl hosts"
        )


def exit_of(outcomes: Sequence[str]) -> int:
    """3 where anything was refused (a key, an identity), 4 where nobody was reached, 1 where anything did not end well."""
    from bbctl.kill import GOOD
    from bbctl.ssh.fanout import exit_over

    if "refused" in outcomes:
        return 3
    return exit_over(["ok" if one in GOOD else one for one in outcomes])


def _row(one: Killed, name: str) -> dict[str, Any]:
    from bbctl.render import services as screens

    return {
        "host": one.aim.host.name,
        "pid": one.aim.pid,
        "identity": screens.identity(one.aim.proc),
        "signal": name,
        "outcome": one.outcome,
        "evidence": [str(path) for path in one.evidence],
        "error": one.error,
        "how": one.how or None,
    }


def _plan(aim: Aim, name: str, no_evidence: bool) -> dict[str, Any]:
    steps = []
    if aim.proc is not None and name == "KILL" and not no_evidence:
        steps.append({"step": "evidence", "command": "save log, process state and thread dumps"})
    if aim.proc is not None:
        steps.append({"step": "kill", "command": f"kill -s {name} -- {aim.proc.pid}"})
    return {"host": aim.host.name, "steps": steps}


def _refusal(aim: Aim) -> dict[str, Any] | None:
    """Why nothing would be signalled on a host, where that is refused."""
    from bbctl.run import plan as planning

    if aim.outcome in ("refused", "host-key"):
        return {"host": aim.host.name, "code": aim.outcome, "message": aim.error, "next": aim.next}
    if aim.proc is not None and aim.lock is not None:
        return planning.held(aim.host.name, aim.lock).as_json()
    return None


def _preview(aims: Sequence[Aim], name: str, no_evidence: bool) -> str:
    from bbctl.render import services as screens

    lines = []
    for aim in aims:
        if aim.proc is None:
            lines.append(f"{aim.host.name}  {aim.outcome}" + (f": {aim.error}" if aim.error else ""))
        else:
            first = "evidence → " if name == "KILL" and not no_evidence else ""
            held = f"\n  locked by {screens.lock_words(aim.lock)}" if aim.lock else ""
            lines.append(f"{aim.host.name}  {screens.proc_line(aim.proc)}{held}\n  will  {first}{name} {aim.proc.pid}")
    return "\n".join(lines)
