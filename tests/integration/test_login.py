"""Logging in to real sshd, and to servers that are broken on purpose: which word and which stage, and what is left undone."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bbctl.errors import ConfigError
from bbctl.look import look
from bbctl.model import Host
from bbctl.ssh.dial import Ahead
from bbctl.ssh.transport import NotLoggedIn, Transport
from tests.integration.sshd import Farm, farm, wait_for


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with farm(tmp_path_factory.mktemp("login"), net=41) as made:
        yield made


@pytest.fixture
def no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No known_hosts, keys or agent of whoever runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


pytestmark = pytest.mark.usefixtures("no_home")


def refusal(made: Farm, host: Host) -> NotLoggedIn:
    with Transport(made.fleet(host)) as transport, pytest.raises(NotLoggedIn) as caught:
        transport.open(host)
    return caught.value


def works(made: Farm, host: Host, *others: Host) -> bool:
    with Transport(made.fleet(host, *others)) as transport:
        return transport.run(host, "echo hello", timeout=30).stdout == b"hello\n"


@pytest.mark.parametrize(
    ("kind", "stage"),
    [
        ("blackhole", "connect"),
        ("silent", "banner"),
        ("garbage", "banner"),
        ("full", "banner"),
        ("kexstall", "key exchange"),
    ],
)
def test_a_login_that_hangs_ends_by_its_deadline_and_names_its_stage(hosts: Farm, kind: str, stage: str) -> None:
    broken = hosts.broken(kind)
    error = refusal(hosts, hosts.host("broken", address="127.0.0.1", port=broken.port, connect_timeout=0.8))
    assert (error.status, error.stage) == ("unreachable", stage)
    assert error.message.startswith(stage + ": ")
    assert error.exit == 4


def test_only_the_words_of_maxstartups_are_tried_again(hosts: Farm) -> None:
    tries = {}
    for kind in ("silent", "garbage", "kexstall", "full"):
        broken = hosts.broken(kind)
        refusal(hosts, hosts.host("broken", address="127.0.0.1", port=broken.port, connect_timeout=0.9))
        tries[kind] = broken.seen
    assert tries.pop("full") > 1
    assert set(tries.values()) == {1}


def test_a_login_turned_away_at_first_succeeds_in_the_end(hosts: Farm) -> None:
    proxy = hosts.proxy("h1", turn_away=2)
    line = hosts.known_line("h1", address="127.0.0.1").replace(str(hosts.port), str(proxy.port))
    own = hosts.folder / "turned-away"
    own.write_text(line)
    assert works(hosts, hosts.host("h1", address="127.0.0.1", port=proxy.port, known_hosts=own))
    assert proxy.seen == 3


def test_a_port_where_nobody_listens_is_unreachable_at_connect(hosts: Farm) -> None:
    error = refusal(hosts, hosts.host("h1", port=1))
    assert (error.status, error.stage) == ("unreachable", "connect")
    assert "refused" in error.message


def test_a_name_that_does_not_exist_is_unreachable_at_resolve(hosts: Farm) -> None:
    error = refusal(hosts, hosts.host("no-such-host.invalid"))
    assert (error.status, error.stage) == ("unreachable", "resolve")


def test_an_unknown_host_is_refused_with_its_fingerprint_and_the_way_out(hosts: Farm, tmp_path: Path) -> None:
    before = hosts.logins()
    error = refusal(hosts, hosts.host("h1", known_hosts=tmp_path / "empty"))
    shown = subprocess.run(["ssh-keygen", "-lf", f"{hosts.host_key}.pub"], capture_output=True, text=True, check=True)
    assert (error.status, error.exit) == ("host-key", 3)
    assert error.fingerprint == shown.stdout.split()[1]
    assert error.fingerprint in error.message
    assert error.next == "bbctl hosts trust h1"
    assert hosts.logins() == before
    assert not (tmp_path / "empty").exists()


def test_a_changed_host_key_is_refused_before_anything_is_sent(hosts: Farm, tmp_path: Path) -> None:
    other = hosts.keygen("other-host")
    own = tmp_path / "known"
    own.write_text(hosts.known_line("h1", other))
    logins, commands = hosts.logins(), hosts.commands()
    host = hosts.host("h1", known_hosts=own)
    error = refusal(hosts, host)
    with Transport(hosts.fleet(host)) as transport:
        ran = transport.run(host, "touch never", timeout=5)
        seen = look(transport, [host], known={"h1": host})[0]
    assert (ran.status, seen.status, error.status) == ("host-key",) * 3
    assert ran.next == seen.next == error.next
    assert error.message.count("SHA256:") == 2, "what it shows and what is known"
    assert "--replace" in str(error.next)
    assert (hosts.logins(), hosts.commands()) == (logins, commands)


def test_a_revoked_host_key_is_refused_though_it_is_known(hosts: Farm, tmp_path: Path) -> None:
    own = tmp_path / "known"
    own.write_text(hosts.known_line("h1") + "@revoked " + hosts.known_line("h1"))
    assert "revoked" in refusal(hosts, hosts.host("h1", known_hosts=own)).message


def test_a_key_in_the_users_own_known_hosts_is_known_too(hosts: Farm, tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/known_hosts").write_text(hosts.known_line("h1"))
    assert works(hosts, hosts.host("h1", known_hosts=tmp_path / "none"))


def test_hashed_names_are_understood(hosts: Farm, tmp_path: Path) -> None:
    own = tmp_path / "known"
    own.write_text(hosts.known_line("h1"))
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(own)], check=True, capture_output=True)
    names = [line.split()[0] for line in own.read_text().splitlines()]
    assert names
    assert all(name.startswith("|1|") for name in names)
    assert works(hosts, hosts.host("h1", known_hosts=own))


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_a_host_whose_other_keys_are_unknown_is_asked_for_the_kind_we_know(
    hosts: Farm, tmp_path: Path, kind: str
) -> None:
    known, unknown = hosts.keygen(f"{kind}-host", kind), hosts.keygen(f"{kind}-unknown")
    address = {"rsa": "127.0.41.101", "ecdsa": "127.0.41.102"}[kind]
    hosts.start([address], known, tmp_path / "sshd.log", settings=f"HostKey {unknown}")
    own = tmp_path / "known"
    own.write_text(hosts.known_line("multi", known, address))
    assert works(hosts, hosts.host("multi", address=address, known_hosts=own))


def test_a_key_that_the_host_does_not_take_is_auth_failed_after_one_attempt(hosts: Farm) -> None:
    before = hosts.log.read_text().count("Connection from")
    error = refusal(hosts, hosts.host("h1", identity_file=hosts.keygen("stranger")))
    assert (error.status, error.exit) == ("auth-failed", 4)
    assert "stranger" in error.message
    wait_for(lambda: hosts.log.read_text().count("Connection from") > before, "the attempt in sshd's log")
    assert hosts.log.read_text().count("Connection from") == before + 1


@pytest.mark.parametrize(
    ("key", "cause"),
    [("passphrase", "has a passphrase"), ("missing", "no such key file"), ("nonsense", "no private key")],
)
def test_a_key_file_that_cannot_be_used_is_named_with_its_cause(
    hosts: Farm, tmp_path: Path, key: str, cause: str
) -> None:
    path = tmp_path / key
    if key == "passphrase":
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(path)], check=True)
    elif key == "nonsense":
        path.write_text("not a key\n")
    error = refusal(hosts, hosts.host("h1", identity_file=path))
    assert error.status == "auth-failed"
    assert str(path) in error.message
    assert cause in error.message


@pytest.mark.parametrize(
    ("address", "settings", "cause"),
    [
        ("127.0.41.103", "AuthenticationMethods publickey,publickey", "the server wants more than a key"),
        (
            "127.0.41.104",
            "PubkeyAuthentication no\nMatch all\nPasswordAuthentication yes",
            "no keys, it wants password",
        ),
        ("127.0.41.105", "PubkeyAuthentication no", "takes no keys and nothing else"),
    ],
    ids=["more", "password", "nothing"],
)
def test_a_server_for_which_a_key_is_not_enough_or_nothing_says_so(
    hosts: Farm, tmp_path: Path, address: str, settings: str, cause: str
) -> None:
    hosts.start([address], hosts.host_key, tmp_path / "sshd.log", settings=settings)
    own = tmp_path / "known"
    own.write_text(hosts.known_line("strict", address=address))
    error = refusal(hosts, hosts.host("strict", address=address, known_hosts=own))
    assert error.status == "auth-failed"
    assert cause in error.message


def test_a_connection_begun_ahead_is_the_one_that_is_logged_in_over(hosts: Farm) -> None:
    host = hosts.host("h1")
    before = connections(hosts)
    ahead = Ahead([host])
    wait_for(lambda: connections(hosts) == before + 1, "the connection that was begun")
    with Transport(hosts.fleet(host), ahead=ahead) as transport:
        assert transport.run(host, "true", timeout=30).ok
    assert connections(hosts) == before + 1


def test_a_connection_begun_ahead_that_nobody_wants_is_closed_at_the_end(hosts: Farm) -> None:
    broken = hosts.broken("silent")
    host = hosts.host("broken", address="127.0.0.1", port=broken.port)
    with Transport(hosts.fleet(host), ahead=Ahead([host])):
        wait_for(lambda: broken.held, "the connection that was begun")
    broken.held[0].settimeout(30)
    assert broken.held[0].recv(1) == b""


def test_what_could_not_be_begun_ahead_is_told_like_everything_else(hosts: Farm) -> None:
    refused, nobody = hosts.host("h1", port=1), hosts.host("no-such-host.invalid")
    with Transport(hosts.fleet(refused, nobody), ahead=Ahead([nobody, refused])) as transport:
        assert "connect: " in str(transport.ping(refused).error)
        assert "resolve: " in str(transport.ping(nobody).error)


def test_no_connection_is_begun_ahead_where_a_jump_host_or_an_ssh_config_says_where(
    hosts: Farm, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text("")
    before, (inner, gate) = connections(hosts), jump(hosts, config=config)
    with Transport(hosts.fleet(inner, gate), ahead=Ahead([inner, gate])) as transport:
        assert transport.run(inner, "true", timeout=30).ok
    assert connections(hosts) == before + 2, "one to each of them"


def test_no_key_and_no_agent_is_auth_failed_and_both_are_said(
    hosts: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = refusal(hosts, hosts.host("h1", identity_file=None))
    assert (error.status, error.next) == ("auth-failed", "ssh-add -l")
    assert error.message == "there is no key to offer; no agent is named in SSH_AUTH_SOCK"
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "dead"))
    (tmp_path / ".ssh").mkdir()
    usual = tmp_path / ".ssh/id_ed25519"
    usual.write_text(hosts.keygen("locked-away", passphrase="secret").read_text())
    error = refusal(hosts, hosts.host("h1", identity_file=None))
    assert error.status == "auth-failed"
    assert f"the agent at {tmp_path}/dead gave none" in error.message
    assert f"{usual}: the key has a passphrase" in error.message


def connections(made: Farm) -> int:
    """How often sshd was connected to."""
    return made.log.read_text(errors="replace").count("Connection from")


def attempts(made: Farm) -> list[str]:
    """The fingerprints of the keys that sshd turned down, in order."""
    found = re.findall(r"Failed publickey for .* (SHA256:\S+)", made.log.read_text(errors="replace"))
    return [str(one) for one in found]


def test_each_key_is_offered_once_and_a_server_that_had_enough_of_them_is_not_asked_again(
    hosts: Farm, agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More keys in the agent than MaxAuthTries (6): the usual way to lock oneself out."""
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)
    strangers = [hosts.keygen(f"many-{number}") for number in range(9)]
    for key in strangers:
        subprocess.run(["ssh-add", "-q", str(key)], check=True, capture_output=True)
    seen, connections = len(attempts(hosts)), hosts.log.read_text().count("Connection from")
    error = refusal(hosts, hosts.host("h1", identity_file=None))
    assert error.status == "auth-failed"
    wait_for(lambda: "Too many authentication failures" in hosts.log.read_text(), "sshd to have had enough")
    assert "too many keys" in error.message
    assert hosts.log.read_text().count("Connection from") == connections + 1
    refused = attempts(hosts)[seen:]
    assert len(refused) == len(set(refused))
    assert 0 < len(refused) <= 6


