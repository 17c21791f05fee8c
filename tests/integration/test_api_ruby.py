"""A client in Ruby, written as the original's library behaves on the wire, drives workflows to their end, whoever dies."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from engine.settings import Settings
from tests.integration.api_server import engine
from tests.integration.servers import Redis, free_port
from tests.integration.worker_kit import Crew, crew

SCRIPT = Path(__file__).with_name("ruby_client.rb")
pytestmark = pytest.mark.skipif(shutil.which("ruby") is None, reason="needs ruby")


def run_client(words: list[str], crew: Crew | None = None, kills: int = 0) -> dict[str, Any]:
    """What the client says in the end; meanwhile somebody of the crew is killed so often."""
    with subprocess.Popen(["ruby", str(SCRIPT), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as client:
        try:
            while crew is not None and kills and client.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    client.wait(random.uniform(0.5, 2.5))
                kills -= 1
                kill_somebody(crew)
            out, err = client.communicate(timeout=170)
        finally:
            client.kill()
    assert client.returncode == 0, err.decode()
    said: dict[str, Any] = json.loads(out)
    return said


def kill_somebody(crew: Crew) -> None:
    if crew.workers() and random.random() < 0.7:
        with suppress(ProcessLookupError):
            os.kill(random.choice(crew.workers()), signal.SIGKILL)
    else:
        crew.kill_all()
        crew.start()


def prove(said: dict[str, Any]) -> Counter[tuple[str, str]]:
    """Every workflow went as planned; what was posted to the client, (path, name), counted."""
    (begun,) = said["begun"]
    assert begun == {
        "before": [404, 404],
        "after": [404, 200],
        "created": [201, 201],
        "one": True,
        "found": True,
        "subject": True,
        "signalled": 201,
    }
    assert said["signals"] == [[["start", "complete"]]]
    ends = [["collect", "complete"], ["compute", "complete"], ["send", "resolved"], ["archive", "shutdown"]]
    assert said["steps"] == [[[name, "complete", status] for name, status in ends]]
    return Counter((path, name) for path, name in said["seen"])


def test_a_ruby_client_that_works_inside_our_posts_completes_its_workflow(mongo_url: str, redis_server: Redis) -> None:
    port = free_port()
    with engine(mongo_url, redis_server.url()) as server:
        client, token = server.add_client("ruby", f"http://127.0.0.1:{port}")
        seen = prove(run_client([f"http://127.0.0.1:{server.port}", client, token, str(port)]))
    assert seen[("/decision", "start")] == seen[("/activity", "collect")] == 1
    assert seen[("/activity", "compute")] == seen[("/activity", "send")] == seen[("/activity", "archive")] == 2
    for name in ("send", "archive"):
        assert seen[("/notification", name)] >= 1  # told again where the answer did not come back


@pytest.mark.parametrize(("count", "kills"), [(8, 4), pytest.param(100, 40, marks=pytest.mark.faults)])
def test_a_ruby_client_s_workflows_end_the_same_while_workers_are_killed(
    mongo_url: str, redis_server: Redis, count: int, kills: int, tmp_path: Path
) -> None:
    port = free_port()
    settings = Settings(mongo_url=mongo_url, redis_url=redis_server.url(), lease=2.5, period=0.5)
    with engine(mongo_url, redis_server.url(), workers=0) as server, crew(settings, 2, [], tmp_path) as running:
        client, token = server.add_client("ruby", f"http://127.0.0.1:{port}")
        words = [f"http://127.0.0.1:{server.port}", client, token, str(port), str(count)]
        seen = prove(run_client(words, running, kills))
    assert seen[("/decision", "start")] >= count
