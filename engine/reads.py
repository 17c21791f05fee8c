"""What one can look at: nodes, trees, histories, searches. Reads only, acknowledged by a majority.

A node is shown as it counts: a pending child whose parent has begun with its children is ready; one of an earlier
attempt is deactivated, and not there at all if it never came to be.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from engine import ids
from engine.errors import Ambiguous, BadRequest, NotFound
from engine.events import text
from engine.model import (
    Found,
    HistoryLine,
    Node,
    Search,
    StatusChange,
)
from engine.params import snake
from engine.runtime import Runtime
from engine.states import CLIENT, CLIENT_LETTER, CLIENT_WORD, SERVER, SERVER_LETTER, SERVER_WORD

__all__ = [
    "children",
    "error_workflows",
    "errors",
    "get_node",
    "get_workflow",
    "history",
    "last_response",
    "list_workflows",
    "names",
    "nodes",
    "resolve_id",
    "search_activities",
    "search_workflows",
    "status_changes",
    "tree",
]

# -- what is there -------------------------------------------------------------------------------------------------


def owned_by(client: str | None, what: str, id: str) -> Callable[[Node | None], Node]:
    """The check that a node is there and the client's; what a person sees as a workflow must be one."""
    if not ids.is_id(id):
        raise BadRequest("id", f"{id} is no id")

    def check(node: Node | None) -> Node:
        if node is None or node.is_workflow is not (what == "Workflow") or client not in (None, node.client):
            raise NotFound(what, id)
        return node

    return check


def get_workflow(rt: Runtime, client: str | None, id: str) -> Node:
    check = owned_by(client, "Workflow", id)
    return check(next(iter(rt.store.find({"_id": id})), None))


def get_node(rt: Runtime, client: str | None, id: str, *, workflow_id: str | None = None) -> Found:
    """A node and its workflow, to the node's own client only."""
    node = _visible(rt, client, id, workflow_id)
    return Found(node, get_workflow(rt, None, node.wf))


def _visible(rt: Runtime, client: str | None, id: str, workflow_id: str | None, *, history: bool = False) -> Node:
    check = owned_by(client, "Node", id)
    node = check(next(iter(rt.store.find({"_id": id}, history=history)), None))
    if workflow_id is not None and node.wf != workflow_id:
        raise NotFound("Node", id)
    above = next(iter(rt.store.find({"_id": node.parent})), None)
    seen = shown(node, above)
    if seen is None:
        raise NotFound("Node", id)
    return seen


def shown(node: Node, above: Node | None) -> Node | None:
    """The node as it counts, None if it does not."""
    if above is None or node.ss == "deactivated":
        return node
    if node.pgen != above.gen:
        return _as(node, "deactivated", node.cs) if node.hn > 1 or node.known else None
    if node.ss == "pending" and above.ss == "processing_children":
        return _as(node, "ready", "ready")
    return node


def _as(node: Node, server: str, client: str) -> Node:
    twin = node.copy()
    twin.ss, twin.cs = server, client
    return twin


def _all(rt: Runtime, workflow_id: str) -> list[Node]:
    found = rt.store.find({"wf": workflow_id})
    by_id = {node.id: node for node in found}
    seen = (shown(node, by_id.get(node.parent or "")) for node in found if not node.is_workflow)
    return [node for node in seen if node is not None]


def children(rt: Runtime, client: str | None, workflow_id: str) -> list[Node]:
    """A workflow's signals, in order."""
    root = get_workflow(rt, client, workflow_id)
    return rt.store.find({"parent": root.id, "pgen": root.gen})


def nodes(
    rt: Runtime, client: str | None, workflow_id: str, *, server: str | None = None, client_status: str | None = None
) -> list[Node]:
    """All nodes of a workflow in order, or those with these statuses."""
    root = get_workflow(rt, client, workflow_id)
    return [node for node in _all(rt, root.id) if server in (None, node.ss) and client_status in (None, node.cs)]


def tree(rt: Runtime, client: str | None, workflow_id: str) -> tuple[Node, list[Node]]:
    """The workflow and all its visible nodes; parents come before their children, siblings in order."""
    root = get_workflow(rt, client, workflow_id)
    return root, _all(rt, root.id)


def resolve_id(rt: Runtime, asked: str) -> Node:
    """What a person typed: a full id of a workflow or node, an unambiguous beginning or end, or KEY=VALUE of a subject.

    NotFound or Ambiguous.
    """
    if ids.is_id(asked):
        found = rt.store.find({"_id": asked})
    elif "=" in asked:
        key, _, value = asked.partition("=")
        found = _by_pair(rt, key, value)
    elif re.fullmatch(r"[0-9a-f-]{2,35}", asked):
        found = _by_end(rt, asked)
    else:
        found = []
    if not found:
        raise NotFound("Workflow", asked)
    if len(found) > 1:
        raise Ambiguous(asked, [node.id for node in found[:10]])
    return found[0]


