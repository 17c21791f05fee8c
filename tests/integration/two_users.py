"""A host whose login user is not the service's user, and only sudo leads from one to the other: a real sshd, a real sudo.

Needs root. sshd runs in a mount namespace with a passwd, shadow, group and sudoers of its own: of this machine nothing is
changed, and nothing is left when it ends.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.integration.shop import BBCTL, Said, finish
from tests.integration.sshd import Farm, processes, wait_for

USERS = {"ops": 61001, "jb": 61002, "locked": 61003}
INSIDE = """
for f in passwd shadow group sudoers; do mount --bind "$0/$f" "/etc/$f" || exit; done
mount -t tmpfs -o size=3m,mode=1777 none "${0%/*}/small" && exec "$@"
"""
INIT = """#!/bin/sh
# init.sh start|stop: notes who called it.
cd {folder} || exit 1
printf '%s %s\\n' "$1" "$(id -un)" >> events
case $1 in
start)
  env --default-signal=QUIT sh {folder}/service.sh org.jboss.Main -c {instance} >> console.log 2>&1 &
  echo $! > pid;;
stop)
  kill -TERM "$(cat pid)"
  while [ -e hang ]; do sleep 0.1; done;;
esac
"""
SERVICE = """#!/bin/sh
cd {folder} || exit 1
log() {{ printf '%s INFO %s\\n' "$(date '+%Y-%m-%d %H:%M:%S,%N')" "$*" >> server.log; }}
asked=
trap 'asked=1' TERM
trap 'printf "\\nFull thread dump of a stand-in:\\n\\nJNI global references: 1\\n\\n" >> server.log' QUIT
log JBoss Started in 1s
while [ -z "$asked" ]; do sleep 0.1; done
log Stopping HornetQ
while [ -e hang ]; do sleep 0.1; done
log JBoss stopped in 1s
"""


def can_be_made() -> str | None:
    """Why there can be no such host here, None where there can."""
    if os.geteuid() != 0:
        return "needs root: users and a sudoers of its own"
    if shutil.which("sudo") is None:
        return "sudo is not installed"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        return "needs a mount namespace"
    return None


@dataclass
class TwoUsers:
    """`ops` logs in, `jb` runs the service in `service`; `locked` may not log in. `small` is a file system of 3 MiB."""

    folder: Path
    farm: Farm
    instance: str = field(default_factory=lambda: "accounting-" + uuid.uuid4().hex[:8])

    @property
    def service(self) -> Path:
        return self.folder / "jb"

    @property
    def heartbeat(self) -> Path:
        return self.folder / "ops/heartbeat.txt"

    @property
    def init(self) -> str:
        return f"{self.service}/init.sh"

    @property
    def calls(self) -> list[str]:
        """What the init script was called with and as whom, in order."""
        path = self.service / "events"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def pid(self) -> int | None:
        """The oldest process that bears the words; a shell's own children bear them too for a moment."""
        return min(processes(f"service.sh org.jboss.Main -c {self.instance}"), default=None)

    @property
    def exact(self) -> list[str]:
        """The rules that a restart needs, and no more."""
        return [f"ops ALL=(jb) NOPASSWD: {self.init} start, {self.init} stop, /bin/kill"]

    def sudoers(self, *lines: str) -> None:
        """Written into the file that is mounted, not beside it."""
        (self.folder / "etc/sudoers").write_text("".join(f"{line}\n" for line in ("root ALL=(ALL) ALL", *lines)))

    @property
    def small(self) -> Path:
        return self.folder / "small"

    def ssh(self, line: str) -> tuple[str, ...]:
        """The words that run a line of shell on the host, without bbctl."""
        options = ("-F", "none", "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={self.farm.known_hosts}")
        where = ("-i", str(self.farm.key), "-p", str(self.farm.port), f"ops@{self.farm.addresses['h1']}")
        return ("ssh", *options, *where, line)

    def running(self) -> None:
        """With exactly the rights that a restart needs, in its VIP, up, and nothing called yet."""
        self.sudoers(*self.exact)
        self.heartbeat.touch()
        os.chown(self.heartbeat, 61001, 61001)
        if self.pid is None:
            said = self.change("start", "h1")
            assert said.outcomes == {"h1": "started"}, said
        (self.service / "events").unlink(missing_ok=True)

    def write(self, drain: dict[str, Any] | None = None, *, lock: str | None = None, **changes: Any) -> None:
        """Its scripts and the inventory; `drain`: how it leaves its VIP, where not by the heartbeat file; `lock`: where
        its lock is; `changes` of the service."""
        drain = drain or {"kind": "file", "path": str(self.heartbeat), "settle": "100ms"}
        for name, text in (("init.sh", INIT), ("service.sh", SERVICE)):
            path = self.service / name
            path.write_text(text.format(folder=self.service, instance=self.instance))
            path.chmod(0o755)
        service = {
            "start": [self.init, "start"], "stop": [self.init, "stop"], "run_as": "jb",
            "process": {"match": rf"org\.jboss\.Main -c {self.instance}", "user": "jb"},
            "log": f"{self.service}/server.log", "started": "Started in", "stopped": "JBoss .*stopped",
            "hang": {"after": "stopp?ing hornetq", "within": "500ms"}, "stop_timeout": "8s", "start_timeout": "20s",
            "thread_dump": "sigquit", **changes,
        }  # fmt: skip
        ssh = {
            "user": "ops", "port": str(self.farm.port), "identity_file": str(self.farm.key),
            "known_hosts": str(self.farm.known_hosts), "connect_timeout": "20s",
        }  # fmt: skip
        data: dict[str, Any] = {
            "site": "test", "ssh": ssh, "groups": {"all": {"hosts": "h1", "services": ["jboss"], "vip": "v"}},
            "hosts": {"h1": {"address": self.farm.addresses["h1"]}}, "services": {"jboss": service},
            "vips": {"v": {"drain": drain}},
        }  # fmt: skip
        if lock:
            data["lock"] = {"path": lock}
        inventory = self.folder / "inventory.yml"
        inventory.write_text(json.dumps(data, indent=1))
        inventory.chmod(0o600)

    def bbctl(self, *words: str) -> Said:
        env = {
            "PATH": os.environ["PATH"], "HOME": str(self.folder), "BBCTL_HOME": str(self.folder / "home"),
            "BBCTL_INVENTORY": str(self.folder / "inventory.yml"), "BBCTL_OPERATOR": "ann",
        }  # fmt: skip
        pipe: Any = subprocess.PIPE
        ran = subprocess.Popen(
            [BBCTL, *words, "-o", "json"], env=env, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
        return finish(ran)

    def change(self, *words: str) -> Said:
        return self.bbctl(*words, "--yes", "--reason", "test")

    def close(self) -> None:
        (self.service / "hang").unlink(missing_ok=True)
        for pid in processes(f"-c {self.instance}"):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: self.pid is None, "its process to end")


