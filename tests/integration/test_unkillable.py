"""A process that KILL does not end, and one whose first thread has ended before the others: neither is ever called gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bbctl import kill as killing
from bbctl.run.holding import Holding
from bbctl.ssh.transport import Transport
from tests.integration.dead_disk import MISSING, DeadDisk, dead_disk
from tests.integration.jboss import STAND_IN, site
from tests.integration.shop import Member, Shop, shop
from tests.integration.sshd import wait_for

HEADLESS = """
import ctypes, os, signal, sys, threading, time
threading.Thread(target=lambda: time.sleep(600)).start()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)  # exit, of this thread alone
"""


def states(pid: int) -> list[str]:
    """Of its threads."""
    return [one.read_text().rpartition(") ")[2][0] for one in Path(f"/proc/{pid}/task").glob("*/stat")]


@pytest.mark.skipif(os.uname().machine not in ("x86_64", "aarch64"), reason="knows the number of no exit here")
def test_a_service_whose_first_thread_has_ended_runs_as_long_as_another_does_and_kill_ends_it(tmp_path: Path) -> None:
    with site(tmp_path) as made, Transport(made.fleet) as transport:
        jboss = made.members[0]
        jboss.close()
        words = [sys.executable, "-c", HEADLESS, "org.jboss.Main", "-c", jboss.instance]
        headless = subprocess.Popen(words, start_new_session=True)
        try:
            wait_for(lambda: "Z" in states(headless.pid), "its first thread to end")
            assert headless.poll() is None
            named = killing.find(transport, jboss.host, service=None, pid=headless.pid)
            found = killing.find(transport, jboss.host, service="jboss", pid=None)
            assert [aim.proc and aim.proc.pid for aim in (named, found)] == [headless.pid] * 2
            fields = {"operator": "ann", "machine": "ops1", "run": "k-1", "reason": ""}
            holding = Holding(transport, token="t", fields=fields)
            reaper = threading.Thread(target=headless.wait)
            reaper.start()
            done = killing.carry_out(
                transport, found, signal="KILL", holding=holding, folder=tmp_path / "e", evidence=False
            )
            reaper.join(30)
            assert (done.outcome, headless.returncode) == ("ended", -signal.SIGKILL)
        finally:
            headless.kill()
            headless.wait(30)


# -- a dead disk ---------------------------------------------------------------------------------------------------


def disk_tests(test: Any) -> Any:
    return pytest.mark.faults(pytest.mark.root(pytest.mark.skipif(MISSING is not None, reason=str(MISSING))(test)))


@contextmanager
def stuck(thread: str, folder: Path) -> Iterator[tuple[Shop, Member, DeadDisk, int]]:
    """A shop of one host whose service reads from a dead disk, in its first thread or in another."""
    with shop(folder) as made, dead_disk() as disk:
        made.changes = {"stop_timeout": "2s", "thread_dump": "none"}
        made.write()
        member = made.members[0]
        member.down()
        wait_for(lambda: member.pid is None, "its process to end")
        before = member.starts
        words = [str(member.folder), member.host.address, str(member.port), "org.jboss.Main", "-c", member.instance]
        victim = disk.run(thread, STAND_IN, *words, log=member.folder / "console.log")
        reaper = threading.Thread(target=victim.wait)  # as init would: a zombie is another story
        reaper.start()
        try:
            wait_for(lambda: member.starts > before, "the stand-in to start")
            (member.folder / "pid").write_text(f"{victim.pid}\n")
            os.kill(victim.pid, signal.SIGUSR1)
            disk.asked()
            yield made, member, disk, victim.pid
        finally:
            victim.kill()
            disk.answers()
            reaper.join(30)


@disk_tests
@pytest.mark.parametrize("thread", ["first", "another"])
def test_kill_says_that_a_process_in_state_d_outlived_it_and_how_to_see_what_it_waits_for(
    thread: str, tmp_path: Path
) -> None:
    with stuck(thread, tmp_path) as (made, _, disk, pid):
        for words in (["--service", "jboss"], ["--pid", str(pid), "-9"]):
            said = made.bbctl("kill", "h1", *words, "--no-evidence", "--yes", "-o", "json")
            (row,) = json.loads(said.out)
            assert (said.code, row["outcome"], row["pid"]) == (1, "alive", pid), said
            for word in (
                f"{row['signal']} was sent",
                "still there",
                f"process {pid}",
                "(state D",
                "nor does KILL",
            ):
                assert word in row["error"], row
            assert "D" in states(pid)
        text = made.bbctl("kill", "h1", "--service", "jboss", "-9", "--no-evidence", "--yes")
        look = text.err.partition("next")[2].split()
        assert look[:3] == ["bbctl", "exec", "h1"]
        assert look[-2:] == ["-p", str(pid)]
        shown = made.bbctl(*look[1:])
        assert any(line.split()[-3:-2] == ["D"] for line in shown.out.splitlines()), shown
        disk.answers()
        wait_for(lambda: not Path(f"/proc/{pid}").exists(), "it to end")
        gone = made.bbctl("kill", "h1", "--service", "jboss", "--yes", "-o", "json")
        assert (gone.code, json.loads(gone.out)[0]["outcome"]) == (0, "gone")


@disk_tests
@pytest.mark.parametrize("thread", ["first", "another"])
def test_a_restart_stops_at_a_process_in_state_d_beside_which_nothing_is_started_and_resume_completes_it(
    thread: str, tmp_path: Path
) -> None:
    with stuck(thread, tmp_path) as (made, member, disk, pid):
        for words in (["restart", "h1"], ["runs", "resume"]):
            again = [made.runs()[-1].name] if words[0] == "runs" else []
            said = made.change(*words, *again)
            assert (said.code, said.outcomes, said.steps()["kill"]) == (1, {"h1": "failed"}, "failed"), said
            why = next(step["detail"] for step in said.record["hosts"][0]["steps"][::-1] if step["step"] == "kill")
            assert all(word in why for word in ("KILL was sent", f"process {pid}", "(state D")), why
            assert not member.heartbeat.exists(), "it is in its VIP"
            assert "start" not in member.calls, "a second one was started beside it"
            assert "D" in states(pid)
        run = said.record["run"]
        assert f"bbctl runs resume {run}" in made.bbctl("runs", "show", run).out
        disk.answers()
        wait_for(lambda: not Path(f"/proc/{pid}").exists(), "it to end")
        resumed = made.change("runs", "resume", run)
        assert (resumed.code, resumed.outcomes, member.calls.count("start")) == (0, {"h1": "restarted"}, 1), resumed
        assert member.heartbeat.exists()
