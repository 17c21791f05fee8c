"""`bbctl queues`: does the work get done?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bbctl.cli.engine import runtime, until_interrupted
from bbctl.cli.front import Call

if TYPE_CHECKING:
    from engine.model import Stats, WorkerRecord
    from engine.periodic import Tick
    from engine.runtime import Runtime

EVERY = 1.0  # seconds between two looks of --watch
KEPT = 600  # looks of --watch that are kept for the plot


def queues(
    ctx: typer.Context,
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Look every second, until Ctrl-C.")] = False,
) -> int:
    """Depth and latency with a plot, workers, timers, periodic jobs. Exit 1 where due work waits too long, or nobody works it.

    \b
    Examples:
      bbctl queues
      bbctl queues -w            live
      bbctl queues -o json       for programs; with -w a line a second
    """
    from bbctl.render import plain
    from bbctl.render import queues as screens

    call: Call = ctx.obj
    with runtime(call) as rt:
        if not watch:
            stats, ticks, now = _look(rt)
            call.show(_value(stats, ticks), lambda: screens.queues(stats, ticks, _samples(ticks), now))
            return 0 if screens.healthy(stats) else 1
        seen: list[list[float]] = []

        def look() -> None:
            stats, ticks, now = _look(rt)
            if call.output in ("json", "yaml"):
                plain.line({"at": plain.stamp(now / 1000), **_value(stats, ticks)})
            else:
                screens.watched(stats, ticks, seen, now)
            seen.append([now, stats.depth, stats.latency])
            del seen[:-KEPT]

        return until_interrupted(look, EVERY)


def _look(rt: Runtime) -> tuple[Stats, list[Tick], int]:
    from engine import periodic, workflows

    return workflows.stats(rt), periodic.ticks(rt), rt.store.now()


def _samples(ticks: list[Tick]) -> list[list[float]]:
    """What the queue's log has kept."""
    return next((t.kept.get("samples", []) for t in ticks if t.name == "queue-log"), [])


def _value(stats: Stats, ticks: list[Tick]) -> dict[str, Any]:
    from engine.present import time as stamp

    flushes: list[dict[str, Any]] = next((t.kept.get("flushes", []) for t in ticks if t.name == "flush-check"), [])
    return {
        "depth": stats.depth,
        "latency": round(stats.latency, 3),
        "redis": stats.redis,
        "timers": {"waiting": stats.scheduled, "late": stats.late, "next": stamp(stats.next_timer)},
        "retrying": stats.retrying,
        "processed": stats.processed,
        "failed": stats.failed,
        "today": {"processed": stats.processed_today, "failed": stats.failed_today},
        "workers": [_worker(w) for w in stats.workers],
        "periodic": [
            {
                "name": t.name,
                "every": t.every / 1000,
                "last": stamp(t.last),
                "next": stamp(t.next),
                "where": t.where,
                "result": t.result,
            }
            for t in ticks
        ],
        "flushes": [{"at": stamp(f["at"]), "hinted": f["hinted"]} for f in flushes],
    }


def _worker(worker: WorkerRecord) -> dict[str, Any]:
    from engine.present import time as stamp

    return {**worker.__dict__, "started": stamp(worker.started), "seen": stamp(worker.seen)}
