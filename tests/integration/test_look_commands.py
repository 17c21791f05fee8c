"""The installed command on a real host: status, diagnose, sweep, logs, threads, unlock, as scripts and cron call them."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from bbctl.remote import lock
from tests.integration.jboss import Jboss, site
from tests.integration.sshd import wait_for

BBCTL = Path(sys.executable).with_name("bbctl")


@dataclass
class Desk:
    """An operator's machine with one host to look after."""

    jboss: Jboss
    inventory: Path
    home: Path
    codes: list[int] = field(default_factory=list)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        env = {k: v for k, v in os.environ.items() if k != "BBCTL_INVENTORY"} | {"BBCTL_HOME": str(self.home)}
        argv = [str(BBCTL), "-i", str(self.inventory), *words]
        return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120, check=False)

    def json(self, *words: str, code: int) -> Any:
        ran = self.run(*words, "-o", "json")
        assert ran.returncode == code, ran.stdout + ran.stderr
        return json.loads(ran.stdout)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Jboss, Path]]:
    with site(tmp_path_factory.mktemp("desk")) as made:
        yield made.members[0], made.inventory()


@pytest.fixture
def desk(running: tuple[Jboss, Path], tmp_path: Path) -> Iterator[Desk]:
    jboss, inventory = running
    yield Desk(jboss, inventory, tmp_path / "home")
    jboss.flag("unhealthy", "deadlock", on=False)
    (jboss.folder / "heartbeat.txt").touch()


def test_status_is_zero_only_where_all_is_fine_and_in_the_vip(desk: Desk) -> None:
    (row,) = desk.json("status", code=0)
    assert desk.run("status", "-o", "name").stdout == "h1.snc1\n"
    assert (row["process"], row["pid"], row["health"], row["vip"]) == ("running", desk.jboss.procs[0].pid, "ok", "in")
    (desk.jboss.folder / "heartbeat.txt").unlink()
    (row,) = desk.json("status", code=1)
    assert (row["vip"], row["error"]) == ("out", None)
    text = desk.run("status").stdout
    assert "h1.snc1" in text
    assert "out" in text


def test_status_watched_prints_json_lines_until_ctrl_c(desk: Desk) -> None:
    env = {**os.environ, "BBCTL_HOME": str(desk.home)}
    argv = [str(BBCTL), "-i", str(desk.inventory), "status", "-w", "-o", "json"]
    proc = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE)
    assert proc.stdout is not None
    first = json.loads(proc.stdout.readline())
    assert first["host"] == "h1.snc1"
    proc.send_signal(2)
    rest, _ = proc.communicate(timeout=30)
    assert proc.returncode == 130
    for line in rest.splitlines():
        json.loads(line)


def test_diagnose_of_a_well_host_finds_nothing(desk: Desk) -> None:
    assert desk.json("diagnose", "h1", code=0)["findings"] == []


def test_diagnose_names_what_is_wrong_with_proof_and_the_next_command_and_bundles_it_without_secrets(
    desk: Desk, tmp_path: Path
) -> None:
    desk.jboss.flag("unhealthy")
    with desk.jboss.log.open("a") as log:
        log.write("java.lang.OutOfMemoryError: Java heap space url=mongodb://app:CANARY@h/db\n")
    bundle = tmp_path / "night.tgz"
    found = desk.json("diagnose", "h1", "--bundle", str(bundle), code=1)["findings"]
    assert {f["id"] for f in found} == {"health-failing", "log-signature"}
    assert all(f["target"] == "h1.snc1" and f["next"].startswith("bbctl ") and 1 <= f["severity"] <= 5 for f in found)
    with tarfile.open(bundle) as tar:
        text = {m.name: tar.extractfile(m).read().decode() for m in tar.getmembers()}  # type: ignore[union-attr]
    assert any("OutOfMemoryError" in t for name, t in text.items() if name.endswith(".log"))
    assert not [name for name, t in text.items() if "CANARY" in t]
    assert bundle.stat().st_mode & 0o077 == 0
    page = desk.run("diagnose", "h1").stdout
    assert "could be losing money" in page
    assert "CANARY" not in page


def test_a_bundle_that_cannot_be_written_keeps_no_finding_back(desk: Desk, tmp_path: Path) -> None:
    desk.jboss.flag("unhealthy")
    said = desk.json("diagnose", "h1", "--bundle", str(tmp_path / "none" / "b.tar"), code=1)
    assert "health-failing" in [f["id"] for f in said["findings"]]
    assert "could not be written" in said["bundle"]["error"]


def test_who_a_process_is_does_not_change_from_look_to_look(desk: Desk) -> None:
    """A signal that ends nothing, twice."""
    told = [desk.json("kill", "h1", "-s", "CONT", "--yes", code=0)[0]["identity"] for _ in range(3)]
    assert told[0] == told[1] == told[2]
    started = datetime.fromisoformat(told[0]["started"]).timestamp()
    age = desk.json("status", code=0)[0]["age"]
    assert abs(time.time() - age - started) < 30