def test_without_an_identity_file_the_users_usual_key_is_offered(hosts: Farm, tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/id_ed25519").write_text(hosts.key.read_text())
    assert works(hosts, hosts.host("h1", identity_file=None))


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "agent")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    wait_for(lambda: Path(path).exists(), "the agent")
    yield path
    process.terminate()
    process.wait(30)


def test_without_an_identity_file_the_agent_s_keys_are_offered(
    hosts: Farm, agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)
    hosts.key.chmod(0o600)
    subprocess.run(["ssh-add", "-q", str(hosts.key)], check=True, capture_output=True)
    assert works(hosts, hosts.host("h1", identity_file=None))


def test_a_named_identity_file_keeps_the_agent_out(hosts: Farm, agent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)
    hosts.key.chmod(0o600)
    subprocess.run(["ssh-add", "-q", str(hosts.key)], check=True, capture_output=True)
    assert refusal(hosts, hosts.host("h1", identity_file=hosts.keygen("only-me"))).status == "auth-failed"


def test_the_agent_is_never_forwarded(hosts: Farm, agent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)
    config = tmp_path / "config"
    config.write_text("Host *\n  ForwardAgent yes\n")
    host = hosts.host("h1", config=config)
    with Transport(hosts.fleet(host)) as transport:
        assert transport.run(host, 'echo "$SSH_AUTH_SOCK"', timeout=30).stdout == b"\n"


