"""The timeline says what was done and to whom, however the act's line in the audit tells it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from bbctl import audit, silences
from bbctl.cli import silence
from bbctl.cli.front import Call
from bbctl.cli.timeline import _acts


def test_an_act_on_workflows_and_a_command_on_hosts_are_told_in_full() -> None:
    retry = {
        "at": 1.0,
        "act": "workflow retry",
        "result": "done",
        "targets": {"group": "F-1", "nodes": ["a", "b"]},
        "argv": [],
    }
    exec_ = {
        "at": 2.0,
        "act": "exec",
        "result": "done",
        "targets": {"hosts": ["w1.snc1"]},
        "argv": ["exec", "w1", "--", "df", "-h"],
    }
    assert [(row["what"], row["targets"]) for row in _acts([retry, exec_])] == [
        ("workflow retry", ["F-1", "a", "b"]),
        ("exec df -h", ["w1.snc1"]),
    ]
    (half,) = _acts([{**exec_, "said": "1 of 2 ok · 1 unreachable"}])
    assert half["outcome"] == "1 of 2 ok · 1 unreachable"


def test_a_kill_is_told_with_what_came_of_it_on_all_hosts() -> None:
    kill = {
        "at": 1.0,
        "act": "kill",
        "run": "k-1",
        "argv": ["kill", "workers"],
        "targets": ["w1.snc1", "w2.snc1", "w3.snc1"],
    }
    before, after = {**kill, "decision": "intent"}, {**kill, "result": {"w1": "ended", "w2": "ended", "w3": "alive"}}
    (row,) = _acts([before, after])
    assert (row["what"], row["outcome"], row["run"]) == ("kill", "ended, alive", "k-1")
    assert row["targets"] == ["w1.snc1", "w2.snc1", "w3.snc1"]


def test_whoever_gave_a_run_up_is_told_beside_it() -> None:
    given_up = {
        "at": 2.0,
        "operator": "bob@ops1",
        "command": "runs abort",
        "run": "r-1",
        "result": "aborted",
        "argv": [],
    }
    assert [(r["operator"], r["what"], r["outcome"], r["run"]) for r in _acts([given_up])] == [
        ("bob@ops1", "runs abort", "aborted", "r-1")
    ]


def test_a_run_tells_its_own_story() -> None:
    assert _acts([{"at": 1.0, "command": "restart", "result": "done", "run": "r-1", "targets": ["w1"]}]) == []


def test_who_silenced_what_is_told_after_the_silence_is_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {"BBCTL_HOME": str(tmp_path), "BBCTL_INVENTORY": "none", "BBCTL_OPERATOR": "ann"}
    call = Call(command="silence add", words=("silence", "add", "*"), environ=environ)
    silence.add(SimpleNamespace(obj=call), ["*"], reason="network")  # type: ignore[arg-type]
    over = Call(command="silence end", words=("silence", "end", "s1"), environ=environ)
    silence.end(SimpleNamespace(obj=over), "s1")  # type: ignore[arg-type]
    assert silences.active(tmp_path, 0.0) == []
    told = [
        (r["operator"].partition("@")[0], r["what"], r["targets"], r["reason"]) for r in _acts(audit.entries(tmp_path))
    ]
    assert told == [("ann", "silence add", ["*"], "network"), ("ann", "silence end", ["*", "s1"], "")]
