"""A service of another user, reached by a real sudo that never asks: with exact rights it works, without them nothing hangs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.shop import Said
from tests.integration.sshd import processes, wait_for
from tests.integration.two_users import TwoUsers, two_users

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def made() -> Iterator[TwoUsers]:
    with two_users(net=200 + os.getpid() % 40) as host:
        yield host


@pytest.fixture
def host(made: TwoUsers) -> TwoUsers:
    """Running, in its VIP, with exactly the rights that a restart needs."""
    (made.service / "hang").unlink(missing_ok=True)
    made.running()
    return made


def test_with_rights_for_exact_commands_a_restart_stops_and_starts_as_the_other_user(host: TwoUsers) -> None:
    before = host.pid
    said = host.change("restart", "h1")
    assert (said.code, said.outcomes) == (0, {"h1": "restarted"}), said
    assert host.calls == ["stop jb", "start jb"]
    assert host.pid not in (None, before)
    assert host.heartbeat.exists()


def test_a_hang_of_another_user_s_service_is_documented_and_killed_and_its_stop_command_ended(host: TwoUsers) -> None:
    host.sudoers("Defaults use_pty", *host.exact)
    before = host.pid
    (host.service / "hang").touch()
    said = host.change("restart", "h1")
    assert (said.code, said.outcomes) == (0, {"h1": "restarted"}), said
    row = said.record["hosts"][0]
    assert (row["hung"], row["killed_pid"]) == (True, before)
    assert "Full thread dump" in "".join(Path(p).read_text(errors="replace") for p in row["evidence"])
    assert host.calls == ["stop jb", "start jb"]
    assert host.pid not in (None, before)
    wait_for(lambda: not processes(f"{host.init} stop"), "the stop command to be gone")
    (host.service / "hang").unlink()


def detail(said: Said, step: str) -> str:
    """What the record says of the host's step."""
    return str(next(s["detail"] for s in said.record["hosts"][0]["steps"] if s["step"] == step))


RULES = {
    "none without a password": ("ops ALL=(jb) ALL", "a password is required"),
    "the last one asks for a password": ("ops ALL=(jb) NOPASSWD: {start}, PASSWD: {stop}", "a password is required"),
    "none": ("jb ALL=(jb) NOPASSWD: ALL", "a password is required"),  # so says sudo of those whom it does not know
    "for other commands": ("ops ALL=(jb) NOPASSWD: {start}, /bin/kill", "no rule of sudoers allows it"),
    "for another user": ("ops ALL=(locked) NOPASSWD: ALL", "no rule of sudoers allows it"),
    "with a terminal only": ("Defaults requiretty\n{exact}", "sorry, you must have a tty to run sudo"),
}


SELDOM = ("none", "for another user")


@pytest.mark.parametrize("rules", [pytest.param(r, marks=pytest.mark.faults if r in SELDOM else ()) for r in RULES])
def test_where_sudo_would_not_run_the_commands_at_once_nothing_is_touched_and_the_cause_is_named(
    host: TwoUsers, rules: str
) -> None:
    words = {"start": f"{host.init} start", "stop": f"{host.init} stop", "exact": host.exact[0]}
    rule, cause = (text.format(**words) for text in RULES[rules])
    host.sudoers(rule)
    before = host.pid
    said = host.change("restart", "h1")
    assert (said.code, said.outcomes, said.steps()["preflight"]) == (1, {"h1": "failed"}, "failed"), said
    assert f"sudo -n -u jb {words['stop']}: {cause}" in detail(said, "preflight")
    assert (host.calls, host.pid, host.heartbeat.exists()) == ([], before, True)


def test_rights_that_are_taken_away_in_mid_run_fail_the_step_at_once_and_the_cause_is_named(host: TwoUsers) -> None:
    """The VIP's own command takes them away, right behind the preflight that proved them."""
    out = host.folder / "out"
    take = f"touch {out}; echo 'root ALL=(ALL) ALL' > {host.folder}/etc/sudoers"
    state = f"if [ -e {out} ]; then echo out; else echo in; fi"
    commands = {"out": ["sh", "-c", take], "in": ["rm", "-f", str(out)], "state": ["sh", "-c", state]}
    host.write({"kind": "command", "settle": "100ms", **commands})
    before = host.pid
    said = host.change("restart", "h1")
    host.write()
    assert (said.code, said.outcomes) == (1, {"h1": "failed"}), said
    assert (said.steps()["preflight"], said.steps()["stop"]) == ("ok", "failed")
    assert "the stop command ended with 1: sudo: a password is required" in detail(said, "stop")
    assert (host.calls, host.pid, out.exists()) == ([], before, True)


def test_without_the_right_to_kill_a_kill_is_refused_with_the_cause_and_the_rehearsal_says_so_before(
    host: TwoUsers,
) -> None:
    host.sudoers(f"ops ALL=(jb) NOPASSWD: {host.init} start, {host.init} stop")
    before = host.pid
    said = host.change("kill", "h1", "-9", "--no-evidence")
    assert said.code == 3, said
    assert "a password is required" in json.loads(said.out)[0]["error"]
    assert host.pid == before
    rehearsed = host.bbctl("restart", "h1", "--rehearse")
    assert rehearsed.code == 0, rehearsed
    assert "a hang could not be ended: sudo -n -u jb kill" in detail(rehearsed, "preflight")


def test_a_process_of_another_user_is_killed_by_the_right_to_kill_alone(host: TwoUsers) -> None:
    host.sudoers("ops ALL=(jb) NOPASSWD: /bin/kill")
    before = host.pid
    said = host.change("kill", "h1", "-9", "--no-evidence")
    row = json.loads(said.out)[0]
    assert (said.code, row["outcome"], row["pid"]) == (0, "ended", before), said
    assert host.pid is None


def test_a_log_that_may_not_be_read_is_found_before_a_start_that_only_it_could_prove(host: TwoUsers) -> None:
    log, before = host.service / "server.log", host.pid
    log.chmod(0o600)
    try:
        said, threads = host.change("restart", "h1"), host.bbctl("threads", "h1")
    finally:
        log.chmod(0o644)
    assert (said.code, said.outcomes, said.steps()["preflight"]) == (1, {"h1": "failed"}, "failed"), said
    assert f"the log {log} may not be read" in detail(said, "preflight")
    assert (host.calls, host.pid, host.heartbeat.exists()) == ([], before, True)
    assert f"{log}, where it would land, may not be read" in json.loads(threads.out)[0]["error"]


def test_the_patterns_are_counted_in_a_log_that_only_the_services_user_may_read(host: TwoUsers) -> None:
    host.sudoers("ops ALL=(jb) NOPASSWD: ALL")
    log = host.service / "server.log"
    lines = log.read_text().count("Started in")
    log.chmod(0o600)
    try:
        said = host.change("restart", "h1", "--rehearse")
        host.service.chmod(0o700)  # nor may the login user look into its folder
        hidden = host.change("restart", "h1", "--rehearse")
        host.sudoers(*host.exact)
        unknown = host.change("restart", "h1", "--rehearse")
    finally:
        host.service.chmod(0o755)
        log.chmod(0o644)
    assert f"`started` fits {lines} line" in detail(said, "started"), said
    assert f"`started` fits {lines} line" in detail(hidden, "started"), hidden
    assert "fits" not in json.dumps(unknown.record), unknown
