"""What steps say and note of what they saw on a host; no host is asked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from bbctl.hang import Verdict
from bbctl.model import Hang, Health, Proc, Service
from bbctl.run import steps
from bbctl.run.watch import Glance
from bbctl.run.work import StepFailed, Work

SERVICE = Service(name="jboss", log="/log", started="Started in", hang=Hang(after="stopp?ing hornetq", within=3.0))
PROC = Proc(pid=7, ticks=1, started=0.0, user="jboss", command="java")


def work(service: Service = SERVICE) -> tuple[Work, dict[str, Any]]:
    noted: dict[str, Any] = {}
    return cast(Work, SimpleNamespace(service=service, known={}, note=lambda **facts: noted.update(facts))), noted


def test_what_a_log_says_of_its_stop_is_noted_without_its_secrets() -> None:
    w, noted = work()
    line = "03:02:58 INFO Stopping HornetQ mongodb://ann:hunter2@db/x token=s3cret"
    steps._tell(w, Glance(proc=PROC, verdict=Verdict(hung=False, word="stopping", line=line)))
    assert noted["says"] == "Stopping HornetQ mongodb://ann:***@db/x token=***"


def test_a_start_that_nothing_can_prove_fails_at_once_and_names_what_is_missing() -> None:
    w, _ = work()
    with pytest.raises(StepFailed, match=r"process 7 was not launched .* /log bear no date.*no `health`"):
        steps._untold(w, Glance(proc=PROC))


def test_a_start_that_a_dated_log_may_still_prove_is_waited_for_and_health_proves_it_where_there_is_any() -> None:
    w, _ = work()
    assert steps._untold(w, Glance(proc=PROC, dated=True)) is None
    w, _ = work(Service(name="jboss", log="/log", started="Started in", health=Health(url="http://h/")))
    done = steps._untold(w, Glance(proc=PROC))
    assert done is not None
    assert done.outcome == "skipped"
