"""Restart, stop, start, drain and playbooks on real hosts: what is done, in which order, and what is left alone."""

from __future__ import annotations

import getpass
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.shop import Member, Shop, shop
from tests.integration.sshd import processes, wait_for


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop(tmp_path_factory.mktemp("one")) as made:
        yield made


@pytest.fixture
def host(one: Shop) -> Member:
    """The host: in its VIP, running, nothing called yet."""
    member = one.members[0]
    for path in (member.folder / "flags").iterdir():
        path.unlink()
    one.changes, one.drain = {}, {}
    one.write()
    if member.pid is None or not member.heartbeat.exists():
        member.down()
        wait_for(lambda: member.pid is None, "its process to end")
        member.up()
    (member.folder / "pid").write_text(f"{member.pid}\n")
    member.heartbeat.touch()
    (member.folder / "events").write_text("")
    return member


def mend_when_started(member: Member) -> None:
    """The next process is a good one: the flag goes as soon as the init script is asked to start it."""

    before = member.calls.count("start")

    def wait() -> None:
        wait_for(lambda: member.calls.count("start") > before, "a start", 40)
        member.flag("hang", on=False)

    threading.Thread(target=wait, daemon=True).start()


def test_a_hang_is_proven_documented_killed_and_restarted(one: Shop, host: Member) -> None:
    pid = host.pid
    twin = subprocess.Popen(
        [sys.executable, "-c", "import time\nwhile True: time.sleep(1)", "org.jboss.Main -c billing"],
        start_new_session=True,
    )
    host.flag("hang", "stop-blocks")
    mend_when_started(host)
    try:
        said = one.change("restart", "h1")
        assert twin.poll() is None, "another instance was killed"
    finally:
        twin.kill()
        twin.wait(5)
    assert (said.code, said.outcomes) == (0, {"h1": "restarted"}), said
    row = said.record["hosts"][0]
    assert (row["hung"], row["killed_pid"]) == (True, pid)
    details = {s["step"]: s["detail"] for s in row["steps"]}
    assert f"{pid} is {getpass.getuser()}, org.jboss.Main -c " in details["preflight"]  # what matched, not all options
    assert '"Started in' in details["started"]
    order = [s["step"] for s in row["steps"] if s["outcome"] != "skipped"]
    assert order.index("stop") < order.index("evidence") < order.index("kill") < order.index("start")
    texts = "".join(Path(p).read_text(errors="replace") for p in row["evidence"])
    assert "Full thread dump" in texts
    assert "Stopping HornetQ" in texts
    assert all(Path(p).is_relative_to(one.home()) for p in row["evidence"])
    assert host.pid not in (None, pid)
    assert host.heartbeat.exists()


def test_a_child_that_outlives_the_kill_of_its_wrapper_is_no_new_process(one: Shop, host: Member) -> None:
    """A shell in front of the JVM that bears the same words: with it alone gone nothing has been restarted."""
    host.down()
    host.flag("wrapped")
    before = host.starts
    subprocess.run([str(host.script), "start"], check=True)
    wait_for(lambda: host.starts > before, "the start", 30)  # until then a fork on its way bears the same words
    wrapper, child = wait_for(lambda: len(found := sorted(processes(f"-c {host.instance}"))) == 2 and found, "the two")
    host.flag("hang")
    host.flag("wrapped", on=False)
    one.changes = {"stop_timeout": "2s"}  # the wrapper is deaf to TERM, and its child gets none
    one.write()
    failed = one.change("restart", "h1")
    row = failed.record["hosts"][0]
    assert (failed.code, failed.steps()["kill"], row["killed_pid"], row["vip"]) == (1, "failed", wrapper, "out"), failed
    assert processes(f"-c {host.instance}") == [child]
    mend_when_started(host)
    said = one.change("runs", "resume", failed.record["run"])
    assert (said.code, said.outcomes) == (0, {"h1": "restarted"}), said
    assert said.record["hosts"][0]["killed_pid"] == child
    assert host.pid not in (None, wrapper, child)


