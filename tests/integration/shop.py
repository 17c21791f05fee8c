"""A small fleet under a real bbctl: hosts with a real sshd and a home each, the stand-in behind an init script, an inventory.

What was done to a host is read from what its init script, its stand-in and its heartbeat file say, not from bbctl.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.jboss import STAND_IN, Jboss
from tests.integration.sshd import Farm, processes, wait_for

BBCTL = Path(sys.executable).with_name("bbctl")
INIT = """#!/bin/sh
# init.sh start|stop: notes its call; misbehaves as the flags say.
cd {folder} || exit 1
printf '%s %s\\n' "$(cut -d' ' -f1 /proc/uptime)" "$1" >> events
case $1 in
start)
  [ ! -e flags/start-fails ] || {{ echo 'cannot start' >&2; exit 5; }}
  while [ -e flags/start-waits ]; do sleep 0.1; done
  set --
  [ ! -e flags/wrapped ] || set -- sh -c 'trap "" TERM; shift 2; "$@"; exit $?' org.jboss.Main -c {instance}
  "$@" {python} {stand_in} {folder} {address} {port} org.jboss.Main -c {instance} >> console.log 2>&1 &
  echo $! > pid;;
stop)
  [ ! -e flags/stop-fails ] || {{ echo 'cannot stop' >&2; exit 6; }}
  kill -TERM "$(cat pid)"
  while [ -e flags/stop-blocks ] && kill -0 "$(cat pid)" 2>/dev/null; do sleep 0.1; done;;
esac
"""


@dataclass
class Member(Jboss):
    """One host of the shop. Its process is found by its command line, whoever started it."""

    @property
    def home(self) -> Path:
        """Of whoever logs in to this host."""
        return self.folder.with_name(f"user-{self.folder.name}")

    @property
    def script(self) -> Path:
        return self.folder / "init.sh"

    @property
    def heartbeat(self) -> Path:
        return self.folder / "heartbeat.txt"

    @property
    def pid(self) -> int | None:
        found = [p for p in processes(f"-c {self.instance}") if str(STAND_IN) in _command(p)]
        return found[0] if len(found) == 1 else None

    @property
    def calls(self) -> list[str]:
        """What its init script was called with, in order."""
        path = self.folder / "events"
        return [line.split()[1] for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def starts(self) -> int:
        return self.log.read_text().count("Started in") if self.log.exists() else 0

    def write_script(self) -> None:
        text = INIT.format(
            folder=self.folder, python=sys.executable, stand_in=STAND_IN, address=self.host.address, port=self.port,
            instance=self.instance,
        )  # fmt: skip
        self.script.write_text(text)
        self.script.chmod(0o755)

    def up(self) -> int:
        before = self.starts
        subprocess.run([str(self.script), "start"], check=True)
        wait_for(lambda: self.starts > before, "the stand-in to start", 30)
        (self.folder / "events").unlink()
        return wait_for(lambda: self.pid, "its process")

    def break_lock(self) -> None:
        """The lock's record is gone, as `bbctl unlock` would remove it: between two steps that change it."""
        folder = self.home / ".bbctl"
        if (folder / "lock.flock").exists():
            with (folder / "lock.flock").open() as held:
                fcntl.flock(held, fcntl.LOCK_EX)
                (folder / "lock").unlink(missing_ok=True)

    def down(self) -> None:
        for pid in processes(f"-c {self.instance}"):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)


