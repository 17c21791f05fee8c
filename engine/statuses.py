"""What may be said of one node: a client's word, and what an operator does to it. Each is one event of `events`.

As in `workflows`: `client` None is the operator; what belongs to another client is NotFound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine import door, events
from engine.errors import Conflict, EngineError, InvalidTransition, NotFound, UnknownStatus
from engine.events import Context
from engine.model import Node
from engine.reads import owned_by
from engine.runtime import Runtime
from engine.states import CLIENT_WORDS, STATUS_OF

__all__ = ["cancel", "change_status", "resend", "reset", "retry_now", "schedule", "settle", "time_out"]


def node_of(client: str | None, node_id: str, workflow_id: str | None) -> Callable[[Node | None], Node]:
    owned = owned_by(client, "Node", node_id)

    def check(node: Node | None) -> Node:
        found = owned(node)
        if workflow_id is not None and found.wf != workflow_id:
            raise NotFound("Node", node_id)
        return found

    return check


def same_attempt(node: Node, attempt: int | None, attempted: str | None = None) -> None:
    if attempt is not None and attempt != node.attempt and node.ss != "deactivated":
        message = f"Activity {node.id} is at attempt {node.attempt}, not {attempt}"
        raise Conflict(message, current=node.cs, attempted=attempted)


def change_status(
    rt: Runtime,
    client: str | None,
    node_id: str,
    word: str,
    *,
    response: Any = None,
    attempt: int | None = None,
    workflow_id: str | None = None,
) -> None:
    """A client's word (states.CLIENT_WORDS). UnknownStatus, InvalidTransition, Conflict (old attempt).

    On a deactivated node every word succeeds and changes nothing.
    """
    check = node_of(client, node_id, workflow_id)
    if word not in CLIENT_WORDS:
        check(rt.store.node(node_id))  # one that is not there is the first thing to say
        raise UnknownStatus(word)
    said = events.EVENTS[CLIENT_WORDS[word]]
    stored = None if response is None else events.text(response)

    def event(node: Node, ctx: Context) -> bool:
        same_attempt(node, attempt, STATUS_OF.get(CLIENT_WORDS[word]))
        if node.ss == "deactivated":
            return False
        said(node, ctx, stored)
        return True

    try:
        door.act(rt, node_id, event, check=check)
    except (Conflict, InvalidTransition):
        if CLIENT_WORDS[word] == "completed":
            _keep_refused(rt, node_id, stored, check)
        raise


def _keep_refused(rt: Runtime, node_id: str, response: str | None, check: Callable[[Node | None], Node]) -> None:
    """A `completed` that came too late is kept in the history, a few times; the refusal stands whether that works or not."""

    def event(node: Node, ctx: Context) -> bool:
        kept = sum(len(line) > 3 for line in node.h or [])
        waiting = node.ss in ("pending", "ready", "started", "paused") and node.attempt == 1
        if kept >= events.REFUSED_KEPT or waiting:
            return False
        events.refused(node, ctx, response)
        return True

    try:
        door.act(rt, node_id, event, check=check)
    except EngineError:
        return


def cancel(rt: Runtime, client: str | None, node_id: str) -> None:
    """As change_status "canceled"."""
    change_status(rt, client, node_id, "canceled")


def _unless_deactivated(change: Callable[[Node, Context], None]) -> door.Event:
    def event(node: Node, ctx: Context) -> bool:
        if node.ss == "deactivated":
            return False
        change(node, ctx)
        return True

    return event


def retry_now(rt: Runtime, client: str | None, node_id: str, *, workflow_id: str | None = None) -> None:
    """Restart: from retrying, retries_exhausted or errored it runs at once, as the next attempt, and uses no retry."""
    door.act(rt, node_id, _unless_deactivated(events.retry), check=node_of(client, node_id, workflow_id))


def reset(rt: Runtime, client: str | None, node_id: str, *, workflow_id: str | None = None) -> None:
    """Deactivates all descendants; the node itself stays as it is."""
    door.act(rt, node_id, _unless_deactivated(events.reset), check=node_of(client, node_id, workflow_id))


def schedule(rt: Runtime, client: str | None, node_id: str, *, workflow_id: str | None = None) -> None:
    """Look at its children again."""
    door.act(rt, node_id, events.look_again, check=node_of(client, node_id, workflow_id))


def resend(rt: Runtime, node_id: str, *, by: str) -> None:
    """The operator's `retry`: as `retry_now`, and also on a node whose client has not answered."""
    event = _unless_deactivated(lambda node, ctx: events.resend(node, ctx, by))
    door.act(rt, node_id, event, check=node_of(None, node_id, None))


def settle(rt: Runtime, node_id: str, word: str, *, response: Any = None, by: str) -> None:
    """The operator's `resolved` or `shutdown`: also on a node whose client has not answered. Not while it is retrying."""
    said = {"resolved": events.resolved, "shutdown": events.shut_down}.get(word)
    if said is None:
        raise UnknownStatus(word)
    stored = None if response is None else events.text(response)

    def event(node: Node, ctx: Context) -> None:
        events.give_up(node, ctx, by)
        said(node, ctx, stored)

    door.act(rt, node_id, _unless_deactivated(event), check=node_of(None, node_id, None))


def time_out(rt: Runtime, node_id: str, *, by: str) -> None:
    """The operator's `timeout`: ends the wait for a client as a client error, which uses up a retry."""
    reason = events.text({"error": {"message": f"timed out by an operator ({by})"}})

    def event(node: Node, ctx: Context) -> None:
        events.errored(node, ctx, reason)

    door.act(rt, node_id, _unless_deactivated(event), check=node_of(None, node_id, None))
