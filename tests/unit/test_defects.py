"""A defect of ours is a line for whoever is awake and a traceback in a file for whoever mends it."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bbctl import defects
from bbctl.run import hostrun
from bbctl.run.halt import Halt
from bbctl.run.work import Done, StepFailed, Work


def stumble() -> Done:
    raise ZeroDivisionError("in the middle of a restart")


def test_a_defect_in_a_step_fails_the_step_and_its_traceback_is_kept_for_us(tmp_path: Path) -> None:
    written: list[dict[str, Any]] = []
    journal = SimpleNamespace(folder=tmp_path / "runs" / "r-1", write=lambda event, **more: written.append(more))
    work = SimpleNamespace(
        host=SimpleNamespace(name="w1"), journal=journal, holding=SimpleNamespace(advance=lambda host, name: None),
        halt=Halt(), now=time.monotonic, deadline=None,
    )  # fmt: skip
    with pytest.raises(StepFailed, match="a defect of bbctl: ZeroDivisionError; details kept in"):
        hostrun._one(cast(Work, work), "stop", stumble)
    (kept,) = (tmp_path / "crashes").iterdir()
    assert str(kept) in written[-1]["detail"]
    assert "in stumble" in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0


def test_where_nothing_can_be_written_the_defect_is_told_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = defects.told(tmp_path / "file", ValueError("x"))
    assert told.startswith("a defect of bbctl: ValueError; ")
    assert told.endswith("could not be written")
