"""The stand-in JBoss of a lab host: one launcher whose children are the product itself, `bbctl serve` and `bbctl work`.

Started by the host's init script, ended by TERM (gracefully) or KILL (its children die with it, so that the port is free
again). It writes the log that a JBoss writes, and answers QUIT with a thread dump. A file in `faults/` changes its ways.
It stays without threads: its children's lives hang on the thread that made them.
"""

from __future__ import annotations

import http.client
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bbctl import child
from bbctl.lab import words
from bbctl.lab.ground import Ground, LabHost, load

SLOW = 20.0  # seconds that a slow start takes longer
NOWHERE = "mongodb://127.0.0.1:1/backbeat?replicaSet=rs0&serverSelectionTimeoutMS=500"  # where nothing listens


@dataclass
class Part:
    """One child. `serve` takes requests, `work` does the work."""

    name: str
    command: list[str]
    environ: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=child.dies_with(os.getpid()),
            )  # fmt: skip

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self, grace: float) -> None:
        """TERM: requests and posts under way end; KILL after `grace` seconds."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(grace)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass
class Jboss:
    ground: Ground
    host: LabHost
    parts: list[Part] = field(default_factory=list)
    hanging: bool = False
    dumps: int = 0
    ending: bool = False

    def run(self) -> None:
        wake, bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(bell, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGQUIT, self._asked_for_dump)
        signal.signal(signal.SIGTERM, self._asked_to_end)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        began = time.monotonic()
        self.log("INFO", *words.STARTING)
        if self.broken("slow-start"):
            self._wait(wake, SLOW)
        self.parts = [self._part("serve"), self._part("work")]
        self._start(wake, began)
        while not self.ending:
            self._wait(wake, 1.0)
            self._revive()
        self._end(wake)

    def broken(self, fault: str) -> bool:
        return (self.host.faults / fault).exists()

    def log(self, level: str, logger: str, text: str) -> None:
        with self.host.log.open("a", encoding="utf-8") as file:
            file.write(words.line(time.time(), level, logger, text))

    def _part(self, name: str) -> Part:
        here = [sys.executable, "-P", "-m", "bbctl", name]
        serve = [
            "--host",
            self.host.address,
            "--port",
            str(self.ground.http_port),
            "--heartbeat",
            str(self.host.heartbeat),
        ]
        more = [*serve, "--auth", "compatible"] if name == "serve" else ["--processes", "1"]
        environ = {key: value for key, value in os.environ.items() if not key.startswith("BBCTL_")}
        environ |= {"BBCTL_HOME": str(self.ground.folder), "BBCTL_INVENTORY": "none"}
        if name == "serve" and self.broken("never-healthy"):
            environ |= {"BBCTL_MONGO_URL": NOWHERE, "BBCTL_REDIS_URL": "redis://127.0.0.1:1/0"}
        return Part(name, [*here, *more], environ, self.host.log.with_name(f"{name}.log"))

    def _start(self, wake: int, began: float) -> None:
        for part in self.parts:
            part.start()
        while not self.ending and not self._answers():
            self._wait(wake, 0.1)
            self._revive()
        if not self.ending and not self.broken("never-started"):
            self.log("INFO", "org.jboss.as", words.started(time.monotonic() - began))

    def _answers(self) -> bool:
        link = http.client.HTTPConnection(self.host.address, self.ground.http_port, timeout=1)
        try:
            link.request("GET", "/heartbeat.txt")
            return link.getresponse().status > 0
        except (OSError, http.client.HTTPException):
            return False
        finally:
            link.close()

    def _revive(self) -> None:
        """A part that died comes back: the launcher is the service, not its parts."""
        for part in self.parts:
            if not part.runs and not self.ending:
                self.log("WARN", "org.jboss.as", f"{part.name} ended; starting it again")
                part.start()

    def _end(self, wake: int) -> None:
        began = time.monotonic()
        self.log("INFO", *words.STOPPING_WEB)
        for part in self.parts[:1]:
            part.stop(15)
        self.log("INFO", *words.STOPPING_QUEUE)
        self.hanging = self.broken("hang-on-stop")
        while self.hanging:  # its worker works on; only KILL ends this
            self._wait(wake, 60.0)
        for part in self.parts[1:]:
            part.stop(15)
        self.log("INFO", "org.jboss.as", words.stopped(time.monotonic() - began))

    def _wait(self, wake: int, seconds: float) -> None:
        """Sleep, but answer signals at once."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([wake], [], [], left)[0]:
                self._drain(wake)
                if self.ending and not self.hanging:
                    return

    def _drain(self, wake: int) -> None:
        try:
            while os.read(wake, 512):
                pass
        except BlockingIOError:
            pass
        while self.dumps:
            self.dumps -= 1
            with self.host.log.with_name("console.log").open("a", encoding="utf-8") as file:
                file.write(words.dump(time.time(), deadlock=self.hanging))

    def _asked_to_end(self, *_: object) -> None:
        self.ending = True

    def _asked_for_dump(self, *_: object) -> None:
        self.dumps += 1


def main(arguments: list[str]) -> int:
    """`org.jboss.Main -c accounting -b NAME -Dhome=FOLDER`."""
    folder = Path(arguments[-1].removeprefix("-Dhome="))
    ground = load(folder.parent.parent)
    if ground is None:
        return 2
    Jboss(ground, ground.named(arguments[-2])).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
