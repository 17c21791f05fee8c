"""The JSON shapes of the HTTP API and of the posts to clients. Pure: records in, plain values out.

Keys of our own shapes are camelCase, as Backbeat's; what belongs to a client (subject, data, metadata, responses) comes
out as it went in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from engine.model import ClientRecord, Found, Health, Node, Stats, StatusChange

LAST_MOMENT = 253_402_300_799_999  # the end of the year 9999, ms
RED, GREEN, YELLOW, WHITE, CYAN = 31, 32, 33, 37, 36


def time(ms: int | None) -> str | None:
    """`2026-11-24T03:02:01.123Z`"""
    if ms is None:
        return None
    seconds, rest = divmod(max(-62_135_596_800_000, min(ms, LAST_MOMENT)), 1000)
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}.{rest:03d}Z"


def workflow(root: Node) -> dict[str, Any]:
    return {
        "id": root.id,
        "name": root.name,
        "subject": root.subject_value,
        "decider": root.decider,
        "userId": root.client,
        "createdAt": time(root.created),
        "updatedAt": time(root.changed),
        "complete": bool(root.complete),
        "paused": root.paused is not None,
    }


def raw_workflow(root: Node) -> dict[str, Any]:
    """As the debugging route gives it: the record's own names."""
    return {
        "id": root.id,
        "name": root.name,
        "decider": root.decider,
        "subject": root.subject_value,
        "user_id": root.client,
        "complete": bool(root.complete),
        "paused": root.paused is not None,
        "created_at": time(root.created),
        "updated_at": time(root.changed),
    }


def node(one: Node, root: Node) -> dict[str, Any]:
    """A node with what it inherits from its workflow. A signal's parent is the workflow, which clients know as none."""
    return {
        "id": one.id,
        "mode": one.mode,
        "name": one.name,
        "workflowId": one.wf,
        "parentId": None if one.parent == one.wf else one.parent,
        "userId": one.client,
        "clientData": one.client_data,
        "metadata": one.metadata,
        "subject": root.subject_value,
        "decider": root.decider,
        "workflowName": root.name,
        "currentServerStatus": one.ss,
        "currentClientStatus": one.cs,
        "createdAt": time(one.created),
    }


def nodes(found: Iterable[Node], root: Node) -> list[dict[str, Any]]:
    return [node(one, root) for one in found]


def found_nodes(found: Iterable[Found]) -> list[dict[str, Any]]:
    return [node(one.node, one.root) for one in found]


def post(one: Node, root: Node, *, kind: str) -> dict[str, Any]:
    """The body of a post to a client; `kind` is `decision` or `activity`."""
    return {kind: node(one, root)}


def notification(one: Node, root: Node, *, message: str, error: Any) -> dict[str, Any]:
    """What the notification endpoint is told. `error`: the response given with `errored`, else None."""
    return {
        "activity": node(one, root),
        "notification": {"name": one.name, "message": message},
        "error": {"message": error} if isinstance(error, str) else error if isinstance(error, dict) else {},
    }


def status_change(change: StatusChange) -> dict[str, Any]:
    return {
        "nodeId": change.node,
        "fromStatus": change.before,
        "toStatus": change.after,
        "statusType": f"current_{change.machine}_status",
        "response": change.response,
        "createdAt": time(change.at),
    }


def user(client: ClientRecord) -> dict[str, Any]:
    return {"id": client.id, "name": client.name}


# -- trees -------------------------------------------------------------------------------------------------------


def _by_parent(below: Iterable[Node]) -> dict[str, list[Node]]:
    families: dict[str, list[Node]] = {}
    for one in below:
        families.setdefault(one.parent or "", []).append(one)
    return families


def tree_entry(one: Node, root: Node) -> dict[str, Any]:
    """One entry of a tree without its children. The workflow itself has no statuses and no mode."""
    inner = not one.is_workflow
    return {
        "id": one.id,
        "name": one.name,
        "userId": one.client,
        "subject": root.subject_value,
        "mode": one.mode if inner else None,
        "currentServerStatus": one.ss if inner else None,
        "currentClientStatus": one.cs if inner else None,
        "createdAt": time(one.created),
        "retryingAt": time(one.fires_at) if inner and one.ss == "retrying" else None,
    }


