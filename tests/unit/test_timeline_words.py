"""The timeline says what was done and to whom, however the act's line in the audit tells it."""

from __future__ import annotations

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


def test_a_run_tells_its_own_story() -> None:
    assert _acts([{"at": 1.0, "command": "restart", "result": "done", "run": "r-1", "targets": ["w1"]}]) == []
