"""Everything that can be proven before anything is touched: who the process is, room on disks, sudo, the VIP, the commands.

The same questions answer `--rehearse`. Nothing here changes a host.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from bbctl.durations import format_duration
from bbctl.look import Seen, look_closely
from bbctl.model import Host, Process, Service
from bbctl.remote import lock, sudo
from bbctl.remote.sections import apart, together
from bbctl.remote.shell import join, quote, script
from bbctl.run import fits
from bbctl.run.plan import Job, has_vip
from bbctl.ssh.transport import Transport

ROOM = 1 << 20  # bytes that a file system must have free: with less, neither log nor pid file can be written

KILL = ("/bin/kill", "-s", "KILL", "--", "4194305")  # beyond every pid: what is asked is whether it may be said

_RUNNABLE = """
if test -x {path} || {{ case {path} in */*) false;; *) command -v {path} >/dev/null 2>&1;; esac; }}; then echo yes
else echo no; fi
"""
_WRITABLE = """
d=$(dirname -- {path})
if [ -w "$d" ] && [ -x "$d" ]; then echo yes; else echo "$d may not be written to by $(id -un)"; fi
"""


@dataclass(frozen=True, kw_only=True)
class Found:
    """`broken`: the first reason not to touch the host; `barred`: why its lock could not be taken. `proven`: step name → what
    was proven for it. `remarks`: warnings. `hits`: how often the patterns of the service fit its logs; `misfits`: what is
    wrong with those that never do."""

    seen: Seen
    broken: str | None
    proven: dict[str, str]
    remarks: tuple[str, ...] = ()
    hits: fits.Hits = field(default_factory=dict)
    misfits: tuple[str, ...] = ()
    barred: str | None = None

    @property
    def said(self) -> str:
        """Who it is, and every warning, in one line."""
        return "; ".join([self.proven["preflight"], *self.remarks, *self.misfits])


def check(
    transport: Transport, target: Host, service: Service, job: Job, *, known: Mapping[str, Host], count: bool = False
) -> Found:
    """Ask the host everything. Never raises for what it finds. `count`: how often the patterns fit its logs, which takes a
    while; else only whether they do."""
    seen = look_closely(transport, [target], known=known, service=service.name)[0]
    facts = seen.facts
    if facts.status != "ok":
        return Found(seen=seen, broken=f"{facts.status}: {facts.error}", proven={})
    if facts.ambiguous:
        return Found(seen=seen, broken=facts.error or facts.ambiguous, proven={})
    answers = _ask(transport, target, service, job)
    wrong = _broken(answers, service)
    full = [f"{path} has {free // 1024} KiB free" for path, free in sorted(facts.disk_free.items()) if free < ROOM]
    filling = job.procedure.has(
        "start", "started"
    )  # what takes a host out of service is wanted most where a disk is full
    reasons = [
        *(full if filling else []),
        *([] if facts.vip != "unknown" or not _moves(job, service) else [f"the VIP's state: {facts.vip_error}"]),
        *wrong.values(),
        *_unprovable(seen, service, job),
    ]
    proven = {"preflight": who(seen)}
    proven |= {n: _proof(n, service) for n in ("drain", "stop", "start") if n in answers and n not in wrong}
    if facts.health == "ok":
        proven["health"] = f"answers now: {seen.health_detail[:80]}"
    names = fits.needed(job.procedure)
    hits = fits.count(transport, target, service, names) if count else fits.met(transport, seen, names)
    return Found(
        seen=seen,
        broken="; ".join(reasons) or None,
        proven=_with_hits(proven, hits) if count else proven,
        remarks=(*([] if filling else full), *_remarks(seen, service, _no_kill(answers, target, service))),
        misfits=tuple(fits.warning(service, name) for name, n in hits.items() if n == 0),
        hits=hits,
        barred=None if answers["lock"] == "yes" else f"the lock could not be taken: {answers['lock']}",
    )


def _with_hits(proven: dict[str, str], hits: fits.Hits) -> dict[str, str]:
    """What was proven of a step, with how often the patterns fit that judge it."""
    told = dict(proven)
    for name, n in hits.items():
        step = "started" if name == "started" else "stop"
        if n is not None and (step == "started" or step in proven):
            said = f"`{name}` fits {n} line{'' if n == 1 else 's'} of the log"
            told[step] = f"{told[step]}; {said}" if step in told else said
    return told


def who(seen: Seen) -> str:
    """The proven process in one line: `18244 is jboss, org.jboss.Main -c accounting, up 12d 4h`."""
    proc = seen.facts.proc
    if seen.service.process is None:
        return "no process is named in the inventory"
    if proc is None:
        return "not running"
    return f"{proc.pid} is {proc.user}, {_matched(seen.service.process, proc.command)}, up {format_duration(proc.age)}"


def _matched(process: Process, command: str) -> str:
    """What of a command line `match` found: hundreds of a JVM's options say nothing to a person."""
    found = re.search(process.match, command, re.IGNORECASE)
    return (found[0].strip() if found else "")[:160] or command[:160]


def _moves(job: Job, service: Service) -> bool:
    return job.drain and has_vip(service) and job.procedure.has("drain", "undrain")


def _ask(transport: Transport, target: Host, service: Service, job: Job) -> dict[str, str]:
    parts = {"lock": lock.probe(target.lock)}
    for verb, argv in _verbs(service):
        if argv and job.procedure.has(verb):
            asked = sudo.may(service.run_as, argv) if service.run_as else _RUNNABLE.format(path=quote(argv[0]))
            parts[verb] = asked
    if (owner := _owner(target, service)) and job.procedure.has("kill"):
        parts["kill"] = sudo.may(owner, KILL)
    drain = service.vip.drain if service.vip else None
    if drain and drain.kind == "file" and _moves(job, service):
        parts["drain"] = _WRITABLE.format(path=quote(drain.path or ""))
    marker = secrets.token_hex(8)
    ran = transport.run(target, script(together(parts, marker=marker)), timeout=15.0)
    said = apart(ran.stdout, marker=marker)
    return {name: said.get(name, b"no the host did not say").decode("utf-8", "replace").strip() for name in parts}


def _owner(target: Host, service: Service) -> str | None:
    """The user to be, by sudo, to signal the service; None where we log in as that or as root."""
    user = service.process.user if service.process else None
    return None if user in (target.ssh.user, None) or target.ssh.user == "root" else user


def _verbs(service: Service) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return ("stop", service.stop), ("start", service.start)


def _broken(answers: dict[str, str], service: Service) -> dict[str, str]:
    """What was asked for and is not so: step name → why."""
    found = {}
    if (said := answers.get("drain", "yes")) != "yes":
        found["drain"] = said
    for verb, argv in _verbs(service):
        if verb not in answers:
            continue
        if service.run_as is None:
            why = None if answers[verb] == "yes" else f"the {verb} command {argv[0]} is not there, or may not be run"
        elif why := sudo.refusal(answers[verb], service.run_as, argv):
            why = f"sudo -n -u {service.run_as} {join(argv)}: {why}"
        if why:
            found[verb] = why
    return found


def _proof(name: str, service: Service) -> str:
    if name == "drain":
        return "its folder may be written to"
    return f"{join(service.stop if name == 'stop' else service.start)} is there and may be run"


def _unprovable(seen: Seen, service: Service, job: Job) -> list[str]:
    """A start that only the log can prove, and a log that may not be read: it would be called failed whatever it did."""
    needed = service.started and job.procedure.has("started")
    if not needed or seen.tail is None or seen.tail.state != "denied":
        return []
    return [f"the log {service.log} {seen.tail.why}, so no start could be proven"]


def _no_kill(answers: dict[str, str], target: Host, service: Service) -> str | None:
    """Why a hang could not be ended; it is no reason to refuse what may never hang."""
    owner = _owner(target, service)
    why = sudo.refusal(answers["kill"], owner, KILL) if owner and "kill" in answers else None
    return f"a hang could not be ended: sudo -n -u {owner} kill: {why}" if why else None


def _remarks(seen: Seen, service: Service, no_kill: str | None) -> list[str]:
    said = [no_kill] if no_kill else []
    if service.log and seen.tail is not None and seen.tail.state != "ok":
        said.append(f"the log {service.log} {'is missing' if seen.tail.state == 'missing' else seen.tail.why}")
    return said
