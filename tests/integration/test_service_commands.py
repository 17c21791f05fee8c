"""A service's own commands: the text for the host's shell, run here by a real shell in a home of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bbctl.model import Lock, Proc
from bbctl.remote import service
from bbctl.remote.service import Command
from tests.integration.sshd import processes, wait_for

LOCK = Lock()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for pid in processes(str(tmp_path)):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def shell(home: Path, text: str) -> bytes:
    environ = {"HOME": str(home), "PATH": os.environ["PATH"]}
    return subprocess.run(["/bin/sh", "-c", text], env=environ, capture_output=True, check=False).stdout


def launch(home: Path, *argv: str, run: str = "r-1", run_as: str | None = None) -> bytes:
    return shell(home, service.launch(LOCK, "jboss.start", argv, launch=run, run_as=run_as))


def poll(home: Path, run: str = "r-1") -> Command:
    return service.understand(shell(home, service.poll(LOCK, "jboss.start", launch=run)))


def ended(home: Path) -> Command:
    return wait_for(lambda: c if (c := poll(home)).state != "running" else None, "the command to end")


def test_words_arrive_as_they_are_and_the_exit_is_kept(home: Path) -> None:
    word = "a b; $(touch canary) 'c' \"d\" \\ * 100 %s \\n é€"
    assert launch(home, "/bin/sh", "-c", 'printf "%s\n" "$1"; exit 5', "sh", word).startswith(b"launched")
    done = ended(home)
    assert (done.state, done.exit, done.failed, done.last_line) == ("exit", 5, True, word)
    assert not list(home.rglob("canary"))


def test_what_a_command_makes_may_be_read_by_others_as_after_any_init_script(home: Path) -> None:
    launch(home, "/bin/sh", "-c", f"echo up > {home}/server.log")
    assert ended(home).exit == 0
    assert (home / "server.log").stat().st_mode & 0o777 == 0o644


def test_a_script_whose_child_keeps_its_output_open_is_not_waited_for_and_its_child_lives(home: Path) -> None:
    code = f"import time  # {home}\ntime.sleep(60)"
    launch(home, "/bin/sh", "-c", f"python3 -c '{code}' & echo started")
    done = ended(home)
    assert (done.state, done.exit, done.failed) == ("exit", 0, False)
    child = wait_for(lambda: [p for p in processes(str(home)) if b"time.sleep" in cmdline(p)], "the child")
    assert os.getsid(child[0]) != os.getsid(0), "it would end with our session"


def test_a_stop_command_that_searches_command_lines_does_not_find_its_own_launcher(home: Path) -> None:
    code = f"import time; time.sleep(60)  # the service of {home}"
    service_ = subprocess.Popen([sys.executable, "-c", code])
    try:
        assert launch(home, "pkill", "-f", f"the service of {home}").startswith(b"launched")
        assert (ended(home).exit, service_.wait(30)) == (0, -signal.SIGTERM)
    finally:
        service_.kill()
        service_.wait()


def test_what_another_run_launched_is_none_of_ours(home: Path) -> None:
    launch(home, "/bin/true", run="r-0")
    assert poll(home, "r-1").state == "none"
    assert not poll(home, "r-1").failed


def test_the_end_of_an_earlier_launch_of_the_same_run_is_not_taken_for_that_of_a_later_one(home: Path) -> None:
    launch(home, "/bin/sh", "-c", "exit 5", run="r-1.aa")
    wait_for(lambda: poll(home, "r-1.aa").exit == 5, "its end")
    assert poll(home, "r-1.bb").state == "none", "a launch that never arrived"
    launch(home, "/bin/sh", "-c", f"while [ ! -e {home}/go ]; do sleep 0.1; done", run="r-1.bb")
    assert poll(home, "r-1.bb").state == "running", "the end of the earlier one"
    (home / "go").touch()
    wait_for(lambda: poll(home, "r-1.bb").exit == 0, "the end of the later one")
    assert poll(home, "r-1.aa").state == "none"


def test_a_command_of_a_run_that_lost_the_host_does_not_end_that_of_the_next(home: Path) -> None:
    launch(home, "/bin/sh", "-c", f"while [ ! -e {home}/go ]; do sleep 0.1; done; exit 9")
    launch(home, "/bin/sh", "-c", "sleep 60", run="r-2")
    first = [p for p in processes(str(home)) if cmdline(p).endswith(b"r-1\0")]
    assert first
    (home / "go").touch()
    wait_for(lambda: not set(first) & set(processes(str(home))), "the first one's wrapper to end")
    assert (poll(home, "r-2").state, poll(home).state) == ("running", "none")


def test_a_command_killed_from_outside_is_lost_and_so_failed(home: Path) -> None:
    launch(home, "/bin/sh", "-c", f"sleep 60 # {home}")
    pid = int((home / ".bbctl/commands/jboss.start.pid").read_text().split()[1])
    os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: c if (c := poll(home)).state != "running" else None, "its end").failed


def test_a_command_whose_pid_another_process_has_by_now_is_lost(home: Path) -> None:
    launch(home, "/bin/sh", "-c", f"sleep 60 # {home}")
    (home / ".bbctl/commands/jboss.start.pid").write_text(f"r-1 {os.getpid()} 1\n")
    assert poll(home).state == "lost"


NAP = """import subprocess, sys, time
if sys.argv[1] == "spare":
    subprocess.Popen([sys.executable, __file__, "child"])
