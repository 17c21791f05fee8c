"""The engine's checks: do the stores answer, does due work wait, do workflows go on. Host operations do not need any of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bbctl.checks import State, Trouble, engine_trouble
from bbctl.durations import format_duration
from bbctl.settings import Stores, masked
from bbctl.stores import look as storelook
from bbctl.stores.look import Store
from engine import errors
from engine.figures import HealthSummary, health_summary
from engine.runtime import open_runtime
from engine.settings import Settings

NAMES = ("store-down", "queue-latency", "workflow-stuck")
TITLES = {
    "degraded": "it is degraded: one more loss stops it",
    "unusable": "it answers, and the engine cannot use it",
}
WAITS, LATE = 10.0, 60.0  # seconds that due work may wait


@dataclass(frozen=True, kw_only=True)
class Room:
    """`summary` is None where there is no engine to ask, or MongoDB does not answer."""

    stores: tuple[Store, ...]
    summary: HealthSummary | None
    troubles: tuple[Trouble, ...]


def look(urls: Stores, home: Path, *, expected: Mapping[str, float]) -> Room | None:
    """Ask the stores that are named, else the embedded ones where they were ever started; None where there are none."""
    if not urls.named and not (home / "stores").is_dir():
        return None
    found = storelook.named(urls) if urls.named else storelook.embedded(home)
    used = [s for s in found if s.state != "none"]
    mongo = next((s for s in used if s.name == "mongo"), None)
    summary, troubles = None, [t for s in used for t in _store(s)]
    if mongo is not None and mongo.url and mongo.state in ("ok", "degraded"):
        redis = next((s.url for s in used if s.name == "redis"), None)
        try:
            summary = _summary(mongo.url, redis, expected)
            troubles += _engine(summary)
        except errors.EngineError as error:
            troubles.append(
                engine_trouble("store-down", "critical", target="mongo", title="the engine cannot use it", said={"mongo": str(error)},
                               next="bbctl stores status")
            )  # fmt: skip
    return Room(stores=tuple(used), summary=summary, troubles=tuple(troubles))


def _summary(mongo: str, redis: str | None, expected: Mapping[str, float]) -> HealthSummary:
    runtime = open_runtime(Settings(mongo_url=mongo, redis_url=redis))
    try:
        return health_summary(runtime, expected=expected)
    finally:
        runtime.close()


def _store(store: Store) -> Sequence[Trouble]:
    if store.state in ("ok", "starting"):
        return ()
    if store.state == "stopped" and store.embedded:
        return ()  # nobody uses it: it starts with the first who does
    # Without Redis everything goes on, slower; a MongoDB with members missing still takes writes.
    state: State = "critical" if store.name == "mongo" and store.state != "degraded" else "warning"
    title = TITLES.get(store.state, "it does not answer")
    said = {store.name: f"{masked(store.url or '')} {store.state}: {store.error or 'no answer'}"}
    said |= {host: f"{at} {error}".strip() for host, at, error in store.members if at not in ("primary", "secondary")}
    return (engine_trouble("store-down", state, target=store.name, title=title, said=said, next="bbctl stores status"),)


def _engine(found: HealthSummary) -> list[Trouble]:
    troubles = []
    if found.oldest > WAITS:
        state: State = "critical" if found.oldest > LATE else "warning"
        said = {
            "due": f"{found.due} waiting, the oldest for {format_duration(found.oldest)}",
            "workers": str(found.workers),
        }
        title = "work waits too long" if found.workers else "no worker runs"
        troubles.append(
            engine_trouble("queue-latency", state, target="engine", title=title, said=said, next="bbctl queues")
        )
    if found.stuck or found.needs_person:
        said = {"stuck": str(found.stuck), "need a person": str(found.needs_person), "late": str(found.late)}
        title = f"{found.stuck + found.needs_person} workflows do not go on"
        troubles.append(
            engine_trouble(
                "workflow-stuck", "critical", target="engine", title=title, said=said, next="bbctl workflow stuck"
            )
        )
    return troubles
