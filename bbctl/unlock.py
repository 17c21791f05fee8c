"""See who holds the locks of hosts, and break them open. Exactly the lock that was shown is removed, never a newer one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bbctl.model import Host, LockRecord
from bbctl.remote import lock
from bbctl.remote.lock import Locked
from bbctl.remote.shell import script
from bbctl.ssh.transport import Transport

WITHIN = 15.0  # seconds for one host, login included


@dataclass(frozen=True, kw_only=True)
class Held:
    """One host's lock. `status`: the login's word. `record` is None where it is free, or `unreadable`."""

    host: Host
    status: str = "ok"
    record: LockRecord | None = None
    unreadable: bool = False
    shown: Locked | None = None
    released: bool = False
    error: str | None = None

    @property
    def there(self) -> bool:
        """Whether there is anything to remove, expired or not."""
        return self.record is not None or self.unreadable

    @property
    def held(self) -> bool:
        """Whether it keeps others out: one that has expired does not, anybody may take it."""
        return self.unreadable or (self.record is not None and self.record.left > 0)


def look(transport: Transport, host: Host) -> Held:
    """The lock as it lies there. An expired one that nobody took is still there, and says so by its `left`."""
    ran = transport.run(host, script(lock.read(host.lock)), timeout=WITHIN)
    if ran.exit is None:
        return Held(host=host, status=ran.status, error=ran.error)
    found = lock.understand(ran.stdout)
    if found.state == "failed":
        return Held(host=host, status="failed", error=found.detail)
    error = found.detail if found.state == "unreadable" else None
    return Held(host=host, record=found.record, unreadable=found.state == "unreadable", shown=found, error=error)


def release(transport: Transport, seen: Held) -> Held:
    """Remove the lock that was seen."""
    if not seen.there or seen.shown is None:
        return seen
    ran = transport.run(seen.host, script(lock.break_open(seen.host.lock, seen.shown)), timeout=WITHIN)
    if ran.exit is None:
        return replace(seen, status=ran.status, error=ran.error)
    found = lock.understand(ran.stdout + ran.stderr)
    if found.state in ("released", "none"):
        return replace(seen, released=found.state == "released", error=None)
    said = "another run has taken it since" if found.state == "lost" else found.detail or found.state
    return replace(seen, status="failed", error=said)