def test_threads_saves_the_dump_and_names_the_deadlock(desk: Desk) -> None:
    desk.jboss.flag("deadlock")
    (row,) = desk.json("threads", "h1", "--service", "jboss", code=1)
    assert row["pid"] == desk.jboss.procs[0].pid
    assert row["deadlocks"][0]["threads"] == ["invoice-1", "invoice-2"]
    assert all("Full thread dump" in Path(p).read_text() for p in row["files"])
    assert row["files"][0].startswith(str(desk.home))


def test_logs_are_lines_with_their_host_and_a_match_that_is_not_there_is_one(desk: Desk) -> None:
    ran = desk.run("logs", "h1", "-n", "500", "-o", "json")
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    assert {r["host"] for r in rows} == {"h1.snc1"}
    assert any("Started in" in r["line"] for r in rows)
    assert desk.run("logs", "h1", "-g", "started IN").returncode == 0
    none = desk.run("logs", "h1", "-g", "no such thing")
    assert (none.returncode, none.stdout) == (1, "")
    assert desk.run("logs", "h1", "-g", "(").returncode == 2
    gone = desk.run("logs", "h1", "--path", "/no/such/file", "-o", "json")
    assert gone.returncode == 1
    assert json.loads(gone.stdout)["status"] == "failed"


def test_a_followed_log_ends_with_ctrl_c_or_after_for(desk: Desk) -> None:
    assert desk.run("logs", "h1", "-f", "-n", "0", "--for", "1s").returncode == 0
    env = {**os.environ, "BBCTL_HOME": str(desk.home)}
    argv = [str(BBCTL), "-i", str(desk.inventory), "logs", "h1", "-f", "-o", "json"]
    proc = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert proc.stdout is not None
    json.loads(proc.stdout.readline())
    proc.send_signal(2)
    proc.communicate(timeout=30)
    assert proc.returncode == 130


def test_a_reader_that_goes_away_ends_a_followed_log_quietly(desk: Desk) -> None:
    env = {**os.environ, "BBCTL_HOME": str(desk.home)}
    argv = [str(BBCTL), "-i", str(desk.inventory), "logs", "h1", "-f"]
    proc = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert proc.stdout is not None
    assert proc.stderr is not None
    proc.stdout.readline()
    proc.stdout.close()

    def ended() -> bool:
        with desk.jboss.log.open("a") as log:
            log.write("one more\n")
        return proc.poll() is not None

    wait_for(ended, "the end", limit=30)
    assert proc.stderr.read() == b""
    proc.stderr.close()


def test_unlock_shows_who_holds_it_asks_and_releases_exactly_that_lock(desk: Desk) -> None:
    from bbctl.model import Lock

    path = desk.jboss.folder.parent / "ssh/lock/lock"
    fields = {"operator": "ann@ops1", "machine": "ops1", "run": "r-9", "reason": "deploy 81", "step": "stop"}
    subprocess.run(
        ["sh", "-c", lock.acquire(Lock(path=str(path)), "t", fields=fields)], check=True, stdout=subprocess.PIPE
    )
    (row,) = desk.json("unlock", "h1", code=3)
    assert (row["held"], row["holder"], row["run"], row["step"], row["released"]) == (
        True,
        "ann@ops1",
        "r-9",
        "stop",
        False,
    )
    assert path.exists()
    dry = desk.json("unlock", "h1", "--dry-run", code=0)
    assert dry["plan"][0]["host"] == "h1.snc1"
    (row,) = desk.json("unlock", "h1", "--yes", code=0)
    assert (row["held"], row["released"]) == (True, True)
    assert not path.exists()
    told = desk.json("timeline", code=0)[-1]
    assert (told["what"], told["outcome"], told["targets"]) == ("unlock", "released", ["h1.snc1"])
    (row,) = desk.json("unlock", "h1", "--yes", code=0)
    assert (row["held"], row["released"]) == (False, False)


