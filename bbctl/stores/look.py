"""How the stores do, asked now: the ones that are named, or the embedded ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bbctl.settings import Stores
from bbctl.stores import embedded as stores
from bbctl.stores import redis_ping
from engine import storeadmin

PATIENCE = 3.0


@dataclass(frozen=True, kw_only=True)
class Store:
    """`state`: ok, degraded (one more loss stops it), down (named, not reached), unusable (it answers, and the engine cannot
    work with it: credentials, age, no replica set), starting, failed, stopped, none (not used).

    `facts`: what the server says of itself. `members` of a replica set: (host, state, error). `kept`: the keeper's record.
    """

    name: str
    url: str | None
    state: str
    embedded: bool
    error: str | None = None
    seconds: float | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    members: tuple[tuple[str, str, str], ...] = ()
    kept: Mapping[str, Any] = field(default_factory=dict)


def named(urls: Stores) -> list[Store]:
    """The stores that the inventory or the environment names."""
    return [
        _mongo(urls.mongo) if urls.mongo else Store(name="mongo", url=None, state="none", embedded=False),
        _redis(urls.redis) if urls.redis else Store(name="redis", url=None, state="none", embedded=False),
    ]


def embedded(home: Path) -> list[Store]:
    """The embedded stores below `home`."""
    found = []
    for name, kept in stores.status(home).items():
        ask = _mongo if name == "mongo" else _redis
        asked = ask(kept["url"]) if kept["state"] == "ok" else None
        state = kept["state"] if asked is None else "starting" if asked.state == "down" else asked.state
        found.append(
            Store(
                name=name,
                url=kept["url"],
                state=state,
                embedded=True,
                error=asked.error if asked else kept["error"],
                seconds=asked.seconds if asked else None,
                facts=asked.facts if asked else {},
                members=asked.members if asked else (),
                kept=kept,
            )
        )
    return found


def _mongo(url: str) -> Store:
    answer = storeadmin.ask(url, within=PATIENCE)
    lame = [host for host, state, _ in answer.members if state not in ("primary", "secondary", "arbiter")]
    facts = {"replica_set": answer.replica_set, "primary": answer.primary, "version": answer.version}
    return Store(
        name="mongo",
        url=url,
        state=_word(answer.error, answer.refused) or ("degraded" if lame else "ok"),
        embedded=False,
        error=answer.error,
        seconds=answer.seconds,
        facts={key: value for key, value in facts.items() if value},
        members=answer.members,
    )


def _redis(url: str) -> Store:
    answer = redis_ping.ask(url, within=PATIENCE)
    wanted = {"role": "role", "version": "redis_version", "policy": "maxmemory_policy", "replicas": "connected_slaves"}
    return Store(
        name="redis",
        url=url,
        state=_word(answer.error, answer.refused) or "ok",
        embedded=False,
        error=answer.error,
        seconds=answer.seconds,
        facts={key: answer.info[name] for key, name in wanted.items() if name in answer.info},
    )


def _word(error: str | None, refused: bool) -> str | None:
    return None if error is None else "unusable" if refused else "down"
