"""Thread dumps of a service on many hosts: saved here, deadlocks named. Kills nothing and needs no confirmation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bbctl import dumps, evidence
from bbctl.dumps import Deadlock
from bbctl.kill import find
from bbctl.model import Host
from bbctl.ssh.transport import NotLoggedIn, Transport


@dataclass(frozen=True, kw_only=True)
class Dumped:
    """One host's dumps. `status`: the login's word, `refused` where the process could not be told from others, `failed`
    where no dump was had; `error` says why."""

    host: Host
    status: str
    pid: int | None = None
    files: tuple[Path, ...] = ()
    deadlocks: tuple[Deadlock, ...] = ()
    error: str | None = None


def take(transport: Transport, host: Host, service: str, folder: Path, *, count: int) -> Dumped:
    """`count` dumps, two seconds apart, below `folder`/host. The process is proven in the step that asks it for a dump."""
    aim = find(transport, host, service=service, pid=None)
    if aim.proc is None or aim.service is None:
        gone = aim.outcome == "gone"
        status = "failed" if gone else aim.outcome or "failed"
        return Dumped(host=host, status=status, error="it is not running" if gone else aim.error)
    if aim.service.thread_dump == "none":
        error = f"the inventory says `thread_dump: none` for {service}"
        return Dumped(host=host, status="failed", pid=aim.proc.pid, error=error)
    try:
        session = transport.open(host)
    except NotLoggedIn as error:
        return Dumped(host=host, status=error.status, error=error.message)
    files = evidence.threads(session, host, aim.service, aim.proc, folder / host.name, dumps=count)
    found = tuple(p for p in files if p.name.startswith("threads-"))
    notes = " ".join(p.read_text("utf-8", "replace").strip() for p in files if p not in found)
    return Dumped(
        host=host,
        status="ok" if found else "failed",
        pid=aim.proc.pid,
        files=found,
        deadlocks=tuple(dumps.deadlocks(evidence.text(found))),
        error=notes or None,
    )
