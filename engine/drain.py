"""The driver in bulk: a worker's round. Claim what is due, run it, commit everything in one write, follow up.

A *ready* child belongs to whoever holds its parent, a *started* node to whoever holds itself; so a chain or a fan inside
one worker needs one write an activity. Whatever is committed here owes its consequences in the same write: a worker
that dies between any two lines of this file leaves nothing that another does not find due.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from functools import partial

from engine import clients, door, events, follow
from engine.change import Change
from engine.commits import Commits, Op
from engine.errors import EngineError, NotFound
from engine.events import Context
from engine.failpoint import failpoint
from engine.flight import Landed
from engine.hand import BUSY_POP, CAREFUL, NO_HANDLER, Hand, Held
from engine.model import Node
from engine.runtime import Runtime
from engine.task import Outcome, call, conclude
from engine.tells import Tells

log = logging.getLogger("engine.drain")

POISONED = 5
"""Claims without a commit that are too many: a person must look."""
MOST = 64
"""Children of one parent that are asked for at once."""
SAME = 0.010
"""Seconds in which what a round does bears one time."""


class Drain:
    """One per worker process, driven by one thread."""

    def __init__(self, rt: Runtime, worker: str) -> None:
        self.rt = rt
        self.worker = worker
        self.hand = Hand(rt, worker)
        self.held, self.roots = self.hand.held, self.hand.roots
        self.flights, self.leases = self.hand.flights, self.hand.leases
        self.commits = Commits(self.hand)
        self.tells = Tells(self.hand)
        self._shared: Context | None = None
        self._shared_until = 0.0

    # -- the round -------------------------------------------------------------------------------------------------

    def round(self, wait: float) -> bool:
        """One round; waits at most `wait` seconds when there is nothing to do. True if there was something."""
        self._shared = None
        ops = self._land(wait)
        self._shared = None
        empty = not self.held
        if empty:
            self.roots.clear()
        self.hand.take(wait if not ops else 0.0)
        if empty:
            self.hand.checked = time.monotonic()  # what there is was read just now
        if not self.held:
            self.leases.set({})
            return False
        self.hand.refresh()
        self.hand.read_roots()
        idle = [h for h in self.held.values() if not h.flying]
        alone = [h for h in idle if (h.node.tries or 0) >= CAREFUL][:1]
        ops += (self._turn(alone, ops) if alone else []) or self._turn(idle, ops)
        self._follow(self.commits.commit(ops))
        self.hand.keep_leases()
        return bool(ops)

    def _context(self) -> Context:
        """The same time and token for what one round does within `SAME`, so that equal changes are equal statements.

        A round changes a node once at most, and commits what it has changed before the next one begins.
        """
        at = time.monotonic()
        if self._shared is None or at > self._shared_until:
            self._shared, self._shared_until = self.rt.context(), at + SAME
        return Context(self._shared.now, self._shared.token, random.random())

    def _turn(self, turn: list[Held], before: list[Op]) -> list[Op]:
        """What these nodes owe, then what they start as parents, until the slice is used; at most one change of each."""
        deadline = time.monotonic() + self.rt.settings.slice
        ops: list[Op] = []
        busy = {op.change.id for op in before}
        for held in turn:
            if held.node._id not in busy and time.monotonic() < deadline:
                ops += self._guarded(held, self._todos)
        busy |= {op.change.id for op in ops}
        self.hand.read_kids(turn)
        deadline = max(
            deadline, time.monotonic() + self.rt.settings.slice / 4
        )  # parents have a turn, however slow we are
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

    # -- what a node owes ------------------------------------------------------------------------------------------

    def _todos(self, held: Held) -> list[Op]:
        node = held.node
        if node.look and not node.do and not node.tries and node.wf in self.roots and events.looks(node):
            return []  # it only looks at its children
        ctx = self._context()
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
                if not follow.unpark(self.rt.store, node, self.rt.context()):
                    events.done(after, "resume")
            else:  # post, notify
                fly = todo
                break
        if after.__dict__ != node.__dict__:
            return [self._keep(held, after, ctx)]
        if fly == "notify" and (node.look or (node.do or {}).keys() & {"tell"}):
            return []  # a slow endpoint must hold up nobody
        if fly is not None:
            self.hand.launch(held, fly)
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
            events.hold(after, ctx, self.worker, self.hand.lease)
        else:
            events.settle(after, ctx)
        return Op(Change(held.node, after), held=held)

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
        if after.fires_at is not None and after.fires_at > ctx.now:
            events.hand_out(after, ctx)
            return [], None
        if root.paused:
            events.park(after, ctx)
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
        self.leases.busy_until(began + handler.timeout, handler.name)
        failpoint("handler.before")
        outcome = clients.addressed(self.rt, call(handler, after, root))
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
            ctx = self._context()
            return [self._own(held, ctx, self._seen)]
        return []

    @staticmethod
    def _seen(node: Node) -> None:
        node.look = None
        events.done(node, "mark")

    def _kid(self, held: Held, kid: Node, root: Node, handing: bool) -> Op:
        ctx = self._context()
        after = kid.copy()
        events.done(after, "tell")  # to us
        started = self._start(after, root, ctx, handing=handing or not self.flights.room)
        assert started is not None
        children, fly = started
        if after.ss == "complete" and held.node._id == after.parent:  # our own `look` stands for its tell
            told = [id for id in events.told_by(after) if id != after.parent]
            events.done(after, "tell")
            if told:
                events.owe_tell(after, told)
        mine = fly is not None or bool(after.look) or bool((after.do or {}).keys() & {"tell", "recheck"})
        if mine:
            events.hold(after, ctx, self.worker, self.hand.lease)
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
        ctx = self._context()
        ops = []
        for held in done:
            if held.node._id in waiting:
                ops.append(self._own(held, ctx, self._seen))
            else:
                ops.append(self._own(held, ctx, lambda n: events.finish(n, ctx)))
        return ops

    # -- following up ----------------------------------------------------------------------------------------------

    def _follow(self, ops: list[Op]) -> None:
        for op in ops:
            held = self.held.get(op.change.id)
            if op.fly is not None and held is not None and held.node.rev == op.change.after.rev:
                self.hand.launch(held, op.fly)
        self.tells.tell()
        now = self.rt.store.now()
        hints = [
            op.change.id
            for op in ops
            if op.change.id not in self.held and op.change.after.due is not None and op.change.after.due <= now
        ]
        self.rt.hints.push(hints)

    # -- flights ---------------------------------------------------------------------------------------------------

    def _land(self, wait: float) -> list[Op]:
        """What came back from the pool. Most clients have called us meanwhile: then `rev` has moved on, and so do we."""
        landed = self.flights.landed(0.0 if self.hand.busy else min(wait, BUSY_POP))
        if not landed:
            return []
        try:
            seen = self.rt.store.standing([one.id for one in landed])
            self.hand.keep_up(seen)
            landed = [self.flights.addressed(self.hand.as_held(one)) for one in landed]
            revs = {id: standing.rev for id, standing in seen.items()}
            overtaken = [one for one in landed if revs.get(one.id) != one.rev]
            self._answered_late([one for one in overtaken if one.what == "post"])
            for one in overtaken:
                if one.what == "notify" and one.ok and one.id in revs:
                    door.act(self.rt, one.id, partial(self.flights.conclude_told, one), check=partial(_there, one.id))
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
        ctx = self._context()
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
        return Op(Change(op.change.before, op.change.after, tuple(children)), held=held, landed=one)

    # -- leaving ---------------------------------------------------------------------------------------------------

    def leave(self, grace: float) -> None:
        """Takes nothing new, lets what is under way end, gives the rest back at once."""
        self.hand.stopping = True
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
