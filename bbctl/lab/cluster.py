"""The lab as a whole: up, how it is, down. Everything it makes lies below one folder; everything it starts is found again
by command lines that name that folder, so that `down` leaves nothing, whatever was killed before."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bbctl import child
from bbctl.child import Born
from bbctl.errors import Failed, UsageError
from bbctl.lab import ground as grounds
from bbctl.lab import initscript, keys
from bbctl.lab.ground import Ground, LabHost
from bbctl.stores import embedded as stores
from bbctl.stores.servers import private
from engine import workflows
from engine.errors import BadRequest
from engine.runtime import open_runtime
from engine.settings import Settings

CLIENT = "accounting"
PATIENCE = 90.0
GRACE = 5.0
Say = Callable[[str], None]


def up(home: Path, *, workers: int | None, say: Say) -> Ground:
    """The lab, complete and answering; what runs already is left alone. Raises UsageError, StoreDown, Failed."""
    folder = grounds.folder_of(home)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(folder):
        ground = _ground(folder, workers)
        urls = stores.ensure_stores(folder, say=say)
        _furnish(ground)
        _register(ground, urls)
        for name, argument in _daemons(ground):
            if not _running(name, argument):
                _launch(ground, name, argument)
        private(ground.inventory, grounds.inventory(ground, mongo=urls.mongo, redis=urls.redis))
        say(f"starting {ground.workers} hosts, the VIP and the client")
        _await(ground)
    return ground


def of(home: Path) -> Ground:
    """The lab below `home`. UsageError where none is up."""
    ground = grounds.load(grounds.folder_of(home))
    if ground is None or not ground.inventory.exists():
        raise UsageError("there is no lab", code="no-lab", next="bbctl lab up")
    return ground


def down(home: Path) -> bool:
    """End every process of the lab, its stores last. Its data stays. False: nothing ran."""
    folder = grounds.folder_of(home)
    if not folder.exists():
        return False
    with _alone(folder):
        (folder / "inventory.yml").unlink(missing_ok=True)
        ran = bool(_processes(folder))
        child.end_all(lambda: _processes(folder), grace=GRACE)
        return stores.down(folder) or ran


def forget(home: Path) -> None:
    """Remove what a lab that is down has left on the disk."""
    shutil.rmtree(grounds.folder_of(home), ignore_errors=True)


# -- how it is -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class HostState:
    host: LabHost
    machine: bool
    jboss: int | None
    vip: str
    faults: tuple[str, ...]


def hosts(ground: Ground) -> list[HostState]:
    """Every host: does its machine run, its JBoss, is it in the VIP, what is broken on purpose."""
    seen = {row["host"]: row["up"] for row in (vip(ground) or {}).get("backends", [])}
    return [
        HostState(
            host=host,
            machine=bool(_running("host", str(host.folder))),
            jboss=next((process.pid for process in launchers(host)), None),
            vip={True: "in", False: "out", None: "unknown"}[seen.get(host.name)],
            faults=faults_of(host.faults),
        )
        for host in ground.hosts
    ]


def vip(ground: Ground) -> dict[str, Any] | None:
    """What the VIP says of itself; None where it does not answer."""
    found = ask(ground, "GET", "/vip")
    return found[1] if found and found[0] == 200 else None


def ask(
    ground: Ground, method: str, path: str, body: object = None, head: Mapping[str, str] | None = None
) -> tuple[int, Any] | None:
    """One request to the VIP: status and JSON. None where it does not answer."""
    link = http.client.HTTPConnection(ground.vip_address, ground.vip_port, timeout=30)
    try:
        sent = None if body is None else json.dumps(body)
        link.request(method, path, sent, {"Content-Type": "application/json", **(head or {})})
        answer = link.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        link.close()


def credentials(ground: Ground) -> dict[str, str]:
    """The headers of the sample client."""
    known = json.loads((ground.client_folder / "token.json").read_text("utf-8"))
    return {"Client-Id": known["id"], "Authorization": f'Token token="{known["token"]}"'}


def launchers(host: LabHost) -> list[Born]:
    """The host's stand-in JBoss, found by the word that only it carries."""
    return child.find(lambda words: words[-1:] == (host.mark,) and "bbctl.lab.jboss" in words)


def client_runs(ground: Ground) -> bool:
    return bool(_running("client", str(ground.folder)))


def faults_of(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in folder.iterdir())) if folder.exists() else ()


