"""A file system of the host that is full: found before anything is touched, or told as it stands. A real tmpfs of 3 MiB."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.two_users import TwoUsers, two_users

pytestmark = pytest.mark.root
FILL = "head -c 9m /dev/zero > {small}/filler; true"  # as far as it goes


@pytest.fixture(scope="module")
def made() -> Iterator[TwoUsers]:
    with two_users(net=200 + os.getpid() % 40) as host:
        yield host


@pytest.fixture
def host(made: TwoUsers) -> TwoUsers:
    """Running and in its VIP, its small file system empty."""
    made.write()
    subprocess.run(made.ssh(f"rm -f {made.small}/filler"), check=True, capture_output=True)
    made.running()
    return made


@pytest.mark.parametrize("what", ["pid file", "lock"])
def test_a_full_disk_where_the_service_or_we_write_stops_a_restart_before_anything_is_touched(
    host: TwoUsers, what: str
) -> None:
    subprocess.run(host.ssh(f"echo {host.pid} > {host.small}/pid"), check=True, capture_output=True)
    process = {"match": rf"Main -c {host.instance}", "user": "jb", "pidfile": f"{host.small}/pid"}
    more: dict[str, Any] = {"process": process} if what == "pid file" else {"lock": f"{host.small}/lock/lock"}
    host.write(**more)
    subprocess.run(host.ssh(FILL.format(small=host.small)), check=True, capture_output=True)
    before = host.pid
    said = host.change("restart", "h1")
    assert (said.code, said.outcomes) == (1, {"h1": "failed"}), said
    cause = f"{host.small} has 0 KiB free" if what == "pid file" else "No space left on device"
    assert cause in said.out
    assert "drain" not in said.steps()
    assert (host.calls, host.pid, host.heartbeat.exists()) == ([], before, True)


def test_a_host_whose_disk_is_full_can_still_be_taken_out_of_service(host: TwoUsers) -> None:
    subprocess.run(host.ssh(f"echo {host.pid} > {host.small}/pid"), check=True, capture_output=True)
    host.write(process={"match": rf"Main -c {host.instance}", "user": "jb", "pidfile": f"{host.small}/pid"})
    subprocess.run(host.ssh(FILL.format(small=host.small)), check=True, capture_output=True)
    drained = host.change("drain", "h1")
    assert (drained.code, drained.outcomes, host.heartbeat.exists()) == (0, {"h1": "drained"}, False), drained
    assert f"{host.small} has 0 KiB free" in drained.out
    stopped = host.change("stop", "h1")
    assert (stopped.code, stopped.outcomes) == (0, {"h1": "stopped"}), stopped


def test_a_disk_that_fills_in_mid_run_stops_it_says_how_far_it_came_and_resume_completes_it_later(
    host: TwoUsers,
) -> None:
    """The lock's own disk, behind the preflight that found room on it: what cannot be proven to be ours is not done."""
    out = host.folder / "out"
    fill = shlex.join(host.ssh(FILL.format(small=host.small)))
    state = f"if [ -e {out} ]; then echo out; else echo in; fi"
    commands = {"out": ["sh", "-c", f"touch {out}; {fill}"], "in": ["rm", "-f", str(out)], "state": ["sh", "-c", state]}
    host.write({"kind": "command", "settle": "100ms", **commands}, lock=f"{host.small}/lock/lock")
    before = host.pid
    failed = host.change("restart", "h1")
    assert (failed.code, failed.outcomes) == (1, {"h1": "failed"}), failed
    assert (failed.steps()["preflight"], failed.steps()["drain"]) == ("ok", "ok")
    assert "No space left on device" in failed.out
    assert (host.calls, host.pid, failed.record["hosts"][0]["vip"]) == ([], before, "out")
    subprocess.run(host.ssh(f"rm -f {host.small}/filler"), check=True, capture_output=True)
    done = host.change("runs", "resume", failed.record["run"])
    assert (done.code, done.outcomes) == (0, {"h1": "restarted"}), done
    assert (host.calls, out.exists()) == (["stop jb", "start jb"], False)
