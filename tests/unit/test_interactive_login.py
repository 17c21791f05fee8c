"""The words of the interactive client: known keys only, nothing forwarded, in the log folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from bbctl.cli.shell import folder_of, ssh_words
from bbctl.errors import UsageError
from bbctl.model import Fleet, Host, Service, Ssh

JBOSS = Service(name="jboss", log="/var/log/a b/server.log")
HOST = Host(
    name="w1.snc1",
    address="10.0.0.1",
    ssh=Ssh(user="jboss", port=2222, identity_file=Path("/k/id"), known_hosts=Path("/etc/b b/known"), jump="gate"),
    services=(JBOSS,),
)


FLEET = Fleet(source=None, site="", hosts={HOST.name: HOST}, groups={})


@pytest.fixture(autouse=True)
def no_known_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))


def test_the_client_takes_known_keys_only_and_forwards_nothing(tmp_path: Path) -> None:
    words = ssh_words(FLEET, HOST, None)
    for option in ("StrictHostKeyChecking=yes", "ForwardAgent=no", "ForwardX11=no", "IdentitiesOnly=yes"):
        assert words[words.index(option) - 1] == "-o"
    assert f'UserKnownHostsFile="/etc/b b/known" "{tmp_path}/.ssh/known_hosts"' in words
    assert words[words.index("-F") + 1] == "none"
    assert words[-3:] == ["-t", "--", "10.0.0.1"]


def test_user_port_and_key_are_the_inventory_s() -> None:
    words = ssh_words(FLEET, HOST, None)
    assert [words[words.index(flag) + 1] for flag in ("-l", "-p", "-i")] == ["jboss", "2222", "/k/id"]


def test_a_jump_host_is_gone_through_with_the_same_rules() -> None:
    through = next(w for w in ssh_words(FLEET, HOST, None) if w.startswith("ProxyCommand="))
    assert "StrictHostKeyChecking=yes" in through
    assert "-p 22 " in through
    assert through.endswith(" -W [%h]:%p -- gate")


def test_the_login_begins_in_the_log_folder() -> None:
    assert ssh_words(FLEET, HOST, folder_of(HOST, None))[-1] == "cd '/var/log/a b'; exec \"${SHELL:-sh}\" -l"


def test_a_key_stored_under_the_name_alone_is_found_through_an_alias(tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/known_hosts").write_text("[w1.snc1]:2222 ssh-ed25519 AAAA\n")
    assert "HostKeyAlias=[w1.snc1]:2222" in ssh_words(FLEET, HOST, None)


def test_a_service_that_the_host_has_not_is_named_with_those_it_has() -> None:
    with pytest.raises(UsageError, match="no service 'x'; it has jboss"):
        folder_of(HOST, "x")


def test_several_folders_and_none_named_is_a_usage_error() -> None:
    both = Host(name="h", address="h", ssh=HOST.ssh, services=(JBOSS, Service(name="b", log="/b/log")))
    with pytest.raises(UsageError, match="several logs"):
        folder_of(both, None)
    assert folder_of(both, "b") == "/b"
