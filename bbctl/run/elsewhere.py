"""A run that another machine carries out, as far as its locks on the hosts tell."""

from __future__ import annotations

from bbctl.model import Fleet, Host, HostRecord, LockRecord, RunRecord, StepRecord
from bbctl.remote import lock
from bbctl.remote.sections import sh
from bbctl.ssh.fanout import fanout
from bbctl.ssh.transport import Transport

FRESH = 60.0  # seconds since the last renewal in which its process may be taken to live


def run_by_locks(transport: Transport, fleet: Fleet, run: str) -> RunRecord | None:
    """The record of a run out of the locks that name it; None where no host that answers knows it."""

    def ask(host: Host) -> LockRecord | None:
        ran = transport.run(host, sh(lock.read(host.lock)), timeout=10.0)
        return lock.understand(ran.stdout).record if ran.exit is not None else None

    found = {name: record for name, record in fanout(fleet.hosts.values(), ask).items() if record and record.run == run}
    if not found:
        return None
    first = next(iter(found.values()))
    return RunRecord(
        run=run,
        kind="elsewhere",
        outcome="running" if any(r.age < FRESH for r in found.values()) else "interrupted",
        reason=first.reason,
        operator=first.holder,
        started=min(r.since for r in found.values()),
        finished=None,
        hosts=tuple(_row(name, record) for name, record in found.items()),
    )


def _row(name: str, record: LockRecord) -> HostRecord:
    detail = f'at "{record.step}", seen {record.age:.0f} s ago, by {record.holder}'
    step = StepRecord(step="lock", outcome="ok", seconds=0.0, detail=detail)
    return HostRecord(host=name, outcome="interrupted", steps=(step,), vip="out" if record.out else "unknown")
