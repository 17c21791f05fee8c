"""The keeper: one small process per home that starts the embedded mongod and Redis, and starts them again when they die.

Started by whoever first asks for the stores (`bbctl.stores.embedded`), it belongs to no command. Whoever holds `keeper.lock` is
the keeper; a standby waits for that lock and takes over when the keeper is killed, so that only killing both at once
needs a next asker. It ends when the file `wanted` is gone (`bbctl stores down`), at SIGTERM, or when its home vanishes.
Its servers die with it: a new keeper starts from a clean floor, and ends whatever still runs on this home's files.
It stays without threads: its children's lives hang on the thread that made them.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from bbctl import child
from bbctl.errors import StoreDown
from bbctl.stores import redis_ping, servers

QUICK = 10.0  # a server that lived shorter counts as a failed start
LONGEST_PAUSE = 5.0
GRACE = 20.0
NAMES = ("mongo", "redis")


@dataclass
class Server:
    """One of the two, from start to start. `state`: `starting`, `ok`, `failed` (will be tried again)."""

    name: str
    home: Path
    known: servers.Secrets
    port: int
    state: str = "starting"
    error: str | None = None
    restarts: int = 0
    failures: int = 0
    since: float = 0.0
    next_try: float = 0.0
    moving: bool = False  # it has data that name another port
    process: subprocess.Popen[bytes] | None = None
    helper: subprocess.Popen[bytes] | None = None

    def step(self, now: float) -> None:
        """Do what is due: notice a death, start, or see whether it is ready."""
        if self.process is not None and self.process.poll() is not None:
            self._died(now)
        if self.process is None and now >= self.next_try:
            self._start(now)
        elif self.process is not None and self.state != "ok" and self._ready():
            self.state, self.error = "ok", None

    def _start(self, now: float) -> None:
        try:
            program = servers.binary(self.name, os.environ)
            if not servers.free(self.port):
                self.port = servers.free_port()
                self.moving = self.name == "mongo" and servers.has_data(self.home, self.name)
            servers.write(self.home, self.name, self.port, self.known, alone=self.moving)
            self.process = _spawn([program, *servers.tail(self.home, self.name)], self.home)
        except (StoreDown, OSError) as error:
            self._fail(str(error), now)
            return
        self.since, self.state = time.time(), "starting"
        if self.name == "mongo":
            self.helper = self._prepare()

    def _prepare(self) -> subprocess.Popen[bytes]:
        job = {
            "address": f"{servers.HERE}:{self.port}", "key": self.known.mongo_key, "replica_set": servers.REPLICA_SET,
            "user": servers.USER, "password": self.known.mongo_password, "database": servers.DATABASE,
            "move": self.moving,
        }  # fmt: skip
        helper = _spawn([sys.executable, "-P", "-m", "engine.storeadmin"], self.home, piped=True)
        assert helper.stdin is not None
        try:
            helper.stdin.write(json.dumps(job).encode())
            helper.stdin.close()
        except BrokenPipeError:
            pass
        return helper

    def _ready(self) -> bool:
        if self.name == "redis":
            return redis_ping.ask(servers.url("redis", self.port, self.known), within=0.5).error is None
        if self.process is None or self.helper is None or self.helper.poll() is None:
            return False
        said = _rest(self.helper)
        code, self.helper = self.helper.returncode, None
        if code != 0:
            self.error = said.splitlines()[-1] if said else f"its set-up ended with {code}"
            self.helper = self._prepare()
        elif self.moving:
            self.process.terminate()
            _await(self.process, time.monotonic() + GRACE)
            self.process, self.moving = None, False  # the next start is that of a member
            return False
        return code == 0

    def _died(self, now: float) -> None:
        assert self.process is not None
        code = self.process.returncode
        if self.helper is not None:
            self.helper.kill()
            _rest(self.helper)
        self.process = self.helper = None
        self.restarts += 1
        self.state = "starting"
        if time.time() - self.since > QUICK or code == -signal.SIGKILL:
            self.failures, self.next_try = 0, now
        else:
            self._fail(f"{servers.TITLES[self.name]} ended with {code}; see {servers.log(self.home, self.name)}", now)

    def _fail(self, why: str, now: float) -> None:
        self.failures += 1
        self.error = why
        self.state = "failed" if self.failures > 2 else "starting"
        self.next_try = now + min(LONGEST_PAUSE, 0.1 * 2**self.failures)

    def record(self) -> Mapping[str, Any]:
        who = child.born(self.process.pid) if self.process else None
        return {
            "port": self.port, "state": self.state, "error": self.error, "restarts": self.restarts, "since": self.since,
            "process": vars(who) if who else None,
        }  # fmt: skip


@dataclass
class Keeper:
    home: Path
    lock: IO[bytes]
    servers: list[Server] = field(default_factory=list)
    standby: subprocess.Popen[bytes] | None = None
    stopping: bool = False
    written: str = ""

    def run(self) -> None:
        wake, bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(bell, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._note()  # who keeps, before anything else: other starters look for it
        for name in NAMES:
            child.end_all(lambda name=name: child.running(servers.tail(self.home, name)), grace=GRACE)  # type: ignore[misc]
        known, ports = servers.make_secrets(self.home), _ports(self.home)
        self.servers = [Server(name, self.home, known, ports.get(name) or servers.free_port()) for name in NAMES]
        while self._wanted():
            self._round()
            busy = any(server.state != "ok" for server in self.servers)
            select.select([wake], [], [], 0.05 if busy else 1.0)
            _drain(wake)
        self._end()

    def _round(self) -> None:
        now = time.monotonic()
        for server in self.servers:
            server.step(now)
        if self.standby is None or self.standby.poll() is not None:
            self.standby = launch(self.home, "--standby")
        self._note()

    def _note(self) -> None:
        """Who runs where, for everybody who asks. 0600."""
        me = child.born(os.getpid())
        record = {"keeper": vars(me) if me else None, **{server.name: server.record() for server in self.servers}}
        if not self.servers:
            record |= {name: {"port": port, "state": "starting"} for name, port in _ports(self.home).items()}
        text = json.dumps(record)
        if text != self.written:
            servers.private(servers.folder(self.home) / "keeper.json", text)
            self.written = text

    def _wanted(self) -> bool:
        """Not told to stop, and the home is still the one we hold."""
        try:
            same = os.fstat(self.lock.fileno()).st_ino == (servers.folder(self.home) / "keeper.lock").stat().st_ino
        except OSError:
            return False
        return not self.stopping and same and wanted(self.home).exists()

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def _end(self) -> None:
        wanted(self.home).unlink(missing_ok=True)  # the standby, next to hold the lock, then leaves too
        for server in self.servers:
            for process in (server.helper, server.process):
                if process is not None:
                    process.terminate()
        until = time.monotonic() + GRACE
        for server in self.servers:
            for process in (server.helper, server.process):
                _await(process, until)


def _await(process: subprocess.Popen[bytes] | None, until: float) -> None:
    """Wait for its end; KILL at `until`."""
    if process is None:
        return
    try:
        process.wait(max(0.1, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wanted(home: Path) -> Path:
    """The file whose presence says that this home's stores shall run."""
    return servers.folder(home) / "wanted"


