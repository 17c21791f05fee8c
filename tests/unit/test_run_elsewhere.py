"""A run of another machine that was last heard of as under way: dead only where every host it was at says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bbctl.model import Elsewhere, HostRecord, RunRecord
from bbctl.run.elsewhere import FRESH, Answers, alive

RUNNING = RunRecord(
    run="r-1", kind="restart", outcome="running", reason="", operator="ann@ops1", started=1.0, finished=None,
    hosts=(
        HostRecord(host="w1", outcome="restarted"),
        HostRecord(host="w2", outcome="running", step="stop"),
        HostRecord(host="w3", outcome="untouched"),
    ),
    elsewhere=Elsewhere(machine="ops1", home="/home/ann", age=10 * FRESH),
)  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ({}, "running"),
        ({"w1": None, "w3": None}, "running"),  # the host it was at is silent: its lock may stand there
        ({"w2": None}, "interrupted"),
        ({"w1": None, "w2": None, "w3": None}, "interrupted"),
    ],
)
def test_a_run_is_dead_only_if_the_hosts_it_was_at_answer(answers: Answers, outcome: str) -> None:
    told = alive(RUNNING, answers)
    assert told.outcome == outcome
    assert [h.outcome for h in told.hosts] == ["restarted", outcome, "untouched"]


def test_a_copy_that_is_young_is_believed() -> None:
    young = replace(RUNNING, elsewhere=Elsewhere(machine="ops1", home=None, age=FRESH / 2))
    assert alive(young, {"w2": None}) == young
