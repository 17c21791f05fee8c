"""A client in Ruby, written as the original's library behaves on the wire, drives a workflow to its end."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.api_server import engine
from tests.integration.servers import Redis, free_port

SCRIPT = Path(__file__).with_name("ruby_client.rb")


@pytest.mark.skipif(shutil.which("ruby") is None, reason="needs ruby")
def test_a_ruby_client_that_works_inside_our_posts_completes_its_workflow(mongo_url: str, redis_server: Redis) -> None:
    port = free_port()
    with engine(mongo_url, redis_server.url()) as server:
        client, token = server.add_client("ruby", f"http://127.0.0.1:{port}")
        words = ["ruby", str(SCRIPT), f"http://127.0.0.1:{server.port}", client, token, str(port)]
        done = subprocess.run(words, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    said = json.loads(done.stdout)
    assert said["created"] == [201, 201]
    assert (said["one"], said["found"], said["signalled"]) == (True, True, 201)
    assert said["lookups"] == [404, 200]
    assert said["subject"] == '{"invoice":4711,"merchant":"A & B <c>"}'
    assert said["signal"] == [["start", "complete"]]
    assert said["steps"] == [["collect", "complete"], ["compute", "complete"], ["send", "resolved"]]
    seen = [tuple(one) for one in said["seen"]]
    assert seen.count(("/decision", "start")) == 1
    assert seen.count(("/activity", "compute")) == 2
    assert seen.count(("/activity", "send")) == 2
    assert seen.count(("/notification", "send")) >= 1  # told again where the answer did not come back
