"""The driver in bulk: a worker's round. Claim what is due, run it, commit everything in one write, follow up.

A *ready* child belongs to whoever holds its parent, a *started* node to whoever holds itself; so a chain or a fan inside
one worker needs one write an activity. Whatever is committed here owes its consequences in the same write: a worker
that dies between any two lines of this file leaves nothing that another does not find due.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from engine import door, events, follow
from engine.change import Change, committed, inserted, spills
from engine.errors import EngineError, NotFound
from engine.events import Context
from engine.failpoint import failpoint
from engine.flight import Flights, Landed
from engine.ids import token
from engine.leases import Leases
from engine.model import Node
from engine.runtime import Runtime
from engine.task import Outcome, call, conclude

log = logging.getLogger("engine.drain")

CAREFUL = 2
"""Claims without a commit after which a node runs alone, lest it take others down with it."""
POISONED = 5
STALE = 0.050
"""Seconds after which nothing that was read is trusted without another look at its `rev`."""
BUSY_POP = 0.005
NO_HANDLER = 5_000
"""Milliseconds until a node is offered again that nobody here can run."""
WANT = 8
MOST = 64
KEPT = 256
"""New children that are kept in hand; of a longer family the rest is read when their turn comes."""


@dataclass
class Held:
    """A node we have claimed. `kids`: its children to start or to wait for, None if not read; `whole`: there are no others."""

    node: Node
    kids: list[Node] | None = None
    more: bool = False
    whole: bool = False
    want: int = WANT
    flying: bool = False
    waiting: bool = False  # for a child that is held here too
    marked: bool = False
    told: bool = False


@dataclass
class Op:
    """One change of a round. `kid_of`: the holder whose child it is; `fly`: what goes into the pool once it is committed."""

    change: Change
    held: Held | None = None
    kid_of: Held | None = None
    fly: str | None = None


@dataclass
class Drain:
    """One per worker process, driven by one thread; the pool and the lease keeper are its only others."""

    rt: Runtime
    worker: str
    held: dict[str, Held] = field(default_factory=dict)
    roots: dict[str, Node] = field(default_factory=dict)
    processed: int = 0
    failed: int = 0
    stopping: bool = False
    _next_look: float = 0.0
    _next_pop: float = 0.0
    _checked: float = 0.0

    def __post_init__(self) -> None:
        self.flights = Flights(self.rt)
        self.leases = Leases(self.rt)

    # -- the round -------------------------------------------------------------------------------------------------

    def round(self, wait: float) -> bool:
        """One round; waits at most `wait` seconds when there is nothing to do. True if there was something."""
        ops = self._land(wait)
        empty = not self.held
        if empty:
            self.roots.clear()
        self._take(wait if not ops else 0.0)
        if empty:
            self._checked = time.monotonic()  # what there is was read just now
        if not self.held:
            self.leases.set({})
            return False
        self._refresh()
        self._read_roots()
        idle = [h for h in self.held.values() if not h.flying]
        alone = [h for h in idle if (h.node.tries or 0) >= CAREFUL][:1]
        ops += (self._turn(alone, ops) if alone else []) or self._turn(idle, ops)
        self._commit(ops)
        self._follow(ops)
        self.leases.set({id: h.node.rev for id, h in self.held.items()})
        return bool(ops)

    def _turn(self, turn: list[Held], before: list[Op]) -> list[Op]:
        """What these nodes owe, then what they start as parents, until the slice is used; at most one change of each."""
        deadline = time.monotonic() + self.rt.settings.slice
        ops: list[Op] = []
        busy = {op.change.id for op in before}
        for held in turn:
            if held.node._id not in busy and time.monotonic() < deadline:
                ops += self._guarded(held, self._todos)
        busy |= {op.change.id for op in ops}
        self._read_kids(turn)
        done: list[Held] = []
        for held in turn:
            if held.node._id in self.held and held.node._id not in busy and time.monotonic() < deadline:
                ops += self._guarded(held, lambda h: self._parent(h, deadline, done))
        return ops + self._finished(done)

    def _guarded(self, held: Held, work: Callable[[Held], list[Op]]) -> list[Op]:
        """Our own mistake about one node must not stop the others: it is dropped, its lease runs out, its tries count."""
        try:
            return work(held)
        except EngineError:
            raise
        except Exception:
            log.exception("node %s", held.node._id)
            self.held.pop(held.node._id, None)
            return []

    # -- taking ----------------------------------------------------------------------------------------------------

    def _take(self, wait: float) -> None:
        """Claims what hints name, and, every second or so, what the clock says."""
        now = time.monotonic()
        idle = not self._busy
        room = min(self.rt.settings.hold - len(self.held), self.flights.room)
        if self.stopping or room <= 0:
            return
        ids: list[str] = []
        if now >= self._next_look:
            self._next_look = now + self.rt.settings.period * random.uniform(0.8, 1.2)
            due = self.rt.store.due(room + 200)
            ids = due[:room]
            self.rt.hints.push(due[room:])
            if len(due) > room and not self.rt.hints.ok:
                self._next_look = now  # nobody is told of the rest: come back at once
        elif idle and not self.flights.any:
            ids = self.rt.hints.wait(max(0.0, min(wait, self._next_look - now)))
            self._next_pop = 0.0
        elif now >= self._next_pop:
            self._next_pop = now + BUSY_POP
            ids = self.rt.hints.pop(min(self.rt.settings.pop, room))
        ids = [id for id in dict.fromkeys(ids) if id not in self.held or self.held[id].flying]
        if ids:
            self._claimed(self.rt.store.claim(ids, token(), self.worker))

    @property
    def _busy(self) -> bool:
        """Is there anything that need not wait for the pool or for a hint?"""
        return any(not (held.flying or held.waiting) for held in self.held.values())

    def _claimed(self, nodes: Iterable[Node]) -> None:
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
        self.leases.set({id: h.node.rev for id, h in self.held.items()})
        if back:
            self.rt.store.give_back(back, self.rt.store.now() + 200, uncount=True)

    def _refresh(self) -> None:
        """Nothing read more than 50 ms ago is trusted: whoever was changed since is dropped or read again."""
        now = time.monotonic()
        if now - self._checked < STALE:
            return
        self._checked = now
        ids = set(self.roots) | set(self.held)
        for held in self.held.values():
            ids.update(kid._id for kid in (held.kids or [])[:4])
        seen = self.rt.store.standing(ids)
        for id in list(self.roots):
            if id in seen:
                self.roots[id].paused = seen[id][1]
        for id, held in list(self.held.items()):
            if id not in seen or seen[id][0] != held.node.rev:
                del self.held[id]
            elif any(kid._id in seen and seen[kid._id][0] != kid.rev for kid in (held.kids or [])[:4]):
                held.kids, held.whole = None, False

    def _read_roots(self) -> None:
        wanted = {h.node.wf for h in self.held.values()}
        for gone in [id for id in self.roots if id not in wanted]:
            del self.roots[gone]
        missing = wanted - set(self.roots)
        if missing:
            self.roots.update(self.rt.store.by_ids(missing))

    def _read_kids(self, turn: list[Held]) -> None:
        open_ = [h for h in turn if h.kids is None and h.node.look and events.looks(h.node) and h.node._id in self.held]
        asking = [(h.node, h.want) for h in open_ if h.node.gen is not None]
        found = self.rt.store.kids(asking) if asking else {}
        for held in open_:
            if held.node.gen is None:
                held.kids, held.whole = [], True
            elif held.node._id in found:
                kids = found[held.node._id]
                held.kids, held.more = kids.nodes, kids.more

    def distrust(self) -> None:
        """After trouble with the store: whatever is held is read again before anything is done with it."""
        self._checked = 0.0

    # -- what a node owes ------------------------------------------------------------------------------------------

    def _todos(self, held: Held) -> list[Op]:
        node = held.node
        ctx = self.rt.context()
        if node.wf not in self.roots:
            return [self._own(held, ctx, lambda n: events.park_for_good(n, "its workflow is gone"))]
        if (node.tries or 0) > POISONED:
            reason = f"claimed {node.tries} times without a result"
            return [self._own(held, ctx, lambda n: events.poisoned(n, ctx, reason))]
        after = node.copy()
        fly: str | None = None
        for todo in [name for name in events.DO_ORDER if name in (node.do or {})]:
            if (events.ripe_at(node, todo, (node.do or {})[todo]) or 0) > ctx.now:
                continue
            if todo == "mark":
                if not held.marked:
                    follow.mark(self.rt.store, node, ctx)
                    held.marked, held.kids = True, None
            elif todo in follow.OWED:
                follow.OWED[todo](self.rt.store, node, ctx)
                events.done(after, todo)
                if todo == "clear":
                    events.owe(after, "tell", [node.wf, node.parent])
            elif todo == "start":
                return self._own_start(held, after, ctx)
            elif todo == "tell":
                if held.told:
                    events.done(after, "tell")
            elif todo == "timeout":
                client = self.rt.client(node.client)
                events.time_out(after, ctx, client is not None and client.reap)
            elif todo == "retry":
                events.retry(after, ctx)
                break
            elif todo == "recheck":
                self._recheck(after, ctx)
            elif todo == "resume":
                self.roots[node._id] = node
                if not follow.unpark(self.rt.store, node, ctx):
                    events.done(after, "resume")
            else:  # post, notify
                fly = todo
                break
        if after.__dict__ != node.__dict__:
            return [self._keep(held, after, ctx)]
        if fly == "notify" and (node.look or (node.do or {}).keys() & {"tell"}):
            return []  # a slow endpoint must hold up nobody
        if fly is not None:
            self._launch(held, fly)
        elif node.look and not events.looks(node):
            return [self._own(held, ctx, self._seen)]
        elif not node.look and not (node.do or {}).keys() & {"tell", "mark"}:
            return [self._own(held, ctx, lambda n: None)]
        return []

    def _recheck(self, after: Node, ctx: Context) -> None:
        """After parking: the workflow as it is now, not as it was read before."""
        root = self.rt.store.node(after.wf)
        if root is None or root.paused:
            events.done(after, "recheck")
        else:
            self.roots[root._id] = root
            events.hand_out(after, ctx)

    def _own(self, held: Held, ctx: Context, event: Callable[[Node], None]) -> Op:
        after = held.node.copy()
        event(after)
        return self._keep(held, after, ctx)

    def _keep(self, held: Held, after: Node, ctx: Context) -> Op:
        """Held on while it owes something now; otherwise let go, due when it must be looked at."""
        at = events.owed_at(after, ctx.now)
        if at is not None and at <= ctx.now and not after.parked:
            events.hold(after, ctx, self.worker, self._lease)
        else:
            events.settle(after, ctx)
        return Op(Change(held.node, after), held=held)

    @property
    def _lease(self) -> int:
        return int(self.rt.settings.lease * 1000)

    def _own_start(self, held: Held, after: Node, ctx: Context) -> list[Op]:
        started = self._start(after, self.roots[after.wf], ctx, handing=False)
        if started is None:
            self.rt.store.give_back({after._id: held.node.rev}, ctx.now + NO_HANDLER)
            del self.held[after._id]
            return []
        children, fly = started
        if fly is not None and not self.flights.room:
            return []
        op = self._keep(held, after, ctx)
        op.fly = fly
        return [Op(Change(op.change.before, op.change.after, tuple(children)), held=held, fly=fly)]

    def _start(self, after: Node, root: Node, ctx: Context, *, handing: bool) -> tuple[list[Node], str | None] | None:
        """Begins a node: parked, completed, delivered or run at once; its children, and what must fly. None: not here.

        `handing`: hand it out instead, to be claimed on its own account.
        """
        if root.paused:
            events.park(after, ctx)
            return [], None
        if after.fires_at is not None and after.fires_at > ctx.now:
            events.hand_out(after, ctx)
            return [], None
        if after.type == "flag":
            events.send(after, ctx)
            events.completed(after, ctx)
            return [], None
        client = self.rt.client(after.client)
        handler = self.rt.handlers.get(after.name) if client is not None and client.local else None
        if client is None or (client.local and handler is None) or handing:
            if after.ss == "started":
                return None
            events.hand_out(after, ctx)
            return [], None
        if handler is None:
            events.deliver(after, ctx)
            return [], "post"
        if self.rt.handlers.is_slow(handler, self.rt.settings.slow):
            events.deliver(after, ctx)
            return [], "call"
        began = time.monotonic()
        self.leases.busy_until(began + handler.timeout)
        failpoint("handler.before")
        outcome = call(handler, after, root)
        failpoint("handler.after")
        self.leases.busy_until(None)
        self.rt.handlers.took(handler, time.monotonic() - began)
        return conclude(after, outcome, ctx), None

    # -- what a parent starts --------------------------------------------------------------------------------------

    def _parent(self, held: Held, deadline: float, done: list[Held]) -> list[Op]:
        node = held.node
        held.waiting = False
        if not node.look or held.kids is None or not events.looks(node):
            return []
        root = self.roots.get(node.wf)
        if root is None:
            return []
        handing = (node.tries or 0) >= CAREFUL
        ops: list[Op] = []
        for kid in events.startable(held.kids):
            if time.monotonic() > deadline:
                return ops
            ops.append(self._kid(held, kid, root, handing))
        if ops:
            return ops
        blocked = any(kid.open == "b" for kid in held.kids)
        if held.more and not blocked:
            held.kids, held.want = None, min(held.want * 2, MOST)
        elif not blocked and not node.is_workflow and node.ss == "processing_children":
            done.append(held)
        elif any(kid._id in self.held for kid in held.kids):
            held.waiting = True  # kept: when the child is done, no write is needed to look again
        else:
            ctx = self.rt.context()
            return [self._own(held, ctx, self._seen)]
        return []

    @staticmethod
    def _seen(node: Node) -> None:
        node.look = None
        events.done(node, "mark")

    def _kid(self, held: Held, kid: Node, root: Node, handing: bool) -> Op:
        ctx = self.rt.context()
        after = kid.copy()
        events.done(after, "tell")  # to us
        started = self._start(after, root, ctx, handing=handing or not self.flights.room)
        assert started is not None
        children, fly = started
        if after.ss == "complete" and held.node._id == after.parent:  # our own `look` stands for its tell
            told = [id for id in (after.do or {}).get("tell", []) if id != after.parent]
            events.done(after, "tell")
            if told:
                events.owe(after, "tell", told)
        mine = fly is not None or bool(after.look) or bool((after.do or {}).keys() & {"tell", "recheck"})
        if mine:
            events.hold(after, ctx, self.worker, self._lease)
        else:
            events.settle(after, ctx)
        return Op(Change(kid, after, tuple(children)), kid_of=held, fly=fly)

    def _finished(self, done: list[Held]) -> list[Op]:
        """Parents whose children are all done, if none of another kind is under way and no link holds them back."""
        asking = [h.node for h in done if not h.whole and h.node.gen is not None]
        waiting = self.rt.store.with_open(asking) if asking else set()
        linked = [h.node._id for h in done if h.node.links and h.node._id not in waiting]
        if linked:
            waiting |= self.rt.store.with_links(linked)
        ctx = self.rt.context()
        ops = []
        for held in done:
            if held.node._id in waiting:
                ops.append(self._own(held, ctx, self._seen))
            else:
                ops.append(self._own(held, ctx, lambda n: events.finish(n, ctx)))
        return ops

    # -- committing ------------------------------------------------------------------------------------------------

    def _commit(self, ops: list[Op]) -> None:
        if not ops:
            return
        for op in ops:
            self._spill(op)
        whole = [op for op in ops if op.change.children and op.change.before.gen is not None]
        lost = {op.change.id for op in whole if not self.rt.store.add_with_bump(op.change, op.change.children)}
        single = [op.change for op in ops if op not in whole]
        lost |= self.rt.store.update(single) if single else set()
        for op in ops:
            if op.change.id in lost:
                self._lost(op)
            else:
                self._won(op)

    def _spill(self, op: Op) -> None:
        if spills(op.change):
            full = self.rt.store.by_ids([op.change.id], history=True).get(op.change.id)
            if full is not None and full.rev == op.change.before.rev:
                op.change.before.h = full.h
                self.rt.store.spill(op.change, spills(op.change))

    def _lost(self, op: Op) -> None:
        if op.kid_of is not None:
            op.kid_of.kids, op.kid_of.whole, op.kid_of.waiting = None, False, False
            return
        assert op.held is not None
        fresh = self.rt.store.node(op.change.id)
        if fresh is None or fresh.rev != op.held.node.rev:
            self.held.pop(op.change.id, None)
        else:  # somebody had it look again
            op.held.node, op.held.kids, op.held.whole = fresh, None, False

    def _won(self, op: Op) -> None:
        node = committed(op.change)
        self.processed += 1
        if node.cs == "errored" and op.change.before.cs != "errored":
            self.failed += 1
        held = op.held
        if op.kid_of is not None:
            self._kid_moved(op.kid_of, node)
            held = None
        if node.by != self.worker:
            self.held.pop(node._id, None)
            return
        if held is None:
            held = self.held[node._id] = Held(node)
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

    # -- following up ----------------------------------------------------------------------------------------------

    def _follow(self, ops: list[Op]) -> None:
        for op in ops:
            held = self.held.get(op.change.id)
            if op.fly is not None and held is not None and held.node.rev == op.change.after.rev:
                self._launch(held, op.fly)
        self._tell()
        now = self.rt.store.now()
        hints = [
            op.change.id
            for op in ops
            if op.change.id not in self.held and op.change.after.due is not None and op.change.after.due <= now
        ]
        self.rt.hints.push(hints)

    def _tell(self) -> None:
        """Has parents look at their children; clears the tells afterwards."""
        tellers = [
            h
            for h in self.held.values()
            if not h.flying and not h.told and "tell" in (h.node.do or {}) and not self._before_tell(h.node)
        ]
        if not tellers:
            return
        targets: set[str] = set()
        for held in tellers:
            for id in (held.node.do or {})["tell"]:
                here = self.held.get(id)
                if here is not None and here.node.look:
                    here.kids, here.whole, here.waiting = None, False, False
                else:
                    targets.add(id)
        roots = [id for id in targets if id in self.roots]
        if roots:
            targets -= set(roots) - self.rt.store.with_ready(roots, self.roots[roots[0]].gen or "")
        if targets:
            self._make_look(targets)
        clear: dict[str, str] = {}
        for held in tellers:
            if set(held.node.do or {}) == {"tell"} and not held.node.look:
                clear[held.node._id] = held.node.rev
                del self.held[held.node._id]
            else:
                held.told = True
        if clear:
            self.rt.store.told(clear)

    @staticmethod
    def _before_tell(node: Node) -> bool:
        return bool((node.do or {}).keys() & {"prune", "cut", "clear", "resume"})

    def _make_look(self, targets: set[str]) -> None:
        """Claims those that are free; sets `look` blindly on those that somebody holds. Never lost: both are journalled."""
        for _ in range(20):
            room = [id for id in targets if id not in self.held][: 2 * self.rt.settings.hold]
            if room and not self.stopping:
                mark = token()
                nodes = self.rt.store.claim_looking(room, mark, self.worker)
                self._claimed(nodes)
                targets = targets - {node._id for node in nodes}
            if not targets:
                return
            mark = token()
            missed = self.rt.store.set_looking(list(targets), mark)
            for id in targets - missed:
                here = self.held.get(id)
                if here is not None:
                    here.node.look, here.kids, here.whole, here.waiting = mark, None, False, False
            targets = missed
            if not targets:
                return
        raise EngineError(f"could not have {sorted(targets)[:3]} look at their children")

    # -- flights ---------------------------------------------------------------------------------------------------

    def _launch(self, held: Held, what: str) -> None:
        root = self.roots.get(held.node.wf)
        if root is None or held.flying or not self.flights.room:
            return
        held.flying = self.flights.launch(held.node, root, what)
        if not held.flying:
            self.rt.store.give_back({held.node._id: held.node.rev}, self.rt.store.now() + NO_HANDLER)
            self.held.pop(held.node._id, None)

    def _land(self, wait: float) -> list[Op]:
        """What came back from the pool. Most clients have called us meanwhile: then `rev` has moved on, and so do we."""
        landed = self.flights.landed(0.0 if self._busy else min(wait, BUSY_POP))
        if not landed:
            return []
        try:
            revs = self.rt.store.revs([one.id for one in landed])
            self._answered_late([one for one in landed if one.what == "post" and revs.get(one.id) != one.rev])
        except EngineError:
            self.flights.again(landed)
            raise
        ops = []
        for one in landed:
            held = self.held.get(one.id)
            if held is None or held.node.rev != one.rev:
                continue  # claimed anew meanwhile: an old flight must not drop the new claim
            held.flying = False
            if revs.get(one.id) != one.rev:
                del self.held[one.id]
            else:
                ops.append(self._landed(held, one))
        return ops

    def _answered_late(self, landed: list[Landed]) -> None:
        """Answers to posts whose clients have called us meanwhile: those that have not ended what they were sent."""
        query = {"_id": {"$in": [one.id for one in landed]}, "ss": "sent_to_client"}
        open_ = set(self.rt.store.ids_where(query)) if landed else set()
        for one in landed:
            if one.id in open_:
                door.act(self.rt, one.id, partial(self.flights.conclude_late, one), check=partial(_there, one.id))

    def _landed(self, held: Held, one: Landed) -> Op:
        ctx = self.rt.context()
        after = held.node.copy()
        children: list[Node] = []
        if isinstance(one.result, Outcome) and one.what == "call":
            children = conclude(after, one.result, ctx)
        elif one.what == "post":
            self.flights.conclude_post(after, one, ctx)
        elif one.ok:
            events.done(after, "notify")
        else:
            events.notify_failed(after, ctx)
        op = self._keep(held, after, ctx)
        return Op(Change(op.change.before, op.change.after, tuple(children)), held=held)

    # -- leaving ---------------------------------------------------------------------------------------------------

    def leave(self, grace: float) -> None:
        """Takes nothing new, lets what is under way end, gives the rest back at once."""
        self.stopping = True
        limit = time.monotonic() + grace
        while time.monotonic() < limit and (self.flights.any or any(h.flying for h in self.held.values())):
            self.round(0.05)
        back = {id: h.node.rev for id, h in self.held.items() if not h.flying}
        self.leases.stop()
        if back:
            self.rt.store.give_back(back, self.rt.store.now(), uncount=True)
            self.rt.hints.push(back)
        self.held.clear()
        self.flights.close()


def _there(id: str, node: Node | None) -> Node:
    if node is None:
        raise NotFound("Node", id)
    return node
