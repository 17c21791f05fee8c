"""The lab's ground: where everything of it lies and listens. Decided once, kept in `lab.json`; starts nothing.

All of 127.0.0.0/8 is this machine, so every lab host gets an address of its own, and two labs do not meet.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import secrets
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from bbctl.errors import Failed, UsageError
from bbctl.lab.invoicing import NAME, STEPS
from bbctl.stores.servers import PORTS, private

LATE = 5.0  # seconds after which a step of the lab counts as late
MOST = 20


@dataclass(frozen=True, kw_only=True)
class LabHost:
    """One practice host: its name, its address, and the folder that is its whole disk."""

    name: str
    address: str
    folder: Path

    @property
    def short(self) -> str:
        return self.name.split(".", 1)[0]

    @property
    def home(self) -> Path:
        """Where a login lands."""
        return self.folder / "home"

    @property
    def heartbeat(self) -> Path:
        return self.folder / "public" / "heartbeat.txt"

    @property
    def faults(self) -> Path:
        """A file in here is a fault that is on."""
        return self.folder / "faults"

    @property
    def init(self) -> Path:
        return self.folder / "init.d" / "something_jboss"

    @property
    def log(self) -> Path:
        return self.folder / "log" / "server.log"

    @property
    def mark(self) -> str:
        """The word of the stand-in's command line that no other process on this machine has."""
        return f"-Dhome={self.folder}"


@dataclass(frozen=True, kw_only=True)
class Ground:
    """A whole lab. `net` is the first three numbers of its addresses."""

    folder: Path
    net: str
    workers: int
    ssh_port: int
    http_port: int
    vip_port: int
    client_port: int

    @property
    def hosts(self) -> tuple[LabHost, ...]:
        return tuple(self.host(number) for number in range(1, self.workers + 1))

    def host(self, number: int) -> LabHost:
        name = f"accounting-worker{number}.snc1"
        return LabHost(name=name, address=f"{self.net}.{number}", folder=self.folder / "hosts" / name)

    def named(self, word: str) -> LabHost:
        """The host called so, in full, by its first label, or by its number. UsageError names them all."""
        for number, host in enumerate(self.hosts, 1):
            if word in (host.name, host.short, str(number)):
                return host
        known = ", ".join(host.short for host in self.hosts)
        raise UsageError(f"the lab has no host {word}: it has {known} and client", next="bbctl lab status")

    @property
    def vip_address(self) -> str:
        return f"{self.net}.200"

    @property
    def vip_url(self) -> str:
        return f"http://{self.vip_address}:{self.vip_port}"

    @property
    def client_address(self) -> str:
        return f"{self.net}.201"

    @property
    def client_url(self) -> str:
        return f"http://{self.client_address}:{self.client_port}"

    @property
    def client_folder(self) -> Path:
        return self.folder / "client"

    @property
    def key(self) -> Path:
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory.yml"

    def save(self) -> None:
        private(self.folder / "lab.json", json.dumps({**asdict(self), "folder": str(self.folder)}))


def folder_of(home: Path) -> Path:
    return home.absolute() / "lab"


def load(folder: Path) -> Ground | None:
    """The lab below `folder`, if one was ever made."""
    try:
        said = json.loads((folder / "lab.json").read_text("utf-8"))
    except FileNotFoundError:
        return None
    return Ground(**{**said, "folder": folder})


def choose(folder: Path, workers: int) -> Ground:
    """New ground: addresses from the folder's name, ports that are free on them."""
    if not 1 <= workers <= MOST:
        raise UsageError(f"--workers {workers}: from 1 to {MOST}", next="bbctl lab up --workers 3")
    digest = hashlib.sha256(str(folder).encode()).digest()
    net = f"127.{digest[0] % 200 + 20}.{digest[1] % 250 + 2}"
    everywhere = [f"{net}.{number}" for number in range(1, workers + 1)]
    ssh, http = free_port(everywhere), free_port(everywhere)
    return Ground(
        folder=folder, net=net, workers=workers, ssh_port=ssh, http_port=http,
        vip_port=free_port([f"{net}.200"]), client_port=free_port([f"{net}.201"]),
    )  # fmt: skip


def free_port(addresses: list[str]) -> int:
    """A port that is free on all of them."""
    for _ in range(200):
        port = secrets.choice(PORTS)
        if all(_free(address, port) for address in addresses):
            return port
    raise Failed(f"no free port on {addresses[0]}", next="ss -ltn")


def _free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex((address, port)) != 0


# -- the inventory ---------------------------------------------------------------------------------------------


def inventory(ground: Ground, *, mongo: str, redis: str) -> str:
    """What `-i lab` reads: the practice fleet as a real one is written down, with times that suit practice."""
    said = json.dumps
    hosts = "\n".join(
        f"  {host.name}: {{address: {said(host.address)}, vars: {{folder: {said(str(host.folder))}}}}}"
        for host in ground.hosts
    )
    expected = "\n".join(f"  {name}: {LATE:.0f}s" for name in (NAME, *(step.name for step in STEPS)))
    return f"""\
# Written by `bbctl lab up`. `bbctl -i lab …` means this file.
site: lab
ssh:
  user: {said(getpass.getuser())}
  port: {ground.ssh_port}
  identity_file: {said(str(ground.key))}
  known_hosts: {said(str(ground.known_hosts))}
stores:
  mongo: {said(mongo)}
  redis: {said(redis)}
groups:
  workers:
    hosts: "accounting-worker{{1-{ground.workers}}}.snc1"
    services: [jboss]
    vip: backbeat
hosts:
{hosts}
services:
  jboss:
    start: ["{{folder}}/init.d/something_jboss", start]
    stop: ["{{folder}}/init.d/something_jboss", stop]
    process: {{match: "org\\\\.jboss\\\\.Main -c accounting -b {{name}} -Dhome={{folder}}", user: {said(getpass.getuser())}}}
    log: "{{folder}}/log/server.log"
    started: "Started in"
    stopped: "JBoss .*stopped"
    hang: {{after: "stopp?ing hornetq", within: 6s}}
    stop_timeout: 40s
    start_timeout: 60s
    health:
      url: "http://{{address}}:{ground.http_port}/health"
      expect: '"status": *"OK"'
      times: 3
      interval: 500ms
      timeout: 30s
    thread_dump: sigquit
    dump_log: "{{folder}}/log/console.log"
vips:
  backbeat:
    address: {said(f"{ground.vip_address}:{ground.vip_port}")}
    drain: {{kind: file, path: "{{folder}}/public/heartbeat.txt", settle: 2s}}
    min_in_service: {max(0, ground.workers - 1)}
expected:
{expected}
"""
