"""Reads for `why`, `stuck` and `heal`: a workflow whole, or nodes with as many neighbours as judging them takes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from engine.model import ClientRecord, Node
from engine.rows import TWINS
from engine.runtime import Runtime
from engine.scene import Scene, active
from engine.states import DONE, SERVER, WAITING

UNFINISHED = [status for status in SERVER if status not in DONE]
BATCH = 200
SOON = 60_000  # ms: a tell is due at once, or when the lease of who holds it is over
HOPS = 3  # from workflow to linked workflow
MAX_LINKED = 20  # workflows followed through links
MAX_LINKING = 10_000  # unfinished linked nodes looked at for circles
MAX_TWINS = 200  # nodes whose data is read to compare it


class TooFar(Exception):
    """What these workflows wait for is more than there is room for: `held` are those of them that wait for links."""

    def __init__(self, held: set[str]) -> None:
        super().__init__(", ".join(sorted(held)))
        self.held = held


def of_workflow(rt: Runtime, workflow: str, *, history: bool = False) -> Scene:
    """All nodes of a workflow, and those of the workflows it is linked with; `history` also of what is finished."""
    return of_workflows(rt, [workflow], history=history)


def of_workflows(rt: Runtime, workflows: Sequence[str], *, history: bool = False, room: int | None = None) -> Scene:
    """The same of several. `room`: TooFar where the workflows they are linked with have more nodes than that."""
    found = _workflows(rt, list(workflows), history=history)
    seen, todo = set(workflows), _linking(rt, found.values())
    held = {found[n.link].wf for n in todo if n.link in found}
    for _ in range(HOPS):
        found |= {n.id: n for n in todo if n.id not in found}
        fresh = sorted({n.wf for n in todo if active(n)} - seen)[: MAX_LINKED * len(workflows)]
        if not fresh:
            break
        if room is not None and (room := room - sum(sizes(rt, fresh, room).values())) < 0:
            raise TooFar(held)
        more = _workflows(rt, fresh, history=False)
        seen |= set(fresh)
        found |= more
        todo = _linking(rt, more.values())
    return _scene(rt, found)


def sizes(rt: Runtime, workflows: Sequence[str], most: int) -> dict[str, int]:
    """{workflow: its nodes}, counted to one more than `most`, in one command that reads keys of an index only."""
    inner: list[dict[str, Any]] = [{"$limit": most + 2}, {"$count": "n"}]  # the workflow is among its nodes
    counted = {"from": "nodes", "localField": "_id", "foreignField": "wf", "pipeline": inner, "as": "counted"}
    asked: list[dict[str, Any]] = [
        {"$match": {"_id": {"$in": list(workflows)}}},
        {"$project": {"_id": 1}},
        {"$lookup": counted},
    ]
    return {doc["_id"]: sum(c["n"] for c in doc["counted"]) - 1 for doc in rt.store.aggregate(asked)}


def around(rt: Runtime, nodes: Sequence[Node]) -> Scene:
    """These nodes (read with their history), and of their neighbours what judging them takes: parents, workflows,
    children, links, who has to tell them something, and whatever blocks them. Not all siblings: there may be thousands."""
    found = {n.id: n for n in nodes}
    ids, parents = list(found), {n.parent for n in nodes if n.parent}
    near = list(rt.store.by_ids((parents | {n.wf for n in nodes}) - set(ids)).values())
    near += rt.store.find({"parent": {"$in": ids}, "open": {"$in": ["r", "b", "n"]}})
    near += rt.store.find({"link": {"$in": ids}})
    soon = {"$gt": 0, "$lte": rt.store.now() + SOON}
    told = [*ids, *parents]
    near += rt.store.find(
        {"due": soon, "$or": [{"do.tell": {"$in": told}}, {"do.tell": True, "parent": {"$in": told}}]}
    )
    given_up = {n.parent for n in nodes if n.cs == "shutdown" and active(n)}
    waiting = {n.parent for n in nodes if n.ss in WAITING} - given_up
    near += rt.store.find({"parent": {"$in": list(waiting)}, "open": "b"}) if waiting else []
    near += rt.store.find({"parent": {"$in": list(given_up)}, "open": {"$in": ["r", "b", "n"]}}) if given_up else []
    others = {n.id: n for n in [*near, *_ready_before(rt, nodes, near)] if n.id not in found}
    return _scene(rt, others | found)


def _ready_before(rt: Runtime, nodes: Sequence[Node], near: Iterable[Node]) -> list[Node]:
    """For the first of each family that waits: a ready sibling that must run before it, unless a known one blocks it."""
    first: dict[tuple[str | None, str | None], int] = {}
    for n in nodes:
        if n.ss in WAITING:
            family = (n.parent, n.pgen)
            first[family] = min(n.seq, first.get(family, n.seq))
    for n in near:
        if n.open == "b" and n.seq < first.get((n.parent, n.pgen), 0):
            del first[(n.parent, n.pgen)]
    found = []
    for (parent, pgen), seq in first.items():
        query = {"parent": parent, "pgen": pgen, "open": "r", "seq": {"$lt": seq}, "mode": "blocking"}
        found += rt.store.find(query, newest=True, limit=1)
    return found


def entangled(rt: Runtime) -> Iterator[tuple[Scene, list[Node]]]:
    """The nodes that wait for themselves, each with the live nodes of all workflows of its circle.

    Nothing but a link can close a circle, so only workflows that lead back to themselves by links are read.
    """
    linking = rt.store.find({"link": {"$gt": ""}, "ss": {"$in": UNFINISHED}}, limit=MAX_LINKING)
    targets = rt.store.by_ids({n.link for n in linking if n.link})
    leads: dict[str, set[str]] = {}
    for n in linking:
        target = targets.get(n.link or "")
        if target is not None and active(target):
            leads.setdefault(target.wf, set()).add(n.wf)
    for workflows in _circling(leads):
        before = set(_live(rt, workflows).knotted)
        scene = _live(rt, workflows) if before else None  # several reads are no one moment: looked at twice
        if scene is not None and (knotted := [scene.nodes[id] for id in scene.knotted if id in before]):
            yield scene, knotted


def _live(rt: Runtime, workflows: Iterable[str]) -> Scene:
    """Their unfinished nodes."""
    ids = list(workflows)
    live = rt.store.find({"wf": {"$in": ids}, "ss": {"$in": UNFINISHED}}, history=True)
    return _scene(rt, rt.store.by_ids(ids) | {n.id: n for n in live})


def _circling(leads: Mapping[str, set[str]]) -> list[set[str]]:
    """The workflows that can be reached from themselves, those of one circle together."""
    while leads != (inner := _without_ends(leads)):
        leads = inner
    reach = {start: _reached(leads, start) for start in leads}
    found: list[set[str]] = []
    for start in leads:
        if start in reach[start] and not any(start in circle for circle in found):
            found.append({other for other in reach[start] if start in reach.get(other, ())})
    return found


def _without_ends(leads: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Without those that nothing leads to, or that lead nowhere: they are on no circle."""
    targeted = {other for others in leads.values() for other in others}
    return {start: on for start, others in leads.items() if start in targeted and (on := others & leads.keys())}


