"""Out of the VIP and back, by a real HAProxy (its socket here and on a host), by a file, by a command of the site."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bbctl.drain import Gate
from bbctl.errors import Failed
from bbctl.model import Drain, Ran
from bbctl.ssh.transport import Transport
from tests.integration.servers import free_port
from tests.integration.sshd import Farm, farm, wait_for

HAPROXY = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Farm, Transport]]:
    with farm(tmp_path_factory.mktemp("vip"), "w1", "lb1", net=54) as made, Transport(made.fleet()) as transport:
        yield made, transport


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An HAProxy with one server `w1` that listens; gives its runtime socket."""
    if HAPROXY is None:
        pytest.skip("haproxy is not installed")
    folder = tmp_path_factory.mktemp("ha")
    backend = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(backend,), daemon=True).start()
    (folder / "cfg").write_text(
        f"global\n  stats socket {folder}/admin level admin\ndefaults\n  mode tcp\n  timeout connect 1s\n  timeout client 60s\n"
        f"  timeout server 60s\nfrontend f\n  bind 127.0.0.1:{(port := free_port())}\n  default_backend b\nbackend b\n"
        f"  server w1 127.0.0.1:{backend.getsockname()[1]} check inter 100ms rise 1 fall 1\n"
        f"  server dead 127.0.0.1:{free_port()} check inter 100ms rise 1 fall 1\n"
    )
    (folder / "port").write_text(str(port))
    proc = subprocess.Popen([HAPROXY, "-db", "-f", str(folder / "cfg")], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: (folder / "admin").exists(), "haproxy")
        yield folder / "admin"
    finally:
        proc.terminate()
        proc.wait(10)
        backend.close()


def _accept(server: socket.socket) -> None:
    while True:
        try:
            one = server.accept()[0]
        except OSError:
            return
        threading.Thread(target=_until_closed, args=(one,), daemon=True).start()


def _until_closed(one: socket.socket) -> None:
    with one, suppress(OSError):
        while one.recv(1024):
            pass


def gate(hosts: tuple[Farm, Transport], drain: Drain) -> Gate:
    made, transport = hosts
    return Gate(transport=transport, hosts=made.fleet().hosts, host=made.host("w1"), drain=drain)


def haproxy(hosts: tuple[Farm, Transport], socket: Path, *, on: str | None = None, server: str = "w1") -> Gate:
    return gate(hosts, Drain(kind="haproxy", socket=str(socket), host=on, backend="b", server=server, settle=1.0))


@pytest.mark.parametrize("on", [None, "lb1"])
def test_haproxy_drains_and_takes_back_and_is_asked_whether_it_did(
    hosts: tuple[Farm, Transport], admin: Path, on: str | None
) -> None:
    at = haproxy(hosts, admin, on=on)
    wait_for(lambda: at.place().serving, "the server to be up")
    assert at.leave().state == "out"
    assert at.place().state == "out"
    back = at.enter()
    assert (back.state, back.serving) == ("in", True)


def test_sessions_are_waited_for_until_settle_is_over_and_their_number_is_told(
    hosts: tuple[Farm, Transport], admin: Path
) -> None:
    at = haproxy(hosts, admin)
    wait_for(lambda: at.place().serving, "the server to be up")
    with socket.create_connection(("127.0.0.1", int(admin.with_name("port").read_text()))):
        wait_for(lambda: at.place().sessions == 1, "the session")
        at.leave()
        assert at.settle(lambda _: None).startswith("1 sessions left")
    wait_for(lambda: at.settle().startswith("0 sessions"), "the session to end")
    at.enter()


@pytest.mark.parametrize("on", [None, "lb1"])
def test_a_server_that_haproxy_does_not_know_is_a_failure_with_its_words(
    hosts: tuple[Farm, Transport], admin: Path, on: str | None
) -> None:
    at = haproxy(hosts, admin, on=on, server="nobody")
    assert at.place().state == "unknown"
    with pytest.raises(Failed, match="No such server"):
        at.leave()


def test_a_server_that_haproxy_finds_down_is_not_taken_for_back(
    hosts: tuple[Farm, Transport], admin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bbctl.drain.SERVING", 0.5)
    with pytest.raises(Failed, match="does not find b/dead up"):
        haproxy(hosts, admin, server="dead").enter()


@pytest.mark.parametrize("on", [None, "lb1"])
def test_a_socket_that_is_not_there_is_a_failure_that_names_the_cause(
    hosts: tuple[Farm, Transport], tmp_path: Path, on: str | None
) -> None:
    at = haproxy(hosts, tmp_path / "none", on=on)
    assert at.place().state == "unknown"
    with pytest.raises(Failed, match="No such file"):
        at.leave()


def test_a_socket_that_says_nothing_is_given_up_in_time(
    hosts: tuple[Farm, Transport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bbctl.drain.SOCKET", 0.3)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "mute"))
        mute.listen()
        with pytest.raises(Failed, match="did not answer"):
            haproxy(hosts, tmp_path / "mute").leave()


def test_a_file_is_removed_and_made_on_the_host_and_what_cannot_be_is_a_failure(
    hosts: tuple[Farm, Transport], tmp_path: Path
) -> None:
    path = tmp_path / "heart beat.txt"
    at = gate(hosts, Drain(kind="file", path=str(path), settle=0.0))
    assert at.enter().state == "in"
    assert path.exists()
    assert at.leave().state == "out"
    assert not path.exists()
    path.mkdir()  # cannot be removed as a file, by root neither
    with pytest.raises(Failed, match="could not be taken out"):
        at.leave()


def test_a_change_runs_through_whoever_holds_the_lock(hosts: tuple[Farm, Transport], tmp_path: Path) -> None:
    bodies: list[str] = []

    def act(body: str) -> Ran:
        bodies.append(body)
        return Ran(host="w1", status="failed", exit=97, stdout=b"lock lost\n")

    at = gate(hosts, Drain(kind="file", path=str(tmp_path / "f")))
    with pytest.raises(Failed):
        at.enter(act)
    assert not (tmp_path / "f").exists()
    assert len(bodies) == 1
    here = gate(
        hosts, Drain(kind="command", out=("touch", str(tmp_path / "ran")), in_=("true",), state=("echo", "out"))
    )
    with pytest.raises(Failed, match="could not be proven"):
        here.leave(act)
    assert not (tmp_path / "ran").exists()


def test_a_command_that_fails_or_hangs_is_a_failure_and_is_ended_with_its_children(
    hosts: tuple[Farm, Transport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.integration.sshd import processes

    failing = Drain(kind="command", out=("sh", "-c", "echo no >&2; exit 3"), in_=("true",), state=("echo", "in"))
    with pytest.raises(Failed, match="ended with 3: no"):
        gate(hosts, failing).leave()
    mark = str(tmp_path)
    monkeypatch.setattr("bbctl.drain.MOMENT", 0.3)
    hanging = Drain(kind="command", state=("sh", "-c", f"sleep 77 & : {mark}; wait"))
    assert "did not end in time" in (gate(hosts, hanging).place().error or "")
    assert not processes(mark)
