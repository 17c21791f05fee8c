"""Process 1 of a pid namespace: finds a process, lets it end, gives its pid to a look-alike, and signals what was found.

pid_reuse.py before|between ROUNDS: the pid changes hands before the step that signals, or in it, between proof and signal
→ {"reused": rounds in which the pid was the same, "hit": look-alikes that were ended, "said": {outcome: rounds}}
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from getpass import getuser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from bbctl.model import Proc
from bbctl.remote import process

LAST = Path("/proc/sys/kernel/ns_last_pid")
WAITS = ["/bin/sh", "-c", "echo; read line", "org.jboss.Main -c accounting"]
PIDS = range(20_000, 28_000)


def start(pid: int) -> "subprocess.Popen[bytes]":
    LAST.write_text(str(pid - 1))
    proc = subprocess.Popen(WAITS, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert proc.stdout is not None
    proc.stdout.read(1)
    return proc


def end(proc: "subprocess.Popen[bytes]") -> None:
    proc.kill()
    proc.communicate()


def shell(text: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["/bin/sh", "-c", text], stdout=subprocess.PIPE)


def found(pid: int) -> Proc:
    """The process, older than one tick: what began in the same hundredth of a second cannot be told from it by /proc."""
    listed, _ = shell(process.listing([getuser()])).communicate()
    proc = next(p for p in process.understand(listed).procs if p.pid == pid)
    while float(Path("/proc/uptime").read_text().split()[0]) * process.TICKS <= proc.ticks + 1:
        pass
    return proc


def main(place: str, rounds: int, folder: Path) -> None:
    reused, hit, said = 0, 0, Counter[str]()
    proven, go_on = folder / "proven", folder / "go-on"
    if place == "between":
        for fifo in (proven, go_on):
            os.mkfifo(fifo)
        process._CHECK += f"echo > {proven}; read -r line < {go_on}\n"
    for number in range(rounds):
        pid = PIDS[number % len(PIDS)]
        first = start(pid)
        who = found(pid)
        if place == "between":
            step = shell(process.signal(who, "KILL"))
            proven.read_text()
            end(first)
            second = start(pid)
            go_on.write_text("\n")
        else:
            end(first)
            second = start(pid)
            step = shell(process.signal(who, "KILL"))
        answer, _ = step.communicate()
        said[process.understand_signal(answer).outcome] += 1
        reused += second.pid == first.pid
        hit += second.poll() is not None
        end(second)
    print(json.dumps({"reused": reused, "hit": hit, "said": said}))


with tempfile.TemporaryDirectory() as scratch:
    main(sys.argv[1], int(sys.argv[2]), Path(scratch))
sys.stdout.flush()
os._exit(0)
