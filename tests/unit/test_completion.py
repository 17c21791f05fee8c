"""What Tab offers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bbctl.cli.complete import TAKES, candidates, complete, remember_workflows
from bbctl.cli.completion import SCRIPTS
from bbctl.cli.table import COMMANDS

INVENTORY = "groups: {workers: {hosts: 'worker{1-2}.snc1'}}\nhosts: {worker1.snc1: {aliases: [first]}}\n"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "inventory.yml"
    path.write_text(INVENTORY)
    path.chmod(0o600)
    return {
        "HOME": str(tmp_path),
        "BBCTL_HOME": str(tmp_path / "state"),
        "BBCTL_INVENTORY": str(path),
        "PATH": os.environ["PATH"],
    }


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["res"], ["restart"]),
        (["workflow", "wh"], ["why"]),
        (["wf", "wh"], ["why"]),
        (["hosts", "t"], ["trust"]),
        (["restart", "w"], ["workers", "worker1", "worker2", "worker1.snc1", "worker2.snc1"]),
        (["restart", "workers,fi"], ["workers,first"]),
        (["restart", "@w"], ["@workers"]),
        (["restart", "first,@"], ["first,@workers"]),
        (["-o", "json", "status", "fi"], ["first"]),
        (["status", "-o", "j"], ["json"]),
        (["sweep", "-o", ""], ["text", "nagios", "prometheus", "json"]),
        (["-i", "l"], ["lab"]),
        (["playbook", "run", "resta"], ["restart"]),
        (["playbook", "run", "restart", "fi"], ["first"]),
        (["exec", "first", "--", "w"], []),
        (["init", "--rea"], []),
        (["hosts", "--la"], ["--label"]),
        (["hosts", "--o"], ["--output"]),
        (["completion", "z"], ["zsh"]),
        (["nonsense", "w"], []),
    ],
)
def test_these_words_are_offered(environ: dict[str, str], typed: list[str], offered: list[str]) -> None:
    assert candidates(typed, environ) == offered


def test_a_change_of_the_inventory_is_seen_at_once_and_the_cache_is_the_owners_alone(environ: dict[str, str]) -> None:
    assert candidates(["ping", "fi"], environ) == ["first"]
    path = Path(environ["BBCTL_INVENTORY"])
    path.write_text(INVENTORY.replace("first", "fifth"))
    assert candidates(["ping", "fi"], environ) == ["fifth"]
    (cache,) = (Path(environ["BBCTL_HOME"]) / "cache").glob("fleet-*.json")
    assert cache.stat().st_mode & 0o777 == 0o600
    assert "fifth" in json.loads(cache.read_text())["hosts"]


def test_workflow_ids_that_were_shown_are_offered_newest_first(environ: dict[str, str]) -> None:
    home = Path(environ["BBCTL_HOME"])
    remember_workflows(home, ["aa1", "bb2"])
    remember_workflows(home, ["cc3", "aa1"])
    assert candidates(["wf", "show", ""], environ) == ["cc3", "aa1", "bb2"]


def test_a_broken_inventory_offers_nothing_and_says_nothing(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Path(environ["BBCTL_INVENTORY"]).write_text("hosts: [")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert complete(["ping", ""]) == 0
    assert capfd.readouterr() == ("", "")


def test_completion_is_answered_before_anything_heavy_is_imported(environ: dict[str, str]) -> None:
    candidates(["ping", ""], environ)  # fills the cache
    script = "import sys; sys.argv = ['bbctl', '__complete', 'ping', 'fi']\nfrom bbctl.__main__ import main\n" + (
        "try:\n    main()\nfinally:\n    print({'typer', 'rich', 'yaml', 'paramiko', 'bbctl.inventory.fleet'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "first\nset()\n"


def test_every_command_that_words_are_offered_for_exists() -> None:
    assert set(TAKES) <= set(COMMANDS)


def test_bash_takes_the_words_that_bbctl_offers(environ: dict[str, str]) -> None:
    script = SCRIPTS["bash"] + 'COMP_WORDS=(bbctl restart fi); COMP_CWORD=2; _bbctl; printf "%s\\n" "${COMPREPLY[@]}"'
    environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
    done = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "first\n"


@pytest.mark.parametrize(
    ("line", "words", "offered"),
    [
        ("bbctl restart @wor", "bbctl restart @ wor", "@workers"),
        ("bbctl restart @", "bbctl restart @", "@workers"),
        ("bbctl restart first,@wor", "bbctl restart first, @ wor", "@workers"),
        ("bbctl wf show invoice=47", "bbctl wf show invoice = 47", "4711"),
        ("bbctl wf show invoice=", "bbctl wf show invoice =", "4711"),
    ],
)
def test_bash_which_breaks_words_at_some_signs_keeps_what_was_typed(
    environ: dict[str, str], line: str, words: str, offered: str
) -> None:
    """`words` as Bash hands them on; what is offered takes the place of what stands behind the last break, an @ included."""
    remember_workflows(Path(environ["BBCTL_HOME"]), ["invoice=4711"])
    state = f'COMP_LINE="{line}"; COMP_POINT={len(line)}; COMP_WORDS=({words}); COMP_CWORD={len(words.split()) - 1}; '
    script = SCRIPTS["bash"] + state + '_bbctl; printf "%s\\n" "${COMPREPLY[@]}"'
    environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
    done = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == f"{offered}\n"
