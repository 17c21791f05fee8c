"""The stores on the screen: the verdict of each first, its members below, and what it means at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from bbctl.render.plain import stamp
from bbctl.render.screen import age, safe
from bbctl.stores.look import Store

MEANS = {
    "ok": "majority writes work",
    "degraded": "majority writes work; ONE MORE LOSS STOPS ALL WRITES",
    "stopped": "started by whoever needs them, or by bbctl stores up",
}


def row(store: Store) -> dict[str, Any]:
    """One store as programs get it."""
    kept = store.kept
    return {
        "url": store.url,
        "pid": kept.get("pid"),
        "state": store.state,
        "embedded": store.embedded,
        "error": store.error,
        "seconds": store.seconds and round(store.seconds, 3),
        "port": kept.get("port"),
        "since": stamp(kept.get("since")),
        "restarts": kept.get("restarts"),
        "log": kept.get("log"),
        **store.facts,
        "members": [{"host": host, "state": state, "error": error or None} for host, state, error in store.members],
    }


def status(found: Sequence[Store]) -> str:
    """The screen of `bbctl stores status`."""
    lines = []
    for store in found:
        lines += [_line(store), *_members(store)]
    mongo = found[0]
    if mongo.state in MEANS:
        lines.append(f"  {MEANS[mongo.state]}")
    return "\n".join(lines)


def _line(store: Store) -> str:
    parts = [
        f"{key} {value}" if key in ("version", "policy", "replicas") else str(value)
        for key, value in store.facts.items()
    ]
    kept = store.kept
    if kept.get("pid"):
        parts.append(f"embedded, pid {kept['pid']}, up {age(time.time() - kept['since'])}")
        if kept["restarts"]:
            parts.append(f"started again {kept['restarts']}×")
    if store.error:
        parts.insert(0, store.error)
    word = store.state if store.state in ("ok", "none") else store.state.upper()
    lines = [f"{store.name:<6}  {word:<8}  {safe(' · '.join(parts))}".rstrip()]
    if store.url:
        lines.append(f"  {safe(store.url)}")
    if store.state == "failed":
        lines.append(f"  log {kept.get('log')}")
    return "\n".join(lines)


def _members(store: Store) -> list[str]:
    if len(store.members) < 2:
        return []
    wide = max(len(host) for host, _, _ in store.members)
    return [f"  {safe(host):<{wide}}  {state:<10}  {safe(error)}".rstrip() for host, state, error in store.members]
