"""Runs that meet: what is told of one that lives, of one that lost its lock, and what is left alone when one goes on late."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.shop import Shop, finish, kill_at, shop
from tests.integration.sshd import wait_for


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop(tmp_path_factory.mktemp("met"), 2) as made:
        made.changes = {"hang": {"after": "stopp?ing hornetq", "within": "60s"}, "stop_timeout": "60s"}
        made.write()
        yield made


def break_locks(made: Shop) -> None:
    """What their expiry comes to, without the wait."""
    done = made.bbctl("unlock", "all", "--yes", "--reason", "test", home="breaker")
    assert done.code == 0, done


def test_a_host_at_work_is_told_as_running_and_a_lock_that_was_lost_is_not_let_go(pair: Shop, tmp_path: Path) -> None:
    home, member = str(tmp_path / "home"), pair.members[0]
    member.flag("hang", "stop-blocks")
    proc = pair.popen("restart", "h1", "--yes", "-o", "json", home=home)
    assert kill_at(proc, pair, "stop", 0, home=home)
    run = pair.runs(home)[-1].name
    shown = pair.bbctl("runs", "show", run, "-o", "json", home=home)
    assert (shown.record["outcome"], shown.record["hosts"][0]["step"]) == ("running", "stop")
    assert shown.outcomes == {"h1": "interrupted"}, "of a host's outcomes; there is none for one at work"
    text = pair.bbctl("runs", "show", run, home=home).out
    assert "under way, at stop" in text
    assert f"bbctl runs show {run} -w" in text
    break_locks(pair)
    member.flag("hang", "stop-blocks", on=False)
    said = finish(proc)
    assert (said.code, said.outcomes, said.steps()["unlock"]) == (1, {"h1": "failed"}, "skipped"), said
    assert "lost" in said.record["hosts"][0]["steps"][-1]["detail"]
    member.down()
    assert pair.change("restart", "h1", home=home).outcomes == {"h1": "restarted"}


def test_what_another_run_restarted_meanwhile_is_not_restarted_again(pair: Shop, tmp_path: Path) -> None:
    """Its lock ran out, somebody else did the work, and its owner comes back to it: reality is looked at first."""
    home = str(tmp_path / "home")
    proc = pair.popen("restart", "all", "--yes", "--reason", "test", home=home)
    assert kill_at(proc, pair, "stop", home=home)
    proc.communicate(timeout=30)
    break_locks(pair)
    assert pair.change("restart", "all", home="other").code == 0
    calls, pids = [m.calls for m in pair.members], [m.pid for m in pair.members]
    resumed = pair.change("runs", "resume", pair.runs(home)[-1].name, home=home)
    assert (resumed.code, resumed.outcomes) == (0, {"h1": "restarted", "h2": "restarted"}), resumed
    assert [resumed.steps(h)["stop"] for h in ("h1", "h2")] == ["skipped"] * 2
    assert [resumed.steps(h)["drain"] for h in ("h1", "h2")] == ["skipped"] * 2, "taken out of service for nothing"
    assert ([m.calls for m in pair.members], [m.pid for m in pair.members]) == (calls, pids)


def test_a_host_that_was_down_and_was_started_by_hand_is_not_stopped(pair: Shop, tmp_path: Path) -> None:
    home, member = str(tmp_path / "home"), pair.members[0]
    member.down()
    wait_for(lambda: member.pid is None, "its process to end")
    proc = pair.popen("restart", "h1", "--yes", "--reason", "test", home=home)
    assert kill_at(proc, pair, "drain", signal.SIGKILL, home=home)
    proc.communicate(timeout=30)
    pid = member.up()
    member.heartbeat.touch()
    resumed = pair.change("runs", "resume", pair.runs(home)[-1].name, home=home)
    assert (resumed.code, resumed.outcomes, member.calls) == (0, {"h1": "restarted"}, []), resumed
    assert member.pid == pid


def test_a_resumed_drain_takes_out_a_host_that_another_run_put_in_again(pair: Shop, tmp_path: Path) -> None:
    home, member = str(tmp_path / "home"), pair.members[0]
    proc = pair.popen("drain", "h1", "--yes", "--reason", "test", home=home)
    assert kill_at(proc, pair, "drain", home=home)
    proc.communicate(timeout=30)
    break_locks(pair)
    assert pair.change("restart", "h1", home="other").code == 0
    assert member.heartbeat.exists()
    resumed = pair.change("runs", "resume", pair.runs(home)[-1].name, home=home)
    assert (resumed.code, resumed.outcomes, member.heartbeat.exists()) == (0, {"h1": "drained"}, False), resumed
    assert pair.change("undrain", "h1", home=home).code == 0
