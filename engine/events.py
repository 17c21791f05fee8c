"""The events of a node's life, pure: each takes a node's own copy and a context and changes the copy.

A status changes by a named move of `states` only, and leaves a line of history. What an event cannot do to the node
itself (post, prune, tell the parent) it leaves in `do`, written in the same update, for whoever claims the node next.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from engine import retry as retries
from engine.errors import InvalidTransition
from engine.model import Node
from engine.states import DONE, WAITING, code, moved

DO_ORDER = (
    "prune",  # deactivate children of old attempts
    "cut",  # deactivate later siblings
    "clear",  # deactivate all nodes of a smaller seq
    "mark",  # pending children become ready
    "start",  # begin at fires_at
    "post",  # send it to the client
    "timeout",  # the client's time is up at complete_by
    "retry",  # again at fires_at
    "recheck",  # parked: was the workflow resumed just before?
    "resume",  # wake what was parked
    "tell",  # let these nodes look at their children
    "notify",  # tell the client that it is in a person's hands
)
CLOCK_SLACK = 20
"""Milliseconds: what is due at once is stamped a little early, lest a claim by a clock slightly behind miss it."""

AFTER_POST = 15_000
"""Milliseconds a worker may take after a post's deadline to note what came of it."""

_ENCODER = json.JSONEncoder(separators=(",", ":"))
SERVER_ERROR = "Server Error"
CLIENT_ERROR = "Client Error"


@dataclass(frozen=True)
class Context:
    """`now` in ms by the database's clock, `token` new for every commit, `random` in [0, 1)."""

    now: int
    token: str
    random: float = 0.5


def text(value: Any) -> str:
    """JSON text as it is stored."""
    return "{}" if value == {} else _ENCODER.encode(value)


def openness(node: Node) -> str | None:
    if node.ss in WAITING:
        return "r"
    if node.ss in DONE or node.mode == "fire_and_forget":
        return None
    return "b" if node.mode == "blocking" else "n"


def owe(node: Node, todo: str, arg: Any = True) -> None:
    node.do = {**(node.do or {}), todo: arg}


def done(node: Node, *todos: str) -> None:
    if node.do:
        node.do = {name: arg for name, arg in node.do.items() if name not in todos} or None


def owed_at(node: Node, now: int) -> int | None:
    """When a worker must look: the earliest of what is owed; None if nothing is."""
    if node.parked:
        return None
    at_once = now - CLOCK_SLACK
    times = [at_once] if node.look else []
    for todo, arg in (node.do or {}).items():
        times.append(ripe_at(node, todo, arg) or at_once)
    return min(times) if times else None


def ripe_at(node: Node, todo: str, arg: Any) -> int | None:
    if todo in ("start", "retry"):
        return node.fires_at
    if todo == "timeout":
        return node.complete_by
    if todo == "notify":
        at: int = arg["at"]
        return at
    return None


def settle(node: Node, ctx: Context) -> Node:
    """Ends an event outside a claim: a new token, nobody holds it, due when something is owed."""
    node.rev, node.changed = ctx.token, ctx.now
    node.due = owed_at(node, ctx.now)
    node.by = node.since = node.tries = None
    return node


def settle_beside(before: Node, node: Node, ctx: Context) -> Node:
    """Ends an event of somebody who does not hold the node. A post that a worker has under way stays with that worker:
    let go, it would be sent again while its client works on it."""
    if before.by and (before.due or 0) > ctx.now and "post" in (before.do or {}) and "post" in (node.do or {}):
        node.rev, node.changed = ctx.token, ctx.now
        return node
    return settle(node, ctx)


def hold(node: Node, ctx: Context, worker: str, lease: int) -> Node:
    """Ends an event inside a claim: a new token, the claim goes on for `lease` ms."""
    node.rev, node.changed = ctx.token, ctx.now
    node.by, node.since, node.tries = worker, node.since or ctx.now, None
    node.due = ctx.now + lease
    return node


def _move(node: Node, ctx: Context, move: str, response: str | None = None) -> None:
    node.ss, node.cs = moved(node.ss, node.cs, move)
    line: list[Any] = [ctx.now, code(node.ss, node.cs)]
    node.lines = [*node.lines, line if response is None else [*line, response]]
    node.open = openness(node)


# -- on its way to the client ----------------------------------------------------------------------------------


def _begin(node: Node, ctx: Context) -> None:
    """To `started`, from wherever a node waits."""
    if node.ss == "pending":
        _move(node, ctx, "ready")
    if node.ss != "started":  # one that is with its client already cannot be begun again
        _move(node, ctx, "start")


def mark(node: Node, ctx: Context) -> None:
    """Its parent has begun with its children: it is ready, also where that is not written yet."""
    _move(node, ctx, "ready")


def hand_out(node: Node, ctx: Context) -> None:
    """Started on its own account: a timer, or what its parent's holder does not run itself."""
    _begin(node, ctx)
    done(node, "recheck")
    owe(node, "start")


