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
from bbctl.model import Elsewhere, HostOutcome, HostRecord, RunOutcome, RunRecord, StepOutcome, StepRecord, VipState
from bbctl.settings import Stores, machine
from bbctl.stores import embedded
from engine import errors
from engine.hostruns import Copy
from engine.hostruns import HostRuns as HostRuns

PATIENCE = 2.0  # seconds for one answer
LIMIT = 500  # runs that a list takes in
MOST, DAYS = 5000, 400.0  # copies that are kept, and how long after they were last written
LATEST = 1e11  # seconds since the epoch: what is later is no date
_OUTCOMES = (*get_args(RunOutcome), *get_args(HostOutcome))


def url_of(stores: Stores, home: Path) -> str | None:
    """The MongoDB that copies go to: the one that is named, or the embedded one where it is up. Starts nothing."""
    if stores.named:
        return stores.mongo
    kept = embedded.status(home)["mongo"]
    return str(kept["url"]) if kept["state"] == "ok" else None


def keep(runs: HostRuns, record: RunRecord, home: Path) -> None:
    """Write the record of a run of this home, with the head of its audit. Raises StoreDown."""
    text = json.dumps(asdict(record), ensure_ascii=False).encode("utf-8", "replace").decode()
    copy = Copy(run=record.run, machine=machine(), home=str(home), record=text, age=0.0)
    with _ours():
        runs.put(copy, started=record.started, chain=_chain(home), head=audit.head(home))


def prune(runs: HostRuns) -> int:
    """Delete the copies that are too old or too many; how many those were. The journals stay. Raises StoreDown."""
    with _ours():
        return runs.prune(most=MOST, days=DAYS)


def newest(url: str) -> list[RunRecord]:
    """The last runs of all machines, newest first. Raises StoreDown."""
    with opened(url) as runs:
        return _records(runs.newest(LIMIT))


def named(url: str, beginning: str) -> list[RunRecord]:
    """The runs of all machines whose id begins so. Raises StoreDown."""
    with opened(url) as runs:
        return _records(runs.named(beginning))


def heads(url: str, home: Path) -> list[tuple[int, str]]:
    """Number and hash of every line of this home's audit that was the last one when a run was copied. Raises StoreDown."""
    with opened(url) as runs:
        return runs.heads(_chain(home))


@contextmanager
def opened(url: str) -> Iterator[HostRuns]:
    """One connection for all that is asked and written in it. Whatever MongoDB refuses is a StoreDown."""
    with _ours(), HostRuns(url, within=PATIENCE) as runs:
        yield runs


@contextmanager
def _ours() -> Iterator[None]:
    """The engine's error as bbctl's."""
    try:
        yield
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
        sound = record.run == copy.run and _word(copy.machine) and _sound(record) and all(map(_sound_row, rows))
        return record if sound else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _sound(record: RunRecord) -> bool:
    """Whether it holds what it should, rows apart: its id becomes a part of commands to type."""
    return (
        _word(record.run)
        and all(isinstance(text, str) for text in (record.kind, record.reason, record.operator))
        and _time(record.started)
        and (record.finished is None or _time(record.finished))
        and record.outcome in _OUTCOMES
        and _told(record.error)
        and isinstance(record.aborted, bool)
        and isinstance(record.inventory, str | None)
    )


def _sound_row(row: HostRecord) -> bool:
    """The same of a host: its name, too, stands in commands."""
    return (
        _word(row.host)
        and row.outcome in _OUTCOMES
        and isinstance(row.hung, bool)
        and isinstance(row.killed_pid, int | None)
        and all(isinstance(path, str) for path in row.evidence)
        and row.vip in get_args(VipState)
        and (row.step is None or _word(row.step))
        and all(_sound_step(step) for step in row.steps)
    )


def _sound_step(step: StepRecord) -> bool:
    return (
        _word(step.step)
        and step.outcome in get_args(StepOutcome)
        and _time(step.seconds)
        and isinstance(step.detail, str)
    )


def _word(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch(r"\w[\w.@+-]{0,252}", text) is not None


def _time(number: object) -> bool:
    """Whether it is a date or a duration that can be told, in seconds."""
    return isinstance(number, int | float) and 0 <= number < LATEST


def _told(error: object) -> bool:
    if error is None:
        return True
    return (
        isinstance(error, Mapping)
        and isinstance(error.get("message"), str)
        and all(isinstance(text, str | None) for text in error.values())
    )


def _row(said: dict[str, Any]) -> HostRecord:
    steps = tuple(StepRecord(**_known(StepRecord, step)) for step in said.pop("steps"))
    evidence = said["evidence"]
    if not isinstance(evidence, list):
        raise TypeError("evidence is no list")
    return HostRecord(**{**_known(HostRecord, said), "steps": steps, "evidence": tuple(evidence)})


def _known(kind: type[Any], said: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: said[field.name] for field in fields(kind) if field.name in said}
