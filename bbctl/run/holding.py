"""The locks of one run: taken on every target, renewed all the time, proven in each remote step that changes something.

A lock belongs to whoever holds the run's token. One that was lost (it expired while we slept, or a person broke it
open) stops the run on that host: nothing more is changed there.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from bbctl.errors import BbctlError
from bbctl.model import Host, Ran
from bbctl.remote import lock as remote
from bbctl.remote.lock import Locked
from bbctl.remote.shell import script
from bbctl.ssh.session import NEVER
from bbctl.ssh.transport import Transport

ASK = 15.0  # seconds for one question to a lock; the host itself waits 10 for another step to let go
HASTE = 3.0  # the same when we were asked to stop at once

TRIES = 4


class LockLost(BbctlError):
    """Another holds the lock now, or it is gone: nothing more may be changed on this host."""

    exit = 3
    code = "lock-lost"


class Holding:
    """All locks of a run. `start` begins the renewals, `close` ends them; what is still held then stays until it expires."""

    def __init__(self, transport: Transport, *, token: str, fields: Mapping[str, str]) -> None:
        self._transport = transport
        self._token = token
        self._fields = fields  # operator, machine, run, reason
        self._hosts: dict[str, Host] = {}
        self.lost: dict[str, str] = {}  # host → what became of its lock
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self, host: Host, *, old_tokens: Sequence[str] = ()) -> Locked:
        """Take the lock of one host where it is free, expired, or this run's by a token that it had before."""
        fields = {**self._fields, "step": "lock"}
        for old in (None, *reversed(old_tokens)):
            answer = self._ask(host, remote.acquire(host.lock, self._token, fields=fields, old_token=old))
            if answer.ours:
                self._hosts[host.name] = host
                self.lost.pop(host.name, None)
            if answer.state != "held" or answer.record is None or answer.record.run != self._fields["run"]:
                break
        return answer

    def advance(self, host: Host, step: str, *, out: bool | None = None) -> None:
        """Renew, and say on the host which step is under way. Raises LockLost."""
        self._still(host)
        for _ in range(TRIES):  # a connection that is lost here is opened anew: nothing was changed
            answer = self._ask(host, remote.renew(host.lock, self._token, step=step, out=out))
            if answer.state not in ("failed", "busy") or self._transport.stop.wait(1.0) or self._over.is_set():
                break
        if not answer.ours:
            raise self._gone(host, answer)

    def run(self, host: Host, body: str, *, timeout: float) -> Ran:
        """Run a mutating text on the host in the same step that proves the lock. Raises LockLost; then none of it ran.

        Once sent it is never cut off by our own wish to stop: whether it was done must be known."""
        self._still(host)
        text = script(remote.guarded(host.lock, self._token, body))
        ran = self._transport.run(host, text, timeout=timeout, guard=True, cancel=NEVER)
        if (lost := remote.lost(ran.exit, ran.stdout)) is not None:
            raise self._gone(host, lost)
        return ran

    def release(self, host: Host) -> Locked:
        """Let one host go: `released`; `none` or `lost` where it was ours no longer; else it may still be."""
        self._hosts.pop(host.name, None)
        return self._ask(host, remote.release(host.lock, self._token), cancel=NEVER)

    def keep(self, host: Host) -> None:
        """Renew no longer: the lock stays as it is until it expires or the run is resumed."""
        self._hosts.pop(host.name, None)

    @property
    def hosts(self) -> list[Host]:
        return list(self._hosts.values())

    def start(self) -> None:
        """Begin the renewals, in a thread of their own."""
        self._thread = threading.Thread(target=self._renew, name="lock renewals", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def _renew(self) -> None:
        with ThreadPoolExecutor(8, thread_name_prefix="renew") as pool:
            while not self._over.wait(self._every()):
                list(pool.map(self._renew_one, self.hosts))

    def _every(self) -> float:
        return min([10.0, *(host.lock.expires / 5 for host in self.hosts)]) if self._hosts else 0.3

    def _renew_one(self, host: Host) -> None:
        with suppress(
            BbctlError
        ):  # a renewal that does not get through is tried again; the next step proves the lock anyway
            answer = self._ask(host, remote.renew(host.lock, self._token))
            if answer.state == "lost" and host.name in self._hosts:
                self._gone(host, answer)

    def _ask(self, host: Host, text: str, *, cancel: threading.Event | None = None) -> Locked:
        limit = HASTE if self._transport.stop.is_set() else ASK
        ran = self._transport.run(host, script(text), timeout=limit, cancel=cancel)
        if ran.status not in ("ok", "failed") or (ran.exit is None and not ran.stdout):
            return Locked(state="failed", detail=ran.error or ran.status)
        return remote.understand(ran.stdout + ran.stderr)

    def _still(self, host: Host) -> None:
        if host.name in self.lost:
            raise LockLost(self.lost[host.name], next=f"bbctl unlock {host.short} --dry-run")

    def _gone(self, host: Host, answer: Locked) -> LockLost:
        if answer.state == "lost":
            now = answer.record
            ours = now is not None and now.token_hash == remote.digest(self._token)
            by = f"{now.holder} ({now.run}) holds it now" if now else "it was removed"
            by = "it ran out before it was renewed" if ours else by
            self.lost[host.name] = f"the lock of {host.name} is lost: {by}; nothing more is changed there"
            message = self.lost[host.name]
        else:
            message = f"the lock of {host.name} cannot be proven: {answer.detail or answer.state}"
        return LockLost(message, next=f"bbctl unlock {host.short} --dry-run")