@dataclass
class Shop:
    folder: Path
    farm: Farm
    members: list[Member]
    changes: dict[str, Any] = field(default_factory=dict)
    drain: dict[str, Any] = field(default_factory=dict)
    least: int = 0
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [m.host.name for m in self.members]

    def write(self) -> None:
        """The inventory as it stands."""
        service = {
            "start": ["{dir}/init.sh", "start"], "stop": ["{dir}/init.sh", "stop"],
            "process": {"match": r"org\.jboss\.Main -c {instance}", "user": getpass.getuser()},
            "log": "{dir}/server.log", "started": "Started in", "stopped": "JBoss .*stopped",
            "hang": {"after": "stopp?ing hornetq", "within": "1s"}, "stop_timeout": "20s", "start_timeout": "30s",
            "health": {
                "url": "http://{address}:{web}/health", "expect": '"status": *"OK"',
                "times": 2, "interval": "100ms", "timeout": "10s",
            },
            "thread_dump": "sigquit", **self.changes,
        }  # fmt: skip
        hosts = {
            m.host.name: {
                "address": m.host.address,
                "vars": {"dir": str(m.folder), "instance": m.instance, "web": str(m.port)},
            }
            for m in self.members
        }
        drain = {"kind": "file", "path": "{dir}/heartbeat.txt", "settle": "200ms", **self.drain}
        data = {
            "site": "test",
            "ssh": {
                "user": getpass.getuser(), "port": str(self.farm.port), "connect_timeout": "20s",
                "identity_file": str(self.farm.key), "known_hosts": str(self.farm.known_hosts),
            },
            "groups": {"all": {"hosts": ",".join(self.names), "services": ["jboss"], "vip": "v"}},
            "hosts": hosts, "services": {"jboss": service},
            "vips": {"v": {"drain": drain, "min_in_service": str(self.least)}},
        }  # fmt: skip
        path = self.folder / "inventory.yml"
        path.write_text(json.dumps(data, indent=1))
        path.chmod(0o600)

    def impatient(self, key: str, **limits: str) -> None:
        """Until the next `write`: a part of the service has less time, where a test waits for the time to be over."""
        path = self.folder / "inventory.yml"
        data = json.loads(path.read_text())
        data["services"]["jboss"][key].update(limits)
        path.write_text(json.dumps(data))

    def home(self, name: str = "home") -> Path:
        return self.folder / name

    def environ(self, home: str = "home", **more: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"], "HOME": str(self.folder), "LANG": "C.UTF-8", "BBCTL_HOME": str(self.home(home)),
            "BBCTL_INVENTORY": str(self.folder / "inventory.yml"), "BBCTL_OPERATOR": "ann", **more,
        }  # fmt: skip

    def popen(self, *words: str, home: str = "home") -> subprocess.Popen[bytes]:
        made = subprocess.Popen(
            [str(BBCTL), *words], env=self.environ(home), cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self.running.append(made)
        return made

    def bbctl(self, *words: str, home: str = "home", timeout: float = 60) -> Said:
        return finish(self.popen(*words, home=home), timeout)

    def change(self, *words: str, home: str = "home") -> Said:
        """A command that changes something, confirmed, its record as JSON."""
        return self.bbctl(*words, "--yes", "--reason", "test", "-o", "json", home=home)

    def runs(self, home: str = "home") -> list[Path]:
        return sorted((self.home(home) / "runs").glob("r-*"), key=lambda p: p.stat().st_mtime)

    def events(self, home: str = "home") -> list[dict[str, Any]]:
        """The journal of the newest run, as far as it is whole."""
        found = self.runs(home)
        if not found or not (found[-1] / "journal.jsonl").exists():
            return []
        lines = (found[-1] / "journal.jsonl").read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        for made in self.running:
            if made.poll() is None:
                made.kill()
            made.wait(30)
            for stream in (made.stdout, made.stderr):
                if stream:
                    stream.close()
        for member in self.members:
            member.down()


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def record(self) -> dict[str, Any]:
        value = json.loads(self.out)
        assert isinstance(value, dict), self.out
        return value

    @property
    def outcomes(self) -> dict[str, str]:
        return {h["host"].split(".")[0]: h["outcome"] for h in self.record["hosts"]}

    def steps(self, host: str = "h1") -> dict[str, str]:
        row = next(h for h in self.record["hosts"] if h["host"].startswith(host))
        return {s["step"]: s["outcome"] for s in row["steps"]}


def finish(proc: subprocess.Popen[bytes], timeout: float = 60) -> Said:
    out, err = proc.communicate(timeout=timeout)
    said = Said(proc.returncode, out.decode(), err.decode())
    assert "Traceback" not in said.out + said.err, said
    return said


@contextmanager
def shop(folder: Path, count: int = 1, *, door: str = "") -> Iterator[Shop]:
    """Hosts h1…, each with its sshd address, its home, its running stand-in, in the VIP. `door`: shell text that sshd runs
    in place of every command that it is given."""
    names = [f"h{n}.snc1" for n in range(1, count + 1)]
    net = 100 + os.getpid() % 100
    force = f"\nForceCommand /bin/sh {folder}/door.sh" if door else ""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "door.sh").write_text(door)
    matches = [
        f"Match LocalAddress 127.0.{net}.{n}\nSetEnv HOME={folder}/user-{name}{force}"
        for n, name in enumerate(names, 1)
    ]
    farm = Farm(
        folder / "ssh", tuple(names), net=net, settings="\n".join(["MaxStartups 200", "MaxSessions 20", *matches])
    )
    members = [Member(farm.host(name), folder / name) for name in names]
    for member in members:
        member.home.mkdir()
    made = Shop(folder, farm, members)
    try:
        made.write()
        threads = [threading.Thread(target=lambda m=m: (m.write_script(), m.up())) for m in members]  # type: ignore[misc]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        yield made
    finally:
        made.close()
        farm.close()


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def kill_at(
    proc: subprocess.Popen[bytes],
    made: Shop,
    step: str,
    number: int = signal.SIGKILL,
    *,
    home: str,
    host: str = "h1.snc1",
) -> bool:
    """Signal bbctl as soon as its journal says that it is about to do `step`. False if the run ended before."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if any((e["event"], e.get("step"), e.get("host")) == ("intent", step, host) for e in made.events(home)):
            os.killpg(proc.pid, number)
            return True
        if proc.poll() is not None:
            return False
        time.sleep(0.01)
    raise AssertionError(f"the run never came to {step}")
