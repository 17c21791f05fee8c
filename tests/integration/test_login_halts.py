"""A real sshd that halts, hangs up or turns away around the moment of authentication: an end by the deadline, and its cause."""

from __future__ import annotations

import getpass
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bbctl.model import Host
from bbctl.ssh.fanout import fanout
from bbctl.ssh.transport import NotLoggedIn, Transport
from tests.integration.sshd import Farm, farm, wait_for
from tests.integration.two_users import two_users


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with farm(tmp_path_factory.mktemp("halts"), "h1", net=47) as made:
        yield made


def own_sshd(made: Farm, folder: Path, number: int, settings: str, *names: str, **ssh: Any) -> tuple[list[Host], int]:
    """Hosts on one address with an sshd of their own, whose log is in `folder`; and its pid."""
    address = f"127.0.47.{number}"
    pid = made.start([address], made.host_key, folder / "sshd.log", settings=settings)
    known = folder / "known"
    known.write_text(made.known_line("own", address=address))
    return [made.host(name, address=address, known_hosts=known, **ssh) for name in names or ("own",)], pid


def logins_of(pid: int) -> list[int]:
    """The processes of an sshd's logins."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: sshd asks no command of another's")
def test_a_server_that_halts_in_mid_authentication_is_auth_failed_by_the_deadline_and_not_asked_again(
    hosts: Farm, tmp_path: Path
) -> None:
    """A directory of users that does not answer, say."""
    asks = f"AuthorizedKeysCommand /bin/sleep 600\nAuthorizedKeysCommandUser {getpass.getuser()}"
    stranger = hosts.keygen("stranger")
    (host,), _ = own_sshd(hosts, tmp_path, 101, asks, connect_timeout=3.0, identity_file=stranger)
    with Transport(hosts.fleet(host)) as transport, pytest.raises(NotLoggedIn) as caught:
        transport.open(host)
    assert (caught.value.status, caught.value.exit) == ("auth-failed", 4)
    assert "no answer to our key within 3s" in caught.value.message
    seen = (tmp_path / "sshd.log").read_text().count("Connection from")
    assert seen == 2, "more than one that looked whether it listens, and ours"


def test_a_server_that_halts_right_after_authentication_is_a_timeout_by_the_deadline(
    hosts: Farm, tmp_path: Path
) -> None:
    (host,), pid = own_sshd(hosts, tmp_path, 102, "MaxStartups 200")
    with Transport(hosts.fleet(host)) as transport:
        transport.open(host)
        stopped = wait_for(lambda: logins_of(pid), "the login's process")
        for login in stopped:
            os.kill(login, signal.SIGSTOP)
        try:
            ran = transport.run(host, f"touch {tmp_path}/never", timeout=1.0)
        finally:
            for login in stopped:
                os.kill(login, signal.SIGKILL)
    assert (ran.status, ran.exit) == ("timeout", None)
    assert "no channel could be opened" in str(ran.error)
    assert not (tmp_path / "never").exists()


def test_a_server_that_hangs_up_right_after_authentication_is_a_lost_connection_and_the_next_command_logs_in_anew(
    hosts: Farm, tmp_path: Path
) -> None:
    (host,), pid = own_sshd(hosts, tmp_path, 103, "MaxStartups 200")
    with Transport(hosts.fleet(host)) as transport:
        session = transport.open(host)
        for login in wait_for(lambda: logins_of(pid), "the login's process"):
            with suppress(ProcessLookupError):
                os.kill(login, signal.SIGKILL)
        ran = session.run("true", timeout=30)
        assert (ran.status, ran.exit) == ("failed", None)
        assert "connection lost" in str(ran.error)
        assert transport.run(host, "true", timeout=30).ok
    assert hosts.logins(tmp_path / "sshd.log") == 2


def test_more_logins_at_once_than_sshd_begins_all_come_in_by_their_deadline(hosts: Farm, tmp_path: Path) -> None:
    names = [f"own{number}" for number in range(12)]
    made, _ = own_sshd(hosts, tmp_path, 104, "MaxStartups 2:100:3", *names, connect_timeout=30.0)
    with Transport(hosts.fleet(*made)) as transport:
        found = fanout(made, transport.ping)
    assert {ran.status for ran in found.values()} == {"ok"}, found
    assert hosts.logins(tmp_path / "sshd.log") == len(names)


@pytest.mark.root
def test_a_locked_account_is_auth_failed_after_one_attempt_with_one_key() -> None:
    with two_users(net=48) as made:
        log = made.farm.log
        host = made.farm.host("h1", user="locked")
        with Transport(made.farm.fleet(host)) as transport, pytest.raises(NotLoggedIn) as caught:
            transport.open(host)
        wait_for(lambda: "locked not allowed because account is locked" in log.read_text(), "sshd to have refused it")
        assert (caught.value.status, caught.value.exit) == ("auth-failed", 4)
        assert caught.value.message == f"locked: permission denied (offered {made.farm.key})"
        assert log.read_text().count("locked not allowed") == 1
