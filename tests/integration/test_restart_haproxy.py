"""A rolling restart behind a real HAProxy: drained before it is stopped, seen to serve before the next one leaves."""

from __future__ import annotations

import csv
import io
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.servers import free_port
from tests.integration.shop import Shop, finish, shop
from tests.integration.sshd import wait_for

CONF = """global
  stats socket {socket} mode 600 level admin
defaults
  mode http
  timeout connect 10s
  timeout client 30s
  timeout server 30s
  timeout check 10s
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  option httpchk GET /health
  default-server inter 100ms fall 2 rise 1
"""


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[tuple[Shop, Path]]:
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is not installed")
    path = tmp_path / "admin.sock"
    with shop(tmp_path / "shop", 2) as made:
        made.least, made.drain = (
            1,
            {"kind": "haproxy", "socket": str(path), "backend": "b", "server": "{name}", "settle": "500ms"},
        )
        made.write()
        data = json.loads((made.folder / "inventory.yml").read_text())
        del data["vips"]["v"]["drain"]["path"]
        (made.folder / "inventory.yml").write_text(json.dumps(data))
        servers = "".join(f"  server {m.host.name} {m.host.address}:{m.port} check\n" for m in made.members)
        (tmp_path / "haproxy.cfg").write_text(CONF.format(socket=path, port=free_port()) + servers)
        with (tmp_path / "haproxy.log").open("w") as log:
            proxy = subprocess.Popen(["haproxy", "-db", "-f", str(tmp_path / "haproxy.cfg")], stdout=log, stderr=log)
        try:
            wait_for(lambda: list(states(path).values()) == ["UP", "UP"], "both servers to be up")
            yield made, path
        finally:
            proxy.terminate()
            proxy.wait(30)


def states(path: Path) -> dict[str, str]:
    """Server → state, as HAProxy says it now; empty while it does not answer."""
    data = b""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as s:
        s.settimeout(2)
        s.connect(str(path))
        s.sendall(b"show stat\n")
        while piece := s.recv(65536):
            data += piece
    rows = csv.DictReader(io.StringIO(data.decode()[2:]))
    return {r["svname"]: r["status"] for r in rows if r["pxname"] == "b" and r["svname"] != "BACKEND"}


def test_one_server_at_a_time_is_drained_and_the_next_leaves_when_it_is_up_again(behind: tuple[Shop, Path]) -> None:
    made, path = behind
    proc = made.popen("restart", "all", "--yes", "-o", "json")
    seen = []
    while proc.poll() is None:
        if now := states(path):
            seen.append(now)
        time.sleep(0.02)
    said = finish(proc)
    assert (said.code, said.outcomes) == (0, {"h1": "restarted", "h2": "restarted"}), said
    both = [now for now in seen if not any(state.startswith("UP") for state in now.values())]
    assert not both, "two out at once"
    for name in made.names:
        words = [now[name].split()[0] for now in seen]
        assert "DRAIN" in words, f"{name} was not drained"
        assert "MAINT" not in words
        first = next(word for word in words if word != "UP")  # `UP 1/2`, on its way down, still serves
        assert first == "DRAIN", f"{name} went {first} while it was given requests"
    assert list(states(path).values()) == ["UP", "UP"]


def test_a_server_that_haproxy_does_not_know_is_not_restarted(behind: tuple[Shop, Path]) -> None:
    made, _ = behind
    data = json.loads((made.folder / "inventory.yml").read_text())
    data["vips"]["v"]["drain"]["server"] = "nobody"
    (made.folder / "inventory.yml").write_text(json.dumps(data))
    said = made.change("restart", "h1")
    assert said.code in (1, 3)
    assert made.members[0].calls == []