def _by_end(rt: Runtime, asked: str) -> list[Node]:
    begins = rt.store.find({"_id": {"$gte": asked, "$lt": asked + "g"}}, sort="_id", limit=11)
    if len(asked) >= ids.TAIL:
        ends = rt.store.find(
            {"tail": asked[-ids.TAIL :], "_id": {"$regex": f"{re.escape(asked)}$"}}, sort="_id", limit=11
        )
    else:
        ends = rt.store.find({"tail": {"$regex": f"{re.escape(asked)}$"}}, sort="_id", limit=11)
    found = {node.id: node for node in [*begins, *ends]}
    roots = [node for node in found.values() if node.is_workflow]
    return roots if len(roots) == 1 else list(found.values())


def _by_pair(rt: Runtime, key: str, value: str) -> list[Node]:
    query = {"kind": "workflow", "subject": {"$regex": _pair_pattern(key, value)}}
    return rt.store.find(query, sort="_id", newest=True, limit=11)


def _pair_pattern(key: str, value: str) -> str:
    """`key=value` anywhere in the JSON text of a subject, the value as a string or as it stands. The key may be said in
    camelCase: subjects are kept in snake_case."""
    plain = re.escape(_ascii(value))
    keys = "|".join(re.escape(_ascii(name)) for name in dict.fromkeys((key, snake(key))))
    return rf'"(?:{keys})":("{re.escape(text(value)[1:-1])}"|{plain}(?=[,}}\]]))'


def _ascii(piece: str) -> str:
    """As JSON text is stored: what is not ASCII is escaped."""
    return "".join(letter if letter.isascii() else text(letter)[1:-1] for letter in piece)


# -- histories -----------------------------------------------------------------------------------------------------


def history(rt: Runtime, client: str | None, node_id: str, *, workflow_id: str | None = None) -> list[HistoryLine]:
    """Every pair the node has had, oldest first, lines moved out of the node included."""
    node = _visible(rt, client, node_id, workflow_id, history=True)
    return lines_of(node, rt.store.spilled(node) if node.hs else [])


def lines_of(node: Node, earlier: Iterable[list[Any]] = ()) -> list[HistoryLine]:
    found: list[HistoryLine] = []
    client = node.cs
    for at, pair, *more in [*earlier, *(node.h or [])]:
        client = client if pair[1] == "." else CLIENT_WORD[pair[1]]
        response = json.loads(more[0]) if more and more[0] is not None else None
        found.append(
            HistoryLine(at=at, server=SERVER_WORD[pair[0]], client=client, response=response, refused=len(more) > 1)
        )
    return found


def status_changes(
    rt: Runtime, client: str | None, node_id: str, *, workflow_id: str | None = None
) -> list[StatusChange]:
    return changes_of(node_id, history(rt, client, node_id, workflow_id=workflow_id))


def changes_of(node_id: str, lines: list[HistoryLine]) -> list[StatusChange]:
    changes = []
    standing = [line for line in lines if not line.refused]
    for before, after in itertools.pairwise(standing):
        for machine, old, new in (("client", before.client, after.client), ("server", before.server, after.server)):
            if old != new:
                response = after.response if machine == "client" and after.response is not None else {}
                change = StatusChange(
                    node=node_id, machine=machine, before=old, after=new, at=after.at, response=response
                )
                changes.append(change)
    return changes


def errors(rt: Runtime, client: str | None, node_id: str, *, workflow_id: str | None = None) -> list[StatusChange]:
    """The changes of the client status to errored."""
    found = status_changes(rt, client, node_id, workflow_id=workflow_id)
    return [change for change in found if change.machine == "client" and change.after == "errored"]


def last_response(rt: Runtime, client: str | None, node_id: str, *, workflow_id: str | None = None) -> Any:
    """Response of the last client change; None before any, {} where it had none."""
    found = [c for c in status_changes(rt, client, node_id, workflow_id=workflow_id) if c.machine == "client"]
    return found[-1].response if found else None


# -- searches ------------------------------------------------------------------------------------------------------


def names(rt: Runtime, client: str | None) -> list[str]:
    query: dict[str, Any] = {"kind": "workflow"} if client is None else {"client": client, "kind": "workflow"}
    return sorted(rt.store.distinct("name", query))


