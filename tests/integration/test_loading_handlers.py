"""A module of handlers that cannot be loaded ends `bbctl work` before it starts, with the reason in a line."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from engine.errors import BadRequest
from engine.loading import tried
from tests.integration.api_server import BBCTL
from tests.integration.servers import tidy_environment

TWICE = "from engine.handlers import activity\n\n@activity\ndef mail(): ...\n\n@activity('mail')\ndef post(): ...\n"
ASYNC = "from engine.handlers import activity\n\n@activity\nasync def mail(): ...\n"


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("nowhere", None, "there is no module nowhere, neither in {here} nor on Python's path"),
        ("billing.py", "", "billing.py is a file: give the name of its module"),
        ("billing", "\n1 / 0\n", "billing cannot be loaded: ZeroDivisionError: division by zero ({here}/billing.py:2)"),
        ("billing", "import nowhere\n", "No module named 'nowhere' ({here}/billing.py:1)"),
        ("billing", "def f(:\n", "(billing.py, line 1)"),
        ("billing", TWICE, "two handlers are named mail ({here}/billing.py:"),
        ("billing", ASYNC, "mail is async: an activity is a plain function"),
        ("billing", "import sys\nsys.exit('no')\n", "SystemExit: no ({here}/billing.py:2)"),
        (
            "billing",
            "import os\nprint('well')\nos._exit(9)\n",
            "billing cannot be loaded: it ends the process (exit 9)",
        ),
    ],
)
def test_what_is_wrong_with_a_module_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str | None, reason: str
) -> None:
    here = tmp_path.resolve()
    if text is not None:
        (here / f"{name.removesuffix('.py')}.py").write_text(text)
    monkeypatch.chdir(here)
    with pytest.raises(BadRequest) as told:
        tried([name])
    assert reason.format(here=here) in told.value.message
    assert "\n" not in told.value.message


def test_workers_are_not_started_with_a_module_that_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "billing.py").write_text("import nowhere\n")
    done = subprocess.run(
        [BBCTL, "work", "--import", "billing"],
        cwd=tmp_path,
        env={**tidy_environment(), "BBCTL_HOME": str(tmp_path / "home"), "BBCTL_INVENTORY": "none"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    error, next_ = done.stderr.splitlines()
    place = f"({tmp_path.resolve()}/billing.py:1)"
    assert error == f"error: billing cannot be loaded: ModuleNotFoundError: No module named 'nowhere' {place}"
    assert re.fullmatch(r"next     python[0-9.]* -c 'import billing'", next_)
    assert not (tmp_path / "home" / "stores").exists()