def know_hosts(ground: Ground) -> None:
    """The hosts' own keys are the known ones, whatever was trusted in the meantime."""
    lines = (
        keys.known_line(host.name, host.address, ground.ssh_port, keys.made(host.folder / "host_key"))
        for host in ground.hosts
    )
    private(ground.known_hosts, "".join(lines))


# -- its parts -------------------------------------------------------------------------------------------------


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One `up` or `down` of a lab at a time."""
    with (folder / "lab.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _ground(folder: Path, workers: int | None) -> Ground:
    known = grounds.load(folder)
    if known is None:
        known = grounds.choose(folder, workers or 3)
    elif workers is not None and workers != known.workers:
        if _processes(folder):
            raise UsageError(f"the lab is up with {known.workers} workers", next="bbctl lab down · then bbctl lab up")
        known = replace(known, workers=grounds.choose(folder, workers).workers)
    known.save()
    return known


def _furnish(ground: Ground) -> None:
    """Folders, keys, init scripts, known hosts."""
    keys.made(ground.key)
    for host in ground.hosts:
        for name in ("home", "init.d", "log", "run", "public", "faults"):
            new = not (host.folder / name).exists()
            (host.folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
            if new and name == "public":
                host.heartbeat.write_text("in\n")
        host.init.write_text(initscript.text(host))
        host.init.chmod(0o700)
        keys.made(host.folder / "host_key-other")
    know_hosts(ground)
    (ground.client_folder / "faults").mkdir(parents=True, exist_ok=True, mode=0o700)


def _register(ground: Ground, urls: stores.StoreUrls) -> None:
    """Make the sample client known to the engine."""
    kept = ground.client_folder / "token.json"
    if kept.exists():
        return
    rt = open_runtime(Settings(mongo_url=urls.mongo, redis_url=urls.redis))
    try:
        try:
            client, token = workflows.add_client(
                rt, CLIENT, activity_endpoint=f"{ground.client_url}/activity",
                notification_endpoint=f"{ground.client_url}/notification", decision_endpoint=f"{ground.client_url}/decision",
            )  # fmt: skip
        except BadRequest:
            client, token = workflows.rotate_token(rt, workflows.client_named(rt, CLIENT).id)
    finally:
        rt.close()
    private(kept, json.dumps({"id": client.id, "token": token}))


def _daemons(ground: Ground) -> list[tuple[str, str]]:
    """Module below bbctl.lab, and the folder that it is told."""
    machines = [("host", str(host.folder)) for host in ground.hosts]
    return [("vip", str(ground.folder)), ("client", str(ground.folder)), *machines]


def _running(name: str, argument: str) -> list[Born]:
    return child.running(("-P", "-m", f"bbctl.lab.{name}", argument))


def _launch(ground: Ground, name: str, argument: str) -> None:
    """A process of its own session that is nobody's child once this returns."""
    words = [sys.executable, "-P", "-m", f"bbctl.lab.{name}", argument]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("BBCTL_")}
    with os.fdopen(os.open(ground.folder / "lab.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
        subprocess.run(
            ["/bin/sh", "-c", '"$@" &', "sh", *words], env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, check=True,
        )  # fmt: skip


def _processes(folder: Path) -> list[Born]:
    """Whatever of this lab runs, its stores apart."""

    def ours(words: tuple[str, ...]) -> bool:
        inside = any(word.removeprefix("-Dhome=") == str(folder) or f"{folder}/hosts/" in word for word in words)
        module = any(word.startswith("bbctl.lab.") for word in words)
        return inside and (module or any(word.endswith("/init.d/something_jboss") for word in words))

    return child.find(ours)


def _await(ground: Ground) -> None:
    """Until every host lets people in and serves through the VIP. Failed says what is missing."""
    until = time.monotonic() + PATIENCE
    while missing := _missing(ground):
        if time.monotonic() > until:
            raise Failed(f"the lab does not come up: {missing}", next=f"tail {ground.folder}/lab.log · bbctl lab down")
        time.sleep(0.1)


def _missing(ground: Ground) -> str | None:
    for state in hosts(ground):
        if "ssh-down" not in state.faults and not listens(state.host.address, ground.ssh_port):
            return f"{state.host.name} has no SSH"
        served = state.vip == "in" and listens(state.host.address, ground.http_port)
        if not served and not state.faults and state.host.heartbeat.exists():
            return f"{state.host.name} is not in the VIP"
    if not listens(ground.client_address, ground.client_port):
        return "the client does not answer"
    health = ask(ground, "GET", "/health")
    return None if health and health[0] == 200 else "the API is not healthy"


def listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0