def jump(made: Farm, **more: Any) -> tuple[Host, Host]:
    return made.host("h2", jump="h1"), made.host("h1", **more)


def test_a_jump_host_is_gone_through(hosts: Farm) -> None:
    inner, gate = jump(hosts)
    before = hosts.logins()
    with Transport(hosts.fleet(inner, gate)) as transport:
        assert transport.run(inner, "echo $SSH_CONNECTION", timeout=30).out.split()[2] == hosts.addresses["h2"]
    assert hosts.logins() == before + 2


def test_the_jump_host_s_key_is_checked_too(hosts: Farm, tmp_path: Path) -> None:
    inner, gate = jump(hosts, known_hosts=tmp_path / "empty")
    with (
        Transport(hosts.fleet(inner, gate)) as transport,
        pytest.raises(NotLoggedIn, match="jump host h1: host key") as caught,
    ):
        transport.open(inner)
    assert caught.value.status == "host-key"


def test_a_target_that_the_jump_host_cannot_reach_is_unreachable_at_connect(hosts: Farm) -> None:
    inner = hosts.host("h9", address="127.0.41.9", jump="h1", port=1)
    with Transport(hosts.fleet(inner, hosts.host("h1"))) as transport, pytest.raises(NotLoggedIn) as caught:
        transport.open(inner)
    assert (caught.value.status, caught.value.stage) == ("unreachable", "connect")


