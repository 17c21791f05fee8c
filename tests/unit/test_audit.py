"""The audit file: a chain in which every edit, move, cut and lost line shows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bbctl import audit
from bbctl.errors import Failed


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for n in range(6):
        audit.append(tmp_path, {"operator": "ann", "n": n})
    return tmp_path


def test_a_file_that_nobody_touched_is_whole(home: Path) -> None:
    assert audit.verify(home) == 6
    assert [e["n"] for e in audit.entries(home)] == list(range(6))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda ls: [*ls[:2], ls[2].replace('"ann"', '"bob"'), *ls[3:]], 3),
        (lambda ls: [*ls[:2], *ls[3:]], 3),
        (lambda ls: [ls[0], ls[2], ls[1], *ls[3:]], 2),
        (lambda ls: [*ls[:3], "nonsense\n", *ls[3:]], 4),
        (lambda ls: ls[:4], 5),
        (lambda ls: [], 1),
    ],
    ids=["edited", "deleted", "moved", "added", "cut", "emptied"],
)
def test_the_first_line_that_is_not_as_written_is_named(
    home: Path, change: Callable[[list[str]], list[str]], line: int
) -> None:
    path = home / "audit.jsonl"
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))
    with pytest.raises(Failed, match=rf"audit\.jsonl:{line}:"):
        audit.verify(home)


def test_writers_at_once_make_one_chain(tmp_path: Path) -> None:
    threads = [threading.Thread(target=lambda: [audit.append(tmp_path, {"n": n}) for n in range(10)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert audit.verify(tmp_path) == 80


def test_a_writer_killed_before_it_moved_the_head_leaves_no_false_alarm(home: Path) -> None:
    head = (home / "audit.head").read_text()
    audit.append(home, {"n": 7})
    (home / "audit.head").write_text(head)
    assert audit.verify(home) == 7


@pytest.mark.parametrize("kept", [1, 40, -2])
def test_a_writer_killed_in_mid_write_is_told_and_the_chain_goes_on_behind_it(home: Path, kept: int) -> None:
    path, head = home / "audit.jsonl", (home / "audit.head").read_text()
    before = path.read_bytes()
    audit.append(home, {"operator": "ann", "n": 6})
    half = path.read_bytes()[len(before) :][:kept]
    path.write_bytes(before + half)
    (home / "audit.head").write_text(head)
    assert (audit.verify(home), audit.torn(home), len(list(audit.entries(home)))) == (6, [7], 6)
    for n in (7, 8):
        audit.append(home, {"operator": "ann", "n": n})
    assert (audit.verify(home), audit.torn(home)) == (8, [7])
    assert [e.get("torn") for e in audit.entries(home)][5:] == [None, half.decode(), None], (
        "what there was of it is kept"
    )
    path.write_text(path.read_text().replace('"torn": ', '"thorn": '))
    with pytest.raises(Failed, match=r"audit\.jsonl:7:"):
        audit.verify(home)


def test_a_line_killed_before_its_end_of_line_is_whole(home: Path) -> None:
    path, head = home / "audit.jsonl", (home / "audit.head").read_text()
    audit.append(home, {"n": 6})
    path.write_bytes(path.read_bytes()[:-1])
    (home / "audit.head").write_text(head)
    assert (audit.verify(home), audit.torn(home)) == (7, [])
    audit.append(home, {"n": 7})
    assert (audit.verify(home), audit.torn(home)) == (8, [])


def test_half_of_a_line_that_was_whole_before_is_found_however_many_follow(home: Path) -> None:
    path = home / "audit.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    for _ in range(2):
        with pytest.raises(Failed, match=r"audit\.jsonl:6:"):
            audit.verify(home)
        audit.append(home, {"n": 6})


def test_passwords_in_urls_are_masked() -> None:
    assert audit.masked(["--x", "mongodb://u:secret@h/db", "redis://:secret@h"]) == [
        "--x",
        "mongodb://u:***@h/db",
        "redis://:***@h",
    ]


def test_the_words_of_a_call_are_kept_without_their_secrets() -> None:
    words = [
        "exec", "w1", "--", "mysql", "--password", "canary-1", "--token=canary-2", "password=canary-3",
        "mongodb://bb:can@ary-4@db/x", "Authorization: Bearer canary-5", "https://ann:canary-6@hooks/x",
    ]  # fmt: skip
    said = " ".join(audit.masked(words))
    assert not [n for n in range(1, 7) if f"canary-{n}" in said or f"ary-{n}" in said], said
    assert said.startswith("exec w1 -- mysql --password ***")
