"""bbctl is killed, interrupted or loses its lock at every step of a restart: the journal is true and a resume completes."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bbctl.run import journal
from tests.integration.shop import BBCTL, Member, Shop, finish, kill_at, shop
from tests.integration.sshd import wait_for

STEPS = ("lock", "preflight", "drain", "settle", "stop", "start", "started", "health", "undrain", "unlock")
BOTH = ("resume", "abort")
TOUCHING = ("drain", "stop", "start", "started", "health", "undrain")  # the others with `make faults`


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop(tmp_path_factory.mktemp("pair"), 2) as made:
        made.least = 1
        made.changes = {"hang": {"after": "stopp?ing hornetq", "within": "60s"}, "stop_timeout": "60s"}
        made.write()
        yield made


@pytest.fixture
def two(pair: Shop) -> Shop:
    """Two hosts in the VIP, nothing called yet, no lock, a home of their own."""
    for member in pair.members:
        for name in ("hang", "unhealthy", "stop-blocks", "start-waits", "undated"):
            member.flag(name, on=False)
        member.heartbeat.touch()
        (member.folder / "events").write_text("")
        if member.pid is None:
            member.up()
            (member.folder / "events").write_text("")
        member.break_lock()
    return pair


def by_hand(member: Member) -> None:
    """Somebody restarts the service without bbctl."""
    member.down()
    wait_for(lambda: member.pid is None, "its process to end")
    member.up()
    (member.folder / "events").write_text("")


def killed_while_it_drains(two: Shop, home: str, *targets: str) -> Path:
    """The folder of a run that had taken its first host out and done nothing else: it waited, however slow this machine is."""
    two.drain = {"settle": "10m"}
    two.write()
    try:
        proc = two.popen("restart", *targets, "--yes", "--reason", "test", home=home)
        assert kill_at(proc, two, "settle", home=home)
        proc.communicate(timeout=30)
    finally:
        two.drain = {}
        two.write()
    return two.runs(home)[-1]


def undated(member: Member) -> None:
    """From its first line on its log bears no dates."""
    member.down()
    wait_for(lambda: member.pid is None, "its process to end")
    member.log.write_text("")
    member.flag("undated")
    member.up()
    (member.folder / "events").write_text("")


def test_a_resume_finds_in_a_log_without_dates_what_came_since_the_run_looked(two: Shop, tmp_path: Path) -> None:
    home, member = str(tmp_path / "home"), two.members[0]
    undated(member)
    run = killed_while_it_drains(two, home, "h1")
    by_hand(member)
    resumed = two.change("runs", "resume", run.name, home=home)
    assert (resumed.code, resumed.outcomes, resumed.steps()["started"]) == (0, {"h1": "restarted"}, "ok"), resumed
    assert "start" not in member.calls


def test_a_start_that_a_log_without_dates_cannot_tell_of_is_proven_by_health(two: Shop, tmp_path: Path) -> None:
    home, other = str(tmp_path / "home"), two.members[1]
    undated(other)
    run = killed_while_it_drains(two, home, "h1", "h2")
    began = next(e["at"] for e in two.events(home) if e["event"] == "intent")
    wait_for(lambda: time.time() - began > 2, "a moment that is surely after the run began")
    by_hand(other)
    other.heartbeat.unlink()
    resumed = two.change("runs", "resume", run.name, home=home)
    assert (resumed.code, resumed.steps("h2")["started"], resumed.steps("h2")["health"]) == (0, "skipped", "ok"), (
        resumed
    )
    assert (other.calls, other.heartbeat.exists()) == ([], True)


@pytest.mark.parametrize("step", [pytest.param(s, marks=() if s in TOUCHING else pytest.mark.faults) for s in STEPS])
def test_a_run_killed_at_any_step_is_true_on_disk_and_is_completed_by_resume(
    two: Shop, step: str, tmp_path: Path
) -> None:
    home, member = str(tmp_path / "home"), two.members[0]
    before = member.pid
    proc = two.popen("restart", "h1", "--yes", "--reason", "test", home=home)
    assert kill_at(proc, two, step, home=home)
    proc.communicate(timeout=30)

    run = two.runs(home)[-1]
    record = journal.read(run)
    assert (record.outcome, [h.outcome for h in record.hosts]) == ("interrupted", ["interrupted"])

    resumed = two.change("runs", "resume", run.name, home=home)
    assert (resumed.code, resumed.record["outcome"], resumed.outcomes) == (0, "done", {"h1": "restarted"}), resumed
    assert (member.calls.count("stop"), member.calls.count("start")) == (1, 1), "stopped or started twice"
    assert member.heartbeat.exists()
    assert member.pid not in (None, before)


@pytest.mark.parametrize("step", ["drain", "start", "undrain"])
def test_a_connection_that_breaks_for_a_moment_fails_no_run(two: Shop, step: str, tmp_path: Path) -> None:
    """Cut as soon as the step is under way: whatever was sent then is done once, whether its answer came through or not."""
    home, member = str(tmp_path / "home"), two.members[0]
    broken = two.farm.proxy("h1.snc1")
    data = json.loads((two.folder / "inventory.yml").read_text())
    for row in data["hosts"].values():
        row["vars"]["door"] = row["address"]
    data["services"]["jboss"]["health"]["url"] = "http://{door}:{web}/health"
    data["hosts"]["h1.snc1"] |= {"address": "127.0.0.1", "port": str(broken.port)}
    known = tmp_path / "known_hosts"
    lines = two.farm.known_hosts.read_text().splitlines()
    key = next(line for line in lines if "h1.snc1" in line).split(" ", 1)[1]
    known.write_text("\n".join([*lines, f"[127.0.0.1]:{broken.port} {key}"]) + "\n")
    data["ssh"]["known_hosts"] = str(known)
    (two.folder / "inventory.yml").write_text(json.dumps(data))
    try:
        proc = two.popen("restart", "h1", "--yes", "--reason", "test", "-o", "json", home=home)
        wait_for(lambda: any(e.get("step") == step for e in two.events(home)), f"the step {step}", 60)
        broken.mode = "cut"
        wait_for(lambda: not broken.open, "every connection to break")
        broken.mode = "pass"
        said = finish(proc)
    finally:
        two.write()
    assert (said.code, said.outcomes) == (0, {"h1": "restarted"}), said
    assert member.calls == ["stop", "start"]
    assert member.heartbeat.exists()


def test_a_run_over_several_hosts_that_was_killed_goes_on_with_those_not_done(two: Shop, tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    proc = two.popen("restart", "all", "--yes", "--reason", "test", home=home)
    assert kill_at(proc, two, "start", host="h2.snc1", home=home)
    proc.communicate(timeout=30)
    run = two.runs(home)[-1].name
    shown = two.bbctl("runs", "show", run, "-o", "json", home=home)
    assert (shown.record["outcome"], shown.outcomes) == ("interrupted", {"h1": "restarted", "h2": "interrupted"})
    resumed = two.change("runs", "resume", run, home=home)
    assert (resumed.code, resumed.outcomes) == (0, {"h1": "restarted", "h2": "restarted"}), resumed
    assert [m.calls for m in two.members] == [["stop", "start"], ["stop", "start"]]
    assert two.change("runs", "resume", run, home=home).code == 0
    assert [m.calls for m in two.members] == [["stop", "start"], ["stop", "start"]], "a done run was gone on with"


@pytest.mark.parametrize(
    "step", [pytest.param(s, marks=() if s == "stop" else pytest.mark.faults) for s in STEPS[1:-1]]
)
def test_the_first_ctrl_c_finishes_the_host_and_stops_before_the_next(two: Shop, step: str, tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    proc = two.popen("restart", "all", "--yes", "-o", "json", home=home)
    assert kill_at(proc, two, step, signal.SIGINT, home=home)
    said = finish(proc)
    assert (said.code, said.record["outcome"]) == (130, "interrupted")
    assert said.outcomes == {"h1": "restarted", "h2": "untouched"}
    assert two.members[0].heartbeat.exists()
    assert two.members[1].calls == []
    assert "runs resume" in two.bbctl("runs", "show", said.record["run"], home=home).out


def test_ctrl_c_on_the_last_host_finishes_the_run(two: Shop, tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    proc = two.popen("restart", "h1", "--yes", "-o", "json", home=home)
    assert kill_at(proc, two, "stop", signal.SIGTERM, home=home)
    said = finish(proc)
    assert (said.code, said.record["outcome"], said.outcomes) == (0, "done", {"h1": "restarted"})


def test_a_run_whose_progress_nobody_reads_any_more_goes_on_to_its_end(two: Shop, tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    proc = two.popen("restart", "h1", "--yes", "--reason", "test", home=home)
    assert proc.stdout is not None
    assert proc.stderr is not None
    assert proc.stderr.readline()
    proc.stderr.close()
    assert b"1 restarted" in proc.stdout.read()
    assert proc.wait(60) == 0
    assert two.members[0].heartbeat.exists()
    assert two.bbctl("runs", "show", two.runs(home)[-1].name, "-o", "json", home=home).record["outcome"] == "done"


def test_a_terminal_that_is_gone_lets_the_host_under_way_be_finished_and_no_other_be_begun(
    two: Shop, tmp_path: Path
) -> None:
    home = str(tmp_path / "home")
    ours, theirs = os.openpty()
    proc = subprocess.Popen(
        [str(BBCTL), "restart", "all", "--yes", "--reason", "test"], env={**two.environ(home), "TERM": "xterm"},
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    two.running.append(proc)
    os.close(theirs)
    os.set_blocking(ours, False)

    def stopping() -> bool:
        with suppress(BlockingIOError):
            while os.read(ours, 65536):
                pass
        return any((e["event"], e.get("step")) == ("intent", "stop") for e in two.events(home))

    wait_for(stopping, "the first host's stop", 60)
    os.close(ours)
    assert proc.wait(60) == 129
    said = two.bbctl("runs", "show", two.runs(home)[-1].name, "-o", "json", home=home)
    assert (said.record["outcome"], said.outcomes) == ("interrupted", {"h1": "restarted", "h2": "untouched"})
    assert two.members[0].heartbeat.exists()
    assert two.members[1].calls == []


@pytest.mark.parametrize(
    ("first", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGHUP, 129, marks=pytest.mark.faults)]
)
def test_asked_twice_it_stops_at_once_and_says_where_the_host_stands(
    two: Shop, first: int, code: int, tmp_path: Path
) -> None:
    home = str(tmp_path / "home")
    two.members[0].flag("hang")
    proc = two.popen("restart", "all", "--yes", home=home)
    assert kill_at(proc, two, "stop", first, home=home)
    assert proc.stderr is not None
    while b"will finish this host" not in proc.stderr.readline():
        assert proc.poll() is None
    proc.send_signal(signal.SIGINT)
    out = finish(proc, 30)
    run = two.runs(home)[-1].name
    assert out.code == code
    assert all(word in out.out for word in ("OUT of its VIP", "interrupted at stop", f"runs resume {run}"))
    said = two.bbctl("runs", "show", run, "-o", "json", home=home)
    row = said.record["hosts"][0]
    assert (said.record["outcome"], row["outcome"], row["vip"]) == ("interrupted", "interrupted", "out")
    assert not two.members[0].heartbeat.exists()
    two.members[0].flag("hang", on=False)
    assert two.members[1].calls == []
    resumed = two.change("runs", "resume", said.record["run"], home=home)
    assert resumed.record["outcome"] == "done", resumed


def test_a_run_that_lives_is_not_resumed(two: Shop, tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    two.members[0].flag("hang")
    proc = two.popen("restart", "h1", "--yes", "-o", "json", home=home)
    assert kill_at(proc, two, "stop", 0, home=home)
    said = two.change("runs", "resume", two.runs(home)[-1].name, home=home)
    assert (said.code, said.record["error"]["code"]) == (3, "run-alive")
    two.members[0].flag("hang", on=False)
    assert finish(proc).code == 0


def test_a_dry_run_of_resume_and_abort_changes_nothing_and_names_what_would_be_refused(
    two: Shop, tmp_path: Path
) -> None:
    home = str(tmp_path / "home")
    two.members[0].flag("start-waits")
    proc = two.popen("restart", "h1", "--yes", "--reason", "test", home=home)
    wait_for(lambda: "start" in two.members[0].calls, "the start")
    run = two.runs(home)[-1]
    alive = [json.loads(two.bbctl("runs", verb, run.name, "--dry-run", "-o", "json", home=home).out) for verb in BOTH]
    assert [[r["code"] for r in said["refusals"]] for said in alive] == [["run-alive"]] * 2
    os.killpg(proc.pid, signal.SIGKILL)
    proc.communicate(timeout=30)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.iterdir()}
    dead = [two.bbctl("runs", verb, run.name, "--dry-run", "-o", "json", home=home) for verb in BOTH]
    assert [(said.code, json.loads(said.out)["refusals"]) for said in dead] == [(0, [])] * 2
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.iterdir()} == before
    two.members[0].flag("start-waits", on=False)
    assert two.change("runs", "resume", run.name, home=home).outcomes == {"h1": "restarted"}
    done = two.bbctl("runs", "resume", run.name, "--dry-run", "-o", "json", home=home)
    assert (done.code, json.loads(done.out)["dry_run"], json.loads(done.out)["plan"]) == (0, True, [])


def test_a_run_whose_lock_was_broken_open_changes_nothing_more(two: Shop, tmp_path: Path) -> None:
    home, member = str(tmp_path / "home"), two.members[0]
    member.flag("start-waits")
    proc = two.popen("restart", "h1", "--yes", "-o", "json", home=home)
    wait_for(lambda: member.calls == ["stop", "start"], "the start command", 60)
    broken = two.change("unlock", "h1", home=str(tmp_path / "other"))
    assert broken.code == 0, broken
    member.flag("start-waits", on=False)
    said = finish(proc)
    assert (said.code, said.outcomes, said.steps()["started"]) == (1, {"h1": "failed"}, "failed"), said
    assert "is lost: it was removed" in str(said.record["hosts"][0]["steps"])
    assert not member.heartbeat.exists(), "put back without a lock"


def test_abort_marks_the_run_and_lets_its_hosts_go(two: Shop, tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    proc = two.popen("restart", "all", "--yes", "--reason", "test", home=home)
    assert kill_at(proc, two, "stop", home=home)
    proc.communicate(timeout=30)
    run = two.runs(home)[-1].name
    refused = two.change("restart", "h1", home=str(tmp_path / "other"))
    assert (refused.code, refused.record["error"]["code"]) == (3, "locked")
    assert all(word in refused.record["error"]["message"] for word in (run, "ann", "seen", "test"))
    aborted = two.change("runs", "abort", run, home=home)
    assert (aborted.code, aborted.record["aborted"], aborted.record["outcome"]) == (0, True, "interrupted")
    assert two.change("runs", "resume", run, home=home).code == 0
    assert two.change("restart", "h1", home=str(tmp_path / "other")).code == 0


def test_abort_names_a_host_that_it_cannot_unlock_since_the_inventory_has_it_no_more(two: Shop, tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    proc = two.popen("restart", "all", "--yes", home=home)
    assert kill_at(proc, two, "stop", home=home)
    proc.communicate(timeout=30)
    inventory = json.loads((two.folder / "inventory.yml").read_text())
    inventory["groups"]["all"]["hosts"] = "h2.snc1"
    del inventory["hosts"]["h1.snc1"]
    (two.folder / "inventory.yml").write_text(json.dumps(inventory))
    aborted = two.change("runs", "abort", two.runs(home)[-1].name, home=home)
    two.write()
    assert (aborted.code, aborted.record["aborted"]) == (1, True)
    elsewhere = two.change("restart", "h1", home=str(tmp_path / "other"))
    assert elsewhere.record["error"]["code"] == "locked", "it says what is so"


def test_asked_twice_it_does_not_wait_for_a_host_that_is_silent(two: Shop, tmp_path: Path) -> None:
    """The network stands still in mid-step: no wait for an answer keeps an operator from leaving."""
    home, member = str(tmp_path / "home"), two.members[0]
    proxy = two.farm.proxy("h1.snc1")
    known, inventory = two.farm.known_hosts.read_text(), json.loads((two.folder / "inventory.yml").read_text())
    inventory["hosts"]["h1.snc1"].update(address="127.0.0.1", port=str(proxy.port))
    inventory["services"]["jboss"]["health"]["url"] = f"http://{member.host.address}:{member.port}/health"
    (two.folder / "inventory.yml").write_text(json.dumps(inventory))
    line = two.farm.known_line("h1.snc1", address="127.0.0.1")
    two.farm.known_hosts.write_text(known + line.replace(f":{two.farm.port}", f":{proxy.port}", 1))
    try:
        proc = two.popen("restart", "h1", "--yes", home=home)
        assert kill_at(proc, two, "stop", 0, home=home)
        proxy.mode = "freeze"
        os.killpg(proc.pid, signal.SIGINT)
        assert proc.stderr is not None
        while b"will finish this host" not in proc.stderr.readline():
            assert proc.poll() is None
        os.killpg(proc.pid, signal.SIGINT)
        ended = finish(proc, timeout=40)
    finally:
        proxy.mode = "cut"
        two.farm.known_hosts.write_text(known)
        two.write()
    said = two.bbctl("runs", "show", two.runs(home)[-1].name, "-o", "json", home=home)
    assert (ended.code, said.outcomes) == (130, {"h1": "interrupted"}), ended
    assert (said.record["outcome"], said.record["hosts"][0]["vip"]) == ("interrupted", "out")
    assert two.change("runs", "resume", said.record["run"], home=home).code == 0


def test_a_run_that_slept_longer_than_its_lock_takes_no_host_out(two: Shop, tmp_path: Path) -> None:
    """A laptop that was shut for an hour: another run may have counted on this host since, and have taken its neighbour."""
    home, member = str(tmp_path / "home"), two.members[0]
    inventory = json.loads((two.folder / "inventory.yml").read_text())
    (two.folder / "inventory.yml").write_text(json.dumps({**inventory, "lock": {"expires": "2s"}}))
    record = two.members[0].home / ".bbctl/lock"
    try:
        proc = two.popen("restart", "h1", "--yes", "-o", "json", home=home)
        assert kill_at(proc, two, "drain", signal.SIGSTOP, home=home)
        wait_for(
            lambda: int(record.read_text().split("expires ")[1].split()[0]) < time.time_ns(), "the lock to run out"
        )
        os.killpg(proc.pid, signal.SIGCONT)
        said = finish(proc, timeout=40)
    finally:
        two.write()
    assert (said.code, said.outcomes, said.steps()["drain"]) == (1, {"h1": "failed"}, "failed"), said
    assert (member.heartbeat.exists(), member.calls) == (True, [])
    assert two.change("runs", "resume", said.record["run"], home=home).outcomes == {"h1": "restarted"}


def test_what_cannot_be_written_down_is_not_done_and_the_record_is_told_all_the_same(two: Shop, tmp_path: Path) -> None:
    """The disk of the journal fills up in mid-run: here a limit on the size of any file."""
    home, member = str(tmp_path / "home"), two.members[0]
    proc = two.popen("restart", "all", "--yes", "-o", "json", home=home)
    assert kill_at(proc, two, "stop", 0, home=home)
    room = (two.runs(home)[-1] / "journal.jsonl").stat().st_size + 300
    resource.prlimit(proc.pid, resource.RLIMIT_FSIZE, (room, room))
    said = finish(proc)
    assert (said.code, said.record["outcome"], said.record["error"]["code"]) == (1, "failed", "journal"), said
    assert said.outcomes == {"h1": "interrupted", "h2": "untouched"}
    assert said.record["hosts"][0]["vip"] == "out"
    assert "start" not in member.calls
    shown = two.bbctl("runs", "show", said.record["run"], "-o", "json", home=home)
    assert (shown.record["outcome"], shown.outcomes) == ("interrupted", said.outcomes)
    resumed = two.change("runs", "resume", said.record["run"], home=home)
    assert resumed.outcomes == {"h1": "restarted", "h2": "restarted"}, resumed
    assert (member.calls, member.heartbeat.exists()) == (["stop", "start"], True)
