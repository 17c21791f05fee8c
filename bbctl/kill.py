"""Signal one proven process on each host: found by the service's rule or by pid, evidence first where it is a KILL.

Looked for first (`find`), shown and confirmed by the caller, then carried out (`carry_out`) under the host's lock: the
identity is proven again in the remote step that signals.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bbctl import evidence as saving
from bbctl.look import AGAIN, WITHIN, choose, pid_said
from bbctl.model import Host, LockRecord, Proc, Ran, Service
from bbctl.remote import lock, process
from bbctl.remote.sections import apart, together
from bbctl.remote.shell import script
from bbctl.run import plan as planning
from bbctl.run.holding import Holding, LockLost
from bbctl.ssh.transport import NotLoggedIn, Session, Transport

ENDS = ("TERM", "KILL")  # signals after which we wait for the end
KILLED = 10.0  # seconds for a process to be gone after KILL
REAPED = 2.0  # seconds for a parent to take note of a child's end, before it is called a zombie
STEP = 5.0  # seconds of one remote wait
GOOD = ("ended", "signalled", "gone")


@dataclass(frozen=True, kw_only=True)
class Aim:
    """What was found for one host. `outcome` is set where nothing is to be done (gone, zombie, refused, or why it was not
    reached); else `proc` is the one, a process of `service`. `lock`: the one that another run holds there."""

    host: Host
    pid: int | None = None
    proc: Proc | None = None
    service: Service | None = None
    outcome: str | None = None
    error: str | None = None
    next: str | None = None
    lock: LockRecord | None = None


@dataclass(frozen=True, kw_only=True)
class Killed:
    """How it ended on one host; `outcome` in the words of `bbctl kill`."""

    aim: Aim
    outcome: str
    evidence: tuple[Path, ...] = ()
    error: str | None = None
    next: str | None = None
    how: str = ""


# -- look ------------------------------------------------------------------------------------------------------


def find(transport: Transport, host: Host, *, service: str | None, pid: int | None) -> Aim:
    """The process meant on a host. Changes nothing; raises nothing a host may cause."""
    try:
        session = transport.open(host)
        return _find(session, host, service, pid)
    except NotLoggedIn as error:
        return Aim(host=host, pid=pid, outcome=error.status, error=error.message, next=error.next)
    except ValueError as error:
        return Aim(host=host, pid=pid, outcome="failed", error=str(error))


def _find(session: Session, host: Host, service: str | None, pid: int | None) -> Aim:
    asked = [s for s in host.services if s.process and service in (None, s.name)]
    if not asked:
        return Aim(host=host, pid=pid, outcome="refused", error="no service of this host says which process it is")
    listed, files, more = _ask(session, asked, pid)
    held = lock.understand(more["lock"]).record
    held = held if held is not None and held.left > 0 else None
    if pid is not None:
        stat = more["stat"].decode("utf-8", "replace")
        return replace(_by_pid(host, asked, listed, files, pid, stat), lock=held)
    own = asked[0]
    found = choose(listed, own, files.get(own.name))
    if found.ambiguous:
        time.sleep(AGAIN)
        listed, files, _ = _ask(session, asked, pid)
        found = choose(listed, own, files.get(own.name))
    if found.ambiguous:
        error = f"{found.ambiguous}; nothing is signalled: {process.describe(found.candidates)}"
        return Aim(host=host, outcome="refused", error=error, next=f"bbctl kill {host.short} --pid N")
    if found.proc is None:
        return Aim(host=host, outcome="gone", error=None)
    return Aim(host=host, pid=found.proc.pid, proc=found.proc, service=own, lock=held)


def _by_pid(
    host: Host, asked: list[Service], listed: process.Listing, files: Mapping[str, bytes], pid: int, stat: str
) -> Aim:
    """A pid is signalled only as a process of a service of this host: its user's, its pattern in the command line, and
    itself or a parent of it in the pid file, where there is one."""
    fields = stat.rpartition(") ")[2].split()
    if not fields:
        return Aim(host=host, pid=pid, outcome="gone")
    if fields[0] in "ZX" and int(fields[17]) <= 1:
        return Aim(host=host, pid=pid, outcome="zombie", error=_parent(fields[1]))
    proc = next((p for p in listed.procs if p.pid == pid), None)
    for own in asked:
        rule = own.process
        if proc and rule and proc.user == rule.user and re.search(rule.match, proc.command, re.IGNORECASE):
            said = pid_said(own, files.get(own.name))
            if said is not None and said not in {str(one) for one in (pid, *listed.ancestors(pid)) if one > 1}:
                error = (
                    f"process {pid} matches, but the pid file {rule.pidfile} names {said[:64]!r}; nothing is signalled"
                )
                return Aim(host=host, pid=pid, outcome="refused", error=error, next=f"bbctl status {host.short}")
            return Aim(host=host, pid=pid, proc=proc, service=own)
    return Aim(
        host=host, pid=pid, outcome="refused", error=f"process {pid} is not a process of a service of this host",
        next=f"bbctl status {host.short}",
    )  # fmt: skip


def _ask(
    session: Session, asked: list[Service], pid: int | None
) -> tuple[process.Listing, Mapping[str, bytes], Mapping[str, bytes]]:
    """The processes, the pid files by service, and what else was said: the `lock`, the `stat` of a pid."""
    parts = {
        "lock": lock.read(session.host.lock),
        "procs": process.listing([s.process.user for s in asked if s.process]),
    }
    for s in asked:
        if s.process and s.process.pidfile:
            parts[f"pidfile {s.name}"] = process.pidfiles([s.process.pidfile])
    if pid is not None:
        parts["stat"] = f"cat /proc/{pid}/stat 2>/dev/null"
    marker = secrets.token_hex(8)
    ran = session.run(script(together(parts, marker=marker)), timeout=WITHIN)
    said = apart(ran.stdout, marker=marker)
    if not {"lock", "procs"} <= set(said):
        raise ValueError(ran.error or "the host's answer is not whole")
    files = {name.removeprefix("pidfile "): answer for name, answer in said.items() if name.startswith("pidfile ")}
    return process.understand(said["procs"]), files, {"stat": b"", **said}


# -- act -------------------------------------------------------------------------------------------------------


def carry_out(
    transport: Transport, aim: Aim, *, signal: str, holding: Holding, folder: Path, evidence: bool = True
) -> Killed:
    """Take the lock, save evidence (KILL), signal, and see how it ends. Evidence goes below `folder`/host."""
    if aim.outcome is not None or aim.proc is None or aim.service is None:
        return Killed(aim=aim, outcome=aim.outcome or "refused", error=aim.error, next=aim.next)
    locked = holding.acquire(aim.host)
    if not locked.ours:
        not_taken = f"the lock could not be taken: {locked.detail or locked.state}"
        return Killed(
            aim=aim,
            outcome="refused",
            error=planning.held(aim.host.name, locked.record).message if locked.record else not_taken,
            next=f"bbctl unlock {aim.host.short}",
        )
    try:
        return _act(transport, aim, aim.proc, aim.service, signal, holding, folder if evidence else None)
    except NotLoggedIn as error:
        return Killed(aim=aim, outcome=error.status, error=error.message, next=error.next)
    except LockLost as lost:
        return Killed(aim=aim, outcome="refused", error=lost.message, next=lost.next)
    finally:
        holding.release(aim.host)


def _act(
    transport: Transport, aim: Aim, proc: Proc, own: Service, signal: str, holding: Holding, folder: Path | None
) -> Killed:
    host = aim.host

    def act(body: str) -> Ran:
        return holding.run(host, body, timeout=30.0)

    kept: tuple[Path, ...] = ()
    if signal == "KILL" and folder is not None:
        holding.advance(host, "evidence")
        kept = tuple(saving.capture(transport.open(host), host, own, proc, folder / host.name, act=act))
    holding.advance(host, "kill")
    ran = act(process.signal(proc, signal, become=process.become(host.ssh.user, proc)))
    sent = process.understand_signal(ran.stdout)
    done = Killed(aim=aim, outcome="signalled", evidence=kept, how=sent.how)
    match sent.outcome:
        case "gone":
            return replace(done, outcome="gone")
        case "zombie":
            return replace(done, outcome="zombie", error=_parent(sent.detail))
        case "sent":
            if signal not in ENDS:
                return done
            limit = KILLED if signal == "KILL" else own.stop_timeout
            return _wait(transport.open(host), proc, signal, limit, done)
        case "changed":
            return replace(done, outcome="refused", error=f"{sent.detail}: nothing was signalled")
    why = sent.detail or ran.error or "the host did not say whether it was sent"
    return replace(done, outcome="refused" if sent.outcome == "denied" else "failed", error=why)


def _wait(session: Session, proc: Proc, signal: str, seconds: float, done: Killed) -> Killed:
    """Wait for the end: ended, zombie (its parent does not take note of it) or alive."""
    end = time.monotonic() + seconds
    reaped_by: float | None = None
    while True:
        left = max(0.0, min(STEP, end - time.monotonic()))
        ran = session.run(script(process.wait_gone(proc, left)), timeout=left + WITHIN, guard=True)
        said = process.understand_signal(ran.stdout)
        now = time.monotonic()
        if said.outcome in ("gone", "changed"):
            return replace(done, outcome="ended")
        if said.outcome == "unclear":
            return replace(done, outcome="failed", error=ran.error or "the host does not answer any more")
        if said.outcome == "zombie":
            reaped_by = reaped_by or now + REAPED
            if now >= reaped_by:
                return replace(done, outcome="zombie", error=_parent(said.detail))
            time.sleep(0.2)
        elif now >= end:
            error, short = f"{signal} was sent, and it is still there after {seconds:.0f}s", done.aim.host.short
            why = process.asleep(proc, said.detail)
            look = why is not None or signal == "KILL"
            next = process.look_at(short, proc.pid) if look else f"bbctl kill {short} --pid {proc.pid} -9"
            return replace(done, outcome="alive", error=f"{error}; {why}" if why else error, next=next)


def _parent(pid: str) -> str:
    return f"it has ended; its parent, process {pid.strip()}, has not taken note of it"
