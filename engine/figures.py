"""The engine in figures: the queue, who works, the stores' health, the daily report. Reads only."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine import ids
from engine.explain import living, stuck
from engine.model import Health, Stats, StatusReport, WorkerRecord
from engine.runtime import Runtime

__all__ = ["completed", "daily_report", "day_of", "health", "health_summary", "stats", "store_troubles", "workers"]

WORKER_GONE = 15_000
"""Milliseconds without a heartbeat after which a worker is not listed."""
MADE_BEFORE = 30 * 86_400_000
"""Milliseconds before a report's beginning: what was made earlier is not looked through for what was completed since."""
MOST = 10_000
"""Workflows whose names are asked for at once."""
STEP = 6 * 3_600_000
"""Milliseconds of making that one question of a report covers, so that each ends within a call's deadline."""


def stats(rt: Runtime) -> Stats:
    now = rt.store.now()
    owed = {"due": {"$gt": 0, "$lte": now}}
    timers = {"ss": "started", "fires_at": {"$gt": now}}
    late = {"fires_at": {"$gt": 0, "$lt": now - 1000}}
    oldest = rt.store.find(owed, sort="due", limit=1)
    first = rt.store.find({"ss": "started", "fires_at": {"$gt": now}}, sort="fires_at", limit=1)
    counted = rt.store.counters(day_of(now))
    today, ever = counted.get(day_of(now), (0, 0)), counted.get("all", (0, 0))
    return Stats(
        depth=rt.store.count(owed),
        latency=max(0.0, (now - (oldest[0].due or now)) / 1000) if oldest else 0.0,
        scheduled=rt.store.count(timers),
        late=rt.store.count({"$or": [{"ss": status, **late} for status in ("started", "retrying")]}),
        next_timer=first[0].fires_at if first else None,
        retrying=rt.store.count({"ss": "retrying"}),
        processed=ever[0],
        failed=ever[1],
        processed_today=today[0],
        failed_today=today[1],
        workers=tuple(workers(rt)),
        redis=rt.hints.ping(),
    )


def day_of(now: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(now / 1000))


def workers(rt: Runtime) -> list[WorkerRecord]:
    found = rt.store.workers(rt.store.now() - WORKER_GONE)
    return sorted(found, key=lambda worker: (worker.host, worker.pid))


def health(rt: Runtime) -> Health:
    """Never raises: tries one majority write, and Redis. Servers that meet the same outage say the same of it."""
    return Health(mongo=rt.store.ping(alike=True), redis=rt.hints.ping())


def store_troubles(rt: Runtime, within: float) -> tuple[str | None, str | None]:
    """Why MongoDB takes no majority writes and why Redis does not answer, a line each; None where it does."""
    return rt.store.ping(within), rt.hints.trouble()


def daily_report(
    rt: Runtime, *, since: int, expected: Mapping[str, float]
) -> tuple[StatusReport, dict[str, list[str]]]:
    """What was completed since then (ms), of what was made not long before, and all that is inconsistent now, by workflow
    name; and the ids of the latter."""
    nodes: dict[str, list[str]] = defaultdict(list)
    bad = [
        g
        for g in stuck(rt, expected=expected)
        if g.reasons[0].verdict in ("stuck", "needs-person") and not g.row.remark
    ]
    roots = rt.store.by_ids({wf for g in bad for wf in g.workflows})
    for group in bad:
        for reason in group.reasons:
            name = roots[reason.node.wf].name if reason.node.wf in roots else "?"
            nodes[name].append(reason.node.id)
    counts = {name: len(ids) for name, ids in sorted(nodes.items())}
    made_since = max(0, since - MADE_BEFORE)
    done = completed(rt, since=since, made_since=made_since)
    return StatusReport(since=since, made_since=made_since, completed=done, inconsistent=counts), dict(nodes)


def completed(rt: Runtime, *, since: int, made_since: int) -> dict[str, int]:
    """Nodes completed since then (ms) by workflow name, of those made at `made_since` or later: ids begin with the time of
    making, so their index bounds what is read."""
    totals: dict[str, int] = defaultdict(int)
    first = rt.store.find({"_id": {"$gte": ids.first_of(made_since)}}, sort="_id", limit=1)
    at, end = (first[0].created, rt.store.now()) if first else (1, 0)
    while at <= end:
        made = {"$gte": ids.first_of(at), "$lt": ids.first_of(at + STEP)}
        done = {"_id": made, "kind": "node", "ss": "complete", "changed": {"$gte": since}}
        groups = rt.store.aggregate([{"$match": done}, {"$group": {"_id": "$wf", "n": {"$sum": 1}}}])
        for place in range(0, len(groups), MOST):
            part = {doc["_id"]: int(doc["n"]) for doc in groups[place : place + MOST]}
            names = rt.store.aggregate([{"$match": {"_id": {"$in": list(part)}}}, {"$project": {"name": 1}}])
            known = {doc["_id"]: str(doc["name"]) for doc in names}
            for workflow, count in part.items():
                totals[known.get(workflow, "?")] += count
        at += STEP
    return dict(sorted(totals.items()))


@dataclass(frozen=True, kw_only=True)
class HealthSummary:
    """The engine for `stores status` and `sweep`. `oldest` is the age of the oldest due todo, seconds."""

    workers: int
    due: int
    oldest: float
    stuck: int
    late: int
    needs_person: int

    def as_json(self) -> dict[str, Any]:
        return dict(self.__dict__)


def health_summary(rt: Runtime, *, expected: Mapping[str, float] | None = None) -> HealthSummary:
    """Figures of the engine as they are now; reads every unfinished node."""
    now = rt.store.now()
    due = rt.store.find({"due": {"$gt": 0, "$lte": now}}, sort="due", limit=1)
    groups = stuck(rt, expected=expected or {})
    counts: dict[str, int] = defaultdict(int)
    for group in groups:
        if not group.row.remark:
            counts[group.reasons[0].verdict] += len(group.reasons)
    return HealthSummary(
        workers=len(living(rt)), due=rt.store.count({"due": {"$gt": 0, "$lte": now}}),
        oldest=max(0, now - (due[0].due or now)) / 1000 if due else 0.0,
        stuck=counts["stuck"], late=counts["late"], needs_person=counts["needs-person"],
    )  # fmt: skip