def _etc(folder: Path) -> None:
    """Copies of this machine's, and our users."""
    folder.mkdir()
    more = {
        "passwd": "{name}:x:{uid}:{uid}::{home}:/bin/sh\n",
        "shadow": "{name}:{lock}:19000:0:99999:7:::\n",
        "group": "{name}:x:{uid}:\n",
    }
    for name, line in more.items():
        rows = "".join(
            line.format(name=user, uid=uid, home=folder.parent / user, lock="!" if user == "locked" else "*")
            for user, uid in USERS.items()
        )
        path = folder / name
        path.write_text(Path("/etc", name).read_text() + rows)
        path.chmod(0o640 if name == "shadow" else 0o644)
    (folder / "sudoers").write_text("root ALL=(ALL) ALL\n")
    (folder / "sudoers").chmod(0o440)


@contextmanager
def two_users(net: int) -> Iterator[TwoUsers]:
    if why := can_be_made():
        pytest.skip(why)
    folder = Path(tempfile.mkdtemp(prefix="bbctl-two-users-"))
    folder.chmod(0o755)  # other users read their keys and scripts in it
    _etc(folder / "etc")
    for user, uid in USERS.items():
        (folder / user).mkdir()
        os.chown(folder / user, uid, uid)
    (folder / "small").mkdir()
    inside = ("unshare", "--mount", "sh", "-c", INSIDE, str(folder / "etc"))
    settings = "MaxStartups 200\nSetEnv LANG=C.UTF-8"  # each user has a home of its own
    farm = Farm(folder / "ssh", ("h1",), net=net, inside=inside, settings=settings)
    made = TwoUsers(folder, farm)
    try:
        made.write()
        yield made
    finally:
        made.close()
        farm.close()
        shutil.rmtree(folder, ignore_errors=True)
