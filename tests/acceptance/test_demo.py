"""`bbctl demo`, as somebody who has just cloned this types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bbctl import child
from tests.integration.servers import tidy_environment


def test_the_demo_ends_well_and_leaves_nothing_running(tmp_path: Path) -> None:
    environ = {**tidy_environment(), "BBCTL_HOME": str(tmp_path)}
    ran = subprocess.run(
        [Path(sys.executable).with_name("bbctl"), "demo", "-o", "json"],
        capture_output=True, text=True, env=environ, timeout=600, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    told = json.loads(ran.stdout)
    assert (told["done"], told["steps"], told["twice"], told["vip_errors"]) == (100, 500, 0, 0)
    assert told["run"]["outcome"] == "done"
    assert [host["outcome"] for host in told["run"]["hosts"]] == ["restarted"] * 3
    (hung,) = [host for host in told["run"]["hosts"] if host["hung"]]
    assert hung["killed_pid"]
    assert all((tmp_path / path).exists() for path in hung["evidence"])
    assert any("deadlock" in step["detail"] for step in hung["steps"] if step["step"] == "evidence")
    assert not child.find(lambda words: any(str(tmp_path) in word for word in words))