time.sleep(60)
"""


def test_ending_a_stop_command_spares_the_service_and_what_it_started(home: Path) -> None:
    (home / "nap.py").write_text(NAP)
    launch(home, "/bin/sh", "-c", f"python3 {home}/nap.py spare & python3 {home}/nap.py own & wait")
    spare, child, _ = (wait_for(lambda w=w: find(home, w), w) for w in (b"\0spare", b"\0child", b"\0own"))  # type: ignore[misc]
    proc = Proc(pid=spare, ticks=1, started=0.0, user="x", command="")
    shell(home, service.end(LOCK, "jboss.start", launch="r-1", spare=proc, run_as=None))
    assert wait_for(lambda: not find(home, b"\0own"), "the rest of its session to end")
    assert (find(home, b"\0spare"), find(home, b"\0child")) == (spare, child)
    assert poll(home).state == "lost"


def test_a_stop_command_that_outlives_its_service_is_ended(home: Path) -> None:
    (home / "nap.py").write_text(NAP)
    launch(home, "/bin/sh", "-c", f"trap '' TERM; python3 {home}/nap.py own & wait")
    wait_for(lambda: find(home, b"\0own"), "the command")
    shell(home, service.end(LOCK, "jboss.start", launch="r-1", spare=None, run_as=None))
    assert wait_for(lambda: not processes(str(home)), "its session to end")
    assert poll(home).state == "lost"


def test_a_run_ends_no_command_of_another_run(home: Path) -> None:
    launch(home, "/bin/sh", "-c", f"python3 -c 'import time  # {home}\ntime.sleep(60)  # own' & wait", run="r-0")
    wait_for(lambda: find(home, b"# own"), "the command")
    shell(home, service.end(LOCK, "jboss.start", launch="r-1", spare=None, run_as=None))
    assert find(home, b"# own")


def test_another_user_is_reached_by_sudo_that_never_asks() -> None:
    assert service.words(["/etc/init.d/x", "stop"], "jboss") == (
        "sudo",
        "-n",
        "-u",
        "jboss",
        "--",
        "/etc/init.d/x",
        "stop",
    )


def cmdline(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def find(home: Path, mark: bytes) -> int | None:
    found = [p for p in processes(str(home)) if mark in cmdline(p) and not cmdline(p).startswith(b"/bin/sh")]
    return found[0] if found else None