def _reached(leads: Mapping[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        fresh = leads.get(todo.pop(), set()) - seen
        seen |= fresh
        todo += fresh
    return seen


def again(rt: Runtime, ids: Iterable[str]) -> Scene:
    """A second look at these nodes: several reads are no one moment, and what only seemed so between them is gone now."""
    return around(rt, list(rt.store.by_ids(ids, history=True).values()))


def unfinished(rt: Runtime, narrow: Mapping[str, Any] | None = None) -> Iterator[tuple[Scene, list[Node]]]:
    """All nodes that are not finished, `BATCH` at a time, each with a scene to judge it in. `narrow`: store fields."""
    after = ""
    while batch := slice_of(rt, after, BATCH, narrow):
        yield around(rt, batch), batch
        after = batch[-1].id


def slice_of(rt: Runtime, after: str, limit: int, narrow: Mapping[str, Any] | None = None) -> list[Node]:
    """The next unfinished nodes by id, with their history."""
    query = {"ss": {"$in": UNFINISHED}, "_id": {"$gt": after}, **(narrow or {})}
    return rt.store.find(query, sort="_id", limit=limit, history=True)


def untidy(rt: Runtime) -> list[Node]:
    """Finished nodes and workflows with something left over, a thousand at most: all of the collection is read for them."""
    finished: dict[str, Any] = {"ss": {"$nin": UNFINISHED}}
    left = [
        {"complete_by": {"$gt": 0}},
        {"do": {"$exists": True}},
        {"look": {"$exists": True}},
        {"open": {"$exists": True}},
    ]
    return rt.store.find({**finished, "$or": left}, sort="_id", limit=1000, history=True)


def node_with_history(rt: Runtime, id: str) -> Node | None:
    return rt.store.by_ids([id], history=True).get(id)


def _workflows(rt: Runtime, ids: list[str], *, history: bool) -> dict[str, Node]:
    roots = rt.store.by_ids(ids, history=history)
    inner: dict[str, Any] = {"wf": {"$in": ids}}
    found = roots | {n.id: n for n in rt.store.find(inner, history=history)}
    if not history:
        live = {**inner, "kind": "node", "ss": {"$nin": list(DONE)}}  # so said, no index of all that lives fits it
        found |= {n.id: n for n in rt.store.find(live, history=True)}
    return found


def _linking(rt: Runtime, nodes: Iterable[Node]) -> list[Node]:
    targets = [n.id for n in nodes if n.links and active(n)]
    return rt.store.find({"link": {"$in": targets}}) if targets else []


def _scene(rt: Runtime, nodes: dict[str, Node]) -> Scene:
    clients: dict[str, ClientRecord] = {c.id: c for c in rt.store.clients({})}
    return Scene(now=rt.store.now(), nodes=nodes, clients=clients, digests=_digests(rt, nodes.values()))


def _digests(rt: Runtime, nodes: Iterable[Node]) -> dict[str, str]:
    """Hashes of the data of those that may be twins: live siblings of one name, posted within seconds of each other."""
    families: dict[tuple[str | None, str | None, str], list[Node]] = {}
    for n in nodes:
        if active(n) and not n.key:
            families.setdefault((n.parent, n.pgen, n.name), []).append(n)
    alike: list[str] = []
    for family in families.values():
        family.sort(key=lambda n: n.created)
        for one, two in pairwise(family):
            if 0 < two.created - one.created <= TWINS:
                alike += [one.id, two.id]
    wanted = rt.store.by_ids(dict.fromkeys(alike[:MAX_TWINS]))
    return {id: hashlib.sha256(n.data.encode()).hexdigest() for id, n in wanted.items()}
