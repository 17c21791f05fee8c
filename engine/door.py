"""The driver for one event at a time: read, event, compare-and-set, on a miss read again; then a hint.

Everything the API, the CLI and programmes ask for comes through here. What it leaves owed is in the same write; a crash
after it loses nothing, a worker finds it due.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from engine import events, follow
from engine.change import Change, spills
from engine.errors import EngineError, StoreDown
from engine.events import Context
from engine.failpoint import failpoint
from engine.ids import token
from engine.model import Node
from engine.runtime import Runtime

TRIES = 100
Event = Callable[[Node, Context], bool | None]
"""Changes the copy; False: there is nothing to change."""


def act(rt: Runtime, id: str, event: Event, *, check: Callable[[Node | None], Node]) -> Node:
    """One event on one node; `check` says whether the caller may, and raises. The node as it is then."""
    for attempt in range(TRIES):
        node = check(rt.node(id))
        ctx = rt.context()
        after = node.copy()
        if node.ss == "pending" and _begun(rt.node(node.parent or ""), node):
            events.mark(after, ctx)
        if event(after, ctx) is False:
            return node
        _heard(rt, node, after, ctx)
        change = Change(node, events.settle_beside(node, after, ctx))
        if commit(rt, change):
            finish(rt, after, ctx)
            return after
        _pause(attempt)
    raise StoreDown(f"node {id} is changed by too many at once: try again")


def _heard(rt: Runtime, before: Node, after: Node, ctx: Context) -> None:
    """Whoever calls about a node that is owed a notification is heard, whatever the call."""
    if "notify" in (before.do or {}):
        events.heard(after, ctx, rt.post_timeout(rt.client(after.client)))


def _begun(above: Node | None, node: Node) -> bool:
    """Has its parent begun with its children? They are ready then, also where that is not written yet."""
    return above is not None and above.ss == "processing_children" and above.gen == node.pgen


def commit(rt: Runtime, change: Change) -> bool:
    lines = spills(change)
    if lines:
        rt.store.spill(change, lines)
    return rt.commit(change)


def finish(rt: Runtime, after: Node, ctx: Context) -> None:
    """What must be seen done at once, then the hint. It is owed anyway: failing here loses nothing."""
    try:
        for todo in follow.SEEN_AT_ONCE:
            if todo in (after.do or {}):
                follow.OWED[todo](rt.store, after, ctx)
        failpoint("door.followed")
    except EngineError:
        return
    if after.due is not None and after.due <= ctx.now:
        rt.hints.push([after.id])


def add(
    rt: Runtime, id: str, build: Callable[[Node, Context], Sequence[Node]], *, check: Callable[[Node | None], Node]
) -> list[Node]:
    """Children, all or none: the bump of the parent tests that they may come, and replaces its `rev`.

    Under a parent that has begun with its children they are ready and it looks at them; then both are one transaction,
    lest it complete between the two writes.
    """
    for attempt in range(TRIES):
        node = check(rt.node(id))
        ctx = rt.context()
        after = node.copy()
        if after.ss == "sent_to_client":
            events.delivered(after, ctx)
        _heard(rt, node, after, ctx)
        after.gen = after.gen or token()
        running = after.ss == "processing_children"
        if running:
            after.look = ctx.token
        children = build(after, ctx)
        for child in children:
            child.known = True
        after.last = children[-1].seq
        bump = Change(node, events.settle(after, ctx))
        if len(children) == 1 and not running:
            won = commit(rt, bump)
            if won:
                rt.store.insert(children)
        else:
            won = rt.store.add_with_bump(bump, children)
        if won:
            if running:
                rt.hints.push([id])
            return list(children)
        _pause(attempt)
    raise StoreDown(f"node {id} is changed by too many at once: try again")


def _pause(attempt: int) -> None:
    if attempt > 2:
        time.sleep(random.random() * min(0.002 * attempt, 0.05))
