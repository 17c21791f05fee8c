"""A workflow in memory, for the tests of applications: the real events and the real order, no store, no waiting.

    played = rehearse(invoice, 4711)
    assert played.statuses == {"invoice": "complete", "charge": "complete"}

Timers and retries come at once, in the order of their times.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine import build, events
from engine.change import Change, committed, inserted
from engine.events import Context
from engine.handlers import _new
from engine.ids import token
from engine.model import Node
from engine.registry import DEFAULT, Registry
from engine.states import DONE
from engine.task import Outcome, call, conclude, rescue

START = 1_700_000_000_000
MOST = 100_000


@dataclass
class Played:
    """What came of it. `ran`: names of the activities in the order they ran, repeats included. `results` and `errors`: {name:
    what the last that went well returned}, {name: the message of the last that failed}."""

    nodes: list[Node] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def statuses(self) -> dict[str, str]:
        """{name: server status}; of several with one name, the last."""
        return {node.name: node.ss for node in self.nodes if not node.is_workflow}

    @property
    def complete(self) -> bool:
        return all(node.ss == "complete" for node in self.nodes if not node.is_workflow)


def rehearse(
    run: Callable[..., Any] | str,
    *args: Any,
    subject: Any = None,
    answers: Sequence[Outcome] = (),
    registry: Registry = DEFAULT,
    **kwargs: Any,
) -> Played:
    """Plays a signal to its end. Activities of other clients answer with the next of `answers`, or with nothing."""
    stage = _Stage(registry, list(answers))
    root = build.root("rehearsal", "rehearsal", subject, None, stage.context())
    stage.nodes[root.id] = inserted(root)
    stage.add(build.first_signal(_new(registry.of(run), args, kwargs), root, stage.context()))
    for _ in range(MOST):
        if not stage.step():
            break
    stage.played.nodes = list(stage.nodes.values())
    return stage.played


@dataclass
class _Stage:
    registry: Registry
    answers: list[Outcome]
    nodes: dict[str, Node] = field(default_factory=dict)
    played: Played = field(default_factory=Played)
    failures: dict[str, Any] = field(default_factory=dict)
    now: int = START

    def context(self) -> Context:
        self.now += 1
        return Context(self.now, token())

    def add(self, node: Node) -> None:
        self.nodes[node.id] = inserted(node)

    def keep(self, before: Node, after: Node, ctx: Context) -> None:
        self.nodes[after.id] = committed(Change(before, events.settle(after, ctx)))

    def step(self) -> bool:
        """The one that is due first does what it owes; False when nobody owes anything."""
        owing = [node for node in self.nodes.values() if node.due is not None]
        if not owing:
            return False
        node = min(owing, key=lambda one: (one.due or 0, one.seq))
        self.now = max(self.now, node.due or 0)
        ctx = self.context()
        after = node.copy()
        todo = next((name for name in events.DO_ORDER if name in (node.do or {})), None)
        if todo is None:
            self._look(after, ctx)
        else:
            self._owed(after, todo, ctx)
        self.keep(self.nodes[node.id], after, ctx)
        return True

    def _owed(self, node: Node, todo: str, ctx: Context) -> None:
        if todo == "start":
            self._run(node, ctx)
        elif todo == "retry":
            events.retry(node, ctx)
        else:
            getattr(self, f"_{todo}", self._nothing)(node, ctx)
            events.done(node, todo)

    def _nothing(self, node: Node, ctx: Context) -> None:
        """Owed to the client or to a pause: neither is in a rehearsal."""

    def _run(self, node: Node, ctx: Context) -> None:
        handler = self.registry.get(node.name)
        if node.type == "flag":
            events.send(node, ctx)
            events.completed(node, ctx)
            return
        self.played.ran.append(node.name)
        if handler is None:
            outcome = self.answers.pop(0) if self.answers else Outcome()
        else:
            outcome = call(handler, node, self.nodes[node.wf])
        self._note(node, outcome)
        for child in conclude(node, Outcome(outcome.response, outcome.error, outcome.children), ctx):
            self.add(child)

    def _note(self, node: Node, outcome: Outcome) -> None:
        said = json.loads(outcome.error or outcome.response or "null")
        if outcome.error is None:
            self.played.results[node.name] = said.get("result") if isinstance(said, dict) else said
            return
        error = self.failures[node.id] = said.get("error") if isinstance(said, dict) else said
        self.played.errors[node.name] = error["message"] if isinstance(error, dict) else str(error)

    def _kids(self, node: Node) -> list[Node]:
        return [kid for kid in self.nodes.values() if kid.parent == node.id and kid.pgen == node.gen]

    def _look(self, node: Node, ctx: Context) -> None:
        kids = self._kids(node)
        started = list(events.startable(kids)) if events.looks(node) else []
        for kid in started:
            after = kid.copy()
            events.done(after, "tell")
            events.hand_out(after, ctx)
            self.keep(kid, after, ctx)
        waiting = [kid for kid in kids if kid.ss not in DONE and kid.mode != "fire_and_forget"]
        if node.ss == "processing_children" and not started and not waiting:
            events.finish(node, ctx)
        else:
            node.look = None

    def _tell(self, node: Node, ctx: Context) -> None:
        for id in events.told_by(node):
            target = self.nodes.get(id)
            if target is not None and events.looks(target):
                after = target.copy()
                after.look = ctx.token
                self.keep(target, after, ctx)

    def _prune(self, node: Node, ctx: Context) -> None:
        for kid in [kid for kid in self.nodes.values() if kid.parent == node.id and kid.pgen != node.gen]:
            after = kid.copy()
            events.drop(after)
            after.ss, after.open, after.gen = "deactivated", None, None
            self.keep(kid, after, ctx)
            self._prune(after, ctx)

    def _notify(self, node: Node, ctx: Context) -> None:
        handler = self.registry.get(node.name)
        if handler is not None and handler.rescue is not None:
            rescue(handler, node, self.nodes[node.wf], self.failures.get(node.id))
