"""New documents: workflows, signals, children; validated, hashed, with their first history line. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from engine import events, ids
from engine.errors import BadRequest
from engine.events import Context, text
from engine.model import MODES, TYPES, NewNode, Node
from engine.params import snake_keys
from engine.states import code

ROOT_GEN = "w"
"""The generation of all signals: a workflow is never tried again."""
MAX_COUNT = 1_000_000
MAX_SECONDS = 315_360_000


def validated(new: NewNode) -> NewNode:
    """`new`, if it can be meant; BadRequest names the field."""
    if not isinstance(new.name, str) or not new.name.strip():
        raise BadRequest("name", "Name can't be blank")
    if new.mode not in MODES:
        raise BadRequest("mode", f"mode is one of {', '.join(MODES)}")
    if new.type not in TYPES:
        raise BadRequest("type", f"type is one of {', '.join(TYPES)}")
    if not 0 <= new.retry <= MAX_COUNT:
        raise BadRequest("retry", f"retry is between 0 and {MAX_COUNT}")
    if not 0 <= new.retry_interval <= MAX_SECONDS:
        raise BadRequest("retry_interval", f"retry_interval is between 0 and {MAX_SECONDS} seconds")
    return new


def root(client: str, name: str, subject: Any, decider: str | None, ctx: Context, *, key: str | None = None) -> Node:
    if not isinstance(name, str) or not name.strip():
        raise BadRequest("name", "Name can't be blank")
    node = Node(kind="workflow", name=name, client=client, decider=decider, mode="", ss="", cs="", gen=ROOT_GEN)
    node.subject, node.shash = text(subject), subject_hash(subject)
    _identify(node, ctx)
    node.wf, node.seq = node._id, ctx.now * 1000
    if key is not None:
        node.key = _hash(json.dumps([client, "workflows", key]))
        node.body = _hash(json.dumps([name, node.shash, decider]))
    return node


def signal(new: NewNode, above: Node, ctx: Context, seq: int) -> Node:
    """Ready from the start, blocking, and its workflow is told to look."""
    node = _node(new, above, ctx, seq, "ready")
    node.mode, node.type = "blocking", "decision"
    node.open = events.openness(node)
    events.owe(node, "tell")
    return events.settle(node, ctx)


def first_signal(new: NewNode, above: Node, ctx: Context) -> Node:
    """The signal that a workflow is created with: started already, since nothing can precede it."""
    node = _node(new, above, ctx, above.seq + 1, "ready")
    node.mode, node.type = "blocking", "decision"
    events.hand_out(node, ctx)
    return events.settle(node, ctx)


def children(new: Sequence[NewNode], above: Node, ctx: Context) -> list[Node]:
    """Children of the parent's present attempt: pending, or ready where it has begun with them. In order."""
    first = max(ctx.now * 1000, (above.last or 0) + 1, above.seq + 1)
    made = []
    for place, one in enumerate(new):
        node = _node(one, above, ctx, first + place, "pending")
        if above.ss == "processing_children":
            node.ss = node.cs = "ready"
            node.lines = [*node.lines, [ctx.now, code("ready", "ready")]]
        made.append(events.settle(node, ctx))
    return made


def _node(new: NewNode, above: Node, ctx: Context, seq: int, status: str) -> Node:
    node = Node(name=new.name, type=new.type, client=new.client or above.client, mode=new.mode, ss=status, cs=status)
    node.wf, node.parent, node.pgen, node.seq = above.wf, above._id, above.gen, seq
    node.data, node.meta, node.link, node.tid = text(new.data), text(new.meta), new.link, new.tid
    node.retries, node.retry_interval, node.fires_at = [new.retry, new.retry], new.retry_interval, new.fires_at
    node.lines = [[ctx.now, code(status, status)]]
    node.open = events.openness(node)
    return _identify(node, ctx)


def _identify(node: Node, ctx: Context) -> Node:
    node._id = ids.new_id(ctx.now)
    node.tail = ids.tail(node._id)
    node.created = node.changed = ctx.now
    node.rev = ctx.token
    return node


# -- hashes ------------------------------------------------------------------------------------------------------


def subject_hash(subject: Any) -> str:
    """Equal for subjects that differ in the order of keys, or in their case, only."""
    return _hash(json.dumps(snake_keys(subject), sort_keys=True, separators=(",", ":")))


def key_hash(client: str | None, route: str, above: Node, key: str, place: int) -> str:
    return _hash(json.dumps([client, route, above._id, above.gen, key, place]))


def body_hash(new: Sequence[NewNode]) -> str:
    said = [{field: value for field, value in one.__dict__.items() if field != "tid"} for one in new]
    return _hash(json.dumps(said, sort_keys=True))


def with_keys(
    made: Sequence[Node], client: str | None, route: str, above: Node, key: str | None, new: Sequence[NewNode]
) -> None:
    """Marks new nodes with the idempotency key they came under, so that the unique index refuses them a second time."""
    if key is None:
        return
    body = body_hash(new)
    for place, node in enumerate(made):
        node.key, node.body = key_hash(client, route, above, key, place), body


def _hash(words: str) -> str:
    return hashlib.sha256(words.encode()).hexdigest()[:32]