def test_found_hung_on_arrival_the_stop_command_is_not_called_again(one: Shop, host: Member) -> None:
    pid = host.pid
    assert pid is not None
    host.flag("hang")
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: "Stopping HornetQ" in host.log.read_text().rpartition("Started in")[2], "the last word")
    wait_for(lambda: json.loads(one.bbctl("status", "-o", "json").out)[0]["process"] == "hung", "the hang to be proven")
    mend_when_started(host)
    said = one.change("restart", "h1")
    assert (said.code, said.steps()["stop"], said.steps()["kill"]) == (0, "skipped", "ok"), said
    assert host.calls == ["start"]


def test_a_stop_command_that_fails_ends_the_step_and_kills_nothing(one: Shop, host: Member) -> None:
    pid = host.pid
    host.flag("stop-fails")
    said = one.change("restart", "h1")
    assert (said.code, said.outcomes, said.steps()["stop"]) == (1, {"h1": "failed"}, "failed")
    assert "cannot stop" in said.out
    assert host.pid == pid
    assert not host.heartbeat.exists(), "a host that failed is put back"


def test_a_resume_goes_on_where_it_failed_once_the_cause_is_mended(one: Shop, host: Member) -> None:
    host.flag("start-fails")
    failed = one.change("restart", "h1")
    assert (failed.code, failed.steps()["start"]) == (1, "failed")
    assert "runs resume" in one.bbctl("runs", "show", failed.record["run"]).out
    host.flag("start-fails", on=False)
    said = one.change("runs", "resume", failed.record["run"])
    assert (said.code, said.outcomes) == (0, {"h1": "restarted"}), said
    assert host.calls == ["stop", "start", "start"]


def test_a_host_that_failed_its_health_check_and_is_well_by_now_is_not_restarted_again(one: Shop, host: Member) -> None:
    host.flag("unhealthy")
    one.impatient("health", timeout="1s")
    failed = one.change("restart", "h1")
    assert (failed.code, failed.steps()["health"]) == (1, "failed")
    assert not host.heartbeat.exists()
    host.flag("unhealthy", on=False)
    one.write()
    said = one.change("runs", "resume", failed.record["run"])
    assert (said.code, said.outcomes) == (0, {"h1": "restarted"}), said
    assert host.calls == ["stop", "start"]
    assert host.heartbeat.exists()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: another user's process")
def test_another_users_look_alike_survives_a_hang(one: Shop, host: Member) -> None:
    code = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nwhile True: time.sleep(1)"
    words = ["setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-c", code]
    decoy = subprocess.Popen([*words, f"org.jboss.Main -c {host.instance}"], cwd="/", start_new_session=True)
    try:
        host.flag("hang")
        mend_when_started(host)
        said = one.change("restart", "h1")
        assert (said.code, said.record["hosts"][0]["hung"]) == (0, True), said
        assert decoy.poll() is None
    finally:
        decoy.kill()
        decoy.wait(5)


def test_a_playbook_that_takes_a_host_out_and_puts_it_back_does_so(one: Shop, host: Member) -> None:
    book = one.folder / "blink.yml"
    book.write_text("name: blink\nsteps:\n  - drain\n  - settle\n  - undrain\n")
    said = one.change("playbook", "run", str(book), "h1")
    assert (said.code, said.outcomes) == (0, {"h1": "undrained"}), said
    assert [said.steps()[step] for step in ("drain", "settle", "undrain")] == ["ok"] * 3
    assert host.heartbeat.exists()


def test_stop_keeps_the_host_out_and_start_brings_it_back(one: Shop, host: Member) -> None:
    stopped = one.change("stop", "h1")
    assert (stopped.code, stopped.outcomes, host.pid, host.heartbeat.exists()) == (0, {"h1": "stopped"}, None, False)
    assert one.change("stop", "h1").outcomes == {"h1": "skipped"}
    started = one.change("start", "h1")
    assert (started.code, started.outcomes, host.heartbeat.exists()) == (0, {"h1": "started"}, True)
    assert one.change("start", "h1").outcomes == {"h1": "skipped"}
    assert host.calls == ["stop", "start"]


