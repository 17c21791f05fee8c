"""A round's changes, committed in one bulk, and what winning or losing each means for what is held."""

from __future__ import annotations

from dataclasses import dataclass

from engine.change import Change, committed, inserted, spills
from engine.flight import Landed
from engine.hand import Hand, Held
from engine.model import Node

KEPT = 256
"""New children that are kept in hand; of a longer family the rest is read when their turn comes."""


@dataclass
class Op:
    """One change of a round. `kid_of`: the holder whose child it is; `fly`: what goes into the pool once it is committed;
    `landed`: what came back from there and made it."""

    change: Change
    held: Held | None = None
    kid_of: Held | None = None
    fly: str | None = None
    landed: Landed | None = None


class Commits:
    """`processed` and `failed` count what this worker has committed."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand
        self.processed = 0
        self.failed = 0

    def commit(self, ops: list[Op]) -> list[Op]:
        """What was sent: of two changes of one node only the first."""
        ops = self._once(ops)
        if not ops:
            return ops
        for op in ops:
            self._spill(op)
        store = self._hand.rt.store
        growing = {op.change.id for op in ops if op.change.children and op.change.before.gen is not None}
        lost = {
            id
            for op in ops
            if (id := op.change.id) in growing and not store.add_with_bump(op.change, op.change.children)
        }
        single = [op.change for op in ops if op.change.id not in growing]
        lost |= store.update(single) if single else set()
        for op in ops:
            if op.change.id in lost:
                self._lost(op)
            else:
                self._won(op)
        return ops

    def _once(self, ops: list[Op]) -> list[Op]:
        """Of two changes of one node the second has lost: both bear this round's token, which could not tell them apart."""
        firsts: dict[str, Op] = {}
        for op in ops:
            if firsts.setdefault(op.change.id, op) is not op:
                self._lost(op)
        return list(firsts.values())

    def _spill(self, op: Op) -> None:
        if spills(op.change):
            full = self._hand.rt.store.by_ids([op.change.id], history=True).get(op.change.id)
            if full is not None and full.rev == op.change.before.rev:
                op.change.before.h = full.h
                self._hand.rt.store.spill(op.change, spills(op.change))

    def _lost(self, op: Op) -> None:
        """Somebody was there first. Whatever comes next is read after that, also whether its workflow is paused: what made
        him come may have come after a pause."""
        self._hand.roots.pop(op.change.after.wf, None)
        if op.kid_of is not None:
            op.kid_of.kids, op.kid_of.whole, op.kid_of.waiting = None, False, False
            return
        assert op.held is not None
        fresh = self._hand.rt.store.node(op.change.id)
        if fresh is None or not self._hand.keep(op.held, fresh):
            self._hand.held.pop(op.change.id, None)
        elif op.landed is not None:  # somebody changed it and left it to us: its answer counts for it as it is now
            op.held.flying = True
            self._hand.flights.again([op.landed])

    def _won(self, op: Op) -> None:
        node = committed(op.change)
        self.processed += 1
        if node.cs == "errored" and op.change.before.cs != "errored":
            self.failed += 1
        held = op.held
        if op.kid_of is not None:
            self._kid_moved(op.kid_of, node)
            held = None
        if node.by != self._hand.worker:
            self._hand.held.pop(node._id, None)
            return
        if held is None:
            held = self._hand.held[node._id] = Held(node)
        held.node, held.marked, held.told = node, False, False
        if op.change.children and node.look:
            held.kids = [inserted(child) for child in op.change.children[:KEPT]]
            held.more = len(op.change.children) > KEPT
            held.whole = op.change.before.gen is None and not held.more
        elif op.change.before.gen != node.gen:
            held.kids, held.whole = None, False

    @staticmethod
    def _kid_moved(parent: Held, kid: Node) -> None:
        parent.waiting = False
        if parent.kids is None:
            return
        place = next((i for i, one in enumerate(parent.kids) if one._id == kid._id), None)
        if place is None:
            return
        if kid.open in ("b", "r"):
            parent.kids[place] = kid
        else:
            del parent.kids[place]
            if kid.open == "n":
                parent.whole = False