def tree_text(root: Node, below: Iterable[Node]) -> str:
    """The tree as JSON text, written without recursion: a workflow may be deeper than any stack."""
    families = _by_parent(below)
    out: list[str] = []
    todo: list[Node | str] = [root]
    while todo:
        one = todo.pop()
        if isinstance(one, str):
            out.append(one)
            continue
        entry = json.dumps(tree_entry(one, root), ensure_ascii=False, separators=(",", ":"))
        out.append(entry[:-1] + ',"children":[')
        children: list[Node | str] = []
        for child in families.get(one.id, ()):
            children += [",", child] if children else [child]
        todo.append("]}")
        todo += reversed(children)
    return "".join(out)


def tree_print(root: Node, below: Iterable[Node]) -> str:
    """The tree as coloured text, a line for each node: id, indent, name, both statuses."""
    families = _by_parent(below)
    lines: list[str] = []
    todo: list[tuple[Node, int]] = [(root, 0)]
    while todo:
        one, depth = todo.pop()
        said = (
            one.name if one.is_workflow else _painted(_colour(one), f"{one.name} - server: {one.ss}, client: {one.cs}")
        )
        lines.append(f"\n{one.id}{_painted(CYAN, '   ' * depth + '|--')}{said}")
        todo += [(child, depth + 1) for child in reversed(families.get(one.id, ()))]
    return "".join(lines)


def _painted(colour: int, text: str) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m"


def _colour(one: Node) -> int:
    if "errored" in (one.ss, one.cs):
        return RED
    if one.ss == "deactivated" or (one.ss, one.cs) == ("ready", "ready"):
        return WHITE
    return GREEN if (one.ss, one.cs) == ("complete", "complete") else YELLOW


# -- figures -----------------------------------------------------------------------------------------------------


def sidekiq_stats(stats: Stats) -> dict[str, Any]:
    """The figures under the names that the original's monitoring reads."""
    return {
        "latency": {"default": round(stats.latency, 3)},
        "today": {"processed": stats.processed_today, "failed": stats.failed_today},
        "processed": stats.processed,
        "failed": stats.failed,
        "enqueued": stats.depth,
        "scheduled": stats.scheduled,
        "retry_size": stats.retrying,
    }


def health(found: Health, *, now: int, version: str) -> dict[str, Any]:
    return {
        "status": "OK" if found.ok else "DOWN",
        "time": time(now),
        "version": version,
        "mongo": "ok" if found.ok else found.mongo,
        "redis": "ok" if found.redis else "down",
    }


Sample = tuple[str, str, str, Sequence[tuple[Mapping[str, str], float]]]


def samples(health: Health, stats: Stats | None, answered: Mapping[int, int]) -> list[Sample]:
    """Name, kind, help and values of each metric; `stats` None where MongoDB does not answer."""
    plain: list[tuple[str, str, str, float]] = [
        ("mongo_up", "gauge", "1 while MongoDB takes majority writes.", int(health.ok)),
        ("redis_up", "gauge", "1 while Redis answers.", int(health.redis)),
        *(_queue(stats) if stats is not None else []),
    ]
    found: list[Sample] = [(f"backbeat_{name}", kind, about, [({}, value)]) for name, kind, about, value in plain]
    by_code = [({"code": str(status)}, float(count)) for status, count in sorted(answered.items())]
    return [*found, ("backbeat_http_requests_total", "counter", "Requests this process has answered.", by_code)]


def _queue(stats: Stats) -> list[tuple[str, str, str, float]]:
    return [
        ("queue_depth", "gauge", "Nodes that are due now.", stats.depth),
        ("queue_latency_seconds", "gauge", "Age of the oldest due node.", stats.latency),
        ("timers_waiting", "gauge", "Timers whose time has not come.", stats.scheduled),
        ("timers_late", "gauge", "Timers past their time by more than a second.", stats.late),
        ("nodes_retrying", "gauge", "Nodes that wait for their next try.", stats.retrying),
        ("nodes_processed_total", "counter", "Events processed.", stats.processed),
        ("nodes_failed_total", "counter", "Events that failed.", stats.failed),
        ("workers", "gauge", "Workers seen of late.", len(stats.workers)),
    ]


def prometheus(found: Iterable[Sample]) -> str:
    """The text format 0.0.4."""
    lines: list[str] = []
    for name, kind, about, values in found:
        lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
        for labels, value in values:
            said = ",".join(f'{key}="{text}"' for key, text in labels.items())
            lines.append(f"{name}{{{said}}} {value:.15g}" if said else f"{name} {value:.15g}")
    return "\n".join(lines) + "\n"
