"""A group retry that was cut goes on where it was, however often and wherever it was cut."""

from __future__ import annotations

from pathlib import Path

from bbctl import regroup


def test_what_comes_after_half_a_line_is_a_line_of_its_own(tmp_path: Path) -> None:
    first = regroup.begin(tmp_path, "F-1", ["a", "b", "c"])
    first.tick("a")
    with first.path.open("a", encoding="utf-8") as file:
        file.write('{"done": "b')
    second = regroup.unfinished(tmp_path, "F-1")
    assert second is not None
    assert second.left == ["b", "c"]
    second.tick("b")
    third = regroup.unfinished(tmp_path, "F-1")
    assert third is not None
    assert third.left == ["c"]
