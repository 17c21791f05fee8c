"""Everything that can be proven before anything is touched: who the process is, room on disks, sudo, the VIP, the commands.

The same questions answer `--rehearse`. Nothing here changes a host.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from bbctl.durations import format_duration
from bbctl.look import Seen, look_closely
from bbctl.model import Host, Process, Service
from bbctl.remote.sections import apart, sh, together
from bbctl.remote.shell import join, quote
from bbctl.run.plan import Job, has_vip
from bbctl.ssh.transport import Transport

ROOM = 1 << 20  # bytes that a file system must have free: with less, neither log nor pid file can be written

_RUNNABLE = """
if {become}test -x {path} || {{ case {path} in */*) false;; *) command -v {path} >/dev/null 2>&1;; esac; }}; then echo yes
else echo no; fi
"""
_WRITABLE = """
d=$(dirname -- {path})
if [ -w "$d" ] && [ -x "$d" ]; then echo yes; else echo "$d may not be written to by $(id -un)"; fi
"""


@dataclass(frozen=True, kw_only=True)
class Found:
    """`broken`: the first reason not to touch the host. `proven`: step name → what was proven for it. `remarks`: warnings."""

    seen: Seen
    broken: str | None
    proven: dict[str, str]
    remarks: tuple[str, ...] = ()


def check(transport: Transport, target: Host, service: Service, job: Job, *, known: Mapping[str, Host]) -> Found:
    """Ask the host everything. Never raises for what it finds."""
    seen = look_closely(transport, [target], known=known, service=service.name)[0]
    facts = seen.facts
    if facts.status != "ok":
        return Found(seen=seen, broken=f"{facts.status}: {facts.error}", proven={})
    if facts.ambiguous:
        return Found(seen=seen, broken=facts.error or facts.ambiguous, proven={})
    answers = _ask(transport, target, service, job)
    full = [f"{path} has {free // 1024} KiB free" for path, free in sorted(facts.disk_free.items()) if free < ROOM]
    reasons = [
        *full,
        *([] if facts.vip != "unknown" or not _moves(job, service) else [f"the VIP's state: {facts.vip_error}"]),
        *_broken(answers, service),
    ]
    proven = {
        "preflight": who(seen),
        **{n: _proof(n, service) for n in ("drain", "stop", "start") if answers.get(n) == "yes"},
    }
    if facts.health == "ok":
        proven["health"] = f"answers now: {seen.health_detail[:80]}"
    return Found(seen=seen, broken="; ".join(reasons) or None, proven=proven, remarks=_remarks(seen, service))


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
    become = f"sudo -n -u {quote(service.run_as)} -- " if service.run_as else ""
    parts = {}
    if become:
        parts["sudo"] = f"if {become}true; then echo yes; fi 2>&1"
    for verb, argv in (("stop", service.stop), ("start", service.start)):
        if argv and job.procedure.has(verb):
            parts[verb] = _RUNNABLE.format(become=become, path=quote(argv[0]))
    drain = service.vip.drain if service.vip else None
    if drain and drain.kind == "file" and _moves(job, service):
        parts["drain"] = _WRITABLE.format(path=quote(drain.path or ""))
    if not parts:
        return {}
    marker = secrets.token_hex(8)
    ran = transport.run(target, sh(together(parts, marker=marker)), timeout=15.0)
    said = apart(ran.stdout, marker=marker)
    return {name: said.get(name, b"no answer").decode("utf-8", "replace").strip() for name in parts}


def _broken(answers: dict[str, str], service: Service) -> list[str]:
    """What was asked for and is not so. Where sudo is denied nothing is known of the commands that it would run."""
    names = ("drain",) if _wrong("sudo", answers, service) else ("drain", "stop", "start")
    return [why for name in ("sudo", *names) if (why := _wrong(name, answers, service))]


def _wrong(name: str, answers: dict[str, str], service: Service) -> str | None:
    answer = answers.get(name, "yes")
    if answer == "yes":
        return None
    if name == "sudo":
        return f"sudo -n -u {service.run_as} is denied: {answer[-160:]}"
    if name == "drain":
        return answer
    argv = service.stop if name == "stop" else service.start
    return f"the {name} command {argv[0]} is not there, or may not be run"


def _proof(name: str, service: Service) -> str:
    if name == "drain":
        return "its folder may be written to"
    return f"{join(service.stop if name == 'stop' else service.start)} is there and may be run"


def _remarks(seen: Seen, service: Service) -> tuple[str, ...]:
    """A pattern that fits nothing turns a clean stop into a kill, or fails every start: better said before."""
    said = []
    if service.log and seen.tail is not None and seen.tail.state != "ok":
        said.append(f"the log {service.log} is {seen.tail.state}")
        return tuple(said)
    whole = seen.tail is not None and seen.tail.start == 0 and seen.facts.process == "running"
    if whole and service.started and seen.verdict.word is None:
        said.append(f"`started` {service.started!r} fits no line of {service.log} since the process began")
    return tuple(said)
