"""A host with a service on it, for the tests that look at hosts: a real sshd, the stand-in, an inventory of one or more."""

from __future__ import annotations

import getpass
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bbctl.model import Drain, Fleet, Hang, Health, Host, Lock, Process, Service, Vip
from tests.integration.sshd import Farm, farm, wait_for

STAND_IN = Path(__file__).with_name("stand_in.py")


@dataclass
class Jboss:
    """One stand-in in a folder of its own, as the service `jboss` of `host`."""

    host: Host
    folder: Path
    instance: str = field(default_factory=lambda: "accounting-" + uuid.uuid4().hex[:8])
    port: int = 0
    procs: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "flags").mkdir(parents=True)
        (self.folder / "heartbeat.txt").touch()
        with socket.socket() as s:
            s.bind((self.host.address, 0))
            self.port = s.getsockname()[1]
        self.host = replace(self.host, services=(self.service(),), lock=Lock(path=str(self.folder / "lock/lock")))

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def service(self, **changes: Any) -> Service:
        drain = Drain(kind="file", path=str(self.folder / "heartbeat.txt"), settle=0.2)
        made = Service(
            name="jboss",
            process=Process(match=rf"org\.jboss\.Main -c {self.instance}", user=getpass.getuser()),
            log=str(self.log),
            started="Started in",
            stopped="JBoss .*stopped",
            hang=Hang(after="stopp?ing hornetq", within=0.5),
            stop_timeout=15.0,
            health=Health(url=f"http://{self.host.address}:{self.port}/health", expect='"status": *"OK"'),
            thread_dump="sigquit",
            vip=Vip(name="backbeat", drain=drain, min_in_service=0),
        )
        return replace(made, **changes)

    def flag(self, *names: str, on: bool = True) -> None:
        for name in names:
            path = self.folder / "flags" / name
            path.touch() if on else path.unlink(missing_ok=True)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start it and wait until its log says so. `words` go in front of the class on the command line."""
        before = self.log.read_text().count("Started in") if self.log.exists() else 0
        argv = [sys.executable, str(STAND_IN), str(self.folder), self.host.address, str(self.port), *words]
        proc = subprocess.Popen([*argv, "org.jboss.Main", "-c", self.instance], start_new_session=True)
        self.procs.append(proc)
        wait_for(
            lambda: self.log.exists() and self.log.read_text().count("Started in") > before, "the stand-in to start", 30
        )
        return proc

    def look_alike(self, *, words: str = "") -> subprocess.Popen[bytes]:
        """Another process whose command line matches."""
        code = f"import time  # {words}\nprint(flush=True)\nwhile True: time.sleep(1)"
        argv = [sys.executable, "-c", code, f"org.jboss.Main -c {self.instance}"]
        proc = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True)
        assert proc.stdout is not None
        proc.stdout.read(1)
        self.procs.append(proc)
        return proc

    def close(self) -> None:
        for proc in self.procs:
            with suppress(OSError):
                os.kill(proc.pid, signal.SIGKILL)
            proc.wait(30)
            if proc.stdout:
                proc.stdout.close()


@dataclass
class Site:
    farm: Farm
    members: list[Jboss]

    @property
    def fleet(self) -> Fleet:
        return self.farm.fleet(*(m.host for m in self.members))

    def inventory(self) -> Path:
        """The same as a file, for the installed command. (All hosts are this machine here: one lock for all.)"""
        path = self.farm.folder / "inventory.yml"
        lines = [
            "site: test", "ssh:", f"  user: {getpass.getuser()}", f"  port: {self.farm.port}", "  connect_timeout: 20s",
            f"  identity_file: {self.farm.key}", f"  known_hosts: {self.farm.known_hosts}",
            "groups:", "  workers:", f"    hosts: [{', '.join(m.host.name for m in self.members)}]", "    services: [jboss]",
            "    vip: backbeat", "hosts:",
        ]  # fmt: skip
        for m in self.members:
            words = f"root: {m.folder}, instance: {m.instance}, web: '{m.port}'"
            lines += [f"  {m.host.name}:", f"    address: {m.host.address}", f"    vars: {{{words}}}"]
        lines += [
            "services:", "  jboss:", f"    start: [{sys.executable}, '{STAND_IN}']", "    stop: [/bin/false]",
            "    process: {match: 'org\\.jboss\\.Main -c {instance}', user: '{user}'}", "    log: '{root}/server.log'",
            "    started: Started in", "    stopped: JBoss .*stopped", "    hang: {after: 'stopp?ing hornetq', within: 500ms}",
            "    stop_timeout: 15s", "    thread_dump: sigquit",
            "    health: {url: 'http://{address}:{web}/health', expect: '\"status\": *\"OK\"'}",
            "vips:", "  backbeat:", "    drain: {kind: file, path: '{root}/heartbeat.txt', settle: 200ms}",
            f"lock: {{path: '{self.farm.folder}/lock/lock'}}",
        ]  # fmt: skip
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o600)
        return path


@contextmanager
def site(folder: Path, count: int = 1) -> Iterator[Site]:
    """`count` hosts h1… with a running stand-in each."""
    names = [f"h{n}.snc1" for n in range(1, count + 1)]
    with farm(folder / "ssh", *names, net=60 + os.getpid() % 40) as made:
        members = [Jboss(made.host(name), folder / name) for name in names]
        try:
            for member in members:
                member.start()
            yield Site(made, members)
        finally:
            for member in members:
                member.close()
