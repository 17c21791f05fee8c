"""What is in the wheel is enough: unpacked and run from an empty folder with an empty home, bbctl finds all that it ships."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass
class Elsewhere:
    """A machine that has the wheel's files and none of the clone's."""

    wheel: Path
    folder: Path

    def bbctl(self, *words: str) -> str:
        env = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "PYTHONPATH": str(self.wheel), "LANG": "C.UTF-8"}
        call = [sys.executable, "-m", "bbctl", *words]
        ran = subprocess.run(call, env=env, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    built, unpacked = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("unpacked")
    build = "from hatchling.build import build_wheel; import sys; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(built)], cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = built.glob("bbctl-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.startswith("tests/")]
        archive.extractall(unpacked)
    return Elsewhere(unpacked, tmp_path_factory.mktemp("empty"))


def test_playbooks_runbook_and_signatures_are_found_and_fit_each_other(elsewhere: Elsewhere) -> None:
    found = elsewhere.bbctl("playbook", "list", "-o", "name").split()
    assert set(found) >= {"restart", "start", "stop", "drain", "undrain"}
    shown = json.loads(elsewhere.bbctl("config", "show", "-o", "json"))
    where = Path(next(row["value"] for row in shown if row["key"] == "playbooks"))
    assert where.is_relative_to(elsewhere.wheel)
    assert len(list((where / "signatures").glob("*.yml"))) >= 4
    assert "restart" in elsewhere.bbctl("runbook", "show", "restart_jboss")


def test_the_sample_inventory_that_it_writes_is_one(elsewhere: Elsewhere) -> None:
    elsewhere.bbctl("init", "fleet")
    (elsewhere.folder / "fleet/inventory.yml").chmod(0o600)
    hosts = json.loads(elsewhere.bbctl("-i", "fleet/inventory.yml", "hosts", "workers", "-o", "json"))
    assert [host["name"] for host in hosts] == [f"accounting-worker{n}.snc1" for n in (1, 2, 3)]


def test_with_nothing_there_yet_every_command_without_a_host_answers(elsewhere: Elsewhere) -> None:
    for words in (["--help"], ["--version"], ["check", "list"], ["explain"], ["audit", "verify"], ["config", "schema"]):
        assert elsewhere.bbctl(*words)
    assert not [path for path in elsewhere.folder.iterdir() if path.name not in (".local", "fleet")]
