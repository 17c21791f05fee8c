"""Giving a run up: it is marked in its journal, and what it still holds on its hosts is let go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bbctl.model import Host
from bbctl.remote import lock
from bbctl.remote.shell import script
from bbctl.run import journal
from bbctl.run.journal import Journal
from bbctl.ssh.fanout import fanout
from bbctl.ssh.transport import Transport


def preview(hosts: Sequence[Host], *, refusals: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """The dry run of an abort."""
    steps = {h.name: [{"step": "unlock", "command": f"rm -f {h.lock.path}, if it is this run's"}] for h in hosts}
    plan = [{"host": name, "steps": made} for name, made in steps.items()]
    return {"dry_run": True, "plan": plan, "batches": [], "refusals": list(refusals)}


def abort(book: Journal, hosts: Sequence[Host], *, transport: Transport, reason: str) -> dict[str, str]:
    """Mark and unlock. The hosts whose lock could not be let go, with the cause."""
    book.write("end", outcome="interrupted", aborted=True, error=None, reason=reason)
    tokens = journal.tokens(book.events)[::-1]
    found = fanout(hosts, lambda host: _let_go(transport, host, tokens))
    return {name: why for name, why in found.items() if why}


def _let_go(transport: Transport, host: Host, tokens: Sequence[str]) -> str | None:
    """Release by whichever token of the run the lock answers to. A lock of somebody else is none of ours: fine."""
    for token in tokens:
        ran = transport.run(host, script(lock.release(host.lock, token)), timeout=15.0)
        if ran.exit is None:
            return ran.error
        answer = lock.understand(ran.stdout + ran.stderr)
        if answer.state in ("released", "none"):
            return None
        if answer.state != "lost":
            return answer.detail or answer.state
    return None
