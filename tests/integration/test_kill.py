"""Signals reach the proven process and no other: wrong pids, reused pids, zombies, twins; evidence before force."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bbctl import kill as killing
from bbctl import threads
from bbctl.dumps import deadlocks
from bbctl.kill import Aim, Killed
from bbctl.model import Proc, Process
from bbctl.remote import process
from bbctl.run.holding import Holding
from bbctl.ssh.transport import Transport
from tests.integration.jboss import Jboss, Site, site
from tests.integration.sshd import wait_for

BBCTL = Path(sys.executable).with_name("bbctl")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bbctl.kill.REAPED", 0.2)


@pytest.fixture
def one(tmp_path: Path) -> Iterator[tuple[Site, Jboss, Transport]]:
    with site(tmp_path) as made, Transport(made.fleet) as transport:
        yield made, made.members[0], transport


def aim(transport: Transport, jboss: Jboss, *, pid: int | None = None) -> Aim:
    return killing.find(transport, jboss.host, service=None if pid else "jboss", pid=pid)


def act(transport: Transport, found: Aim, name: str, folder: Path, **more: Any) -> Killed:
    fields = {"operator": "ann", "machine": "ops1", "run": "k-1", "reason": ""}
    holding = Holding(transport, token="t", fields=fields)
    return killing.carry_out(transport, found, signal=name, holding=holding, folder=folder, **more)


def reap(proc: subprocess.Popen[bytes]) -> int:
    return proc.wait(30)


def test_term_ends_the_service_and_waits_for_its_end(one: tuple[Site, Jboss, Transport], tmp_path: Path) -> None:
    _, jboss, transport = one
    waiter = threading.Thread(target=reap, args=(jboss.procs[0],))
    waiter.start()
    assert act(transport, aim(transport, jboss), "TERM", tmp_path / "e").outcome == "ended"
    waiter.join()
    assert not (tmp_path / "e").exists()


def test_a_process_deaf_to_term_is_alive_after_the_stop_timeout_and_the_next_command_is_named(
    one: tuple[Site, Jboss, Transport], tmp_path: Path
) -> None:
    _, jboss, transport = one
    jboss.flag("deaf")
    jboss.host = replace(jboss.host, services=(jboss.service(stop_timeout=1.0),))
    done = act(transport, aim(transport, jboss), "TERM", tmp_path)
    assert (done.outcome, done.error) == ("alive", "TERM was sent, and it is still there after 1s")
    assert done.next == f"bbctl kill h1 --pid {jboss.procs[0].pid} -9"


def test_a_process_that_takes_its_time_to_end_is_waited_for_look_after_look(
    one: tuple[Site, Jboss, Transport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, jboss, transport = one
    jboss.flag("hang")
    real, looks = process.wait_gone, []

    def wait_gone(proc: Proc, seconds: float) -> str:
        looks.append(seconds)
        jboss.flag("end", on=len(looks) > 2)
        return real(proc, min(seconds, 0.2) if len(looks) < 3 else seconds)

    monkeypatch.setattr("bbctl.kill.process.wait_gone", wait_gone)
    waiter = threading.Thread(target=reap, args=(jboss.procs[0],))
    waiter.start()
    assert act(transport, aim(transport, jboss), "TERM", tmp_path).outcome == "ended"
    waiter.join()
    assert len(looks) > 2


def test_kill_saves_log_state_and_thread_dumps_first(one: tuple[Site, Jboss, Transport], tmp_path: Path) -> None:
    _, jboss, transport = one
    jboss.flag("deadlock")
    done = act(transport, aim(transport, jboss), "KILL", tmp_path / "e")
    assert done.outcome == "zombie"  # its parent is this test, which has not looked yet
    assert str(os.getpid()) in (done.error or "")
    assert reap(jboss.procs[0]) == -signal.SIGKILL
    names = {p.name for p in done.evidence}
    assert {"server.log", "process.txt", "threads-1.txt", "threads-2.txt", "threads-3.txt"} <= names
    assert all(p.stat().st_mode & 0o077 == 0 for p in done.evidence)
    dump = next(p for p in done.evidence if p.name == "threads-1.txt").read_text()
    assert [d.threads for d in deadlocks(dump)] == [("invoice-1", "invoice-2")]


def test_a_process_deaf_to_quit_is_killed_all_the_same_and_the_lack_is_noted(
    one: tuple[Site, Jboss, Transport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bbctl.evidence.DUMP", 1.0)
    _, jboss, transport = one
    jboss.flag("no-dump")
    done = act(transport, aim(transport, jboss), "KILL", tmp_path / "e")
    assert reap(jboss.procs[0]) == -signal.SIGKILL
    notes = next(p for p in done.evidence if p.name == "notes.txt").read_text()
    assert "deaf to QUIT" in notes


def test_no_thread_dump_is_asked_of_a_process_that_would_die_of_it(
    one: tuple[Site, Jboss, Transport], tmp_path: Path
) -> None:
    _, jboss, transport = one
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "org.ruby.Main"])
    try:
        rule = Process(match="org\\.ruby\\.Main", user=getpass.getuser())
        for how in ("sigquit", "jstack"):
            host = replace(jboss.host, services=(jboss.service(process=rule, thread_dump=how),))
            said = threads.take(transport, host, "jboss", tmp_path / how, count=1)
            assert (said.status, sleeper.poll()) == ("failed", None)
            assert "would die of it" in (said.error or "")
    finally:
        sleeper.kill()
        sleeper.wait(30)


def test_quit_is_sent_and_not_waited_for(one: tuple[Site, Jboss, Transport], tmp_path: Path) -> None:
    _, jboss, transport = one
    assert act(transport, aim(transport, jboss), "QUIT", tmp_path).outcome == "signalled"
    assert not Path(jboss.host.lock.path).exists(), "the host is still locked"
    wait_for(lambda: "Full thread dump" in jboss.log.read_text(), "the dump")


@pytest.mark.parametrize(
    ("step", "answer", "outcome"),
    [
        ("signal", "true", "failed"),
        ("signal", "echo 'signal 6 kill Operation not permitted'", "refused"),
        ("wait_gone", "true", "failed"),
    ],
)
def test_a_host_that_does_not_say_what_became_of_it_is_never_taken_for_one_that_did(
    one: tuple[Site, Jboss, Transport],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    answer: str,
    outcome: str,
) -> None:
    _, jboss, transport = one
    found = aim(transport, jboss)
    monkeypatch.setattr(f"bbctl.kill.process.{step}", lambda *args, **more: answer)
    done = act(transport, found, "TERM", tmp_path)
    assert (done.outcome, bool(done.error)) == (outcome, True)


def test_nothing_is_signalled_where_two_match_and_both_are_named(one: tuple[Site, Jboss, Transport]) -> None:
    _, jboss, transport = one
    twin = jboss.look_alike()
    found = aim(transport, jboss)
    assert found.outcome == "refused"
    assert str(twin.pid) in (found.error or "")
    assert str(jboss.procs[0].pid) in (found.error or "")
    assert aim(transport, jboss, pid=twin.pid).proc is not None  # a person may say which


def test_a_twin_that_is_gone_at_a_second_look_is_no_reason_to_refuse(
    one: tuple[Site, Jboss, Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start script may live for a moment beside what it started."""
    _, jboss, transport = one
    twin = jboss.look_alike()

    def meanwhile(seconds: float) -> None:
        twin.kill()
        reap(twin)

    monkeypatch.setattr("bbctl.kill.time", SimpleNamespace(sleep=meanwhile))
    found = aim(transport, jboss)
    assert (found.outcome, found.proc and found.proc.pid) == (None, jboss.procs[0].pid)