def launch(home: Path, *words: str) -> subprocess.Popen[bytes]:
    """A process of this module, in a session of its own, with no more environment than it needs."""
    with _log(home) as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "bbctl.stores.keeper", str(home.absolute()), *words],
            env=child.environment(),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
        )  # fmt: skip


def _log(home: Path) -> IO[bytes]:
    path = servers.folder(home) / "keeper.log"
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab")


def _spawn(words: list[str], home: Path, *, piped: bool = False) -> subprocess.Popen[bytes]:
    with _log(home) as log:
        return subprocess.Popen(
            words, stdin=subprocess.PIPE if piped else subprocess.DEVNULL, stdout=log, cwd="/",
            stderr=subprocess.PIPE if piped else log, preexec_fn=child.dies_with(os.getpid()),
        )  # fmt: skip


def _rest(process: subprocess.Popen[bytes]) -> str:
    """What a finished helper said; leaves nothing open."""
    assert process.stderr is not None
    with process.stderr as stream:
        said = stream.read().decode("utf-8", "replace").strip()
    process.wait()
    return said


def _ports(home: Path) -> dict[str, int]:
    """The ports of the last time: programmes that run on hold them in their URLs."""
    try:
        record = json.loads((servers.folder(home) / "keeper.json").read_text("utf-8"))
        return {name: int(record[name]["port"]) for name in NAMES if name in record}
    except (OSError, ValueError, KeyError):
        return {}


def _drain(wake: int) -> None:
    try:
        while os.read(wake, 512):
            pass
    except BlockingIOError:
        pass


def main(home: Path, *, standby: bool) -> int:
    """Become the keeper of `home`, or leave: at once where there is one, for a standby where none is wanted."""
    os.umask(0o077)
    with (servers.folder(home) / "keeper.lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if standby else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        if not standby and os.fork():
            os._exit(0)  # detached: the asker's child is gone, the lock is its child's now
        if wanted(home).exists():
            Keeper(home, lock).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), standby="--standby" in sys.argv[2:]))
