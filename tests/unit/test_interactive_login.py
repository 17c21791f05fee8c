"""The words of the interactive client: known keys only, nothing forwarded, in the log folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from bbctl.cli.shell import folder_of, ssh_words
from bbctl.errors import UsageError
from bbctl.model import Host, Service, Ssh

JBOSS = Service(name="jboss", log="/var/log/a b/server.log")
HOST = Host(
    name="w1.snc1",
    address="10.0.0.1",
    ssh=Ssh(user="jboss", port=2222, identity_file=Path("/k/id"), known_hosts=Path("/etc/b b/known"), jump="gate"),
    services=(JBOSS,),
)


def test_the_client_takes_known_keys_only_and_forwards_nothing() -> None:
    words = ssh_words(HOST, None, None)
    for option in ("StrictHostKeyChecking=yes", "ForwardAgent=no", "ForwardX11=no", "IdentitiesOnly=yes"):
        assert words[words.index(option) - 1] == "-o"
    assert 'UserKnownHostsFile="/etc/b b/known" "~/.ssh/known_hosts"' in words
    assert words[words.index("-F") + 1] == "none"
    assert words[-2:] == ["--", "10.0.0.1"]


def test_user_port_key_and_jump_host_are_the_inventory_s() -> None:
    words = ssh_words(HOST, None, None)
    assert [words[words.index(flag) + 1] for flag in ("-l", "-p", "-i", "-J")] == ["jboss", "2222", "/k/id", "gate"]


def test_the_login_begins_in_the_log_folder() -> None:
    assert ssh_words(HOST, folder_of(HOST, None), None)[-1] == "cd '/var/log/a b'; exec \"${SHELL:-sh}\" -l"


def test_a_key_stored_under_the_name_alone_is_found_through_an_alias() -> None:
    assert "HostKeyAlias=w1.snc1" in ssh_words(HOST, None, "w1.snc1")


def test_a_service_that_the_host_has_not_is_named_with_those_it_has() -> None:
    with pytest.raises(UsageError, match="no service 'x'; it has jboss"):
        folder_of(HOST, "x")


def test_several_folders_and_none_named_is_a_usage_error() -> None:
    both = Host(name="h", address="h", ssh=HOST.ssh, services=(JBOSS, Service(name="b", log="/b/log")))
    with pytest.raises(UsageError, match="several logs"):
        folder_of(both, None)
    assert folder_of(both, "b") == "/b"
