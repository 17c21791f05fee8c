"""A look at a service over a real sshd: its process, whether it hangs, its health, its place in the VIP, its lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bbctl.look import Seen, look_closely
from bbctl.model import Health, Process, Service
from bbctl.remote import lock
from bbctl.remote.shell import script
from bbctl.ssh.transport import Transport
from tests.integration.jboss import Jboss, Site, site
from tests.integration.sshd import farm, wait_for


@pytest.fixture
def one(tmp_path: Path) -> Iterator[tuple[Site, Jboss, Transport]]:
    with site(tmp_path) as made, Transport(made.fleet) as transport:
        yield made, made.members[0], transport


def seen(transport: Transport, jboss: Jboss, **changes: object) -> Seen:
    host = replace(jboss.host, services=(jboss.service(**changes),))
    (found,) = look_closely(transport, [host], known={host.name: host})
    return found


def born(pid: int) -> float:
    """When a process began, in seconds since the epoch."""
    boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[19])
    return int(boot.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")


def test_a_healthy_service_is_seen_whole_in_one_exec(one: tuple[Site, Jboss, Transport]) -> None:
    made, jboss, transport = one
    before = made.farm.commands()
    found = seen(transport, jboss)
    f = found.facts
    assert (f.status, f.process, f.health, f.vip, f.error) == ("ok", "running", "ok", "in", None)
    assert f.proc is not None
    assert f.proc.pid == jboss.procs[0].pid
    assert abs(f.proc.started - born(f.proc.pid)) < 2
    assert f.lock is None
    assert abs(f.clock_offset) < 0.5
    assert f.log_size == jboss.log.stat().st_size
    assert f.disk_free
    assert made.farm.commands() == before + 1


def test_a_process_whose_last_word_is_the_stop_and_whose_log_is_silent_is_hung(
    one: tuple[Site, Jboss, Transport],
) -> None:
    _, jboss, transport = one
    jboss.flag("hang")
    os.kill(jboss.procs[0].pid, signal.SIGTERM)
    wait_for(lambda: "Stopping HornetQ" in jboss.log.read_text(), "the line")
    found = wait_for(lambda: (f := seen(transport, jboss).facts).process == "hung" and f, "the hang to be seen")
    assert found.hung_line is not None
    assert "Stopping HornetQ" in found.hung_line
    assert found.hung_since is not None
    assert abs(found.hung_since - time.time()) < 30


def test_a_hang_is_still_seen_behind_a_thread_dump_that_fills_the_end_of_the_log(
    one: tuple[Site, Jboss, Transport],
) -> None:
    _, jboss, transport = one
    jboss.flag("hang")
    os.kill(jboss.procs[0].pid, signal.SIGTERM)
    wait_for(lambda: "Stopping HornetQ" in jboss.log.read_text(), "the line")
    with jboss.log.open("a") as log:
        log.write("Full thread dump\n" + "\tat some.Frame.here(Frame.java:1)\n" * 20_000 + "JNI global references: 1\n")
    wait_for(lambda: seen(transport, jboss).facts.process == "hung", "the hang to be seen")


def test_a_line_of_the_process_before_never_makes_the_new_one_hung(one: tuple[Site, Jboss, Transport]) -> None:
    _, jboss, transport = one
    with jboss.log.open("a") as log:
        log.write("2026-01-01 00:00:00,000 INFO  [org.hornetq] (x) Stopping HornetQ\n")
    assert seen(transport, jboss).facts.process == "running"


def test_two_processes_that_match_are_named_and_neither_is_taken(one: tuple[Site, Jboss, Transport]) -> None:
    _, jboss, transport = one
    twin = jboss.look_alike()
    f = seen(transport, jboss).facts
    assert f.process == "unknown"
    assert f.proc is None
    assert {p.pid for p in f.candidates} == {jboss.procs[0].pid, twin.pid}
    assert str(twin.pid) in (f.error or "")


def test_a_match_below_a_match_is_its_child_and_no_second_candidate(one: tuple[Site, Jboss, Transport]) -> None:
    _, jboss, transport = one
    jboss.close()
    code = "import subprocess,sys,time\nsubprocess.Popen([sys.executable,'-c','import time; time.sleep(60)',sys.argv[1]]).wait()"
    parent = subprocess.Popen(
        [sys.executable, "-c", code, f"org.jboss.Main -c {jboss.instance}"], start_new_session=True
    )
    try:
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        child = wait_for(lambda: children.read_text().split(), "a child")[0]
        wait_for(lambda: b"sleep(60)\0" in Path(f"/proc/{child}/cmdline").read_bytes(), "its command line")
        f = seen(transport, jboss).facts
        assert (f.process, f.proc and f.proc.pid) == ("running", parent.pid)
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait(5)


def test_a_process_of_another_user_is_not_the_service(one: tuple[Site, Jboss, Transport]) -> None:
    _, jboss, transport = one
    other = "nobody" if jboss.service().process.user != "nobody" else "daemon"  # type: ignore[union-attr]
    rule = Process(match=rf"org\.jboss\.Main -c {jboss.instance}", user=other)
    assert seen(transport, jboss, process=rule).facts.process == "stopped"


@pytest.mark.parametrize("content", ["", "1", "-1", "0", "12; rm -rf /", "999999", "  \n", "4194305"])
def test_a_pid_file_that_does_not_name_the_one_that_matches_takes_the_choice_away(
    one: tuple[Site, Jboss, Transport], content: str
) -> None:
    _, jboss, transport = one
    (jboss.folder / "pid").write_text(content)
    rule = replace(jboss.service().process, pidfile=str(jboss.folder / "pid"))  # type: ignore[type-var]
    f = seen(transport, jboss, process=rule).facts
    assert f.process == "unknown"
    assert f.ambiguous is not None
    assert [p.pid for p in f.candidates] == [jboss.procs[0].pid]


def test_a_pid_file_that_names_it_is_fine_and_says_nothing_once_the_process_is_gone(
    one: tuple[Site, Jboss, Transport],
) -> None:
    _, jboss, transport = one
    (jboss.folder / "pid").write_text(f"{jboss.procs[0].pid}\n")
    rule = replace(jboss.service().process, pidfile=str(jboss.folder / "pid"))  # type: ignore[type-var]
    assert seen(transport, jboss, process=rule).facts.process == "running"
    jboss.close()
    assert seen(transport, jboss, process=rule).facts.process == "stopped"


def test_a_pipe_in_the_place_of_a_log_or_a_pid_file_is_named_and_never_waited_for(
    one: tuple[Site, Jboss, Transport],
) -> None:
    _, jboss, transport = one
    pipe = jboss.log.with_name("pipe")
    os.mkfifo(pipe)
    found = seen(transport, jboss, log=str(pipe))
    assert (found.facts.status, found.facts.process, found.facts.health) == ("ok", "running", "ok")
    assert found.tail is not None
    assert (found.tail.state, found.tail.why) == ("denied", "is no regular file")
    process = jboss.service().process
    assert process is not None
    unsaid = seen(transport, jboss, process=replace(process, pidfile=str(pipe)))
    assert (unsaid.facts.status, unsaid.facts.process) == ("ok", "unknown")
    assert "names nothing" in str(unsaid.facts.error)


def test_a_user_that_does_not_exist_on_the_host_is_said(one: tuple[Site, Jboss, Transport]) -> None:
    _, jboss, transport = one
    f = seen(transport, jboss, process=Process(match="x", user="no-such-user")).facts
    assert f.process == "unknown"
    assert "no-such-user" in (f.error or "")


def test_health_is_code_and_body_and_its_answer_is_the_same_text_on_every_host_that_says_the_same(
    one: tuple[Site, Jboss, Transport],
) -> None:
    _, jboss, transport = one
    jboss.flag("unhealthy")
    f = seen(transport, jboss).facts
    assert f.health == "failing"
    assert f.health_answer.startswith("503")
    assert jboss.host.address not in f.health_answer
    jboss.flag("unhealthy", on=False)
    wrong = Health(url=jboss.service().health.url, expect="never")  # type: ignore[union-attr]
    assert seen(transport, jboss, health=wrong).facts.health == "failing"


def test_a_service_that_does_not_listen_fails_its_health_with_the_cause(one: tuple[Site, Jboss, Transport]) -> None:
    _, jboss, transport = one
    jboss.close()
    found = seen(transport, jboss)
    assert (found.facts.health, found.health_detail) == ("failing", "connection refused")


@pytest.mark.parametrize("tools", [("bash",), ("python3",), ("perl",)])
def test_health_is_asked_by_the_host_itself_where_its_sshd_forbids_forwarding(
    tmp_path: Path, tools: tuple[str, ...]
) -> None:
    """With whatever the host has: the PATH of the login holds only what every host has, and this one tool."""
    import shutil

    base = ("sh", "timeout", "cat", "head", "sleep", "setsid", "kill", "date")
    (tmp_path / "bin").mkdir()
    for tool in (*base, *tools):
        (tmp_path / "bin" / tool).symlink_to(
            f"/usr/bin/{tool}" if Path(f"/usr/bin/{tool}").exists() else shutil.which(tool)
        )
    settings = f"MaxStartups 200\nAllowTcpForwarding no\nSetEnv PATH={tmp_path / 'bin'} HOME={tmp_path}"
    with farm(tmp_path / "ssh", "h1", net=52, settings=settings) as made:
        jboss = Jboss(made.host("h1"), tmp_path / "h1")
        jboss.start()
        try:
            with Transport(made.fleet(jboss.host)) as transport:
                from bbctl import health

                asked = health.ask(transport.open(jboss.host), jboss.host, jboss.service().health)  # type: ignore[arg-type]
                assert asked.state == "ok", asked.detail
        finally:
            jboss.close()


def test_the_vip_of_a_file_is_in_out_or_unknown_where_there_is_no_folder_for_it(
    one: tuple[Site, Jboss, Transport],
) -> None:
    _, jboss, transport = one
    (jboss.folder / "heartbeat.txt").unlink()
    assert seen(transport, jboss).facts.vip == "out"
    away = jboss.service().vip
    assert away is not None
    assert away.drain is not None
    lost = replace(away, drain=replace(away.drain, path="/no/such/folder/heartbeat.txt"))
    f = seen(transport, jboss, vip=lost).facts
    assert f.vip == "unknown"
    assert "/no/such/folder" in (f.vip_error or "")


def test_a_lock_is_seen_with_who_why_and_how_long_ago(one: tuple[Site, Jboss, Transport]) -> None:
    _, jboss, transport = one
    fields = {"operator": "ann@ops1", "machine": "ops1", "run": "r-1", "reason": "deploy 81", "step": "stop"}
    taken = lock.acquire(jboss.host.lock, "t", fields=fields) + lock.renew(jboss.host.lock, "t", out=True)
    ran = transport.run(jboss.host, script(taken), timeout=10)
    assert lock.understand(ran.stdout).ours
    found = seen(transport, jboss).facts.lock
    assert found is not None
    assert (found.holder, found.run, found.reason, found.step, found.out) == (
        "ann@ops1",
        "r-1",
        "deploy 81",
        "stop",
        True,
    )
    assert 0 <= found.age < 10
    assert found.left > 200


def test_a_host_that_cannot_be_logged_in_to_has_its_word_and_nothing_else_is_claimed(tmp_path: Path) -> None:
    with farm(tmp_path, "h1", net=53) as made:
        host = replace(made.host("h1", port=1), services=(Service(name="jboss", process=Process(match="x", user="y")),))
        with Transport(made.fleet(host)) as transport:
            (found,) = look_closely(transport, [host], known={})
    f = found.facts
    assert (f.status, f.process, f.health, f.vip) == ("unreachable", "unknown", "unknown", "none")
    assert "connect" in (f.error or "")


def test_a_host_without_any_service_is_still_looked_at(tmp_path: Path) -> None:
    with farm(tmp_path, "h1", net=53) as made, Transport(made.fleet()) as transport:
        (found,) = look_closely(transport, [made.host("h1")], known={})
    assert (found.facts.status, found.facts.service) == ("ok", "")
    assert found.machine is not None


def test_a_look_changes_nothing_on_the_host(one: tuple[Site, Jboss, Transport]) -> None:
    _, jboss, transport = one
    before = sorted(str(p) for p in jboss.folder.rglob("*"))
    seen(transport, jboss)
    assert sorted(str(p) for p in jboss.folder.rglob("*")) == before
