"""Process 1 of a pid namespace: finds a process, lets it end, gives its pid to a look-alike, then signals what was found.

pid_reuse.py ROUNDS → {"reused": rounds in which the pid was the same, "hit": look-alikes that were ended, "said": […]}
"""

import json
import os
import subprocess
import sys
from getpass import getuser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from bbctl.remote import process

LAST = Path("/proc/sys/kernel/ns_last_pid")
SLEEP = [sys.executable, "-c", "print(flush=True)\nimport time\ntime.sleep(60)", "org.jboss.Main -c accounting"]


def start(pid: int) -> "subprocess.Popen[bytes]":
    LAST.write_text(str(pid - 1))
    proc = subprocess.Popen(SLEEP, stdout=subprocess.PIPE)
    assert proc.stdout is not None
    proc.stdout.read(1)
    return proc


def main() -> None:
    reused, hit, said = 0, 0, []
    for number in range(int(sys.argv[1])):
        pid = 20_000 + number
        first = start(pid)
        listed = subprocess.run(["/bin/sh", "-c", process.listing([getuser()])], stdout=subprocess.PIPE, check=False)
        found = next(p for p in process.understand(listed.stdout).procs if p.pid == first.pid)
        first.kill()
        first.communicate()
        second = start(pid)
        reused += second.pid == first.pid
        ran = subprocess.run(["/bin/sh", "-c", process.signal(found, "KILL")], stdout=subprocess.PIPE, check=False)
        said.append(process.understand_signal(ran.stdout).outcome)
        hit += second.poll() is not None
        second.kill()
        second.communicate()
    print(json.dumps({"reused": reused, "hit": hit, "said": said}))
    sys.stdout.flush()
    os._exit(0)


main()
