"""Run records as MongoDB has them: written beside each run, read by other machines. The journal of a run stays the truth."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

from bbctl import audit
from bbctl.errors import StoreDown
from bbctl.model import Elsewhere, HostOutcome, HostRecord, RunOutcome, RunRecord, StepOutcome, StepRecord
from bbctl.settings import Stores, machine
from bbctl.stores import embedded
from engine import errors
from engine.hostruns import Copy, HostRuns

PATIENCE = 2.0  # seconds for one answer
LIMIT = 500  # runs that a list takes in
_OUTCOMES = {*get_args(RunOutcome), *get_args(HostOutcome), *get_args(StepOutcome)}


def url_of(stores: Stores, home: Path) -> str | None:
    """The MongoDB that copies go to: the one that is named, or the embedded one where it is up. Starts nothing."""
    if stores.named:
        return stores.mongo
    kept = embedded.status(home)["mongo"]
    return str(kept["url"]) if kept["state"] == "ok" else None


def keep(url: str, record: RunRecord, home: Path) -> None:
    """Write the record of a run of this home, with the head of its audit. Raises StoreDown."""
    text = json.dumps(asdict(record), ensure_ascii=False).encode("utf-8", "replace").decode()
    copy = Copy(run=record.run, machine=machine(), home=str(home), record=text, age=0.0)
    with _open(url) as runs:
        runs.put(copy, started=record.started, chain=_chain(home), head=audit.head(home))


def newest(url: str) -> list[RunRecord]:
    """The last runs of all machines, newest first. Raises StoreDown."""
    with _open(url) as runs:
        return _records(runs.newest(LIMIT))


def named(url: str, beginning: str) -> list[RunRecord]:
    """The runs of all machines whose id begins so. Raises StoreDown."""
    with _open(url) as runs:
        return _records(runs.named(beginning))


def heads(url: str, home: Path) -> list[tuple[int, str]]:
    """Number and hash of every line of this home's audit that was the last one when a run was copied. Raises StoreDown."""
    with _open(url) as runs:
        return runs.heads(_chain(home))


@contextmanager
def _open(url: str) -> Iterator[HostRuns]:
    try:
        with HostRuns(url, within=PATIENCE) as runs:
            yield runs
    except errors.StoreDown as error:
        raise StoreDown(str(error), next="bbctl stores status") from None


def _chain(home: Path) -> str:
    """Which audit file: of which machine (two may bear one name), below which home."""
    try:
        number = Path("/etc/machine-id").read_text("ascii", "replace").strip()[:12]
    except OSError:
        number = ""
    return f"{machine()}/{number}:{home}"


def _records(copies: list[Copy]) -> list[RunRecord]:
    return [record for copy in copies if (record := _record(copy)) is not None]


def _record(copy: Copy) -> RunRecord | None:
    """The record out of a copy; None where what somebody else wrote there is no record that can be told."""
    where = Elsewhere(machine=copy.machine, home=copy.home, age=copy.age)
    try:
        said = json.loads(copy.record)
        rows = tuple(_row(row) for row in said.pop("hosts"))
        record = RunRecord(**{**_known(RunRecord, said), "hosts": rows, "elsewhere": where})
        return record if record.run == copy.run and _sound(record) else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _sound(record: RunRecord) -> bool:
    """Whether it holds what it should: its id becomes a part of commands to type."""
    steps = [step for row in record.hosts for step in row.steps]
    words = [
        record.kind,
        record.reason,
        record.operator,
        *(row.host for row in record.hosts),
        *(s.detail for s in steps),
    ]
    numbers = [record.started, record.finished or 0.0, *(step.seconds for step in steps)]
    return (
        re.fullmatch(r"[\w.-]{1,64}", record.run) is not None
        and all(isinstance(word, str) for word in words)
        and all(isinstance(number, int | float) for number in numbers)
        and {record.outcome, *(row.outcome for row in record.hosts), *(step.outcome for step in steps)} <= _OUTCOMES
    )


def _row(said: dict[str, Any]) -> HostRecord:
    steps = tuple(StepRecord(**_known(StepRecord, step)) for step in said.pop("steps"))
    return HostRecord(**{**_known(HostRecord, said), "steps": steps, "evidence": tuple(said["evidence"])})


def _known(kind: type[Any], said: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: said[field.name] for field in fields(kind) if field.name in said}
