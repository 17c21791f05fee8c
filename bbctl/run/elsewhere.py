"""A run that another machine carries out, as far as its copy in MongoDB and its locks on the hosts tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bbctl.model import Elsewhere, Fleet, Host, HostOutcome, HostRecord, LockRecord, RunRecord, StepRecord
from bbctl.remote import lock
from bbctl.remote.shell import script
from bbctl.ssh.fanout import fanout
from bbctl.ssh.transport import Transport

FRESH = 60.0  # seconds since the last sign of life in which its process may be taken to live

Answers = Mapping[str, LockRecord | None]


def ask(transport: Transport, fleet: Fleet, run: str, hosts: tuple[str, ...] = ()) -> Answers:
    """The locks of a run on these hosts (none named: all): None where the host bears no such lock. Who is silent is left out."""
    asked = [host for name, host in fleet.hosts.items() if not hosts or name in hosts]
    found = fanout(asked, lambda host: _lock(transport, host))
    return {name: record if record and record.run == run else None for name, (up, record) in found.items() if up}


def _lock(transport: Transport, host: Host) -> tuple[bool, LockRecord | None]:
    ran = transport.run(host, script(lock.read(host.lock)), timeout=10.0)
    return ran.exit is not None, lock.understand(ran.stdout).record if ran.exit is not None else None


def by_locks(run: str, answers: Answers) -> RunRecord | None:
    """The record of a run out of the locks that name it; None where there is none."""
    found = {name: record for name, record in answers.items() if record}
    if not found:
        return None
    first = max(found.values(), key=lambda r: r.renewed)
    alive = any(r.age < FRESH for r in found.values())
    return RunRecord(
        run=run,
        kind="elsewhere",
        outcome="running" if alive else "interrupted",
        reason=first.reason,
        operator=first.holder,
        started=min(r.since for r in found.values()),
        finished=None,
        hosts=tuple(_row(name, record, alive=alive) for name, record in found.items()),
        elsewhere=Elsewhere(machine=first.machine, home=None, age=first.age),
    )


def _row(name: str, record: LockRecord, *, alive: bool) -> HostRecord:
    detail = f'at "{record.step}", seen {record.age:.0f} s ago, by {record.holder}'
    step = StepRecord(step="lock", outcome="ok", seconds=0.0, detail=detail)
    outcome: HostOutcome = "untouched" if record.step == "lock" else "running" if alive else "interrupted"
    return HostRecord(
        host=name, outcome=outcome, steps=(step,), vip="out" if record.out else "unknown", step=record.step
    )  # fmt: skip


def alive(record: RunRecord, answers: Answers) -> RunRecord:
    """A copy that was last heard of as running: still so by its own age or by its locks, cut off where neither says so. Where
    a host that was under way does not answer nothing is known, and it stays as it was told."""
    held = {name: found for name, found in answers.items() if found}
    if any(found.age < FRESH for found in held.values()) or (record.elsewhere and record.elsewhere.age < FRESH):
        return record
    if not answers or any(h.outcome == "running" and h.host not in answers for h in record.hosts):
        return record
    rows = (replace(h, outcome="interrupted") if h.outcome == "running" else h for h in record.hosts)
    return replace(record, outcome="interrupted", hosts=tuple(rows))
