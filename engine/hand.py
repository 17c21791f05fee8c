"""What one worker holds: nodes it has claimed, with their children in hand and their roots; taking more, trusting nothing old."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import chain, islice

from engine import events
from engine.flight import Flights, Landed
from engine.ids import token
from engine.leases import Leases
from engine.model import Node
from engine.runtime import Runtime
from engine.searches import Standing

CAREFUL = 2
"""Claims without a commit after which a node runs alone, lest it take others down with it."""
STALE = 0.050
"""Seconds after which nothing that was read is trusted without another look at its `rev`."""
BUSY_POP = 0.005
"""Seconds between two looks at the hints while there is work."""
NO_HANDLER = 5_000
"""Milliseconds until a node is offered again that nobody here can run."""
WANT = 8
"""Children of one parent that are asked for at first."""


@dataclass
class Held:
    """A node we have claimed. `kids`: its children to start or to wait for, None if not read; `whole`: there are no others."""

    node: Node
    kids: list[Node] | None = None
    more: bool = False
    whole: bool = False
    want: int = WANT
    flying: bool = False
    until: float | None = None  # monotonic: when its handler is taken for hung
    waiting: bool = False  # for a child that is held here too
    marked: bool = False
    told: bool = False


@dataclass
class Hand:
    """One per worker process, driven by one thread; the pool and the lease keeper are its only others.

    `checked`: when (monotonic) all that is held was last seen to be as we have it.
    """

    rt: Runtime
    worker: str
    held: dict[str, Held] = field(default_factory=dict)
    roots: dict[str, Node] = field(default_factory=dict)
    stopping: bool = False
    _next_look: float = 0.0
    _next_pop: float = 0.0
    checked: float = 0.0

    def __post_init__(self) -> None:
        self.flights = Flights(self.rt)
        self.leases = Leases(self.rt)

    @property
    def lease(self) -> int:
        """ms"""
        return int(self.rt.settings.lease * 1000)

    def take(self, wait: float) -> None:
        """Claims what hints name, and, every second or so, what the clock says."""
        now = time.monotonic()
        idle = not self.busy
        room = min(self.rt.settings.hold - len(self.held), self.flights.room)
        if self.stopping or room <= 0:
            return
        ids: list[str] = []
        if now >= self._next_look:
            self._next_look = now + self.rt.settings.period * random.uniform(0.8, 1.2)
            due = self.rt.store.due(room + 200)
            ids = due[:room]
            rest = due[room:]
            if rest and self.rt.hints.depth() < len(rest):  # where as many wait, they are likely the same
                self.rt.hints.push(rest)
            if rest and not self.rt.hints.ok:
                self._next_look = now  # nobody is told of the rest: come back at once
        elif idle and not self.flights.any:
            ids = self.rt.hints.wait(max(0.0, min(wait, self._next_look - now)))
            self._next_pop = 0.0
        elif now >= self._next_pop:
            self._next_pop = now + BUSY_POP
            ids = self.rt.hints.pop(self.rt.settings.pop, room)
        ids = [id for id in dict.fromkeys(ids) if id not in self.held or self.held[id].flying]
        if ids:
            self.claimed(self.rt.store.claim(ids, token(), self.worker))

    @property
    def busy(self) -> bool:
        """Is there anything that need not wait for the pool or for a hint?"""
        return any(not (held.flying or held.waiting) for held in self.held.values())

    def claimed(self, nodes: Iterable[Node]) -> None:
        """Of nodes to be careful with only one is kept at a time: the others must not suffer for it."""
        careful = any((h.node.tries or 0) >= CAREFUL for h in self.held.values())
        back: dict[str, str] = {}
        for node in nodes:
            if (node.tries or 0) >= CAREFUL:
                if careful:
                    back[node._id] = node.rev
                    continue
                careful = True
            self.held[node._id] = Held(node)
            self.roots.pop(node.wf, None)  # its workflow may have been paused since that was read
        self.keep_leases()
        if back:
            self.rt.store.give_back(back, self.rt.store.now() + 200, uncount=True)

    def refresh(self) -> None:
        """Nothing read more than 50 ms ago is trusted: whoever was changed since is dropped or read again."""
        now = time.monotonic()
        if now - self.checked < STALE:
            return
        self.checked = now
        ids = set(self.roots) | set(self.held)
        for held in self.held.values():
            ids.update(kid._id for kid in _next(held))
        seen = self.rt.store.standing(ids)
        for id in list(self.roots):
            if id in seen:
                self.roots[id].paused = seen[id].paused
        self.keep_up(seen)
        for id, held in list(self.held.items()):
            if id not in seen or seen[id].rev != held.node.rev:
                del self.held[id]
            elif any(kid._id in seen and seen[kid._id].rev != kid.rev for kid in _next(held)):
                held.kids, held.whole = None, False

    def keep_up(self, seen: dict[str, Standing]) -> None:
        """What somebody has changed and left to us (events.settle_beside) is held as it is now; `seen` is brought up to it."""
        moved = [
            id
            for id, held in self.held.items()
            if id in seen and seen[id].rev != held.node.rev and seen[id].claim == (held.node.by, held.node.since)
        ]
        for id, node in (self.rt.store.by_ids(moved) if moved else {}).items():
            self.keep(self.held[id], node)
            seen[id] = Standing(node.rev, node.paused, (node.by, node.since))

    def keep(self, held: Held, fresh: Node) -> bool:
        """Goes on from `fresh`, if the claim is still the one that we hold."""
        if (fresh.by, fresh.since) != (held.node.by, held.node.since):
            return False
        held.node, held.kids, held.whole = fresh, None, False
        return True

    def as_held(self, one: Landed) -> Landed:
        """The same for the `rev` that its node has now, where somebody changed that and left it to us."""
        held = self.held.get(one.id)
        ours = held is not None and held.flying and (held.node.since, held.node.attempt) == (one.since, one.attempt)
        return replace(one, rev=held.node.rev) if held is not None and ours else one

    def read_roots(self) -> None:
        wanted = {h.node.wf for h in self.held.values()}
        for gone in [id for id in self.roots if id not in wanted]:
            del self.roots[gone]
        missing = wanted - set(self.roots)
        if missing:
            self.roots.update(self.rt.store.by_ids(missing))

    def read_kids(self, turn: list[Held]) -> None:
        open_ = [h for h in turn if h.kids is None and h.node.look and events.looks(h.node) and h.node._id in self.held]
        asking = [(h.node, h.want) for h in open_ if h.node.gen is not None]
        found = self.rt.store.kids(asking) if asking else {}
        for held in open_:
            if held.node.gen is None:
                held.kids, held.whole = [], True
            elif held.node._id in found:
                kids = found[held.node._id]
                held.kids, held.more = kids.nodes, kids.more

    def keep_leases(self) -> None:
        """Of all that is held, but not of what a handler should be done with by now."""
        now = time.monotonic()
        self.leases.set({id: h.node.rev for id, h in self.held.items() if h.until is None or now < h.until})
        if self.leases.hung is not None and self.flights.stuck:
            self.leases.hung("every thread is with a handler that runs longer than its timeout")

    def distrust(self) -> None:
        """After trouble with the store: whatever is held is read again before anything is done with it."""
        self.checked = 0.0

    def launch(self, held: Held, what: str) -> None:
        """Sends it off, where there is room and this process has a way to."""
        root = self.roots.get(held.node.wf)
        if root is None or held.flying or not self.flights.room:
            return
        held.flying = self.flights.launch(held.node, root, what)
        held.until = self.flights.deadline(held.node) if held.flying and what != "notify" else None
        if not held.flying:
            self.rt.store.give_back({held.node._id: held.node.rev}, self.rt.store.now() + NO_HANDLER)
            self.held.pop(held.node._id, None)


def _next(held: Held) -> Iterable[Node]:
    """The children that are started first when its turn comes, and the one under way that they wait for."""
    kids = held.kids or ()
    return islice(chain((kid for kid in kids if kid.open == "b"), events.startable(kids)), 4)