def test_a_process_that_ended_before_it_was_signalled_is_gone_and_not_ended_by_us(
    one: tuple[Site, Jboss, Transport], tmp_path: Path
) -> None:
    _, jboss, transport = one
    found = aim(transport, jboss)
    jboss.procs[0].kill()
    reap(jboss.procs[0])
    assert act(transport, found, "TERM", tmp_path).outcome == "gone"


def test_a_pid_that_the_pid_file_contradicts_is_refused_even_where_a_person_names_it(
    one: tuple[Site, Jboss, Transport],
) -> None:
    _, jboss, transport = one
    twin, own = jboss.look_alike(), jboss.procs[0].pid
    file = jboss.folder / "jboss.pid"
    service = jboss.service()
    assert service.process is not None
    jboss.host = replace(jboss.host, services=(replace(service, process=replace(service.process, pidfile=str(file))),))
    file.write_text(f"{own}\n")
    assert aim(transport, jboss, pid=own).proc is not None
    assert aim(transport, jboss, pid=twin.pid).outcome == "refused"
    for said in ("", "1", "0", "-1", "12; rm", "999999"):
        file.write_text(said)
        found = aim(transport, jboss, pid=own)
        assert (found.outcome, found.proc) == ("refused", None), said
        assert str(file) in (found.error or "")
    file.unlink()
    assert aim(transport, jboss, pid=own).outcome == "refused"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a process of another user")
