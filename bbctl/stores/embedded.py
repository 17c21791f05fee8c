"""The embedded stores, as those see them who need them: there, with their URLs; how they do; gone.

Asking starts the keeper (`bbctl.stores.keeper`) where there is none and waits until both answer. Asked again it is quick: two
small files and two connections. Nothing here stops a store but `down`.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbctl import child
from bbctl.child import Born
from bbctl.errors import StoreDown
from bbctl.stores import keeper, redis_ping, servers

PATIENCE = 60.0


@dataclass(frozen=True, kw_only=True)
class StoreUrls:
    """Both URLs, passwords included."""

    mongo: str
    redis: str


def ensure_stores(home: Path, *, say: Callable[[str], None]) -> StoreUrls:
    """The embedded stores below `home`, started if need be, both answering. `say` gets a line if they are started.

    Raises StoreDown where no binary fits this machine, a server does not stay up, or PATIENCE seconds pass.
    """
    until, told = time.monotonic() + PATIENCE, False
    while True:
        record = _record(home)
        urls = _urls(home, record)
        if urls is not None:
            return urls
        if not told:
            _fits()
            say(f"starting the embedded mongod and Redis below {servers.folder(home)}")
            told = True
        if _keeper(record) is None:
            _start(home)
        _give_up(home, record, late=time.monotonic() > until)
        time.sleep(0.03)


def status(home: Path) -> Mapping[str, Mapping[str, Any]]:
    """Per store: url (with its password), pid, port, state (`ok starting failed stopped`), since, restarts, error, log.

    Starts nothing. `state` is `ok` only where the server answers now.
    """
    record = _record(home)
    urls, kept = _recorded(home, record), _keeper(record)
    return {
        name: {
            **_one(name, record.get(name, {}), getattr(urls, name, None), kept is not None),
            "log": str(servers.log(home, name)),
        }
        for name in keeper.NAMES
    }


def down(home: Path) -> bool:
    """Stop keeper and servers, and wait until nothing of them runs. Data and passwords stay. False: nothing ran."""
    place = servers.folder(home)
    if not place.exists():
        return False
    ran = _keeper(_record(home)) is not None or bool(_leftovers(home))
    keeper.wanted(home).unlink(missing_ok=True)
    kept = _keeper(_record(home))
    if kept is not None:
        child.end([kept])
    with (place / "keeper.lock").open("ab") as lock:
        until = time.monotonic() + keeper.GRACE + 5
        while not _held(lock):
            if time.monotonic() > until:
                child.end_all(lambda: _keepers(home), grace=0)
            time.sleep(0.02)
        child.end_all(lambda: _leftovers(home), grace=keeper.GRACE)
    child.end_all(lambda: _keepers(home), grace=2)
    return ran


def look_after(home: Path, *, every: float = 1.0) -> threading.Event:
    """For programmes that run on: start the keeper again where it and its standby were killed together, until the event is set.

    Stores that were told to stop stay stopped.
    """
    over = threading.Event()

    def look() -> None:
        while not over.wait(every):
            if keeper.wanted(home).exists() and _keeper(_record(home)) is None:
                keeper.launch(home).wait()

    threading.Thread(target=look, name="stores", daemon=True).start()
    return over


def _one(name: str, record: Mapping[str, Any], url: str | None, kept: bool) -> Mapping[str, Any]:
    process = _born(record.get("process"))
    alive = process is not None and process.alive
    state, error = record.get("state", "stopped"), record.get("error")
    if not kept:
        state, error = "stopped", None
    elif state == "ok" and not (alive and url is not None and _answers(name, record["port"], url)):
        state, error = "starting", "it does not answer yet"
    return {
        "url": url, "pid": process.pid if alive and process else None, "state": state, "port": record.get("port"),
        "since": record.get("since") if alive else None, "restarts": record.get("restarts", 0), "error": error,
    }  # fmt: skip


def _record(home: Path) -> dict[str, Any]:
    try:
        found = json.loads((servers.folder(home) / "keeper.json").read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StoreDown(
            f"{servers.folder(home)}: cannot be read: {error}", next=f"ls -la {servers.folder(home)}"
        ) from None
    return found if isinstance(found, dict) else {}


def _recorded(home: Path, record: Mapping[str, Any]) -> StoreUrls | None:
    known = servers.known(home)
    if known is None or any("port" not in record.get(name, {}) for name in keeper.NAMES):
        return None
    return StoreUrls(**{name: servers.url(name, record[name]["port"], known) for name in keeper.NAMES})


def _urls(home: Path, record: Mapping[str, Any]) -> StoreUrls | None:
    """The URLs, if the keeper lives and both servers answer."""
    urls = _recorded(home, record) if _keeper(record) is not None else None
    if urls is None:
        return None
    for name in keeper.NAMES:
        process = _born(record[name].get("process"))
        if record[name]["state"] != "ok" or process is None or not process.alive:
            return None
        if not _answers(name, record[name]["port"], getattr(urls, name)):
            return None
    return urls


def _answers(name: str, port: int, url: str) -> bool:
    if name == "redis":
        return redis_ping.ask(url, within=2.0).error is None
    try:
        with socket.create_connection((servers.HERE, port), timeout=2.0):
            return True
    except OSError:
        return False


def _born(found: Any) -> Born | None:
    return Born(**found) if isinstance(found, dict) else None


def _keeper(record: Mapping[str, Any]) -> Born | None:
    """The living keeper."""
    found = _born(record.get("keeper"))
    return found if found is not None and found.alive else None


def _fits() -> None:
    for name in keeper.NAMES:
        servers.binary(name, os.environ)


def _start(home: Path) -> None:
    place = servers.folder(home)
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    keeper.wanted(home).touch(mode=0o600)
    keeper.launch(home).wait()


def _give_up(home: Path, record: Mapping[str, Any], *, late: bool) -> None:
    for name in keeper.NAMES:
        mine = record.get(name, {})
        failed = mine.get("state") == "failed" and _keeper(record) is not None
        if failed or (late and mine.get("state") != "ok"):
            why = mine.get("error") or f"it does not answer after {PATIENCE:.0f}s"
            raise StoreDown(
                f"the embedded {servers.TITLES[name]} does not come up: {why}",
                next=f"tail {servers.log(home, name)} · or set {servers.VARIABLES[name]} to a running one",
            )
    if late:
        raise StoreDown(
            "the keeper of the embedded stores does not start", next=f"cat {servers.folder(home)}/keeper.log"
        )


def _held(lock: Any) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _keepers(home: Path) -> list[Born]:
    return child.find(lambda words: words[1:5] == ("-P", "-m", "bbctl.stores.keeper", str(home.absolute())))


def _leftovers(home: Path) -> list[Born]:
    """Servers on this home's files that no keeper looks after."""
    return [process for name in keeper.NAMES for process in child.running(servers.tail(home, name))]