def test_a_jump_host_that_died_is_logged_in_to_again_and_nothing_goes_on_blindly(hosts: Farm, tmp_path: Path) -> None:
    proxy = hosts.proxy("h1")
    own = tmp_path / "known"
    own.write_text(
        hosts.known_line("h1", address="127.0.0.1").replace(str(hosts.port), str(proxy.port)) + hosts.known_line("h2")
    )
    gate = hosts.host("h1", address="127.0.0.1", port=proxy.port, known_hosts=own)
    inner = hosts.host("h2", jump="h1", known_hosts=own)
    with Transport(hosts.fleet(inner, gate)) as transport:
        assert transport.run(inner, "true", timeout=30).ok
        session = transport.open(inner)
        proxy.mode = "cut"
        wait_for(lambda: not session.alive, "the loss to be noticed")
        assert session.run("true", timeout=30).status == "failed"
        proxy.mode = "pass"
        assert transport.run(inner, "true", timeout=30).ok
    assert proxy.seen == 2


def test_ssh_config_is_read_where_the_inventory_names_one(hosts: Farm, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        f"Host short\n  HostName {hosts.addresses['h1']}\n  Port {hosts.port}\n  IdentityFile {hosts.key}\n"
    )
    host = hosts.host("short", config=config, identity_file=None, port=22)
    assert works(hosts, host)


def test_the_user_s_own_ssh_config_is_never_read(hosts: Farm, tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text(f"Host *\n  ProxyCommand touch {tmp_path}/ran\n  Port 1\n")
    assert works(hosts, hosts.host("h1"))
    assert not (tmp_path / "ran").exists()


def test_a_proxy_command_is_refused_and_not_run(hosts: Farm, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(f"Host *\n  ProxyCommand touch {tmp_path}/ran\n")
    host = hosts.host("h1", config=config)
    with Transport(hosts.fleet(host)) as transport, pytest.raises(ConfigError, match="ProxyCommand"):
        transport.open(host)
    assert not (tmp_path / "ran").exists()


def test_one_login_serves_a_whole_command(hosts: Farm) -> None:
    before = hosts.logins()
    host = hosts.host("h1")
    with Transport(hosts.fleet(host)) as transport:
        assert transport.open(host) is transport.open(host)
        assert all(transport.run(host, "true", timeout=30).ok for _ in range(5))
    assert hosts.logins() == before + 1


def test_asking_for_a_host_s_key_logs_in_to_nothing(hosts: Farm, tmp_path: Path) -> None:
    before = hosts.logins()
    host = hosts.host("h1", known_hosts=tmp_path / "empty", identity_file=tmp_path / "none")
    with Transport(hosts.fleet(host)) as transport:
        shown = transport.host_key(host)
    assert shown.verdict == "unknown"
    assert shown.names == (f"[{hosts.addresses['h1']}]:{hosts.port}", f"[h1]:{hosts.port}", "h1")
    assert hosts.logins() == before