def test_a_pid_that_looks_like_the_service_and_is_another_user_s_is_refused(
    one: tuple[Site, Jboss, Transport],
) -> None:
    """Also where that user has a service here, too."""
    _, jboss, transport = one
    beside = jboss.service(name="beside", process=Process(match="no such thing", user="nobody"))
    jboss.host = replace(jboss.host, services=(jboss.service(), beside))
    words = ["/bin/sh", "-c", "read end", f"org.jboss.Main -c {jboss.instance}"]
    other = subprocess.Popen(["setpriv", "--reuid=nobody", "--clear-groups", *words], stdin=subprocess.PIPE)
    try:
        wait_for(lambda: Path(f"/proc/{other.pid}/cmdline").read_bytes().startswith(b"/bin/sh"), "its command line")
        wait_for(lambda: "\nUid:\t0" not in Path(f"/proc/{other.pid}/status").read_text(), "its user")
        found = aim(transport, jboss, pid=other.pid)
        assert (found.outcome, found.proc) == ("refused", None)
    finally:
        other.kill()
        other.communicate(timeout=30)


def test_a_pid_that_is_no_service_of_the_host_is_refused(one: tuple[Site, Jboss, Transport]) -> None:
    _, jboss, transport = one
    assert aim(transport, jboss, pid=os.getpid()).outcome == "refused"


def test_a_pid_that_does_not_exist_is_gone(one: tuple[Site, Jboss, Transport]) -> None:
    _, jboss, transport = one
    assert aim(transport, jboss, pid=4_194_000).outcome == "gone"


def test_a_zombie_is_called_one_and_its_parent_named(one: tuple[Site, Jboss, Transport]) -> None:
    _, jboss, transport = one
    os.kill(jboss.procs[0].pid, signal.SIGKILL)
    stat = Path(f"/proc/{jboss.procs[0].pid}/stat")
    wait_for(lambda: stat.read_text().rsplit(") ", 1)[1][0] == "Z", "a zombie")
    found = aim(transport, jboss, pid=jboss.procs[0].pid)
    assert found.outcome == "zombie"
    assert str(os.getpid()) in (found.error or "")
    assert aim(transport, jboss).outcome == "gone"  # as the service it does not run any more


@pytest.mark.parametrize("wrong", ["ticks", "boot", "command", "user"])
def test_a_process_that_is_not_the_one_that_was_found_is_never_signalled(
    one: tuple[Site, Jboss, Transport], tmp_path: Path, wrong: str
) -> None:
    _, jboss, transport = one
    found = aim(transport, jboss)
    assert found.proc is not None
    other: dict[str, Any] = {"ticks": found.proc.ticks + 1, "boot": "another", "command": "java", "user": "nobody"}
    changed = replace(found, proc=replace(found.proc, **{wrong: other[wrong]}))
    done = act(transport, changed, "KILL", tmp_path, evidence=False)
    assert done.outcome == "refused"
    assert jboss.procs[0].poll() is None


def test_another_run_that_holds_the_lock_keeps_the_signal_away(
    one: tuple[Site, Jboss, Transport], tmp_path: Path
) -> None:
    _, jboss, transport = one
    theirs = Holding(transport, token="x", fields={"operator": "bob", "machine": "m", "run": "r-2", "reason": "deploy"})
    assert theirs.acquire(jboss.host).ours
    seen = aim(transport, jboss)
    assert seen.lock is not None, "whoever only looks is told, too"
    assert (seen.lock.run, seen.proc is not None) == ("r-2", True)
    done = act(transport, seen, "KILL", tmp_path)
    assert done.outcome == "refused"
    assert "bob@m (r-2" in (done.error or "")
    assert jboss.procs[0].poll() is None