def test_a_lock_that_has_run_out_is_shown_as_expired_and_removed_all_the_same(desk: Desk) -> None:
    from bbctl.model import Lock

    path = desk.jboss.folder.parent / "ssh/lock/lock"
    fields = {"operator": "ann@ops1", "machine": "ops1", "run": "r-9", "reason": "deploy 81", "step": "stop"}
    subprocess.run(
        ["sh", "-c", lock.acquire(Lock(path=str(path), expires=0.0), "t", fields=fields)],
        check=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    (row,) = desk.json("unlock", "h1", code=3)
    assert (row["held"], row["expired"], row["holder"], row["run"]) == (False, True, "ann@ops1", "r-9")
    said = desk.run("unlock", "h1", "--dry-run").stdout
    assert ("expired" in said, " held " in said) == (True, False), said
    (row,) = desk.json("unlock", "h1", "--yes", code=0)
    assert (row["held"], row["released"]) == (False, True)
    assert not path.exists()


class Pager(http.server.BaseHTTPRequestHandler):
    """A webhook that keeps what it is sent."""

    got: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def test_sweep_tells_changes_only_pages_once_and_ends_the_page(desk: Desk, tmp_path: Path) -> None:
    handler = type("Own", (Pager,), {"got": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as pager:
        threading.Thread(target=pager.serve_forever, daemon=True).start()
        own = tmp_path / "inventory.yml"
        url = f"http://127.0.0.1:{pager.server_address[1]}/"
        own.write_text(desk.inventory.read_text() + f"alerts: {{webhook: {{url: '{url}'}}}}\n")
        own.chmod(0o600)
        desk.inventory = own
        words = ("sweep", "--check", "health-failing")
        quiet = desk.run(*words)
        assert (quiet.returncode, quiet.stdout) == (0, "")
        desk.jboss.flag("unhealthy")
        bad = desk.run(*words)
        assert bad.returncode == 2
        assert "new" in bad.stdout
        assert "health-failing" in bad.stdout
        again = desk.run(*words)
        assert (again.returncode, again.stdout) == (2, "")
        assert [p["action"] for p in handler.got] == ["trigger"]
        assert handler.got[0]["text"].startswith("[3] h1.snc1: ")
        desk.jboss.flag("unhealthy", on=False)
        well = desk.json(*words, code=0)
        assert [c["change"] for c in well["checks"]] == ["recovered"]
        assert [p["action"] for p in handler.got] == ["trigger", "resolve"]
        pager.shutdown()


def test_a_page_that_cannot_be_sent_nor_kept_keeps_no_finding_back_and_is_tried_again(
    desk: Desk, tmp_path: Path
) -> None:
    own, key = tmp_path / "inventory.yml", tmp_path / "key"
    pagerduty = f"{{routing_key_file: '{key}', url: 'http://127.0.0.1:1/'}}"
    own.write_text(desk.inventory.read_text() + f"alerts: {{pagerduty: {pagerduty}}}\n")
    own.chmod(0o600)
    desk.inventory = own
    desk.jboss.flag("unhealthy")
    words = ("sweep", "--check", "health-failing")
    lost = desk.run(*words)
    assert lost.returncode == 2
    assert "new" in lost.stdout
    assert "routing_key_file" in lost.stderr
    key.write_text("R0UTE\n")
    kept = desk.run(*words)
    assert (kept.returncode, kept.stdout) == (2, "")
    assert "kept for the next sweep" in kept.stderr


def test_sweep_speaks_to_nagios_and_prometheus_and_calls_a_wrong_word_unknown(desk: Desk) -> None:
    nagios = desk.run("sweep", "--check", "host-down", "-o", "nagios")
    assert nagios.returncode == 0
    assert nagios.stdout.startswith("BBCTL OK - ")
    prometheus = desk.run("sweep", "--check", "host-down", "-o", "prometheus").stdout
    assert 'bbctl_check{check="host-down",target="h1.snc1",severity="3"} 0' in prometheus
    assert desk.run("sweep", "--check", "nonsense").returncode == 3
    assert desk.run("sweep", "--no-such-flag").returncode == 3


def test_a_sweep_that_cannot_remember_still_tells_what_it_found_and_one_that_cannot_begin_is_unknown(
    desk: Desk,
) -> None:
    (desk.home / "sweep/last.new").mkdir(parents=True)  # in the way, as a full disk would be
    desk.jboss.flag("unhealthy")
    found = desk.run("sweep", "--check", "health-failing")
    assert found.returncode == 2
    assert "health-failing" in found.stdout
    assert "last.new cannot be written" in found.stderr
    (desk.home / "sweep/last.new").rmdir()
    (desk.home / "sweep/lock").unlink()
    (desk.home / "sweep").rmdir()
    (desk.home / "sweep").write_text("in the way")
    assert desk.run("sweep", "--check", "health-failing").returncode == 3


def test_a_second_sweep_at_the_same_time_is_skipped_with_a_note(desk: Desk) -> None:
    import fcntl

    (desk.home / "sweep").mkdir(parents=True, mode=0o700)
    with (desk.home / "sweep/lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ran = desk.run("sweep", "--check", "host-down")
    assert ran.returncode == 3
    assert "another sweep" in ran.stderr


def test_threads_asks_no_process_for_a_dump_where_two_match(desk: Desk) -> None:
    twin = desk.jboss.look_alike()
    try:
        (row,) = desk.json("threads", "h1", "--service", "jboss", code=3)
    finally:
        twin.kill()
        twin.wait(10)
    assert (row["outcome"], row["files"]) == ("refused", [])
    assert str(twin.pid) in row["error"]


def test_a_service_that_a_host_lacks_is_named_with_those_that_this_host_has(desk: Desk) -> None:
    for command in ("threads", "kill"):
        ran = desk.run(command, "h1", "--service", "billing")
        assert ran.returncode == 2
        assert "h1.snc1 has no service 'billing'; services: jboss" in ran.stderr


def test_following_for_a_while_ends_well_even_where_nothing_matched(desk: Desk) -> None:
    assert desk.run("logs", "h1", "-f", "--for", "1s", "-g", "no such thing").returncode == 0


def test_a_sweep_whose_time_is_over_is_unknown_and_calls_no_host_down(desk: Desk) -> None:
    result = desk.json("sweep", "h1", "--deadline", "1ms", code=3)
    assert {(c["id"], c["state"]) for c in result["checks"]} >= {("host-down", "unknown"), ("hung-stop", "unknown")}
    assert result["state"] == "unknown"
