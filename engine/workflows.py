"""Everything one can ask of the engine: create, find, signal, add children, report a status, pause, search.

`rt` is the Runtime; `client` the id of the client that asks, or None for the operator, who sees all. What belongs to
another client is NotFound, as what does not exist. Every function may raise StoreDown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine import build, door, events, links
from engine.clients import (
    add_client,
    check_token,
    client_named,
    get_client,
    list_clients,
    remove_client,
    rotate_token,
)
from engine.errors import BadRequest, Conflict, KeyReused, NotFound, WorkflowComplete
from engine.events import Context
from engine.figures import health, stats, workers
from engine.model import NewNode, NewWorkflow, Node
from engine.mongo import Duplicate
from engine.reads import (
    children,
    error_workflows,
    errors,
    get_node,
    get_workflow,
    history,
    last_response,
    list_workflows,
    names,
    nodes,
    owned_by,
    resolve_id,
    search_activities,
    search_workflows,
    status_changes,
    tree,
)
from engine.runtime import Runtime
from engine.states import DONE
from engine.statuses import (
    cancel,
    change_status,
    node_of,
    resend,
    reset,
    retry_now,
    same_attempt,
    schedule,
    settle,
    time_out,
)

__all__ = [
    "add_children",
    "add_client",
    "cancel",
    "change_status",
    "check_token",
    "children",
    "client_named",
    "complete",
    "create_workflow",
    "error_workflows",
    "errors",
    "find_workflow",
    "get_client",
    "get_node",
    "get_workflow",
    "health",
    "history",
    "last_response",
    "list_clients",
    "list_workflows",
    "names",
    "nodes",
    "pause",
    "remove_client",
    "resend",
    "reset",
    "resolve_id",
    "resume",
    "retry_now",
    "rotate_token",
    "schedule",
    "search_activities",
    "search_workflows",
    "settle",
    "signal",
    "start_many",
    "stats",
    "status_changes",
    "time_out",
    "tree",
    "workers",
]

# -- workflows -----------------------------------------------------------------------------------------------------


def create_workflow(
    rt: Runtime, client: str, *, name: str, subject: Any, decider: str | None = None, key: str | None = None
) -> Node:
    """Idempotent by (client, name, subject): the existing one comes back, with its old decider, also when complete.

    KeyReused where `key` has made another one before.
    """
    made = build.root(client, name, subject, decider, rt.context(), key=key)
    try:
        rt.store.insert([made])
    except Duplicate:
        for before in rt.store.find({"key": made.key}, limit=1) if key is not None else []:
            if before.body != made.body:
                raise _reused(key) from None
        return _existing(rt, made)
    return made


def _reused(key: str | None) -> KeyReused:
    return KeyReused(f"the Idempotency-Key {(key or '')[:80]} was used before with another body")


def _existing(rt: Runtime, made: Node) -> Node:
    query = {"kind": "workflow", "client": made.client, "name": made.name, "shash": made.shash}
    found = rt.store.find(query, limit=1)
    if not found:
        raise NotFound("Workflow", made.name)
    return found[0]


def find_workflow(
    rt: Runtime, client: str | None, *, subject: Any, decider: str | None = None, name: str | None = None
) -> Node:
    """By subject: a JSON value. NotFound if there is none."""
    query: dict[str, Any] = {"kind": "workflow", "shash": build.subject_hash(subject)}
    wanted = {"client": client, "decider": decider, "name": name}
    query |= {field: value for field, value in wanted.items() if value is not None}
    found = rt.store.find(query, sort="_id", limit=1)
    if not found:
        raise NotFound("Workflow", "?")
    return found[0]


def signal(rt: Runtime, client: str | None, workflow_id: str, new: NewNode, *, key: str | None = None) -> Node:
    """WorkflowComplete, BadRequest, or KeyReused where `key` came before with another body."""
    check = owned_by(client, "Workflow", workflow_id)
    new = build.validated(new)
    root = check(rt.store.node(workflow_id))
    before = _made_before(rt, client, "signal", root, key, [new])
    if before:
        return before[0]
    if root.complete:
        raise WorkflowComplete(workflow_id)
    _check_client(rt, new)
    links.mark(rt, new, root)
    ctx = rt.context()
    bumped = rt.store.bump_root(workflow_id, ctx.now * 1000, 1)
    if bumped is None:
        raise WorkflowComplete(workflow_id)
    made = build.signal(new, bumped, ctx, bumped.last or ctx.now * 1000)
    build.with_keys([made], client, "signal", root, key, [new])
    try:
        rt.store.insert([made])
    except Duplicate:
        return _made_before(rt, client, "signal", root, key, [new])[0]
    rt.hints.push([made.id])
    return made


def start_many(rt: Runtime, client: str, new: Sequence[NewWorkflow]) -> list[tuple[Node, Node]]:
    """Workflows with their first signals, (workflow, signal) in order; about 50 at a time is best.

    One insert in order: where a workflow is there already the insert stops before its signal, which is sent to the
    existing one instead.
    """
    ctx = rt.context()
    pairs: list[tuple[Node, Node]] = []
    for one in new:
        _check_client(rt, build.validated(one.signal))
        root = build.root(client, one.name, one.subject, one.decider, ctx)
        first = build.first_signal(one.signal, root, ctx)
        root.last = first.seq
        build.with_keys([first], client, "signal", root, one.key, [one.signal])
        pairs.append((root, first))
    done: list[tuple[Node, Node]] = []
    while len(done) < len(pairs):
        rest = pairs[len(done) :]
        try:
            rt.store.insert([node for pair in rest for node in pair])
            done += rest
        except Duplicate as stop:
            done += rest[: stop.at // 2]
            asked = new[len(done)]
            existing = _existing(rt, pairs[len(done)][0])
            done.append((existing, signal(rt, client, existing.id, asked.signal, key=asked.key)))
    rt.hints.push([first.id for _, first in done if first.due is not None and first.due <= ctx.now])
    return done


def pause(rt: Runtime, client: str | None, workflow_id: str, *, by: str | None = None) -> None:
    def event(root: Node, ctx: Context) -> bool:
        if root.paused:
            return False
        events.pause(root, ctx, by or client or "")
        return True

    door.act(rt, workflow_id, event, check=owned_by(client, "Workflow", workflow_id))


def resume(rt: Runtime, client: str | None, workflow_id: str) -> None:
    def event(root: Node, ctx: Context) -> bool:
        if not root.paused:
            return False
        events.resume(root, ctx)
        return True

    door.act(rt, workflow_id, event, check=owned_by(client, "Workflow", workflow_id))


def complete(rt: Runtime, client: str | None, workflow_id: str) -> None:
    """Declares it complete: signals are refused from now on; nodes under way go on."""

    def event(root: Node, ctx: Context) -> bool:
        if root.complete:
            return False
        events.close(root, ctx)
        return True

    door.act(rt, workflow_id, event, check=owned_by(client, "Workflow", workflow_id))


# -- children ------------------------------------------------------------------------------------------------------


def add_children(
    rt: Runtime,
    client: str | None,
    node_id: str,
    new: Sequence[NewNode],
    *,
    key: str | None = None,
    attempt: int | None = None,
    workflow_id: str | None = None,
) -> list[str]:
    """Ids in order; all or none. Conflict if the node is complete or deactivated or `attempt` is an old one."""
    check = node_of(client, node_id, workflow_id)
    above = check(rt.node(node_id))
    if not new:
        return []
    for one in new:
        _check_client(rt, build.validated(one))
    before = _made_before(rt, client, "decisions", above, key, new)
    if before:
        return [node.id for node in before]

    def still(node: Node | None) -> Node:
        found = check(node)
        same_attempt(found, attempt)
        if found.ss in DONE:
            raise Conflict(f"Activity {found.id} is {found.ss}: it takes no more decisions", current=found.ss)
        return found

    still(above)
    for one in new:
        links.mark(rt, one, above)

    def made(node: Node, ctx: Context) -> list[Node]:
        nodes = build.children(new, node, ctx)
        build.with_keys(nodes, client, "decisions", node, key, new)
        return nodes

    try:
        return [node.id for node in door.add(rt, node_id, made, check=still)]
    except Duplicate:
        again = check(rt.store.node(node_id))
        return [node.id for node in _made_before(rt, client, "decisions", again, key, new)]


def _made_before(
    rt: Runtime, client: str | None, route: str, above: Node, key: str | None, new: Sequence[NewNode]
) -> list[Node]:
    """What an earlier request with this key has made; KeyReused if that one asked for something else."""
    if key is None or above.gen is None:
        return []
    keys = [build.key_hash(client, route, above, key, place) for place in range(max(len(new), 1))]
    found = rt.store.find({"key": {"$in": keys}})
    if found and (found[0].body != build.body_hash(new) or len(found) != len(new)):
        raise _reused(key)
    return found


def _check_client(rt: Runtime, new: NewNode) -> None:
    if new.client is not None and rt.client(new.client) is None:
        raise BadRequest("client_id", f"there is no client {new.client}")
