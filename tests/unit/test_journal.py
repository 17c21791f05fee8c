"""A run on disk: what a journal folds to, however it ended."""

from __future__ import annotations

import json
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bbctl.errors import ConfigError, Refused, UsageError
from bbctl.run import journal
from bbctl.run.journal import Journal, NotWritten

BEGIN: dict[str, Any] = {"kind": "restart", "reason": "r", "operator": "ann@ops1", "hosts": ["w1", "w2"]}


def create(home: Path, at: float = 100.0) -> Journal:
    return Journal.create(home, BEGIN, now=lambda: at)


def done(book: Journal, host: str) -> None:
    book.write("intent", host=host, step="stop")
    book.write("step", host=host, step="stop", outcome="ok", seconds=1.0, detail="")
    book.write("host", host=host, outcome="restarted", vip="in")


def test_a_run_whose_process_is_gone_is_interrupted_in_the_step_that_was_announced(tmp_path: Path) -> None:
    book = create(tmp_path)
    done(book, "w1")
    book.write("intent", host="w2", step="drain")
    record = journal.read(book.folder)
    assert (record.outcome, [h.outcome for h in record.hosts]) == ("running", ["restarted", "running"])
    journal.os.close(book._fd)  # as the kernel does when the process dies
    record = journal.read(book.folder)
    assert (record.outcome, [h.outcome for h in record.hosts]) == ("interrupted", ["restarted", "interrupted"])
    assert [h.step for h in record.hosts] == [None, "drain"]


def test_a_listener_that_fails_ends_no_run(tmp_path: Path) -> None:
    book = create(tmp_path)

    def fails(event: object) -> None:
        raise OSError("nobody reads")

    book.report = fails
    done(book, "w1")
    assert book.record().hosts[0].outcome == "restarted"


def test_half_a_line_was_never_acted_upon_and_is_taken_away(tmp_path: Path) -> None:
    book = create(tmp_path)
    book.close()
    path = book.folder / "journal.jsonl"
    with path.open("ab") as file:
        file.write(b'{"event": "end", "outc')
    assert journal.read(book.folder).outcome == "interrupted"
    again = Journal.reopen(book.folder)
    again.write("end", outcome="done", error=None)
    again.close()
    assert journal.read(book.folder).outcome == "done"


def test_what_a_resume_adds_replaces_the_outcome_and_keeps_the_steps(tmp_path: Path) -> None:
    book = create(tmp_path)
    book.write("host", host="w1", outcome="failed", vip="out")
    book.write("end", outcome="failed", error={"code": "x", "message": "m", "next": None})
    book.write("resume", token="t2")
    assert (book.record().outcome, book.record().error) == ("running", None)
    done(book, "w1")
    book.write("end", outcome="done", error=None)
    record = book.record()
    assert (record.outcome, record.hosts[0].outcome, len(record.hosts[0].steps)) == ("done", "restarted", 1)
    assert journal.tokens(book.events)[-1] == "t2" == book.token
    book.close()


def test_notes_are_gathered(tmp_path: Path) -> None:
    book = create(tmp_path)
    book.write("note", host="w1", hung=True, killed_pid=42, evidence=["a"])
    book.write("note", host="w1", evidence=["b"], old=[1, 2, "x"])
    row = book.record().hosts[0]
    assert (row.hung, row.killed_pid, row.evidence) == (True, 42, ("a", "b"))
    book.close()


def test_only_one_process_holds_a_run(tmp_path: Path) -> None:
    book = create(tmp_path)
    with pytest.raises(Refused, match="living process"):
        Journal.reopen(book.folder)
    book.close()
    Journal.reopen(book.folder).close()


def test_a_journal_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    book = create(tmp_path)
    book.close()
    assert stat.S_IMODE((book.folder / "journal.jsonl").stat().st_mode) == 0o600
    assert stat.S_IMODE((book.folder / "record.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(book.folder.stat().st_mode) == 0o700
    assert book.token not in (book.folder / "record.json").read_text()


def test_runs_are_listed_newest_first_and_found_by_a_beginning(tmp_path: Path) -> None:
    made = [create(tmp_path, at) for at in (1.0, 3.0, 2.0)]
    for book in made:
        book.close()
    assert [r.started for r in journal.every(tmp_path)] == [3.0, 2.0, 1.0]
    assert journal.find(tmp_path, made[0].run) == made[0].folder
    with pytest.raises(UsageError, match="could be"):
        journal.find(tmp_path, "r-")
    with pytest.raises(UsageError, match="no run"):
        journal.find(tmp_path, "r-nope")


def test_a_journal_that_was_edited_is_named_with_its_line(tmp_path: Path) -> None:
    book = create(tmp_path)
    book.write("end", outcome="done", error=None)
    book.close()
    path = book.folder / "journal.jsonl"
    path.write_text(path.read_text().replace('"done"', '"splendid"'))
    with pytest.raises(ConfigError, match=r"journal\.jsonl:2"):
        journal.read(book.folder)


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        (1, "hosts", None), (1, "at", "noon"), (1, "operator", {}), (2, "host", []), (3, "seconds", "1"), (3, "outcome", []),
        (3, "detail", None), (4, "evidence", 1), (5, "host", {"a": 1}), (6, "at", 1e300), (6, "event", 7),
    ],
)  # fmt: skip
def test_whatever_was_edited_in_one_run_the_others_are_listed(tmp_path: Path, line: int, key: str, value: Any) -> None:
    good, bad = create(tmp_path), create(tmp_path)
    bad.write("intent", host="w1", step="stop")
    bad.write("step", host="w1", step="stop", outcome="ok", seconds=1.0, detail="")
    bad.write("note", host="w1", evidence=["log"])
    bad.write("host", host="w1", outcome="restarted")
    bad.write("end", outcome="done", error=None)
    good.close()
    bad.close()
    path = bad.folder / "journal.jsonl"
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    lines[line - 1][key] = value
    path.write_text("".join(json.dumps(event) + "\n" for event in lines))
    assert [r.run for r in journal.every(tmp_path)] == [good.run]
    with pytest.raises(ConfigError, match=rf"journal\.jsonl:{line}"):
        journal.read(bad.folder)


def test_where_there_is_no_room_nothing_is_announced_and_what_was_done_is_remembered(tmp_path: Path) -> None:
    book = create(tmp_path)
    book.write("intent", host="w1", step="stop")
    whole = (book.folder / "journal.jsonl").read_bytes()
    with no_room(len(whole) + 20):
        for event in (
            {"event": "step", "step": "stop", "outcome": "ok", "seconds": 1.0, "detail": ""},
            {"event": "intent", "step": "start"},
        ):
            with pytest.raises(NotWritten, match="cannot be written"):
                book.write(**event, host="w1")
    assert (book.folder / "journal.jsonl").read_bytes() == whole, "half a line would spoil the next one"
    assert [(s.step, s.outcome) for s in book.record().hosts[0].steps] == [("stop", "ok")]
    assert [e["event"] for e in book.events] == ["begin", "intent", "step"]
    book.write("host", host="w1", outcome="interrupted")
    book.close()
    assert journal.read(book.folder).hosts[0].outcome == "interrupted"


@contextmanager
def no_room(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_record_says_its_times_in_iso_8601(tmp_path: Path) -> None:
    book = create(tmp_path, 0.0)
    assert journal.as_json(book.record())["started"] == "1970-01-01T00:00:00.000Z"
    book.close()
