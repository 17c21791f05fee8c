"""A node among its neighbours, as one look at the store found them; what waits for what. Pure.

`why`, `stuck` and `heal` judge nodes in a scene; the words `openness` and `looks` are the scheduler's own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from engine.events import looks, openness, told_by
from engine.model import ClientRecord, Node
from engine.states import CLIENT_LETTER, CLIENT_WORD, DONE, FINAL_CLIENT, SERVER_LETTER, SERVER_WORD, WAITING

GRACE = 15_000
"""Milliseconds a state may last that ends by itself: a lease, and the look that finds it run out."""

BY_OPERATOR = "sent again by an operator"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """`now` is database time, ms. `nodes` holds whatever was read, workflows included. `clients` None: not asked for.

    `digests` are hashes of the data of those nodes that a twin was looked for.
    """

    now: int
    nodes: Mapping[str, Node]
    clients: Mapping[str, ClientRecord] | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    grace: int = GRACE

    @cached_property
    def kids(self) -> Mapping[str, list[Node]]:
        """Children by parent, in order."""
        return _grouped(((n.parent, n) for n in self.nodes.values() if n.parent), self.nodes)

    @cached_property
    def linked(self) -> Mapping[str, list[Node]]:
        """Nodes by the node whose completion they hold back."""
        return _grouped(((n.link, n) for n in self.nodes.values() if n.link), self.nodes)

    @cached_property
    def blockers(self) -> Mapping[str, Node]:
        """Node → the nearest earlier sibling of the same attempt that it must wait for."""
        found = {}
        for family in self.kids.values():
            last: dict[str | None, Node] = {}
            for kid in family:
                if kid.pgen in last:
                    found[kid.id] = last[kid.pgen]
                if kid.mode == "blocking" and active(kid):
                    last[kid.pgen] = kid
        return found

    @cached_property
    def told(self) -> frozenset[str]:
        """Nodes that somebody still has to tell to look: their look is on its way."""
        return frozenset(id for n in self.nodes.values() if n.due is not None for id in told_by(n))

    @cached_property
    def knotted(self) -> Mapping[str, tuple[str, ...]]:
        """The nodes that wait for themselves → the circle, in order of waiting."""
        return _circles(self)

    def parent(self, node: Node) -> Node | None:
        return self.nodes.get(node.parent or "")

    def root(self, node: Node) -> Node | None:
        return self.nodes.get(node.wf)

    def counted(self, node: Node) -> list[Node]:
        """The children of its present attempt."""
        return [k for k in self.kids.get(node.id, ()) if k.pgen == node.gen]


def _grouped(pairs: Iterable[tuple[str | None, Node]], nodes: Mapping[str, Node]) -> dict[str, list[Node]]:
    found: dict[str, list[Node]] = defaultdict(list)
    for key, node in pairs:
        found[key or ""].append(node)
    for group in found.values():
        group.sort(key=lambda n: (n.seq, n.id))
    return dict(found)


# -- words about one node ----------------------------------------------------------------------------------------


def active(node: Node) -> bool:
    return not node.is_workflow and node.ss not in DONE


def owed(node: Node) -> bool:
    return node.due is not None


def owes(node: Node, todo: str) -> bool:
    return todo in (node.do or {})


def pair(node: Node) -> tuple[str, str]:
    return node.ss, node.cs


def past(node: Node) -> list[tuple[int, str, str]]:
    """(when, server letter, client letter) for each pair it has had, as far as its history was read, oldest first."""
    found, client = [], "?"
    for line in node.h or []:
        if "refused" not in line[3:]:
            client = client if line[1][1] == "." else line[1][1]
            found.append((int(line[0]), line[1][0], client))
    return found


def written(node: Node) -> tuple[str, str] | None:
    """The pair its history ends with; None where the history was not read, or is too short to say."""
    had = past(node)
    if not had or had[-1][2] == "?":
        return None
    return SERVER_WORD.get(had[-1][1], "?"), CLIENT_WORD.get(had[-1][2], "?")


def whole(node: Node) -> bool:
    """Was its whole history read?"""
    return node.h is not None and not node.hs and len(node.h) == node.hn


def spent(node: Node) -> int:
    """Retries used, by its history: the lines that lead into `retrying`, but for an operator's."""
    lines = [line for line in node.h or [] if "refused" not in line[3:]]
    return sum(line[1][0] == SERVER_LETTER["retrying"] and BY_OPERATOR not in str(line[2:3]) for line in lines)


