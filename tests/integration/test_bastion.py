"""A fleet behind a jump host, all of it real sshd: both keys are checked, and a bastion that dies leaves nothing undone blindly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.shop import Said, Shop, shop
from tests.integration.sshd import wait_for


@dataclass
class Bastion:
    """The sshd that everything goes through, on an address and with a host key of its own."""

    made: Shop
    address: str
    key: Path
    pid: int = 0

    def up(self) -> None:
        farm = self.made.farm
        self.pid = farm.start([self.address], self.key, farm.folder / "bastion.log", settings="MaxStartups 200")

    def down(self) -> None:
        """Power off: the listener and every connection at once."""
        told = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        parents = {int(pid): int(parent) for pid, parent in map(str.split, told.splitlines())}
        gone = {self.pid}
        while more := {pid for pid, parent in parents.items() if parent in gone} - gone:
            gone |= more
        for pid in gone:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    @property
    def tunnels(self) -> int:
        """Logins that went through it."""
        return self.made.farm.logins(self.made.farm.folder / "bastion.log")

    def write(self, **ssh: Any) -> None:
        """The inventory, every host behind the bastion."""
        self.made.write()
        path = self.made.folder / "inventory.yml"
        data = json.loads(path.read_text())
        data["ssh"] |= {"jump": "gate.snc1", **ssh}
        data["hosts"]["gate.snc1"] = {"address": self.address}
        path.write_text(json.dumps(data))


@pytest.fixture(scope="module")
def bastion(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bastion]:
    with shop(tmp_path_factory.mktemp("bastion")) as made:
        gate = Bastion(made, f"127.0.{made.farm.net}.250", made.farm.keygen("gate"))
        with made.farm.known_hosts.open("a") as known:
            known.write(made.farm.known_line("gate.snc1", gate.key, gate.address))
        gate.up()
        yield gate


@pytest.fixture
def shut(bastion: Bastion) -> Shop:
    """The shop behind the bastion, which is up; its host runs and is in its VIP."""
    bastion.made.drain = {}
    bastion.write()
    member = bastion.made.members[0]
    if member.pid is None:
        member.up()
    member.heartbeat.touch()
    (member.folder / "events").write_text("")
    return bastion.made


def in_the_middle(made: Shop, bastion: Bastion, home: str) -> subprocess.Popen[bytes]:
    """A restart that has stopped nothing yet, and the bastion dead under it."""
    made.drain = {"settle": "1500ms"}
    bastion.write()
    run = made.popen("restart", "h1", "--yes", "--reason", "test", "-o", "json", home=home)
    wait_for(lambda: any((e["event"], e.get("step")) == ("intent", "settle") for e in made.events(home)), "settle", 60)
    bastion.down()
    return run


def said(made: Shop, run: subprocess.Popen[bytes]) -> Said:
    out, err = run.communicate(timeout=120)
    return Said(run.returncode, out.decode(), err.decode())


def test_a_restart_through_a_bastion_works_and_logs_in_to_both_once(bastion: Bastion, shut: Shop) -> None:
    through, inside = bastion.tunnels, shut.farm.logins()
    done = shut.change("restart", "h1")
    assert (done.code, done.outcomes) == (0, {"h1": "restarted"}), done
    assert shut.members[0].calls == ["stop", "start"]
    assert (bastion.tunnels, shut.farm.logins()) == (through + 1, inside + 1)


@pytest.mark.parametrize("hop", ["gate.snc1", "h1.snc1"])
def test_a_changed_key_of_either_hop_is_refused_and_nothing_is_sent_beyond_it(
    bastion: Bastion, shut: Shop, hop: str, tmp_path: Path
) -> None:
    farm, gate = shut.farm, hop == "gate.snc1"
    other = farm.host_key if gate else bastion.key
    lines = [
        farm.known_line("gate.snc1", other if gate else bastion.key, bastion.address),
        farm.known_line("h1.snc1", farm.host_key if gate else other),
    ]
    own = tmp_path / "known_hosts"
    own.write_text("".join(lines))
    bastion.write(known_hosts=str(own))
    through, inside = bastion.tunnels, farm.logins()
    refused = shut.change("restart", "h1")
    assert refused.code == 3, refused
    assert "host key changed" in refused.out
    assert ("jump host gate.snc1" in refused.out) == gate
    assert (bastion.tunnels - through, farm.logins() - inside) == (0 if gate else 1, 0)
    assert shut.members[0].calls == []


def test_a_bastion_that_dies_in_mid_run_and_comes_back_is_logged_in_to_again_and_the_run_completes(
    bastion: Bastion, shut: Shop
) -> None:
    run = in_the_middle(shut, bastion, "again")
    bastion.up()
    done = said(shut, run)
    assert (done.code, done.outcomes) == (0, {"h1": "restarted"}), done
    assert shut.members[0].calls == ["stop", "start"]
    assert shut.members[0].heartbeat.exists()


@pytest.mark.faults
def test_a_bastion_that_stays_dead_stops_the_run_before_anything_more_is_done_and_resume_completes_it(
    bastion: Bastion, shut: Shop
) -> None:
    before = shut.members[0].pid
    run = in_the_middle(shut, bastion, "dead")
    failed = said(shut, run)
    assert (failed.code, failed.outcomes) == (1, {"h1": "failed"}), failed
    assert "gate.snc1" in failed.out
    assert (shut.members[0].calls, shut.members[0].pid, shut.members[0].heartbeat.exists()) == ([], before, False)
    bastion.up()
    done = shut.change("runs", "resume", failed.record["run"], home="dead")
    assert (done.code, done.outcomes) == (0, {"h1": "restarted"}), done
    assert shut.members[0].calls == ["stop", "start"]
