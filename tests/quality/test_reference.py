"""docs/reference.md is what `make reference` would write."""

from __future__ import annotations

import runpy
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs"


def test_the_reference_says_what_the_tables_say() -> None:
    made = runpy.run_path(str(FOLDER / "reference.py"))["text"]()
    kept = (FOLDER / "reference.md").read_text(encoding="utf-8")
    assert made == kept, "make reference"
    assert len(kept.splitlines()) < 350, "it stays a table, a line a key"
