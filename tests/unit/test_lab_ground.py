"""The lab on paper: its addresses, its inventory, its init script, what its invoices and logs say."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from bbctl.errors import UsageError
from bbctl.inventory import fleet as inventory
from bbctl.lab import ground as grounds
from bbctl.lab import initscript, invoicing, words
from bbctl.lab.ground import Ground
from bbctl.model import Host


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(
        folder=tmp_path / "a lab", net="127.50.60", workers=3, ssh_port=2201, http_port=2202, vip_port=2203, client_port=2204
    )  # fmt: skip


@pytest.fixture
def host(ground: Ground) -> Host:
    """accounting-worker2 as bbctl reads it from the lab's inventory."""
    ground.folder.mkdir()
    text = grounds.inventory(
        ground, mongo="mongodb://u:p@127.0.0.1:1/x?replicaSet=rs0", redis="redis://:p@127.0.0.1:2/0"
    )
    ground.inventory.write_text(text)
    ground.inventory.chmod(0o600)
    return inventory.load(ground.inventory, {}).hosts["accounting-worker2.snc1"]


def test_the_inventory_of_the_lab_is_one_like_any_other(host: Host, ground: Ground) -> None:
    (service,) = host.services
    assert (host.address, host.ssh.port) == ("127.50.60.2", 2201)
    assert host.ssh.identity_file == ground.key
    assert service.start == (str(ground.host(2).init), "start")
    assert service.vip is not None
    assert service.vip.min_in_service == 2
    assert service.health is not None
    assert service.health.url == "http://127.50.60.2:2202/health"


def test_the_pattern_matches_its_own_launcher_and_no_other(host: Host, ground: Ground) -> None:
    (service,) = host.services
    assert service.process is not None

    def line(number: int) -> str:
        launched = ground.host(number)
        return f"python -P -m bbctl.lab.jboss org.jboss.Main -c accounting -b {launched.name} {launched.mark}"

    assert re.search(service.process.match, line(2), re.IGNORECASE)
    assert not re.search(service.process.match, line(1), re.IGNORECASE)
    elsewhere = replace(ground, folder=Path("/elsewhere/lab")).host(2)
    assert not re.search(service.process.match, line(2).replace(ground.host(2).mark, elsewhere.mark), re.IGNORECASE)


def test_the_log_says_what_the_patterns_of_the_inventory_look_for(host: Host) -> None:
    (service,) = host.services
    assert service.hang is not None
    said = {
        "started": words.line(0, "INFO", "org.jboss.as", words.started(4.2)),
        "stopped": words.line(0, "INFO", "org.jboss.as", words.stopped(1.2)),
        "hang": words.line(0, "INFO", *words.STOPPING_QUEUE),
    }
    for name, pattern in {"started": service.started, "stopped": service.stopped, "hang": service.hang.after}.items():
        matching = [key for key, line in said.items() if re.search(pattern or "", line, re.IGNORECASE)]
        assert matching == [name]


@pytest.mark.parametrize("word", ["accounting-worker2.snc1", "accounting-worker2", "2"])
def test_a_host_goes_by_its_name_its_first_label_or_its_number(ground: Ground, word: str) -> None:
    assert ground.named(word) == ground.host(2)


def test_a_host_that_is_none_is_refused_with_those_there_are(ground: Ground) -> None:
    with pytest.raises(UsageError, match="accounting-worker1, accounting-worker2, accounting-worker3 and client"):
        ground.named("4")


@pytest.mark.parametrize("workers", [0, 21])
def test_a_lab_has_from_one_to_twenty_workers(tmp_path: Path, workers: int) -> None:
    with pytest.raises(UsageError, match="from 1 to 20"):
        grounds.choose(tmp_path, workers)


def test_the_ground_is_kept_as_it_was_chosen(ground: Ground) -> None:
    ground.folder.mkdir()
    ground.save()
    assert grounds.load(ground.folder) == ground
    assert grounds.load(ground.folder / "none") is None


def test_the_init_script_is_a_posix_script_even_below_an_odd_folder(ground: Ground, tmp_path: Path) -> None:
    odd = replace(ground, folder=tmp_path / "it's $(odd)").host(1)
    odd.init.parent.mkdir(parents=True)
    odd.init.write_text(initscript.text(odd))
    assert subprocess.run(["sh", "-n", str(odd.init)], check=False).returncode == 0
    said = subprocess.run(["sh", str(odd.init), "stop"], capture_output=True, text=True, check=True)
    assert said.stdout == "jboss does not run\n"
    assert subprocess.run(["sh", str(odd.init)], capture_output=True, check=False).returncode == 2


def test_a_stale_pid_file_of_the_init_script_names_nobody(ground: Ground) -> None:
    host = ground.host(1)
    for folder in (host.init.parent, host.folder / "run"):
        folder.mkdir(parents=True)
    host.init.write_text(initscript.text(host))
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        (host.folder / "run" / "jboss.pid").write_text(str(bystander.pid))
        subprocess.run(["sh", str(host.init), "stop"], check=True, capture_output=True)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_the_bank_times_out_once_for_every_seventh_invoice_and_never_twice() -> None:
    with pytest.raises(RuntimeError, match="Bank timeout"):
        invoicing.done("send-to-bank", 7, invoicing.signal_data(7), 1)
    assert invoicing.done("send-to-bank", 7, invoicing.signal_data(7), 2)["invoice"] == 7
    assert invoicing.done("send-to-bank", 8, invoicing.signal_data(8), 1)["invoice"] == 8


def test_vat_is_worked_out_in_whole_cents() -> None:
    assert invoicing.done("calculate-vat", 1, {"country": "DE", "net_cents": 999}, 1) == {"vat_cents": 189}


def test_an_invoice_has_five_steps_and_one_of_them_waits_for_its_time() -> None:
    made = invoicing.decisions({}, 1_700_000_000.0)
    assert [one["name"] for one in made] == [
        "create-invoice",
        "calculate-vat",
        "send-to-bank",
        "archive",
        "notify-merchant",
    ]
    assert [one["name"] for one in made if "fires_at" in one] == ["archive"]
    assert made[3]["fires_at"] == "2023-11-14T22:13:22.000Z"


def test_a_dump_names_the_deadlock_only_while_it_hangs() -> None:
    assert "Found one Java-level deadlock" in words.dump(0, deadlock=True)
    assert "deadlock" not in words.dump(0, deadlock=False)
