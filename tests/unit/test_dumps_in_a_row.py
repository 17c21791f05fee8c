"""As many thread dumps as were asked for are taken, and the time for them grows with their number."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from bbctl import evidence
from bbctl.model import Host, Proc, Service, Ssh

HOST = Host(name="w1", address="w1", ssh=Ssh(user="jboss"))
SERVICE = Service(name="jboss", log="/log", thread_dump="sigquit")
PROC = Proc(pid=7, ticks=1, started=0.0, user="jboss", command="java")


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("count", [1, 20])
def test_all_dumps_that_were_asked_for_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    clock = Clock()

    def slow_dump(self: Any, proc: Proc) -> bytes:
        clock.sleep(1.5)
        return b"Full thread dump"

    monkeypatch.setattr(evidence, "time", clock)
    monkeypatch.setattr(evidence._Saving, "_quit", slow_dump)
    files = evidence.threads(cast(Any, None), HOST, SERVICE, PROC, tmp_path / "dumps", dumps=count)
    assert [path.name for path in files] == [f"threads-{number}.txt" for number in range(1, count + 1)]
