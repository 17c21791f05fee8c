"""Every code that can be met is explained."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from bbctl import model
from bbctl.codes import CODES, STATUSES

ROOT = Path(__file__).parents[2]


def _codes(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from (
                word.value.value
                for word in node.keywords
                if word.arg == "code" and isinstance(word.value, ast.Constant) and isinstance(word.value.value, str)
            )
        elif isinstance(node, ast.Assign) and [getattr(name, "id", "") for name in node.targets] == ["code"]:
            yield from (
                word.value for word in [node.value] if isinstance(word, ast.Constant) and isinstance(word.value, str)
            )


def test_every_code_in_the_source_is_explained() -> None:
    files = [path for package in ("bbctl", "engine") for path in (ROOT / package).rglob("*.py")]
    unexplained = {
        (code, path.name) for path in files for code in _codes(ast.parse(path.read_text())) if code not in CODES
    }
    assert not unexplained


def test_every_status_of_a_host_is_explained() -> None:
    assert set(STATUSES) == set(get_args(model.Status))


def test_an_explanation_is_a_sentence_and_something_to_do() -> None:
    for word, code in CODES.items():
        assert code.means.endswith((".", "?")), word
        assert code.do, word
