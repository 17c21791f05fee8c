"""`bbctl demo`, as somebody who has just cloned this types it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from bbctl import child
from tests.integration.servers import tidy_environment

THREE_MINUTES = 180


def test_the_demo_ends_well_within_three_minutes_and_leaves_nothing_running(tmp_path: Path) -> None:
    environ = {**tidy_environment(), "BBCTL_HOME": str(tmp_path)}
    began = time.monotonic()
    ran = subprocess.run(
        [Path(sys.executable).with_name("bbctl"), "demo", "-o", "json"],
        capture_output=True, text=True, env=environ, timeout=THREE_MINUTES + 60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    assert time.monotonic() - began < THREE_MINUTES
    told = json.loads(ran.stdout)
    assert (told["done"], told["steps"], told["twice"], told["vip_errors"]) == (100, 500, 0, 0)
    assert told["run"]["outcome"] == "done"
    assert [host["outcome"] for host in told["run"]["hosts"]] == ["restarted"] * 3
    (hung,) = [host for host in told["run"]["hosts"] if host["hung"]]
    assert hung["killed_pid"]
    assert all((tmp_path / path).exists() for path in hung["evidence"])
    assert any("deadlock" in step["detail"] for step in hung["steps"] if step["step"] == "evidence")
    assert not child.find(lambda words: any(str(tmp_path) in word for word in words))