def park(node: Node, ctx: Context) -> None:
    """Its workflow is paused. A resume that came between our reading and this write has not seen it: so look again."""
    _begin(node, ctx)
    _move(node, ctx, "park")
    done(node, "start")
    owe(node, "recheck")


def deliver(node: Node, ctx: Context) -> None:
    """Before the post: it is with the client from now on."""
    send(node, ctx)
    owe(node, "post")


def send(node: Node, ctx: Context) -> None:
    _begin(node, ctx)
    _move(node, ctx, "send")
    done(node, "start")
    _deadline(node, ctx)


def _deadline(node: Node, ctx: Context) -> None:
    node.complete_by = ctx.now + int((node.timeout or retries.DEFAULT_TIMEOUT) * 1000)


def delivered(node: Node, ctx: Context) -> None:
    """The client has it: a call of this attempt, or a 2xx answer, proves it."""
    if node.do and "post" in node.do:
        done(node, "post")
        owe(node, "timeout")


def posted(node: Node, ctx: Context, status: int) -> None:
    node.sent = [node.attempt, ctx.now, status]
    delivered(node, ctx)


def post_failed(node: Node, ctx: Context, status: int | None, message: str) -> None:
    """A refused or dropped post is a client error while the client has not said otherwise."""
    node.sent = [node.attempt, ctx.now, status]
    if node.ss == "sent_to_client" and node.cs in ("received", "processing"):
        errored(node, ctx, text({"error": {"message": message}}))
    else:
        done(node, "post")


# -- what the client says --------------------------------------------------------------------------------------


def processing(node: Node, ctx: Context) -> None:
    _move(node, ctx, "process")
    delivered(node, ctx)
    _deadline(node, ctx)


def completed(node: Node, ctx: Context, response: str | None = None, move: str = "complete") -> None:
    """The client is done with it; without children and links it is complete at once."""
    _move(node, ctx, move, response)
    node.complete_by = None
    done(node, "post", "timeout", "notify")  # what has gone on needs nobody to be told that it stands
    if node.last is None and not node.links:
        finish(node, ctx)
        return
    if node.last is not None:
        owe(node, "mark")
    node.look = ctx.token


def finish(node: Node, ctx: Context) -> None:
    """All that it waits for is done."""
    _move(node, ctx, "finish")
    node.look = None
    done(node, "mark")
    _tell(node)


def _tell(node: Node) -> None:
    """A forgotten node tells its parent nothing."""
    forgotten = node.mode == "fire_and_forget" and node.ss == "complete"
    told = [node.parent] if node.parent and not forgotten else []
    told += [node.link] if node.link else []
    if told:
        owe_tell(node, told)


def owe_tell(node: Node, told: list[str]) -> None:
    """Its parent alone is not named, so that what is written of nodes of several parents is alike (engine/bulk.py)."""
    owe(node, "tell", True if told == [node.parent] else told)


def told_by(node: Node) -> list[str]:
    """The nodes that it owes a tell to."""
    told = (node.do or {}).get("tell", [])
    return [node.parent or ""] if told is True else list(told)


def resolved(node: Node, ctx: Context, response: str | None = None) -> None:
    completed(node, ctx, response, "resolve")


def shut_down(node: Node, ctx: Context, response: str | None = None) -> None:
    """As completed; what comes after a blocking one will not run."""
    _move(node, ctx, "shutdown", response)
    node.complete_by = None
    done(node, "post", "timeout", "notify")
    if node.mode == "blocking":
        owe(node, "cut")
    if node.last is not None:
        owe(node, "mark")
    node.look = ctx.token


def errored(node: Node, ctx: Context, response: str | None = None) -> None:
    initial, left = node.retries
    if left > 0:
        _move(node, ctx, "retry", response)
        node.retries = [initial, left - 1]
        node.fires_at = ctx.now + retries.delay(left - 1, node.retry_interval, ctx.random)
        owe(node, "retry")
    else:
        _move(node, ctx, "exhaust", response)
        owe(node, "notify", {"at": ctx.now - CLOCK_SLACK, "tries": 0, "message": CLIENT_ERROR})
    node.complete_by = None
    done(node, "post", "timeout")


def canceled(node: Node, ctx: Context) -> None:
    _move(node, ctx, "deactivate")
    drop(node)
    node.gen = None
    if node.last is not None:
        owe(node, "prune")
    _tell(node)


def drop(node: Node) -> None:
    """Nothing is owed to it or by it any more."""
    node.do = node.look = node.complete_by = node.parked = None


def reset(node: Node, ctx: Context) -> None:
    """Its children so far no longer count; it stays where it is."""
    node.gen = None
    if node.last is not None:
        owe(node, "prune")
    if node.ss == "processing_children":
        node.look = ctx.token


def deactivate_earlier(node: Node, ctx: Context) -> None:
    delivered(node, ctx)
    owe(node, "clear")


