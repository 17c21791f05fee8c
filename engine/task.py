"""One run of a Python handler: what it is given, what it registers, what came of it. Knows no store."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from engine import build, events
from engine.events import Context, text
from engine.failpoint import Cut
from engine.model import NewNode, Node
from engine.registry import Handler

TRACE = 12
"""Lines of a traceback that are kept with an error."""
LONG = 10_000
"""Characters of an error's message that are kept, and of each line of its traceback."""
MOST = 4 << 20
"""Bytes of JSON text that a result may have, or what a child is given: a node with several of them fits into the store."""

OURS = (Cut, KeyboardInterrupt)
"""What passes through a handler: the end of this process is no failure of an activity."""

_STRICT = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


@dataclass
class Task:
    """What runs now: the activity, its workflow, and the children it has registered so far."""

    node: Node
    root: Node
    children: list[NewNode] = field(default_factory=list)

    @property
    def key(self) -> str:
        """The same for every delivery of this attempt: hand it on to whatever must happen once."""
        return f"{self.node.id}:{self.node.attempt}"


current: ContextVar[Task] = ContextVar("current_task")


@dataclass(frozen=True)
class Outcome:
    """`error` None: it went well; both are JSON texts. `children`: what it registered. `later`: it is completed by id."""

    response: str | None = None
    error: str | None = None
    children: tuple[NewNode, ...] = ()
    later: bool = False


def call(handler: Handler, node: Node, root: Node) -> Outcome:
    """Runs the handler on the node's data. Whatever it raises is the node's error; only our own stop passes through."""
    task = Task(node, root)
    mark = current.set(task)
    try:
        arguments = node.client_data
        params = arguments.get("params") if isinstance(arguments, Mapping) else None
        if isinstance(params, list):
            value = handler.run(*params)
        elif isinstance(params, Mapping):
            value = handler.run(**params)
        else:
            value = handler.run(arguments) if arguments else handler.run()
        if handler.later:
            return Outcome(children=tuple(task.children), later=True)
        return Outcome(response=kept({"result": value}, "its result"), children=tuple(task.children))
    except OURS:
        raise
    except BaseException as error:
        return Outcome(error=text({"error": described(error)}))
    finally:
        current.reset(mark)


def rescue(handler: Handler, node: Node, root: Node, error: Any) -> Outcome:
    """Runs the handler's rescue, which may resolve the node or shut it down through the ordinary calls."""
    mark = current.set(Task(node, root))
    try:
        if handler.rescue is not None:
            handler.rescue(error)
        return Outcome()
    except OURS:
        raise
    except BaseException as failure:
        return Outcome(error=text({"error": described(failure)}))
    finally:
        current.reset(mark)


def kept(value: Any, what: str) -> str:
    """`value` as JSON text that can be stored and sent. ValueError, TypeError: no JSON (an object of another type, NaN, half
    of a surrogate pair), or longer than MOST; `what` it is, for the message."""
    try:
        written = _STRICT.encode(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what} is not JSON: {error}") from None
    if len(written) > MOST:
        raise ValueError(f"{what} has {len(written)} bytes as JSON, more than the {MOST} that are kept")
    if r"\ud" in written:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError(f"{what} holds half of a surrogate pair") from None
    return written


def described(error: BaseException) -> dict[str, Any]:
    """What is kept of it, whatever it holds."""
    kind = type(error).__name__
    try:
        said = str(error)
    except Exception:
        said = ""
    said = f"{kind}: {said}" if said and not isinstance(error, Exception) else said or kind
    lines = [line.rstrip() for line in traceback.format_exception(error)[-TRACE:]]
    return {"message": _storable(said), "code": kind, "backtrace": [_storable(line) for line in lines]}


def _storable(said: str) -> str:
    cut = said if len(said) <= LONG else said[: LONG - 1] + "…"
    return cut.encode("utf-8", "backslashreplace").decode()


def conclude(node: Node, outcome: Outcome, ctx: Context) -> list[Node]:
    """The event of an outcome, on the node's copy (started, or sent); gives the children to insert with it.

    They count with the commit that sets `gen` and not before: until then they are pending, with one line of history, and
    nobody sees them.
    """
    if node.ss != "sent_to_client":
        events.send(node, ctx)
    if outcome.error is not None:
        events.errored(node, ctx, outcome.error)
        return []
    children = _children(node, outcome, ctx)
    fresh = node.gen is None
    if children:
        node.last, node.gen = children[-1].seq, children[0].pgen
    if outcome.later:
        events.done(node, "post")
        events.owe(node, "timeout")
        return children
    events.completed(node, ctx, outcome.response)
    if fresh:  # no child but these: pending ones below a parent that has begun with its children count as ready
        events.done(node, "mark")
    return children


def _children(node: Node, outcome: Outcome, ctx: Context) -> list[Node]:
    if not outcome.children:
        return []
    above = node.copy()
    above.gen = above.gen or ctx.token
    return build.children(outcome.children, above, ctx)
