"""Thousands of requests made from /openapi.json, meant and not meant: never a 5xx, never an answer that is not described."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from tests.integration.api_server import engine
from tests.integration.servers import Mongo, Redis

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
PROGRAMME = os.environ.get("SCHEMATHESIS") or shutil.which("schemathesis")
# Ids that exist, so that most requests get past 404.
CONFIG = r"""
[[operations]]
include-path-regex = "/workflows/\\{{id"
parameters = {{ "path.id" = "{workflow}" }}
[[operations]]
include-path-regex = "/(activities|events)/\\{{id"
parameters = {{ "path.id" = "{node}", "path.workflow_id" = "{workflow}", "query.workflow_id" = "{workflow}" }}
"""
CASES = int(os.environ.get("BBCTL_TEST_CASES", "10000"))


@pytest.mark.faults
@pytest.mark.skipif(PROGRAMME is None, reason="needs schemathesis on PATH, or named by SCHEMATHESIS")
def test_no_request_whatever_is_answered_with_a_5xx() -> None:
    assert PROGRAMME is not None
    mongo, redis = Mongo.start(), Redis.start()
    try:
        with engine(mongo.url(), redis.url(), workers=1) as server:
            client, token = server.clients[0]
            base = f"http://127.0.0.1:{server.port}"
            workflow = server.workflow()
            told = CONFIG.format(workflow=workflow, node=server.signal(workflow))
            (server.home / "schemathesis.toml").write_text(told)
            operations = sum(len(verbs) for verbs in server.call("GET", "/openapi.json").json["paths"].values())
            words = [PROGRAMME, "run", f"{base}/openapi.json", "--checks", CHECKS, "--seed", "1"]
            words += ["--max-examples", str(2 * CASES // operations), "--continue-on-failure"]
            words += ["--header", f"Client-Id: {client}", "--header", f'Authorization: Token token="{token}"']
            done = subprocess.run(words, capture_output=True, timeout=3000, check=False, cwd=server.home, text=True)
            counted = re.findall(r"(\d+) generated", done.stdout)
            metrics = server.call("GET", "/metrics").body.decode()
    finally:
        redis.stop()
        mongo.stop()
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert counted
    assert sum(map(int, counted)) >= CASES
    assert 'code="5' not in metrics
