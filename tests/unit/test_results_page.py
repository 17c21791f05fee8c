"""docs/results.md: who measured replaces their own section and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.__main__ import PARTS
from bench.report import PAGE, replace
from tests.faults.figures import row

TEXT = "# R\n<!-- a: begin -->\nold\n<!-- a: end -->\nkept\n<!-- b: begin -->\nother\n<!-- b: end -->\n"


def test_a_section_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    page.write_text(TEXT)
    replace("a", "new\n\nlines\n", page)
    replace("a", "newer", page)
    assert page.read_text() == TEXT.replace("old", "newer")


def test_a_page_without_the_section_is_an_error_and_stays(tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    page.write_text(TEXT)
    with pytest.raises(ValueError, match="no section c"):
        replace("c", "new", page)
    assert page.read_text() == TEXT


def test_the_page_has_the_sections_that_are_written() -> None:
    text = PAGE.read_text(encoding="utf-8")
    sections = [*(f"bench {part}" for part in PARTS), "faults"]
    assert all(f"<!-- {name}: {end} -->" in text for name in sections for end in ("begin", "end"))


def test_a_fault_run_is_a_line_with_its_figures() -> None:
    report = pytest.TestReport(
        nodeid="tests/x.py::test_nothing_is_lost[200-60]", location=("x", 1, "x"), keywords={}, outcome="passed", longrepr=None,
        when="call", duration=61.2, user_properties=[("workflows", 200), ("twice", 0)],
    )  # fmt: skip
    assert row(report) == "| nothing is lost[200-60] | passed | 61 | workflows 200, twice 0 |"
