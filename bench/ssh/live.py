"""What goes on over connections that stand: one more command, and logs that are followed."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from pathlib import Path

from bench.ssh.ground import BBCTL, Ground, Took

RATE, SECONDS = 2000, 8  # lines a second in the log that is followed, and for how long it is written
BEFORE, AFTER = 2, 3  # seconds in which everybody logs in, and in which the last lines arrive
LINE = re.compile(rb"(?:^|[ :])(\d{7}) y{56}$")


def one_warm(ground: Ground, only: str) -> None:
    """The median of one command more on one host that is logged in to, in ms."""
    print(f"\n1 host, one command more over a login that stands\n{'':28}{'ms':>8}{'×':>16}")
    ours = 0.0
    for name, peer in {"bbctl": "ours", "Fabric as shipped": "fabric", "asyncssh, tuned": "asyncssh"}.items():
        if peer == "ours" or re.search(only, name):
            took = ground.library(peer, "one")
            spent = float(took.said.split()[-1]) if took.good else 0.0
            ours = ours or spent
            print(f"{name:28}{spent:8.1f}{spent / ours:16.2f}{'' if took.good else '   FAILED'}", flush=True)


def tails(ground: Ground, only: str) -> None:
    """A log followed on all hosts: CPU a line, and whether all lines came whole."""
    count = len(ground.names)
    print(
        f"\n{count} hosts, a log of {RATE} lines/s followed on each\n{'':28}{'CPU µs a line':>16}{'×':>8}{'lost':>8}{'mixed':>8}"
    )
    ours = 0.0
    for name in ("bbctl logs -f", "clush", "Fabric run"):
        if name.startswith("bbctl") or re.search(only, name):
            log = ground.farm.folder / "followed.log"  # for all users to read
            log.write_bytes(b"")
            log.chmod(0o644)
            writer = threading.Thread(target=_write, args=(log,))
            writer.start()
            took = _follow(ground, name, log)
            writer.join()
            seen, mixed = _came(took.said)
            lost = sum(max(0, count - seen[number]) for number in range(RATE * SECONDS))
            spent = took.cpu / (count * RATE * SECONDS) * 1e6
            ours = ours or spent
            print(f"{name:28}{spent:16.1f}{spent / ours:8.2f}{lost:8}{mixed:8}", flush=True)


def _follow(ground: Ground, name: str, log: Path) -> Took:
    seconds = BEFORE + SECONDS + AFTER
    tail = f"timeout {seconds} tail -n +1 -F {log} 2>/dev/null; true"
    if name == "clush":
        where = ["-w", ",".join(ground.addresses), "-o", " ".join(ground.ssh)]
        return ground.run([ground.venv / "bin/clush", "-f", 64, *where, tail])
    if name == "Fabric run":
        return ground.library("fabric", "tail", tail)
    what = ["*", "-f", "-n", RATE * SECONDS, "--for", f"{seconds}s", "--path", log]
    return ground.run([BBCTL, "-i", "inventory.yml", "logs", *what])


def _write(log: Path) -> None:
    """The lines, a few every hundredth of a second, each with its number."""
    time.sleep(BEFORE)
    began, few = time.monotonic(), RATE // 100
    with log.open("ab", buffering=0) as file:
        for number in range(0, RATE * SECONDS, few):
            file.write(b"".join(b"%07d %s\n" % (n, b"y" * 56) for n in range(number, number + few)))
            time.sleep(max(0.0, began + (number + few) / RATE - time.monotonic()))


def _came(said: bytes) -> tuple[Counter[int], int]:
    """How often each line came whole, and how many lines are none of them."""
    found = [LINE.search(line) for line in said.splitlines()]
    return Counter(int(one[1]) for one in found if one), sum(1 for one in found if not one)
