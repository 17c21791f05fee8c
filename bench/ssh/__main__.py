"""`python -m bench.ssh [--hosts 10,50,200] [--only REGEX] [--parts cold,tail]`: walls, client CPU, and how many times ours they are.

Hosts are real sshd on loopback addresses, logged in to as a user with bash and the system's own start-up files, as people's
accounts have (made and removed again when root). Peers live in a virtualenv of their own, made when missing.
"""

from __future__ import annotations

import argparse
import os
import pwd
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.ssh import live
from bench.ssh.ground import BBCTL, ROOT, WARM_ROUNDS, Ground, Took
from tests.integration.sshd import Farm

USER = "bbctl-bench"
WARM_HOSTS = 20
PARTS = ("start", "cold", "warm", "one", "tail")


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
    """A new user with bash to log in as; without root whoever runs this."""
    if os.geteuid():
        yield pwd.getpwuid(os.geteuid()).pw_name
        return
    gone = ["userdel", "-r", USER]
    subprocess.run(gone, stderr=subprocess.DEVNULL, check=False)  # one that was killed left it
    subprocess.run(["useradd", "-m", "-s", "/bin/bash", "-p", "*", USER], check=True)
    try:
        yield USER
    finally:
        subprocess.run(gone, stderr=subprocess.DEVNULL, check=False)


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
    words.add_argument("--parts", default=",".join(PARTS), help="which of the tables, a list")
    words.add_argument("--venv", type=Path, default=ROOT / "build/bench-ssh", help="where the peers are installed")
    said = words.parse_args()
    counts, parts = [int(n) for n in said.hosts.split(",")], said.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        words.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    venv = peers_venv(said.venv)
    with login() as user, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        Path(folder).chmod(0o755)
        names = tuple(f"h{n}" for n in range(1, max([*counts, WARM_HOSTS]) + 1))
        farm = Farm(Path(folder) / "farm", names, net=44, settings="MaxStartups 400\nMaxSessions 20")
        try:
            if "start" in parts:
                start_up(Ground(farm, venv, user, 3))
            for count in counts if "cold" in parts else []:
                compare(f"{count} hosts, one `uptime` each", Ground(farm, venv, user, count), cold, COLD, said.only)
            few = Ground(farm, venv, user, WARM_HOSTS)
            if "warm" in parts:
                title = f"{WARM_HOSTS} hosts, {WARM_ROUNDS} commands each over one login"
                compare(title, few, warm, WARM, said.only)
            if "one" in parts:
                live.one_warm(Ground(farm, venv, user, 1), said.only)
            if "tail" in parts:
                live.tails(few, said.only)
        finally:
            farm.close()


if __name__ == "__main__":
    main()
