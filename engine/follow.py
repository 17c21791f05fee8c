"""What events leave to be done to other nodes: deactivate descendants, siblings, predecessors; mark ready; wake.

Each may be cut anywhere and done again: whole subtrees go from the leaves up, so that a node found deactivated has
nothing live below it. The todo that owes it is cleared by whoever calls, afterwards.
"""

from __future__ import annotations

from typing import Any

from engine import events
from engine.change import Change
from engine.events import Context
from engine.ids import token
from engine.model import Node
from engine.store import Store

CHUNK = 500
LEFTOVER = 5_000
"""Milliseconds older than the event: more than any two clocks differ here."""
UNBORN = "unborn"
"""Argument of a `prune` that the sweep owes: what never counted is deleted. An event's own prune is owed in its write, so
whatever it leaves to the sweep was inserted by a worker that died before its commit; or by the door, which has told its
client of it, when its parent was restarted between the door's two writes: that is deactivated (`known`)."""
PASSES = 20
"""Nodes added below while we walk make another pass necessary; each finds less."""


def prune(store: Store, node: Node, ctx: Context) -> None:
    """Its children of other attempts, with all below them.

    `node` may be older than what is stored: children that came since then are of an attempt that it does not know. They
    have places after its `last`; what a crash has left has too, and is told by its age.
    """
    known = {"$or": [{"seq": {"$lte": node.last or 0}}, {"created": {"$lt": node.changed - LEFTOVER}}]}
    left = {"parent": node.id, "pgen": {"$ne": node.gen}, **known}
    if (node.do or {}).get("prune") == UNBORN:
        store.forget_unborn(left)
    _deactivate_below(store, left, ctx)


def cut(store: Store, node: Node, ctx: Context) -> None:
    """Its later siblings of the same attempt, with all below them."""
    _deactivate_below(store, {"parent": node.parent, "pgen": node.pgen, "seq": {"$gt": node.seq}}, ctx)


def clear(store: Store, node: Node, ctx: Context) -> None:
    """All nodes of its workflow that were made before it; their children are left to themselves."""
    query = {"wf": node.wf, "seq": {"$lt": node.seq}, "kind": "node"}
    store.deactivate(query, token(), ctx.now, keep_gen=True)


def mark(store: Store, node: Node, ctx: Context) -> None:
    """Its pending children are ready."""
    store.mark_ready(node, token(), ctx.now)


OWED = {"prune": prune, "cut": cut, "clear": clear, "mark": mark}
SEEN_AT_ONCE = ("prune", "cut", "clear")
"""What the caller of an event must find done when it has been answered."""


def unpark(store: Store, root: Node, ctx: Context) -> bool:
    """Starts what a pause has parked, some at a time; True if there may be more."""
    parked = store.parked(root.id, CHUNK)
    changes = []
    for node in parked:
        after = node.copy()
        events.hand_out(after, ctx)
        changes.append(Change(node, events.settle(after, ctx)))
    if changes:
        store.update(changes)
    return len(parked) == CHUNK


def _deactivate_below(store: Store, top: dict[str, Any], ctx: Context) -> None:
    for _ in range(PASSES):
        level = store.lively(top)
        if not level:
            return
        levels = []
        while level:
            levels.append(level)
            level = [id for part in _chunks(level) for id in store.lively({"parent": {"$in": part}})]
        for ids in reversed(levels):
            for part in _chunks(ids):
                store.deactivate({"_id": {"$in": part}}, token(), ctx.now)


def _chunks(ids: list[str]) -> list[list[str]]:
    return [ids[i : i + CHUNK] for i in range(0, len(ids), CHUNK)]