# -- again, or never -------------------------------------------------------------------------------------------


def retry(node: Node, ctx: Context) -> None:
    """The next attempt: ready again, its children of the last one inert."""
    if node.ss == "pending":
        raise InvalidTransition("client", node.cs, "ready")
    if node.ss == "errored" and node.cs != "errored":
        _move(node, ctx, "again")
    else:
        _move(node, ctx, "ready")
    node.attempt += 1
    node.gen = node.look = node.fires_at = node.complete_by = node.parked = None
    done(node, "retry", "post", "timeout", "start", "mark", "cut", "notify")
    if node.last is not None:
        owe(node, "prune")
    owe(node, "tell")


def resend(node: Node, ctx: Context, by: str) -> None:
    """The operator's retry of a node whose client does not answer: the next attempt, without using up a retry."""
    if node.ss == "sent_to_client" and node.cs != "errored":
        _move(node, ctx, "retry", text({"error": {"message": f"sent again by an operator ({by})"}}))
    retry(node, ctx)


def give_up(node: Node, ctx: Context, by: str) -> None:
    """The operator's way past a client that does not answer: straight to retries_exhausted, without a notification."""
    if node.ss == "sent_to_client":
        _move(node, ctx, "exhaust", text({"error": {"message": f"given up by an operator ({by})"}}))
        done(node, "post", "timeout", "notify")


def time_out(node: Node, ctx: Context, also_processing: bool = False) -> None:
    """The client's time is up. One that has begun is left alone (Backbeat does so) unless its client wants it otherwise."""
    if node.cs == "received" or (node.cs == "processing" and also_processing):
        errored(node, ctx, text({"error": {"message": "Client timeout"}}))
    else:
        done(node, "timeout")


def poisoned(node: Node, ctx: Context, reason: str) -> None:
    """Claimed again and again without a result: out of the way, and somebody is told."""
    if node.ss in (*DONE, "retries_exhausted", "errored") or node.is_workflow:
        park_for_good(node, reason)
        return
    _move(node, ctx, "fail", text({"error": {"message": reason}}))
    drop(node)
    owe(node, "notify", {"at": ctx.now - CLOCK_SLACK, "tries": 0, "message": SERVER_ERROR})


def park_for_good(node: Node, reason: str) -> None:
    """Nothing more is done about it until a person has looked."""
    node.parked = reason


def heard(node: Node, ctx: Context, lasts: float) -> None:
    """Its client is at work on it, perhaps inside its notification: not to be notified again before that would be over.

    `lasts`: seconds a post to it may take.
    """
    arg = (node.do or {}).get("notify")
    if arg:
        owe(node, "notify", {**arg, "at": max(arg["at"], ctx.now + int(lasts * 1000) + AFTER_POST)})


def notify_failed(node: Node, ctx: Context) -> None:
    arg = dict((node.do or {})["notify"])
    arg["tries"] += 1
    arg["at"] = ctx.now + retries.notify_delay(arg["tries"])
    owe(node, "notify", arg)


# -- workflows -------------------------------------------------------------------------------------------------


def pause(root: Node, ctx: Context, by: str) -> None:
    root.paused = {"by": by, "at": ctx.now}
    done(root, "resume")


def resume(root: Node, ctx: Context) -> None:
    root.paused = None
    owe(root, "resume")


def close(root: Node, ctx: Context) -> None:
    root.complete = True


def look_again(node: Node, ctx: Context) -> None:
    if looks(node):
        node.look = ctx.token


def startable(kids: Iterable[Node]) -> Iterator[Node]:
    """Of one parent's children, those that may start now: a blocking one under way stops only what comes after it, and
    the first blocking one to start is the last of this turn."""
    for kid in sorted(kids, key=attrgetter("seq")):
        if kid.open == "b":
            return
        if kid.open == "r":
            yield kid
            if kid.mode == "blocking":
                return


def looks(node: Node) -> bool:
    """May it start children? In any other status they wait for it."""
    return node.is_workflow or node.ss in ("processing_children", "complete", "deactivated")


# -- what came too late ----------------------------------------------------------------------------------------

REFUSED_KEPT = 8


def refused(node: Node, ctx: Context, response: str | None) -> None:
    """A `completed` that changes nothing is kept as a line, so that the work is not lost from sight."""
    node.lines = [*node.lines, [ctx.now, code(node.ss, node.cs), response, "refused"]]


Said = Callable[[Node, Context, str | None], None]

EVENTS: dict[str, Said] = {
    # what a client may say → the event; words in states.CLIENT_WORDS
    "processing": lambda node, ctx, response: processing(node, ctx),
    "completed": completed,
    "errored": errored,
    "resolved": resolved,
    "shutdown": shut_down,
    "canceled": lambda node, ctx, response: canceled(node, ctx),
    "deactivated": lambda node, ctx, response: deactivate_earlier(node, ctx),
}
