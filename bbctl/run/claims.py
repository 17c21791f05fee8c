"""Two runs at once never undercut a pool together: each first says on its own hosts that they leave, then counts.

A lock whose step is `preflight` and which says `out` is a claim: its run has not counted yet, or waits. With any other
step it is a fact. A run counts every claim of others as gone. Is that too few, an older claim makes it withdraw; younger
ones are waited for: they see ours, and withdraw. Who saw nobody goes on, and was seen by whoever came later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from bbctl.capacity import Pool, Refusal, below, serves
from bbctl.model import Facts, Host, LockRecord
from bbctl.run.halt import Halt
from bbctl.run.holding import Holding

PATIENCE = 30.0  # seconds for younger claims to be withdrawn
GRACE = 3.0  # seconds for a neighbour that blinked: one missed health check is no outage
CLAIM = "preflight"

Look = Callable[[Sequence[str]], Mapping[str, Facts]]


def claim(
    batch: Sequence[Host], pools: Iterable[Pool], *, run: str, holding: Holding, halt: Halt, look: Look, force: bool
) -> Refusal | None:
    """Claim what a batch takes out of service, or say why it may not. Raises LockLost and Cut; a refusal leaves no claim."""
    found = None
    for pool in pools:
        mine = [host for host in batch if host.name in pool.hosts]
        if mine and found is None:
            found = _one(mine, pool, run=run, holding=holding, halt=halt, look=look, force=force)
    if found is not None:
        for host in batch:
            holding.advance(host, "lock", out=False)
    return found


def _one(
    mine: list[Host], pool: Pool, *, run: str, holding: Holding, halt: Halt, look: Look, force: bool
) -> Refusal | None:
    facts = look(pool.hosts)
    taken = {host.name for host in mine if facts[host.name].in_service}
    if not taken:
        return None
    for host in mine:
        if host.name in taken:
            holding.advance(host, CLAIM, out=True)
    began = time.monotonic()
    while not force:
        facts = look(pool.hosts)
        serving = {name for name in pool.hosts if name in taken or serves(facts[name], own=run)}
        if len(serving) - len(taken) >= pool.least:
            return None
        others = _claims(facts, run)
        best = serving | {name for name, _ in others if facts[name].in_service}
        late = time.monotonic() > (began + GRACE if len(best) - len(taken) < pool.least else began + PATIENCE)
        if late or _first(others) < _own(facts, run):
            return below(pool, serving, taken)
        halt.pause(0.3)
    return None


def _claims(facts: Mapping[str, Facts], run: str) -> list[tuple[str, LockRecord]]:
    """Hosts that another run has claimed and not yet counted for."""
    return [
        (name, f.lock)
        for name, f in facts.items()
        if f.lock and f.lock.out and f.lock.step == CLAIM and f.lock.run != run and f.lock.left > 0
    ]


def _first(claims: Iterable[tuple[str, LockRecord]]) -> tuple[float, str]:
    """The oldest of some claims, in an order on which all runs agree: they read the same records."""
    return min(((lock.since, lock.run) for _, lock in claims), default=(float("inf"), ""))


def _own(facts: Mapping[str, Facts], run: str) -> tuple[float, str]:
    ours = [f.lock for f in facts.values() if f.lock and f.lock.out and f.lock.run == run]
    return min(((lock.since, lock.run) for lock in ours), default=(float("inf"), run))