def test_a_drain_leaves_owner_reason_and_lease_on_the_host(one: Shop, host: Member) -> None:
    pid = host.pid
    drained = one.change("drain", "h1", "--for", "2h")
    assert (drained.code, drained.outcomes, host.heartbeat.exists()) == (0, {"h1": "drained"}, False)
    lease = dict(line.split(" ", 1) for line in (host.home / ".bbctl/drained").read_text().splitlines())
    assert lease["operator"].startswith("ann@")
    assert (lease["reason"], lease["run"]) == ("test", drained.record["run"])
    assert int(lease["until"]) - int(lease["since"]) == 7200
    undrained = one.change("undrain", "h1")
    assert (undrained.code, undrained.outcomes, host.heartbeat.exists()) == (0, {"h1": "undrained"}, True)
    assert not (host.home / ".bbctl/drained").exists()
    assert host.pid == pid


def test_a_rehearsal_and_a_dry_run_leave_nothing_behind(one: Shop, host: Member) -> None:
    home = host.home
    before = sorted(p.name for p in home.rglob("*"))
    assert one.change("restart", "h1", "--rehearse").record["outcome"] == "done"
    assert one.bbctl("restart", "h1", "--dry-run").code == 0
    host.script.chmod(0o644)
    rehearsed = one.change("restart", "h1", "--rehearse")
    host.script.chmod(0o755)
    assert (rehearsed.code, rehearsed.record["outcome"]) == (1, "failed")
    assert "init.sh" in rehearsed.out
    assert sorted(p.name for p in home.rglob("*")) == before
    assert host.calls == []


def test_a_rehearsal_tells_that_the_lock_could_not_be_taken_as_the_run_would(one: Shop, host: Member) -> None:
    folder, aside = host.home / ".bbctl", host.home / "aside"
    folder.mkdir(exist_ok=True)
    folder.rename(aside)
    folder.write_text("in the way\n")
    try:
        rehearsed, run = one.change("restart", "h1", "--rehearse"), one.change("restart", "h1")
    finally:
        folder.unlink()
        aside.rename(folder)
    assert (rehearsed.code, run.code) == (1, 1)
    for said in (rehearsed, run):
        (step,) = [s for s in said.record["hosts"][0]["steps"] if s["step"] == "lock"]
        assert step["outcome"] == "failed"
        assert str(folder) in step["detail"]
    assert host.calls == []


def test_preflight_finds_a_command_that_may_not_be_run_before_anything_is_touched(one: Shop, host: Member) -> None:
    host.script.chmod(0o644)
    said = one.change("restart", "h1")
    host.script.chmod(0o755)
    assert (said.code, said.outcomes, said.steps()["preflight"]) == (1, {"h1": "failed"}, "failed")
    assert host.heartbeat.exists()
    assert host.calls == []


def test_a_site_changes_its_restart_by_changing_yaml(one: Shop, host: Member) -> None:
    folder = one.folder / "playbooks"
    folder.mkdir(exist_ok=True)
    (folder / "bounce.yml").write_text(
        "name: bounce\nabout: without leaving the VIP\nvars: {times: {type: integer, default: 1}}\n"
        'steps: [stop, start, started, {health: {times: "{times}"}}]\n'
    )
    plan = one.folder / "plan.json"
    assert one.bbctl("playbook", "plan", "bounce", "h1", "--plan", str(plan)).code == 0
    said = one.change("playbook", "run", "bounce", "h1", "--set", "times=3", "--plan", str(plan))
    assert (said.code, said.record["error"]["code"]) == (3, "plan-changed")
    assert host.calls == []
    said = one.change("playbook", "run", "bounce", "h1", "--plan", str(plan))
    assert (said.code, said.record["kind"], said.outcomes) == (0, "bounce", {"h1": "restarted"}), said
    assert host.calls == ["stop", "start"]
    assert host.heartbeat.exists()
    assert one.bbctl("playbook", "check", "bounce").code == 0


def test_what_was_done_stands_in_the_audit(one: Shop, host: Member) -> None:
    run = one.change("undrain", "h1").record["run"]
    acts = [a for a in json.loads(one.bbctl("audit", "list", "-o", "json").out) if a["run"] == run]
    assert [a["kind"] for a in acts] == ["intent", "result"]
    assert acts[0]["operator"].startswith("ann@")
    assert one.bbctl("audit", "verify").code == 0
    assert run in [row["run"] for row in json.loads(one.bbctl("timeline", "-o", "json").out)]


