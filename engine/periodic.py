"""What is done every so often by whichever worker comes first: the daily report, the queue's log, the look for a flush.

There is no leader: a tick is claimed by one atomic update that compares with the database's clock. A worker that dies
over it holds it for `LEASE` only; then another does it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine import figures
from engine.errors import EngineError
from engine.runtime import Runtime

LEASE = 60_000  # ms
DAY = 86_400_000
SAMPLES = 360
REHINTED = 20_000  # due ids hinted again after a flush
FLUSHES = 20  # kept

log = logging.getLogger("engine.periodic")

Kept = dict[str, Any]
Run = Callable[[Runtime, Kept, int], tuple[str, Kept]]
"""(runtime, what the last one kept, now in ms) → (what came of it in one line, what the next one gets)."""


@dataclass(frozen=True)
class Job:
    """`every` in ms; ticks stand at multiples of it since the epoch, so a day begins at midnight UTC."""

    name: str
    about: str
    every: int
    run: Run


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A job as it stands. Times are ms; `where` is the worker that did it last."""

    name: str
    about: str
    every: int
    last: int | None
    next: int | None
    where: str | None
    took: int | None
    result: str | None
    kept: Kept


def _daily_report(rt: Runtime, kept: Kept, now: int) -> tuple[str, Kept]:
    found, nodes = figures.daily_report(rt, since=now - DAY, expected={})
    for name in sorted({*found.completed, *found.inconsistent}):
        log.info(
            "report: %s %d completed, %d inconsistent",
            name,
            found.completed.get(name, 0),
            found.inconsistent.get(name, 0),
        )
    done, bad = sum(found.completed.values()), sum(found.inconsistent.values())
    kept = {  # pairs: a workflow's name may be no name for a field
        "completed": list(found.completed.items()),
        "inconsistent": list(found.inconsistent.items()),
        "nodes": [[name, ids[:100]] for name, ids in nodes.items()],
    }
    return f"{done} completed, {bad} inconsistent", kept


def _queue_log(rt: Runtime, kept: Kept, now: int) -> tuple[str, Kept]:
    found = figures.stats(rt)
    log.info(
        "queue: %d due, oldest %.1f s, %d timers, %d late", found.depth, found.latency, found.scheduled, found.late
    )
    samples = [*kept.get("samples", []), [now, found.depth, round(found.latency, 3)]][-SAMPLES:]
    return f"{found.depth} due, oldest {found.latency:.1f} s", {"samples": samples}


def _flush_check(rt: Runtime, kept: Kept, now: int) -> tuple[str, Kept]:
    """Redis emptied costs nothing but time; seen and said, nobody needs to wonder. All that is due is hinted again."""
    there = rt.hints.sentinel()
    flushes = kept.get("flushes", [])
    if there is None:
        return "Redis does not answer", kept
    if there or not kept.get("left"):
        return "Redis keeps what it is told", {"left": True, "flushes": flushes}
    due = rt.store.due(REHINTED)
    rt.hints.push(due)
    log.warning("Redis was emptied: %d nodes that are due hinted again", len(due))
    flushes = [*flushes, {"at": now, "hinted": len(due)}][-FLUSHES:]
    return f"Redis was emptied: {len(due)} due nodes hinted again", {"left": True, "flushes": flushes}


JOBS: tuple[Job, ...] = (
    Job("daily-report", "completed and inconsistent nodes by workflow name", DAY, _daily_report),
    Job("queue-log", "depth and latency of the queue", 60_000, _queue_log),
    Job("flush-check", "was Redis emptied?", 5_000, _flush_check),
)


def run_due(rt: Runtime, worker: str) -> list[str]:
    """Does what is due and nobody else does; the names of it. StoreDown as ever; a job's own trouble is noted with it."""
    ticks, now = rt.store.ticks(), rt.store.now()
    return [job.name for job in JOBS if ticks.get(job.name, {}).get("due", 0) <= now and _run(rt, job, worker)]


def _run(rt: Runtime, job: Job, worker: str) -> bool:
    record = rt.store.claim_tick(job.name, worker, LEASE)
    if record is None:
        return False
    began: int = record["began"]
    kept: Kept = record.get("kept", {})
    try:
        result, kept = job.run(rt, kept, began)
        due = (began // job.every + 1) * job.every
    except EngineError as error:
        result, due = f"failed: {error.message}", began + min(LEASE, job.every)
    took = rt.store.now() - began
    rt.store.finish_tick(job.name, worker, due, last=began, took=took, where=worker, result=result, kept=kept)
    return True


def ticks(rt: Runtime) -> list[Tick]:
    """All jobs as they stand."""
    records = rt.store.ticks()
    return [_tick(job, records.get(job.name, {})) for job in JOBS]


def _tick(job: Job, record: dict[str, Any]) -> Tick:
    return Tick(
        name=job.name, about=job.about, every=job.every, last=record.get("last"), next=record.get("due") or None,
        where=record.get("by") or record.get("where"), took=record.get("took"), result=record.get("result"),
        kept=record.get("kept", {}),
    )  # fmt: skip