def test_a_lock_that_has_run_out_is_nobodys_and_not_shown(one: tuple[Site, Jboss, Transport]) -> None:
    _, jboss, transport = one
    theirs = Holding(transport, token="x", fields={"operator": "bob", "machine": "m", "run": "r-2", "reason": ""})
    assert theirs.acquire(replace(jboss.host, lock=replace(jboss.host.lock, expires=0.1))).ours
    wait_for(lambda: aim(transport, jboss).lock is None, "the lock to run out")


TOOLS = ("sh", "cat", "head", "tr", "sha256sum", "id", "kill", "sleep")


@pytest.mark.parametrize("tool", ["perl", "python3", "none"])
def test_the_signal_goes_through_a_pidfd_where_the_host_has_perl_or_python_and_by_kill_where_not(
    tmp_path: Path, tool: str
) -> None:
    for name in (*TOOLS, *([tool] if tool != "none" else [])):
        real = f"/usr/bin/{name}" if Path(f"/usr/bin/{name}").exists() else shutil.which(name)
        (tmp_path / name).symlink_to(str(real))
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "é \u20ac x"])
    wait_for(lambda: b"sleep" in Path(f"/proc/{victim.pid}/cmdline").read_bytes(), "its command line")
    found = _proc(victim.pid)
    for other in (replace(found, ticks=found.ticks + 1), replace(found, command="java")):
        said = process.understand_signal(_run(process.signal(other, "KILL"), path=str(tmp_path)))
        assert (said.outcome, victim.poll()) == ("changed", None), said
    said = process.understand_signal(_run(process.signal(found, "KILL"), path=str(tmp_path)))
    assert said.outcome == "sent", said
    assert said.how == {"none": "kill"}.get(tool, f"pidfd:{tool}")
    assert reap(victim) == -signal.SIGKILL


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a pid namespace of its own")
@pytest.mark.parametrize(
    ("place", "races"),
    [
        ("before", 40),
        ("between", 40),
        pytest.param("before", 10_000, marks=pytest.mark.faults),
        pytest.param("between", 1_000, marks=pytest.mark.faults),
    ],
)
def test_a_pid_that_was_given_to_another_process_is_never_hit(
    place: str, races: int, record_property: Callable[[str, object], None]
) -> None:
    """The found process ends and its very pid goes to a look-alike: before the step that signals, or in it, behind the
    proof; there only the pidfd knows. In a namespace whose next pid can be chosen."""
    code = Path(__file__).with_name("pid_reuse.py")
    ran = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, str(code), place, str(races)],
        capture_output=True, text=True, timeout=60 + races, cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    record_property("races", result["reused"])
    record_property("wrong process hit", result["hit"])
    assert (result["reused"], result["hit"]) == (races, 0)
    assert result["said"] == {"before": {"changed": races}, "between": {"gone": races}}[place]


def test_a_pid_of_one_or_none_is_refused_before_anything_is_sent() -> None:
    for pid in (1, 0, -1):
        with pytest.raises(ValueError, match="no signal"):
            process.signal(replace(_proc(os.getpid()), pid=pid), "KILL")


def test_the_command_refuses_a_pid_below_two_and_a_signal_that_is_none(
    one: tuple[Site, Jboss, Transport], tmp_path: Path
) -> None:
    made, _, _ = one
    env = {**os.environ, "BBCTL_HOME": str(tmp_path / "home")}
    for words in (["--pid", "1", "-y"], ["-s", "NOPE", "-y"], ["--service", "nope", "-y"]):
        ran = subprocess.run(
            [BBCTL, "-i", made.inventory(), "kill", "h1", *words, "-o", "json"],
            env=env,
            capture_output=True,
            check=False,
        )
        assert ran.returncode == 2, ran.stdout
        assert json.loads(ran.stdout)["error"]["code"]


def _run(text: str, *, path: str) -> bytes:
    return subprocess.run(["/bin/sh", "-c", text], env={"PATH": path}, stdout=subprocess.PIPE, check=False).stdout


def _proc(pid: int) -> Proc:
    from getpass import getuser

    ran = subprocess.run(["/bin/sh", "-c", process.listing([getuser()])], stdout=subprocess.PIPE, check=False)
    return next(p for p in process.understand(ran.stdout).procs if p.pid == pid)
