"""What MongoDB holds of runs is somebody else's word: a record is made of it, or nothing."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from bbctl.cli.running import next_for
from bbctl.model import HostRecord, RunRecord, StepRecord
from bbctl.stores import copies
from engine import hostruns
from engine.hostruns import Copy

STEP = StepRecord(step="stop", outcome="ok", seconds=1.5, detail="stopped")
RECORD = RunRecord(
    run="r-7e11", kind="restart", outcome="interrupted", reason="deploy 81", operator="ann@ops1", started=1.0, finished=None,
    hosts=(HostRecord(host="w1.snc1", outcome="interrupted", steps=(STEP,), evidence=("/e",), step="start"),),
)  # fmt: skip


def told(said: Any, *, run: str = "r-7e11") -> RunRecord | None:
    text = said if isinstance(said, str) else json.dumps(said)
    return copies._record(Copy(run=run, machine="ops1", home="/home/ann/my state", record=text, age=3.0))


def test_a_copy_is_the_record_that_was_written_and_where_its_journal_lies() -> None:
    found = told(asdict(RECORD))
    assert found is not None
    assert found.elsewhere is not None
    assert {**asdict(found), "elsewhere": None} == asdict(RECORD)
    assert next_for(found) == "on ops1: BBCTL_HOME='/home/ann/my state' bbctl runs resume r-7e11 · bbctl unlock w1"


def test_what_a_later_bbctl_adds_is_passed_over() -> None:
    assert told({**asdict(RECORD), "mood": "good"}) == told(asdict(RECORD))


@pytest.mark.parametrize(
    "change",
    [
        {"run": "r-other"}, {"started": "yesterday"}, {"outcome": "fine"}, {"outcome": {}}, {"reason": None},
        {"hosts": "all"}, {"hosts": [{}]}, {"started": 1e300}, {"started": float("inf")}, {"started": float("nan")},
        {"started": -1}, {"finished": 1e300}, {"finished": ""}, {"error": "x"}, {"error": {"a": 1}}, {"error": {"next": "x"}},
        {"aborted": "no"}, {"inventory": 7},
    ],
)  # fmt: skip
def test_what_is_no_record_is_left_out(change: dict[str, Any]) -> None:
    assert told({**asdict(RECORD), **change}) is None


@pytest.mark.parametrize(
    "change",
    [
        {"evidence": [1]}, {"evidence": "/e"}, {"vip": []}, {"vip": "maybe"}, {"host": "h;rm -rf ~"}, {"host": "-h"},
        {"host": ""}, {"step": "\x1b[2J"}, {"hung": "yes"}, {"killed_pid": "1"}, {"outcome": []},
        {"steps": [{**asdict(STEP), "seconds": 1e300}]}, {"steps": [{**asdict(STEP), "step": "a b"}]},
    ],
)  # fmt: skip
def test_a_run_with_a_row_that_cannot_be_told_is_left_out(change: dict[str, Any]) -> None:
    (row,) = asdict(RECORD)["hosts"]
    assert told({**asdict(RECORD), "hosts": [row]}) is not None
    assert told({**asdict(RECORD), "hosts": [{**row, **change}]}) is None


@pytest.mark.parametrize(("next", "typed"), [("bbctl unlock w1", "bbctl unlock w1"), ("bbctl unlock w1; reboot", None)])
def test_of_a_refusal_elsewhere_only_a_plain_command_is_to_be_typed(next: str, typed: str | None) -> None:
    error = {"code": "locked", "message": "locked", "next": next}
    found = told({**asdict(RECORD), "outcome": "refused", "error": error})
    assert found is not None
    assert next_for(found) == typed


@pytest.mark.parametrize(
    "change",
    [{"run": 7}, {"machine": None}, {"home": []}, {"record": {}}, {"age": None}, {"age": "long"}],
)
def test_a_document_that_is_no_copy_is_passed_over(change: dict[str, Any]) -> None:
    doc = {"run": "r-7e11", "machine": "ops1", "home": "/home/ann", "record": "{}", "age": 3000}
    assert hostruns._copy(doc) is not None
    assert hostruns._copy({**doc, **change}) is None


def test_a_head_of_the_audit_that_is_none_is_passed_over() -> None:
    said = [{"line": 3, "hash": "ab"}, {"line": "3", "hash": "ab"}, {"line": 3}, "x", None]
    assert [hostruns._head(head) for head in said] == [(3, "ab"), None, None, None, None]


@pytest.mark.parametrize("text", ["", "[]", "null", '{"hosts": {}}', "not json"])
def test_what_is_no_json_object_of_ours_is_left_out(text: str) -> None:
    assert told(text) is None


def test_an_id_that_is_no_word_is_no_part_of_a_command() -> None:
    assert told({**asdict(RECORD), "run": "r-1; reboot"}, run="r-1; reboot") is None