def refused_completion(node: Node) -> str | None:
    """The response (JSON text) of a `completed` that came too late; None if there was none."""
    for line in reversed(node.h or []):
        if "refused" in line[3:]:
            return str(line[2])
    return None


def since_when(node: Node, *, client: str | None = None, server: str | None = None) -> int | None:
    """When it last came into that status, ms; None if its history, as read, does not say."""
    at, before, place = None, "", 2 if client else 1
    letter = CLIENT_LETTER[client] if client else SERVER_LETTER[server or ""]
    for pair in past(node):
        now = str(pair[place])
        at = pair[0] if now == letter != before else at
        before = now
    return at


# -- words about a node and its neighbours -------------------------------------------------------------------------


def old(scene: Scene, node: Node) -> bool:
    return scene.now - node.changed > scene.grace


def counts(scene: Scene, node: Node) -> bool:
    parent = scene.parent(node)
    return parent is not None and node.pgen == parent.gen


def stale(scene: Scene, node: Node) -> bool:
    """Left by an attempt before: no longer counted."""
    parent = scene.parent(node)
    return parent is not None and node.pgen != parent.gen


def waits_its_turn(scene: Scene, node: Node) -> bool:
    """Ready, or pending below a parent that may start children: it runs once its turn comes."""
    parent = scene.parent(node)
    if node.ss not in WAITING or parent is None or node.pgen != parent.gen:
        return False
    return node.ss == "ready" or parent.ss == "processing_children" or parent.is_workflow


def unfinished(scene: Scene, node: Node) -> list[Node]:
    """The children and linked nodes whose end it waits for."""
    below = [k for k in scene.counted(node) if openness(k) is not None]
    return below + [k for k in scene.linked.get(node.id, ()) if active(k)]


def paused(scene: Scene, node: Node) -> bool:
    root = scene.root(node)
    return root is not None and root.paused is not None


def paused_by(scene: Scene, root: Node | None) -> str | None:
    """Who paused a workflow: an operator, or a client by its name."""
    by = (root.paused or {}).get("by") if root is not None else None
    client = (scene.clients or {}).get(by) if by else None
    return client.name if client else by or None


def waits_for(scene: Scene, node: Node) -> list[Node]:
    """The nodes whose end, or whose client, this one waits for; empty where it waits for nobody else."""
    if not active(node):
        return []
    if waits_its_turn(scene, node):
        before = scene.blockers.get(node.id)
        return [before] if before else []
    parent = scene.parent(node)
    if node.ss == "pending" and parent is not None and not parent.is_workflow and not looks(parent):
        return [parent]
    if node.ss == "processing_children" and node.cs in FINAL_CLIENT:
        return unfinished(scene, node)
    return []


def chain(scene: Scene, node: Node) -> Iterator[Node]:
    """The node, and all it waits for, each once, causes last."""
    seen, todo = {node.id}, [node]
    while todo:
        here = todo.pop(0)
        yield here
        for other in waits_for(scene, here):
            if other.id not in seen:
                seen.add(other.id)
                todo.append(other)


def _circles(scene: Scene) -> dict[str, tuple[str, ...]]:
    """Depth first over `waits_for`, without recursion: what is met again on the way closes a circle."""
    found: dict[str, tuple[str, ...]] = {}
    finished: set[str] = set()
    for start in scene.nodes.values():
        if start.id in finished or not active(start):
            continue
        path, place = [start.id], {start.id: 0}
        steps = [iter(waits_for(scene, start))]
        while steps:
            other = next(steps[-1], None)
            if other is None:
                steps.pop()
                gone = path.pop()
                del place[gone]
                finished.add(gone)
            elif other.id in place:
                circle = tuple(path[place[other.id] :])
                found.update({id: circle for id in circle if id not in found})
            elif other.id not in finished:
                place[other.id] = len(path)
                path.append(other.id)
                steps.append(iter(waits_for(scene, other)))
    return found
