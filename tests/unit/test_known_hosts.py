"""Which host keys are known: OpenSSH's format, its markers, and what `trust` writes."""

from __future__ import annotations

import base64
import hmac
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbctl.errors import ConfigError
from bbctl.ssh.knownhosts import HostKey, KnownHosts, names, trust

RED, BLUE = HostKey("ssh-ed25519", b"red" * 17), HostKey("ssh-rsa", b"blue" * 60)
WORKER = names("10.0.0.1", "w1.snc1", 2222)


def b64(key: HostKey) -> str:
    return f"{key.kind} {base64.b64encode(key.blob).decode()}"


def hashed(name: str) -> str:
    salt = b"0123456789abcdefghij"
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(hmac.digest(salt, name.encode(), 'sha1')).decode()}"


def known(tmp_path: Path, *lines: str) -> KnownHosts:
    path = tmp_path / "known_hosts"
    path.write_text("\n".join(lines) + "\n")
    return KnownHosts.read([path])


def test_a_host_is_looked_up_by_address_with_its_port_and_then_by_name() -> None:
    assert names("10.0.0.1", "w1", 2222) == ("[10.0.0.1]:2222", "[w1]:2222", "w1")
    assert names("10.0.0.1", "w1", 22) == ("10.0.0.1", "w1")


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("[10.0.0.1]:2222 " + b64(RED), "known"),
        ("[W1.snc1]:2222 " + b64(RED), "known"),
        ("w1.snc1 " + b64(RED) + " a comment", "known"),
        ("other,[w1.snc1]:2222 " + b64(RED), "known"),
        (hashed("[10.0.0.1]:2222") + " " + b64(RED), "known"),
        ("*.snc1 " + b64(RED), "known"),
        ("[w?.snc1]:2222 " + b64(RED), "known"),
        ("*.snc1,!w1.snc1 " + b64(RED), "unknown"),
        ("[10.0.0.1]:2222 " + b64(BLUE), "changed"),
        (hashed("w1.snc1") + " " + b64(BLUE), "changed"),
        ("[10.0.0.1]:22 " + b64(RED), "unknown"),
        ("10.0.0.2 " + b64(RED), "unknown"),
        ("@cert-authority *.snc1 " + b64(RED), "unknown"),
        ("@revoked * " + b64(RED), "revoked"),
        ("@revoked elsewhere " + b64(RED), "unknown"),
        ("# w1.snc1 " + b64(RED), "unknown"),
        ("w1.snc1 ssh-ed25519 not-base64!", "unknown"),
        ("|1|bad|worse " + b64(RED), "unknown"),
        ("", "unknown"),
    ],
)
def test_the_verdict_on_a_key(tmp_path: Path, line: str, verdict: str) -> None:
    assert known(tmp_path, line).verdict(WORKER, RED) == verdict


def test_what_is_stored_under_the_address_counts_before_what_is_stored_under_the_name(tmp_path: Path) -> None:
    both = known(tmp_path, "w1.snc1 " + b64(RED), "[10.0.0.1]:2222 " + b64(BLUE))
    assert both.verdict(WORKER, RED) == "changed"
    assert both.keys(WORKER) == (BLUE,)


def test_one_of_several_keys_of_a_host_is_enough(tmp_path: Path) -> None:
    assert known(tmp_path, "w1.snc1 " + b64(BLUE), "w1.snc1 " + b64(RED)).verdict(WORKER, RED) == "known"


def test_a_revoked_key_stays_revoked_where_another_line_knows_it(tmp_path: Path) -> None:
    assert known(tmp_path, "w1.snc1 " + b64(RED), "@revoked w1.snc1 " + b64(RED)).verdict(WORKER, RED) == "revoked"


def test_a_file_that_is_missing_knows_nothing(tmp_path: Path) -> None:
    assert KnownHosts.read([tmp_path / "none"]).verdict(WORKER, RED) == "unknown"


def test_a_file_that_cannot_be_read_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        KnownHosts.read([tmp_path])


def test_the_fingerprint_is_openssh_s_own() -> None:
    key = base64.b64decode("AAAAC3NzaC1lZDI1NTE5AAAAIJPnVhJ1Zk7PPFMMDSVBZPvHQr6JYqlnVyNkwXbcPxQd")
    assert HostKey("ssh-ed25519", key).fingerprint.startswith("SHA256:")
    assert "=" not in HostKey("ssh-ed25519", key).fingerprint


@given(st.text(max_size=200))
def test_no_line_whatever_is_in_it_breaks_the_lookup(line: str) -> None:
    from bbctl.ssh.knownhosts import _parse

    found = [parsed for one in line.splitlines() if (parsed := _parse(one))]
    assert KnownHosts(found).verdict(WORKER, RED) in ("known", "unknown", "changed", "revoked")


def test_trust_adds_a_line_and_keeps_all_others_byte_by_byte(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "known_hosts"
    path.parent.mkdir()
    path.write_bytes(b"# mine, caf\xe9\n" + f"w2 {b64(BLUE)}\n".encode())
    trust(path, [(WORKER[:2], RED)], replace=False)
    assert path.read_bytes().startswith(b"# mine, caf\xe9\n" + f"w2 {b64(BLUE)}\n".encode())
    assert KnownHosts.read([path]).verdict(WORKER, RED) == "known"


def test_trust_writes_a_file_for_its_owner_only(tmp_path: Path) -> None:
    trust(tmp_path / "known_hosts", [(WORKER[:2], RED)], replace=False)
    assert stat.S_IMODE((tmp_path / "known_hosts").stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["known_hosts"]


def test_replace_takes_the_host_off_its_old_lines_and_leaves_the_others_on_them(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"[10.0.0.1]:2222,w9 {b64(BLUE)}\n{hashed('[w1.snc1]:2222')} {b64(BLUE)}\n@revoked * {b64(BLUE)}\n")
    trust(path, [(WORKER[:2], RED)], replace=True)
    assert path.read_text() == f"w9 {b64(BLUE)}\n@revoked * {b64(BLUE)}\n[10.0.0.1]:2222,[w1.snc1]:2222 {b64(RED)}\n"


def test_trust_follows_a_link_and_leaves_it_a_link(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.write_text("")
    (tmp_path / "known_hosts").symlink_to(real)
    trust(tmp_path / "known_hosts", [(WORKER[:2], RED)], replace=False)
    assert (tmp_path / "known_hosts").is_symlink()
    assert b64(RED) in real.read_text()
