"""What an operator's act on a node would do, before it is done: what runs again, what is deactivated, what goes on. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from engine.model import Node
from engine.scene import Scene, active, stale

# verb -> the server statuses in which a node takes it
TAKES: dict[str, tuple[str, ...]] = {
    "retry": ("sent_to_client", "retrying", "retries_exhausted", "errored"),
    "resolve": ("sent_to_client", "retries_exhausted"),
    "shutdown": ("sent_to_client", "retries_exhausted"),
    "timeout": ("sent_to_client",),
    "cancel": (
        "pending", "ready", "started", "paused", "sent_to_client", "processing_children", "retrying",
        "retries_exhausted", "errored", "complete",
    ),
    "reset": (
        "sent_to_client", "processing_children", "retrying", "retries_exhausted", "errored", "complete",
    ),
}  # fmt: skip
LIKELY = ("retries_exhausted", "errored", "sent_to_client", "retrying")
"""Where a workflow is named and no node: the first of these statuses that a node has and the verb takes is meant."""


@dataclass(frozen=True, kw_only=True)
class Preview:
    """`refusal` is why it would be refused, `next` what to do instead; both None where it would be done."""

    verb: str
    root: Node
    node: Node
    says: str
    runs_again: tuple[Node, ...] = ()
    deactivated: tuple[Node, ...] = ()
    goes_on: tuple[Node, ...] = ()
    refusal: str | None = None
    next: str | None = None
    nothing: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "action": self.verb,
            "workflow": self.root.id,
            "node": self.node.id,
            "name": self.node.name,
            "says": self.says,
            "runs_again": [_brief(n) for n in self.runs_again],
            "deactivated": [_brief(n) for n in self.deactivated],
            "goes_on": [_brief(n) for n in self.goes_on],
        }


def _brief(node: Node) -> dict[str, str]:
    return {"id": node.id, "name": node.name, "server": node.ss, "client": node.cs}


def candidates(scene: Scene, root: Node, verb: str) -> list[Node]:
    """The nodes that are probably meant where only the workflow was named; empty where nothing waits."""
    own = [n for n in scene.nodes.values() if n.wf == root.id and active(n) and not stale(scene, n)]
    takers = [status for status in LIKELY if status in TAKES[verb]]
    for status in (*takers, *LIKELY):  # one that does not take it is refused by name: better than not found
        found = [n for n in own if n.ss == status]
        if found:
            return sorted(found, key=lambda n: n.seq)
    return sorted((n for n in own if n.parent == root.id and n.ss in TAKES[verb]), key=lambda n: n.seq)


def preview(scene: Scene, node: Node, verb: str) -> Preview:
    """For the verbs of TAKES."""
    root = scene.nodes[node.wf]
    below = tuple(_below(scene, [node]))
    says, runs, gone, on = _effect(scene, node, verb, below)
    refusal, following = _refusal(node, verb)
    return Preview(
        verb=verb, root=root, node=node, says=says, runs_again=runs, deactivated=gone, goes_on=on, refusal=refusal,
        next=following, nothing=verb in ("cancel", "reset") and node.ss == "deactivated",
    )  # fmt: skip


Effect = tuple[str, tuple[Node, ...], tuple[Node, ...], tuple[Node, ...]]


def _effect(scene: Scene, node: Node, verb: str, below: tuple[Node, ...]) -> Effect:
    """In words, what runs again, what is deactivated, what goes on."""
    if verb == "retry":
        return f"runs again as attempt {node.attempt + 1}, now; uses no retry", (node,), below, ()
    if verb == "timeout":
        left = node.retries_left
        if left:
            return f"ends the wait as a client error; retried later, {left - 1} left after that", (node,), (), ()
        return "ends the wait as a client error; no retry is left, so a person is told", (), (), ()
    if verb == "resolve":
        return "counts as done without its client", (), (), tuple(_next(scene, node))
    if verb == "shutdown":
        after = _later(scene, node) if node.mode == "blocking" else []
        return "given up, with all that follows it", (), (*after, *_below(scene, after)), ()
    if verb == "cancel":
        return "deactivated, with all below it", (), (node, *below), tuple(_next(scene, node))
    return "all below it is deactivated; it stays as it is", (), below, ()


def _refusal(node: Node, verb: str) -> tuple[str | None, str | None]:
    here = f"{node.name} {node.tail} is {node.ss}/{node.cs}"
    if node.ss in TAKES[verb] or (verb in ("cancel", "reset") and node.ss == "deactivated"):
        return None, None
    if node.ss == "retrying":
        return f"{here}: its client has answered; run it now instead", f"bbctl wf retry {node.tail}"
    return f"{here}: {verb} is for {', '.join(TAKES[verb])}", f"bbctl wf why {node.tail}"


def of_workflow(scene: Scene, root: Node, verb: str) -> Preview:
    """For pause, resume and complete."""
    own = [n for n in scene.nodes.values() if n.wf == root.id and active(n)]
    parked = tuple(n for n in own if n.ss == "paused")
    says, done = {
        "pause": ("what runs goes on, nothing more starts", root.paused is not None),
        "resume": ("what was parked starts", root.paused is None),
        "complete": ("signals are refused from now on; what runs goes on", bool(root.complete)),
    }[verb]
    return Preview(verb=verb, root=root, node=root, says=says, nothing=done, goes_on=parked if verb == "resume" else ())


def _below(scene: Scene, nodes: Iterable[Node]) -> list[Node]:
    """All descendants that are not deactivated yet."""
    found, todo = [], list(nodes)
    while todo:
        fresh = scene.kids.get(todo.pop().id, [])
        found += [n for n in fresh if n.ss != "deactivated"]
        todo += fresh
    return sorted(found, key=lambda n: n.seq)


def _later(scene: Scene, node: Node) -> list[Node]:
    family = scene.kids.get(node.parent or "", [])
    return [n for n in family if n.pgen == node.pgen and n.seq > node.seq and n.ss != "deactivated"]


def _next(scene: Scene, node: Node) -> list[Node]:
    """The siblings that could start once it is done: up to the next blocking one."""
    found = []
    for sibling in _later(scene, node) if node.mode == "blocking" else []:
        if sibling.ss in ("ready", "pending"):
            found.append(sibling)
            if sibling.mode == "blocking":
                break
    return found
