"""The practice cluster, up once for all of these: its SSH is asked by our own transport, its faults are real."""

from __future__ import annotations

import http.client
import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from bbctl import child
from bbctl.errors import UsageError
from bbctl.inventory import fleet as inventory
from bbctl.lab import cluster, faults, keys
from bbctl.lab.ground import Ground, LabHost
from bbctl.lab.invoices import Batch
from bbctl.model import Fleet
from bbctl.ssh.transport import Transport
from tests.integration.servers import tidy_environment, wait_for


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bbctl-test-lab-") as place:
        yield Path(place)
        cluster.down(Path(place))


@pytest.fixture(scope="module")
def ground(home: Path) -> Ground:
    return cluster.up(home, workers=2, say=lambda text: None)


@pytest.fixture(scope="module")
def fleet(ground: Ground) -> Fleet:
    return inventory.load(ground.inventory, {})


@pytest.fixture
def transport(fleet: Fleet) -> Iterator[Transport]:
    with Transport(fleet) as made:
        yield made


@pytest.fixture
def one(ground: Ground) -> Iterator[LabHost]:
    """The first host, mended afterwards."""
    yield ground.host(1)
    faults.mend(ground, "1")
    wait_for("it is back", lambda: whole(ground), 40)


def whole(ground: Ground) -> bool:
    """The VIP may believe for a moment in a host that was just killed: so the hosts are asked themselves."""
    states = cluster.hosts(ground)
    return all(s.vip == "in" and s.jboss and not s.faults and healthy(ground, s.host) for s in states)


def bbctl(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {**tidy_environment(), "BBCTL_HOME": str(home)}
    command = (sys.executable, "-m", "bbctl", *words)
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environ, check=False)


def everything(home: Path) -> list[str]:
    found = child.find(lambda words: any(str(home) in word for word in words))
    return [" ".join(child.command(process.pid)) for process in found]


def healthy(ground: Ground, host: LabHost) -> bool:
    link = http.client.HTTPConnection(host.address, ground.http_port, timeout=2)
    try:
        link.request("GET", "/health")
        return link.getresponse().status == 200
    except OSError:
        return False
    finally:
        link.close()


# -- SSH -------------------------------------------------------------------------------------------------------


def test_a_command_has_its_two_outputs_its_exit_and_its_hosts_home(
    fleet: Fleet, transport: Transport, ground: Ground
) -> None:
    host = fleet.hosts["accounting-worker1.snc1"]
    ran = transport.run(host, "pwd; echo loud >&2; exit 7", timeout=30)
    assert (ran.out, ran.err, ran.exit) == (f"{ground.host(1).home}\n", "loud\n", 7)


def test_a_command_that_a_signal_ends_says_so(fleet: Fleet, transport: Transport) -> None:
    ran = transport.run(fleet.hosts["accounting-worker1.snc1"], "kill -9 $$", timeout=30)
    assert ran.exit is None
    assert "KILL" in str(ran.error)


def test_input_comes_through_whole_and_ends(fleet: Fleet, transport: Transport) -> None:
    sent = os.urandom(1 << 20)
    ran = transport.run(fleet.hosts["accounting-worker1.snc1"], "cat", timeout=20, stdin=sent)
    assert ran.stdout == sent


def test_thirty_two_logins_at_once_are_served(fleet: Fleet) -> None:
    def log_in(number: int) -> str:
        with Transport(fleet) as own:
            return own.run(fleet.hosts["accounting-worker1.snc1"], f"echo {number}", timeout=30).out

    slow = replace(fleet.hosts["accounting-worker1.snc1"].ssh, connect_timeout=30.0)
    fleet = replace(fleet, hosts={name: replace(host, ssh=slow) for name, host in fleet.hosts.items()})
    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(log_in, range(32))) == [f"{number}\n" for number in range(32)]


def test_the_commands_of_one_connection_run_beside_each_other(fleet: Fleet, transport: Transport) -> None:
    host = fleet.hosts["accounting-worker1.snc1"]
    session = transport.open(host)
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(session.run, "until [ -e go ]; do sleep 0.05; done; rm go; echo went", timeout=60)
        assert session.run("touch go", timeout=60).ok
        assert waiting.result().out == "went\n"


def test_another_key_is_not_let_in(fleet: Fleet, tmp_path: Path) -> None:
    keys.made(tmp_path / "stranger")
    host = fleet.hosts["accounting-worker1.snc1"]
    stranger = replace(host, ssh=replace(host.ssh, identity_file=tmp_path / "stranger"))
    with Transport(fleet) as own:
        assert own.run(stranger, "true", timeout=30).status == "auth-failed"


