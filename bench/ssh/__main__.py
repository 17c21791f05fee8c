"""`python -m bench.ssh [--hosts 10,50,200] [--only REGEX]`: walls, client CPU, and how many times ours they are.

Hosts are real sshd on loopback addresses, logged in to as a user with a plain shell (made and removed again when root: a
login shell that reads much would drown the difference). Peers live in a virtualenv of their own, made when missing.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.sshd import Farm

ROOT = Path(__file__).resolve().parents[2]
BBCTL = Path(sys.executable).with_name("bbctl")
USER = "bbctl-bench"
WARM_HOSTS, WARM_ROUNDS = 20, 10


@dataclass(frozen=True)
class Took:
    wall: float
    cpu: float
    good: bool


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
        took = Took(time.perf_counter() - began, used.ru_utime + used.ru_stime, process.returncode == 0)
        if not took.good:
            log.seek(0)
            print(f"  {words[0]}: exit {process.returncode}: {log.read()[-300:]!r}", file=sys.stderr)
        log.close()
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

    def library(self, peer: str, rounds: int, *, guard: bool = True) -> Took:
        python = self.venv / "bin/python" if peer == "asyncssh" else sys.executable  # ours and Fabric are in one
        return self.run(
            [python, ROOT / "bench/ssh/peers.py", peer, rounds],
            stdin=self.job(guard=guard),
            PYTHONPATH=str(ROOT) if peer == "ours" else "",
        )


Contestant = Callable[[Ground], Took]

COLD: dict[str, Contestant] = {
    "ansible raw -f50": lambda g: g.ansible(["ansible", "all", "-m", "raw", "-a", "uptime"]),
    "ansible command -f50": lambda g: g.ansible(["ansible", "all", "-m", "command", "-a", "uptime"]),
    "mitogen raw": lambda g: g.ansible(["ansible", "all", "-m", "raw", "-a", "uptime"], mitogen=True),
    "mitogen command": lambda g: g.ansible(["ansible", "all", "-m", "command", "-a", "uptime"], mitogen=True),
    "clush -f64": lambda g: g.clush(),
    "xargs -P32 ssh": lambda g: g.xargs(),
    "pyinfra exec": lambda g: g.run([g.venv / "bin/pyinfra", "-y", "hosts.py", "exec", "--", "uptime"]),
    "Fabric ThreadingGroup": lambda g: g.library("fabric", 1),
    "asyncssh, tuned": lambda g: g.library("asyncssh", 1),
    "our library, no guard": lambda g: g.library("ours", 1, guard=False),
}  # fmt: skip
WARM: dict[str, Contestant] = {
    "ansible raw": lambda g: g.ansible(["ansible-playbook", "raw.yml"]),
    "ansible command": lambda g: g.ansible(["ansible-playbook", "command.yml"]),
    "mitogen command": lambda g: g.ansible(["ansible-playbook", "command.yml"], mitogen=True),
    "pyinfra": lambda g: g.run([g.venv / "bin/pyinfra", "-y", "hosts.py", "deploy.py"]),
    "Fabric ThreadingGroup": lambda g: g.library("fabric", WARM_ROUNDS),
    "asyncssh, tuned": lambda g: g.library("asyncssh", WARM_ROUNDS),
    "our library, no guard": lambda g: g.library("ours", WARM_ROUNDS, guard=False),
}


def cold(ground: Ground) -> Took:
    return ground.run([BBCTL, "-i", "inventory.yml", "exec", "*", "--", "uptime"])


def warm(ground: Ground) -> Took:
    return ground.library("ours", WARM_ROUNDS)


def compare(title: str, ground: Ground, ours: Contestant, peers: dict[str, Contestant], only: str) -> None:
    """Ours before, between and after its peers (the median counts), and each peer's wall and CPU in times of ours."""
    chosen = {name: peer for name, peer in peers.items() if re.search(only, name)}
    own, others = [ours(ground)], {}
    for n, (name, peer) in enumerate(chosen.items()):
        others[name] = peer(ground)
        if n % 3 == 2:
            own.append(ours(ground))
    own.append(ours(ground))
    wall, cpu = statistics.median(t.wall for t in own), statistics.median(t.cpu for t in own)
    print(f"\n{title}\n{'':28}{'wall s':>8}{'CPU s':>8}{'wall ×':>8}{'CPU ×':>8}")
    print(f"{'bbctl':28}{wall:8.2f}{cpu:8.2f}{'':>16}{'' if all(t.good for t in own) else '   FAILED'}")
    for name, took in others.items():
        failed = "" if took.good else "   FAILED"
        print(
            f"{name:28}{took.wall:8.2f}{took.cpu:8.2f}{took.wall / wall:8.2f}{took.cpu / cpu:8.2f}{failed}", flush=True
        )


def start_up(ground: Ground, times: int = 9) -> None:
    """The best of some starts, above a bare Python's."""
    calls: dict[str, list[object]] = {
        "bare Python": [sys.executable, "-c", "pass"],
        "bbctl --version": [BBCTL, "--version"],
        "bbctl --help": [BBCTL, "--help"],
        "bbctl hosts": [BBCTL, "-i", "inventory.yml", "hosts"],
        "a completion": [BBCTL, "__complete", "bash", "1", "bbctl", "ho"],
    }
    print("\nstart-up, ms" + " " * 19 + "wall   above bare Python")
    bare = 0.0
    for name, words in calls.items():
        best = min(ground.run(words).wall for _ in range(times)) * 1000
        bare = bare or best
        print(f"{name:28}{best:8.0f}{best - bare:8.0f}")


@contextmanager
def login() -> Iterator[str]:
    """A user with a plain shell to log in as; without root whoever runs this."""
    if os.geteuid():
        yield pwd.getpwuid(os.geteuid()).pw_name
        return
    subprocess.run(["useradd", "-m", "-s", "/bin/sh", "-p", "*", USER], check=True)
    try:
        yield USER
    finally:
        subprocess.run(["userdel", "-r", USER], stderr=subprocess.DEVNULL, check=False)


def peers_venv(path: Path) -> Path:
    if not (path / "bin/ansible").exists():
        subprocess.run([sys.executable, "-m", "venv", str(path)], check=True)
        subprocess.run(
            [str(path / "bin/pip"), "install", "-q", "-r", str(ROOT / "bench/requirements-ssh.txt")], check=True
        )
    return path


def main() -> None:
    words = argparse.ArgumentParser(prog="python -m bench.ssh", description=__doc__)
    words.add_argument("--hosts", default="10,50,200", help="how many hosts, a list")
    words.add_argument("--only", default="", help="peers whose names match this")
    words.add_argument("--venv", type=Path, default=ROOT / "build/bench-ssh", help="where the peers are installed")
    said = words.parse_args()
    counts = [int(n) for n in said.hosts.split(",")]
    venv = peers_venv(said.venv)
    with login() as user, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        Path(folder).chmod(0o755)
        names = tuple(f"h{n}" for n in range(1, max([*counts, WARM_HOSTS]) + 1))
        farm = Farm(Path(folder) / "farm", names, net=44, settings="MaxStartups 400\nMaxSessions 20")
        try:
            start_up(Ground(farm, venv, user, 3))
            for count in counts:
                compare(f"{count} hosts, one `uptime` each", Ground(farm, venv, user, count), cold, COLD, said.only)
            title = f"{WARM_HOSTS} hosts, {WARM_ROUNDS} commands each over one login"
            compare(title, Ground(farm, venv, user, WARM_HOSTS), warm, WARM, said.only)
        finally:
            farm.close()


if __name__ == "__main__":
    main()