def test_a_pid_file_that_comes_late_and_goes_early_is_no_second_opinion(one: Shop, host: Member) -> None:
    pid = host.pid
    match = r"org\.jboss\.Main -c {instance}"
    one.changes = {"process": {"match": match, "user": getpass.getuser(), "pidfile": "{dir}/pid"}}
    one.write()
    (host.folder / "pid").write_text(f"{pid}\n")
    text = host.script.read_text()
    late = text.replace("echo $! > pid", "it=$!; sleep 1.5; echo $it > pid")
    host.script.write_text(late.replace('kill -TERM "$(cat pid)"\n', 'kill -TERM "$(cat pid)"; rm pid\n'))
    host.flag("hang")
    mend_when_started(host)
    try:
        said = one.change("restart", "h1")
    finally:
        host.script.write_text(text)
    assert (said.code, said.record["hosts"][0]["killed_pid"]) == (0, pid), said
    (host.folder / "pid").write_text("4194399\n")
    refused = one.change("restart", "h1")
    assert (refused.code, refused.record["error"]["code"]) == (3, "ambiguous")
    assert str(host.pid) in refused.record["error"]["message"]


def test_a_drain_that_fails_leaves_the_host_as_it_was(one: Shop, host: Member) -> None:
    pid = host.pid
    one.drain = {"kind": "command", "out": ["/bin/false"], "in": ["/bin/true"], "state": ["/bin/echo", "in"]}
    one.write()
    data = json.loads((one.folder / "inventory.yml").read_text())
    del data["vips"]["v"]["drain"]["path"]
    (one.folder / "inventory.yml").write_text(json.dumps(data))
    said = one.change("restart", "h1")
    assert (said.code, said.outcomes, said.steps()["drain"]) == (1, {"h1": "failed"}, "failed"), said
    assert (host.pid, host.calls) == (pid, [])


def test_a_socket_of_haproxy_that_says_nothing_ends_the_drain(one: Shop, host: Member, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        path = f"{os.path.relpath(tmp_path)}/s" if len(str(tmp_path)) > 90 else str(tmp_path / "s")
        mute.bind(path)
        mute.listen(8)
        one.drain = {"kind": "haproxy", "socket": path, "backend": "b", "server": "{name}"}
        one.write()
        data = json.loads((one.folder / "inventory.yml").read_text())
        del data["vips"]["v"]["drain"]["path"]
        (one.folder / "inventory.yml").write_text(json.dumps(data))
        said = one.change("restart", "h1")
    assert said.code == 1
    assert host.calls == []


def test_no_secret_of_a_reason_or_of_a_script_is_kept_or_shown(one: Shop, host: Member) -> None:
    host.script.write_text(host.script.read_text().replace("cannot start", "cannot start: password=canary-1"))
    host.flag("start-fails")
    try:
        words = "key token=canary-2, https://ann:canary-3@hooks/x"
        said = one.bbctl("restart", "h1", "--yes", "--reason", words, home="secrets")
        assert (said.code, "cannot start: password=***" in said.out) == (1, True), said
        kept = [p for p in one.home("secrets").rglob("*") if p.is_file() and b"canary-" in p.read_bytes()]
        assert not kept
        assert "canary-" not in said.out + said.err + one.bbctl("runs", "list", home="secrets").out
        assert "***@hooks" in one.bbctl("runs", "list", "-o", "json", home="secrets").out
    finally:
        host.write_script()


def test_a_host_that_cannot_serve_is_not_put_into_its_vip(one: Shop, host: Member) -> None:
    assert one.change("drain", "h1").code == 0
    host.flag("unhealthy")
    sick = one.change("undrain", "h1")
    assert (sick.code, sick.steps()["undrain"], host.heartbeat.exists()) == (1, "failed", False), sick
    assert "not healthy" in sick.out
    host.down()
    wait_for(lambda: host.pid is None, "its process to end")
    dead = one.change("undrain", "h1")
    assert (dead.code, dead.steps()["undrain"], host.heartbeat.exists()) == (1, "failed", False), dead
    assert "there is no process" in dead.out
