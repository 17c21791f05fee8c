"""A large fleet of which a tenth is dead in several ways: one command over all of it ends in time and judges every host."""

from __future__ import annotations

import getpass
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.sshd import Farm, farm

WITHIN = 60.0  # seconds that a command is given for all hosts together
KINDS = ("refused", "nodns", "hole", "silent")


class Well(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "OK"}')

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class Fleet:
    """`well` and `dead` are the names of its hosts; `dead` name → the stage at which its login fails."""

    folder: Path
    farm: Farm
    web: int
    dead: dict[str, str]

    def write(self) -> None:
        f = self.farm
        hole, silent = f.broken("blackhole"), f.broken("silent")
        where: dict[str, dict[str, Any]] = {
            "refused": {"address": "127.0.44.250", "port": "1"}, "nodns": {"address": "no-such-host.invalid"},
            "hole": {"address": "127.0.0.1", "port": str(hole.port)},
            "silent": {"address": "127.0.0.1", "port": str(silent.port)},
        }  # fmt: skip
        hosts: dict[str, Any] = {name: {"address": address} for name, address in f.addresses.items()}
        hosts |= {name: where[name.split("-")[0]] for name in self.dead}
        data = {
            "ssh": {
                "user": getpass.getuser(), "port": str(f.port), "connect_timeout": "10s", "identity_file": str(f.key),
                "known_hosts": str(f.known_hosts),
            },
            "groups": {"all": {"hosts": list(hosts), "services": ["web"]}}, "hosts": hosts,
            "services": {"web": {"health": {"url": f"http://127.0.0.1:{self.web}/health", "expect": "OK"}}},
        }  # fmt: skip
        path = self.folder / "inventory.yml"
        path.write_text(json.dumps(data))
        path.chmod(0o600)

    def bbctl(self, *words: str) -> tuple[int, Any]:
        env = {
            "PATH": os.environ["PATH"], "HOME": str(self.folder), "BBCTL_HOME": str(self.folder / "home"),
            "BBCTL_INVENTORY": str(self.folder / "inventory.yml"),
        }  # fmt: skip
        call = [sys.executable, "-m", "bbctl", "-o", "json", *words]
        ran = subprocess.run(call, env=env, cwd=self.folder, capture_output=True, timeout=4 * WITHIN, check=False)
        assert b"Traceback" not in ran.stderr, ran.stderr
        return ran.returncode, json.loads(ran.stdout)


@pytest.fixture(scope="module", params=[30, pytest.param(200, marks=pytest.mark.faults)])
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    count = int(request.param)
    stages = dict(zip(KINDS, ("connect", "resolve", "connect", "banner"), strict=True))
    dead = {f"{KINDS[n % 4]}-{n}": stages[KINDS[n % 4]] for n in range(count // 10)}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Well)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = tmp_path_factory.mktemp("many")
    with farm(folder / "ssh", *(f"w{n}" for n in range(1, count - len(dead) + 1)), net=44) as made:
        fleet = Fleet(folder, made, server.server_address[1], dead)
        fleet.write()
        yield fleet
    server.shutdown()
    server.server_close()


def test_with_a_tenth_dead_a_command_over_all_has_a_verdict_for_every_host_and_exits_1(
    fleet: Fleet, record_property: Callable[[str, object], None]
) -> None:
    began = time.monotonic()
    code, rows = fleet.bbctl("exec", "all", "--timeout", "30s", "--", "true")
    record_property("hosts", len(rows))
    record_property("seconds", round(time.monotonic() - began, 1))
    assert code == 1
    wanted = dict.fromkeys(fleet.farm.names, "ok") | dict.fromkeys(fleet.dead, "unreachable")
    assert {row["host"]: row["status"] for row in rows} == wanted
    assert {r["host"]: r["error"].split(":")[0] for r in rows if r["host"] in fleet.dead} == fleet.dead


def test_with_a_tenth_dead_a_sweep_finds_those_down_and_all_others_well_within_its_deadline(
    fleet: Fleet, record_property: Callable[[str, object], None]
) -> None:
    code, told = fleet.bbctl("sweep", "all", "--deadline", f"{WITHIN:g}s")
    record_property("hosts", len(fleet.farm.names) + len(fleet.dead))
    record_property("seconds", told["seconds"])
    assert code == 2, "a host that is down is critical"
    down = {row["target"]: row["state"] for row in told["checks"] if row["id"] == "host-down"}
    assert down == dict.fromkeys(fleet.farm.names, "ok") | dict.fromkeys(fleet.dead, "critical")
    health = {row["target"].split()[0]: row["state"] for row in told["checks"] if row["id"] == "health-failing"}
    assert health == dict.fromkeys(fleet.farm.names, "ok") | dict.fromkeys(fleet.dead, "unknown")
