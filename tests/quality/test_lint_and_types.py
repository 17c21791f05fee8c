"""The linter, the type checker and the layers find nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["ruff", "check", "."], id="the linter finds nothing"),
        pytest.param(["ruff", "format", "--check", "."], id="the formatter would change nothing"),
        pytest.param(["mypy"], id="the type checker, strict, finds nothing"),
        pytest.param(["lint-imports"], id="imports point downward only"),
    ],
)
def test_quality(command: list[str]) -> None:
    done = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
