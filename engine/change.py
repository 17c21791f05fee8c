"""A change → one update: the difference between a node as it was read and as an event left it. Pure.

The update applies only to the `rev` as read (and, where a look was taken up, the `look` as read): it is the
compare-and-set that every rule of the engine rests on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engine.model import Line, Node

MAX_LINES = 64
MAX_BYTES = 256 * 1024
NOT_STORED = ("lines", "h")


@dataclass(frozen=True)
class Change:
    """`before` as read, `after` as it shall be; `children` are inserted before it, in the same go."""

    before: Node
    after: Node
    children: tuple[Node, ...] = field(default=())

    @property
    def id(self) -> str:
        return self.after._id


def document(node: Node) -> dict[str, Any]:
    """A new node as it is stored."""
    doc = {key: value for key, value in node.__dict__.items() if value is not None and key not in NOT_STORED}
    doc["h"], doc["hn"], doc["hb"] = node.lines, len(node.lines), _size(node.lines)
    return doc


def spills(change: Change) -> int:
    """How many of the oldest history lines must move out first; needs `before.h`."""
    before = change.before
    if not change.after.lines:
        return 0
    if before.hn + len(change.after.lines) <= MAX_LINES and before.hb <= MAX_BYTES:
        return 0
    return max(1, before.hn - MAX_LINES // 2) if before.hn + len(change.after.lines) > MAX_LINES else before.hn // 2


def statement(change: Change) -> dict[str, Any]:
    """One statement of an `update` command."""
    before, after = change.before.__dict__, change.after.__dict__
    assert before["rev"] != after["rev"], "a change without a token of its own could be repeated unseen"
    put: dict[str, Any] = {}
    gone: dict[str, Any] = {}
    for key in [key for key, value in after.items() if value is not before.get(key)]:
        value = after[key]
        if key in NOT_STORED or value == before.get(key):
            continue
        if value is None:
            gone[key] = 1
        else:
            put[key] = value
    update: dict[str, Any] = {}
    lines = change.after.lines
    if lines:
        out = spills(change)
        kept = change.before.hn - out + len(lines)
        put["hn"] = kept
        put["hb"] = (change.before.hb if not out else _size((change.before.h or [])[out:])) + _size(lines)
        push: dict[str, Any] = {"$each": lines}
        if out:
            put["hs"] = change.before.hs + out
            push["$slice"] = -kept
        update["$push"] = {"h": push}
    if put:
        update["$set"] = put
    if gone:
        update["$unset"] = gone
    query: dict[str, Any] = {"_id": change.id, "rev": change.before.rev}
    if change.before.look is not None and change.after.look != change.before.look:
        query["look"] = change.before.look
    elif change.before.by is not None and change.before.look is None:
        query["look"] = None
    return {"q": query, "u": update}


def left_its_lines(change: Change, node: Node) -> bool:
    """Does the node's history, read whole, have the change's lines where it put them? So the change has won once."""
    first = change.before.hs + change.before.hn - node.hs
    lines = change.after.lines
    return bool(lines) and first >= 0 and (node.h or [])[first : first + len(lines)] == lines


def committed(change: Change) -> Node:
    """The node as it is stored once the statement has won, to go on from."""
    node = change.after.copy()
    lines = node.lines
    if lines:
        out = spills(change)
        node.hn, node.hs = change.before.hn - out + len(lines), change.before.hs + out
        node.hb = (change.before.hb if not out else _size((change.before.h or [])[out:])) + _size(lines)
        node.h = None if node.h is None else [*node.h[out:], *lines]
        node.lines = []
    return node


def inserted(node: Node) -> Node:
    """A new node as it is stored, to go on from."""
    twin = node.copy()
    twin.hn, twin.hb, twin.lines = len(node.lines), _size(node.lines), []
    return twin


def weight(change: Change) -> int:
    """About how many bytes the statement has."""
    return 400 + _size(change.after.lines)


def _size(lines: list[Line]) -> int:
    size = 24 * len(lines)
    for line in lines:
        if len(line) > 2:
            size += len(line[2] or "")
    return size
