"""The ground of one run: real sshd on loopback addresses, their files in every peer's own format, and how one contestant runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.sshd import Farm

ROOT = Path(__file__).resolve().parents[2]
BBCTL = Path(sys.executable).with_name("bbctl")
WARM_ROUNDS = 10


@dataclass(frozen=True)
class Took:
    """Seconds of wall, seconds of CPU of all its processes, whether it ended with 0, and what it said on stdout and stderr."""

    wall: float
    cpu: float
    good: bool
    said: bytes = b""


@dataclass
class Ground:
    """The hosts of one run, and their files in every peer's own format."""

    farm: Farm
    venv: Path
    user: str
    count: int
    names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.names = list(self.farm.names)[: self.count]
        self.addresses = [self.farm.addresses[n] for n in self.names]
        self.folder = Path(tempfile.mkdtemp(dir=self.farm.folder))
        self.ssh = [
            "-o", f"UserKnownHostsFile={self.farm.known_hosts}", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes",
            "-i", str(self.farm.key), "-p", str(self.farm.port), "-l", self.user,
        ]  # fmt: skip
        self._write()

    def _write(self) -> None:
        f = self.farm
        (self.folder / "inventory.yml").write_text(
            f"ssh: {{user: {self.user}, port: {f.port}, identity_file: {f.key}, known_hosts: {f.known_hosts}}}\nhosts:\n"
            + "".join(f"  {n}: {{address: {a}}}\n" for n, a in zip(self.names, self.addresses, strict=True))
        )
        (self.folder / "inventory.yml").chmod(0o600)
        (self.folder / "hosts.ini").write_text(
            "".join(
                f"{a} ansible_port={f.port} ansible_user={self.user} ansible_ssh_private_key_file={f.key}\n"
                for a in self.addresses
            )
        )
        data = {
            "ssh_user": self.user,
            "ssh_port": f.port,
            "ssh_key": str(f.key),
            "ssh_known_hosts_file": str(f.known_hosts),
        }
        (self.folder / "hosts.py").write_text(f"hosts = ({self.addresses!r}, {data!r})\n")
        task = "    - {module}: uptime\n"
        for module in ("raw", "command"):
            tasks = task.format(module=module) * WARM_ROUNDS
            (self.folder / f"{module}.yml").write_text(f"- hosts: all\n  gather_facts: false\n  tasks:\n{tasks}")
        (self.folder / "deploy.py").write_text(
            "from pyinfra.operations import server\n"
            + "".join(f"server.shell(name='{n}', commands=['uptime'])\n" for n in range(WARM_ROUNDS))
        )

    def job(self, *, guard: bool = True) -> bytes:
        f = self.farm
        return json.dumps({
            "user": self.user, "port": f.port, "key": str(f.key), "known_hosts": str(f.known_hosts), "names": self.names,
            "addresses": self.addresses, "guard": guard,
        }).encode()  # fmt: skip

    def run(self, words: Sequence[object], *, stdin: bytes = b"", **environ: str) -> Took:
        """One contestant, with the CPU of all its processes that it waited for."""
        env = {**os.environ, "BBCTL_HOME": str(self.folder / "home"), "LANG": "C.UTF-8", **environ}
        began = time.perf_counter()
        log = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115
        process = subprocess.Popen(
            list(map(str, words)), stdin=subprocess.PIPE, stdout=log, stderr=log, env=env, cwd=self.folder
        )
        assert process.stdin is not None
        process.stdin.write(stdin)
        process.stdin.close()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - began
        with log:
            log.seek(0)
            took = Took(wall, used.ru_utime + used.ru_stime, process.returncode == 0, log.read())
        if not took.good:
            print(f"  {words[0]}: exit {process.returncode}: {took.said[-300:]!r}", file=sys.stderr)
        return took

    def ansible(self, words: Sequence[object], *, mitogen: bool = False) -> Took:
        extra: dict[str, str] = {}
        if mitogen:
            found = next(self.venv.glob("lib/python*/site-packages/ansible_mitogen/plugins/strategy"))
            extra = {"ANSIBLE_STRATEGY_PLUGINS": str(found), "ANSIBLE_STRATEGY": "mitogen_linear"}
        control = tempfile.mkdtemp(prefix="c", dir="/tmp")
        try:
            return self.run(
                [self.venv / "bin" / str(words[0]), "-i", "hosts.ini", *words[1:]],
                ANSIBLE_SSH_ARGS=f"-C -o ControlMaster=auto -o ControlPersist=5s -o UserKnownHostsFile={self.farm.known_hosts}",
                ANSIBLE_SSH_CONTROL_PATH_DIR=control,
                ANSIBLE_FORKS="50",
                ANSIBLE_HOME=str(self.folder / "ansible"),
                **extra,
            )
        finally:
            shutil.rmtree(control, ignore_errors=True)

    def clush(self) -> Took:
        where = ["-w", ",".join(self.addresses), "-o", " ".join(self.ssh)]
        return self.run([self.venv / "bin/clush", "-S", "-b", "-f", 64, *where, "uptime"])

    def xargs(self) -> Took:
        return self.run(
            ["xargs", "-P", 32, "-I", "{}", "ssh", *self.ssh, "{}", "uptime"], stdin="\n".join(self.addresses).encode()
        )

    def library(self, peer: str, *more: object, guard: bool = True) -> Took:
        """A peer of bench/ssh/peers.py, with what it is to do."""
        python = (
            self.venv / "bin/python" if peer.startswith("asyncssh") else sys.executable
        )  # ours and Fabric are in one
        return self.run(
            [python, ROOT / "bench/ssh/peers.py", peer, *more],
            stdin=self.job(guard=guard),
            PYTHONPATH=str(ROOT) if peer.startswith("ours") else "",
        )