def _base(client: str | None, kind: str, wanted: Search, text_field: str) -> dict[str, Any]:
    query: dict[str, Any] = {"kind": kind}
    if client is not None:
        query["client"] = client
    if wanted.name is not None:
        query["name"] = wanted.name
    if wanted.text is not None:
        query[text_field] = {"$regex": re.escape(_ascii(wanted.text))}
    if wanted.last_id is not None:
        query["_id"] = {"$lt": wanted.last_id}
    return query


def _when(wanted: Search) -> dict[str, Any]:
    """What a node's statuses and history must show."""
    query: dict[str, Any] = {}
    both: list[dict[str, Any]] = []
    if wanted.status is not None:
        both.append({"$or": [{"ss": wanted.status}, {"cs": wanted.status}]})
    window = {
        **({"$gte": wanted.since} if wanted.since is not None else {}),
        **({"$lte": wanted.until} if wanted.until is not None else {}),
    }
    past = wanted.past_status or (wanted.status if window else None)
    if past is not None or window:
        line: dict[str, Any] = {"0": window} if window else {}
        if past is not None:
            line["1"] = {"$regex": _pair_of(past)}
        both.append({"h": {"$elemMatch": line}})
    if both:
        query["$and"] = both
    return query


def _pair_of(status: str) -> str:
    """Pairs of letters in which a machine has this status."""
    if status not in SERVER and status not in CLIENT:
        return "^$"
    server = f"^{SERVER_LETTER[status]}" if status in SERVER else None
    client = f"{CLIENT_LETTER[status]}$" if status in CLIENT else None
    return "|".join(part for part in (server, client) if part)


def search_workflows(rt: Runtime, client: str | None, wanted: Search) -> list[Node]:
    """Newest first; only workflows that have a node."""
    return _workflows(rt, client, wanted, {"last": {"$gt": 0}})


def list_workflows(
    rt: Runtime, client: str | None, wanted: Search, *, paused: bool = False, key: str | None = None, value: Any = None
) -> list[Node]:
    """The operator's list: as search_workflows, all if there is no filter; `key`/`value` is a pair of the subject."""
    more: dict[str, Any] = {"paused": {"$ne": None}} if paused else {}
    if client is None:  # each client's are in order of age in an index; all workflows are not
        more["client"] = {"$in": rt.store.distinct("client", {})}
    if key is not None:
        more["$and"] = [{"subject": {"$regex": _pair_pattern(key, str(value))}}]
    return _workflows(rt, client, wanted, more)


def _workflows(rt: Runtime, client: str | None, wanted: Search, more: Mapping[str, Any]) -> list[Node]:
    query = {**_base(client, "workflow", wanted, "subject"), **more}
    skip = (wanted.page - 1) * wanted.per_page
    inner = _when(wanted)
    if not inner:
        return rt.store.find(query, sort="_id", newest=True, limit=wanted.per_page, skip=skip)
    looked: list[dict[str, Any]] = [
        {"$match": query},
        {"$sort": {"_id": -1}},
        {
            "$lookup": {
                "from": "nodes",
                "localField": "_id",
                "foreignField": "wf",
                "pipeline": [{"$match": {"kind": "node", **inner}}, {"$limit": 1}, {"$project": {"_id": 1}}],
                "as": "hit",
            }
        },
        {"$match": {"hit": {"$ne": []}}},
        {"$skip": skip},
        {"$limit": wanted.per_page},
        {"$project": {"_id": 1}},
    ]
    found = [doc["_id"] for doc in rt.store.aggregate(looked)]
    return rt.store.find({"_id": {"$in": found}}, sort="_id", newest=True)


def search_activities(rt: Runtime, client: str | None, wanted: Search) -> list[Found]:
    """Newest first."""
    query = {**_base(client, "node", wanted, "meta"), **_when(wanted)}
    skip = (wanted.page - 1) * wanted.per_page
    found = rt.store.find(query, sort="_id", newest=True, limit=wanted.per_page, skip=skip)
    above = list({id for node in found for id in (node.wf, node.parent or "")})
    others = {node.id: node for node in rt.store.find({"_id": {"$in": above}})} if above else {}
    seen = [(shown(node, others.get(node.parent or "")), others.get(node.wf)) for node in found]
    return [Found(node, root) for node, root in seen if node is not None and root is not None]


def error_workflows(rt: Runtime, client: str | None) -> list[Node]:
    """Workflows with a node whose client status is errored."""
    mine: dict[str, Any] = {"kind": "workflow"} if client is None else {"kind": "workflow", "client": client}
    found = rt.store.distinct("wf", {"cs": "errored", "ss": {"$ne": "deactivated"}})
    return rt.store.find({"_id": {"$in": found}, **mine}, sort="_id", newest=True)