def test_the_hosts_own_address_is_reached_through_it_and_no_other(
    fleet: Fleet, transport: Transport, ground: Ground
) -> None:
    session = transport.open(fleet.hosts["accounting-worker1.snc1"])
    channel = session.tunnel(ground.host(1).address, ground.http_port, timeout=30)
    channel.sendall(b"GET /heartbeat.txt HTTP/1.0\r\n\r\n")
    channel.settimeout(10)
    assert channel.recv(1000).startswith(b"HTTP/1.1 200")
    channel.close()
    with pytest.raises(OSError, match=r"."):
        session.tunnel(ground.vip_address, ground.vip_port, timeout=30)


def test_a_shell_on_a_terminal_lands_in_the_log_folder(home: Path, ground: Ground) -> None:
    master, slave = pty.openpty()
    shell = subprocess.Popen(
        [sys.executable, "-m", "bbctl", "-i", "lab", "cdl", "accounting-worker1"],
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        env={**tidy_environment(), "BBCTL_HOME": str(home), "TERM": "xterm"},
    )  # fmt: skip
    os.close(slave)
    os.write(master, b"pwd && tty && exit 4\n")
    said = b""
    try:
        while data := os.read(master, 4096):
            said += data
    except OSError:
        pass  # the other side of the terminal is closed
    os.close(master)
    assert shell.wait(60) == 4
    assert str(ground.host(1).log.parent).encode() in said
    assert b"/dev/pts/" in said


# -- the stand-in ----------------------------------------------------------------------------------------------


def test_kill_of_the_launcher_takes_its_children_along_and_frees_the_port(ground: Ground, one: LabHost) -> None:
    (launcher,) = cluster.launchers(one)
    child.end([launcher], signal.SIGKILL)
    wait_for("no child", lambda: not child.find(lambda words: "serve" in words and one.address in words), 20)
    wait_for("a free port", lambda: not cluster.listens(one.address, ground.http_port), 20)


def test_a_graceful_stop_out_of_the_vip_fails_no_request(ground: Ground, one: LabHost) -> None:
    before = cluster.vip(ground) or {}
    batch = Batch(ground, 20, 6.0)
    batch.start()
    one.heartbeat.unlink()
    wait_for("out of the VIP", lambda: cluster.hosts(ground)[0].vip == "out")
    stopped = subprocess.run([str(one.init), "stop"], check=True, timeout=60, capture_output=True, text=True)
    assert stopped.stdout == "jboss stopped\n"
    assert "stopped in" in one.log.read_text().splitlines()[-1]
    batch.wait()
    assert not batch.failed
    assert ((cluster.vip(ground) or {})["errors"] - before["errors"]) == 0


def test_invoices_run_to_their_end_each_step_once(ground: Ground) -> None:
    batch = Batch(ground, 15, 1.0)
    batch.start()

    def done() -> bool:
        batch.look()
        return batch.complete

    wait_for("all invoices", done, 60, every=0.3)
    assert batch.effects() == (15 * 5, 0)


def test_hang_on_stop_leaves_its_last_word_and_a_process_that_only_kill_ends(ground: Ground, one: LabHost) -> None:
    faults.break_(ground, "1", "hang-on-stop")
    (launcher,) = cluster.launchers(one)
    child.end([launcher], signal.SIGTERM)
    wait_for("the last word", lambda: one.log.read_text().rstrip().endswith("Stopping HornetQ"), 20)
    child.end([launcher], signal.SIGQUIT)
    console = one.log.with_name("console.log")
    wait_for("a dump", lambda: "Found one Java-level deadlock" in console.read_text())
    assert launcher.alive
    found = json.loads(bbctl(ground.folder.parent, "-i", "lab", "status", one.short, "-o", "json").stdout)
    assert found[0]["process"] in ("running", "hung")


def test_a_crash_is_seen_by_status_and_mended(home: Path, ground: Ground, one: LabHost) -> None:
    faults.break_(ground, "1", "crash")
    seen = bbctl(home, "-i", "lab", "status", one.short, "-o", "json")
    assert seen.returncode == 1
    assert json.loads(seen.stdout)[0]["process"] == "stopped"
    faults.mend(ground, one.name)
    wait_for("healthy", lambda: healthy(ground, one), 30)


def test_never_healthy_answers_503_after_a_start(ground: Ground, one: LabHost) -> None:
    faults.break_(ground, "1", "never-healthy")
    faults.break_(ground, "1", "crash")
    subprocess.run([str(one.init), "start"], check=True, capture_output=True)

    def answer() -> int:
        link = http.client.HTTPConnection(one.address, ground.http_port, timeout=15)
        try:
            link.request("GET", "/health")
            return link.getresponse().status
        finally:
            link.close()

    wait_for("503", lambda: answer() == 503, 40)


