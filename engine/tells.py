"""Tells: nodes that are done with something have their parents look at their children, and are let go."""

from __future__ import annotations

from engine import events
from engine.errors import EngineError
from engine.hand import Hand
from engine.ids import token
from engine.model import Node


class Tells:
    def __init__(self, hand: Hand) -> None:
        self._hand = hand

    def tell(self) -> None:
        """Has parents look at their children; clears the tells afterwards."""
        tellers = [
            h
            for h in self._hand.held.values()
            if not h.flying and not h.told and "tell" in (h.node.do or {}) and not self._before_tell(h.node)
        ]
        if not tellers:
            return
        targets: set[str] = set()
        for held in tellers:
            for id in events.told_by(held.node):
                here = self._hand.held.get(id)
                if here is not None and here.node.look:
                    here.kids, here.whole, here.waiting = None, False, False
                else:
                    targets.add(id)
        roots = [id for id in targets if id in self._hand.roots]
        if roots:
            targets -= set(roots) - self._hand.rt.store.with_ready(roots, self._hand.roots[roots[0]].gen or "")
        if targets:
            self._make_look(targets)
        clear: dict[str, str] = {}
        for held in tellers:
            if set(held.node.do or {}) == {"tell"} and not held.node.look:
                clear[held.node._id] = held.node.rev
                del self._hand.held[held.node._id]
            else:
                held.told = True
        if clear:
            self._hand.rt.store.told(clear)

    @staticmethod
    def _before_tell(node: Node) -> bool:
        return bool((node.do or {}).keys() & {"prune", "cut", "clear", "resume"})

    def _make_look(self, targets: set[str]) -> None:
        """Claims those that are free; sets `look` blindly on those that somebody holds. Never lost: both are journalled."""
        for _ in range(20):
            room = [id for id in targets if id not in self._hand.held][: 2 * self._hand.rt.settings.hold]
            if room and not self._hand.stopping:
                mark = token()
                nodes = self._hand.rt.store.claim_looking(room, mark, self._hand.worker)
                self._hand.claimed(nodes)
                targets = targets - {node._id for node in nodes}
            if not targets:
                return
            mark = token()
            missed = self._hand.rt.store.set_looking(list(targets), mark)
            for id in targets - missed:
                here = self._hand.held.get(id)
                if here is not None:
                    here.node.look, here.kids, here.whole, here.waiting = mark, None, False, False
            targets = missed
            if not targets:
                return
        raise EngineError(f"could not have {sorted(targets)[:3]} look at their children")