@pytest.mark.parametrize(("fault", "status"), [("ssh-down", "unreachable"), ("host-key", "host-key")])
def test_faults_of_ssh_are_what_a_login_meets(
    home: Path, ground: Ground, one: LabHost, fault: str, status: str
) -> None:
    def pinged() -> str:
        return str(json.loads(bbctl(home, "-i", "lab", "ping", one.short, "-o", "json").stdout)[0]["status"])

    faults.break_(ground, "1", fault)
    wait_for(status, lambda: pinged() == status)
    if fault == "host-key":  # somebody believed it, as `diagnose` says how to
        assert bbctl(home, "-i", "lab", "hosts", "trust", one.short, "--replace", "--yes").returncode == 0
        assert pinged() == "ok"
    faults.mend(ground, "1")
    wait_for("ok", lambda: pinged() == "ok")


def test_an_unknown_fault_is_refused_with_those_there_are(ground: Ground) -> None:
    with pytest.raises(UsageError, match="hang-on-stop"):
        faults.break_(ground, "1", "hang-on-stpo")
    with pytest.raises(UsageError, match="silent, errors, slow"):
        faults.break_(ground, "client", "crash")


def test_a_silent_client_leaves_invoices_to_look_at_and_status_says_what_is_broken(home: Path, ground: Ground) -> None:
    assert bbctl(home, "lab", "break", "client", "silent").returncode == 0
    found = bbctl(home, "lab", "status", "-o", "json")
    assert found.returncode == 1
    assert json.loads(found.stdout)["client"]["faults"] == ["silent"]
    listed = json.loads(bbctl(home, "-i", "lab", "workflow", "list", "--limit", "5", "-o", "json").stdout)
    assert len(listed) == 5
    stuck = bbctl(home, "-i", "lab", "workflow", "stuck")  # what the demo tells to type next shows something at once
    assert stuck.returncode == 1
    assert "5 workflows" in stuck.stdout
    assert bbctl(home, "lab", "mend", "client").returncode == 0
    assert json.loads(bbctl(home, "lab", "status", "-o", "json").stdout)["client"]["faults"] == []


# -- up and down -----------------------------------------------------------------------------------------------


def test_up_again_changes_nothing_that_runs(home: Path, ground: Ground) -> None:
    before = [state.jboss for state in cluster.hosts(ground)]
    assert cluster.up(home, workers=None, say=lambda text: None) == ground
    assert [state.jboss for state in cluster.hosts(ground)] == before
    with pytest.raises(UsageError, match="up with 2 workers"):
        cluster.up(home, workers=3, say=lambda text: None)


def test_nothing_is_touched_outside_its_folder_and_nothing_in_it_is_for_others(home: Path, ground: Ground) -> None:
    assert {path.name for path in home.iterdir()} <= {
        "lab",
        "audit",
        "audit.jsonl",
        "audit.head",
        "cache",
        "runs",
        "crashes",
    }
    assert ground.folder.stat().st_mode & 0o077 == 0
    for path in (ground.inventory, ground.key, ground.client_folder / "token.json"):
        assert path.stat().st_mode & 0o077 == 0


def test_two_labs_stand_side_by_side(tmp_path: Path, ground: Ground) -> None:
    try:
        other = cluster.up(tmp_path, workers=1, say=lambda text: None)
        assert whole(other)
        assert whole(ground)
        assert len(cluster.launchers(other.host(1))) == len(cluster.launchers(ground.host(1))) == 1
        looked = bbctl(tmp_path, "-i", "lab", "status", "-o", "json")
        assert looked.returncode == 0, "its pattern matches its own process only"
    finally:
        cluster.down(tmp_path)
    assert not everything(tmp_path)
    assert whole(ground)


def test_down_leaves_nothing_even_of_a_lab_whose_parts_were_killed(home: Path, ground: Ground) -> None:
    """The last one: it takes the lab of all the others down."""
    faults.break_(ground, "2", "hang-on-stop")
    stopping = threading.Thread(
        target=subprocess.run, args=([str(ground.host(2).init), "stop"],), kwargs={"capture_output": True}
    )
    stopping.start()
    wait_for("the last word", lambda: ground.host(2).log.read_text().rstrip().endswith("Stopping HornetQ"), 20)
    (machine,) = child.running(("-P", "-m", "bbctl.lab.host", str(ground.host(1).folder)))
    child.end([machine], signal.SIGKILL)
    assert cluster.down(home)
    stopping.join(60)
    assert not everything(home)
    assert not cluster.down(home)
    gone = bbctl(home, "-i", "lab", "status")
    assert gone.returncode == 2
    assert "bbctl lab up" in gone.stderr
