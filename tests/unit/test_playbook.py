"""Playbooks: what a file may say, what variables do, and that every complaint names file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from bbctl.errors import ConfigError, UsageError
from bbctl.run import playbook
from bbctl.run.playbook import KINDS
from bbctl.run.steps import DO
from bbctl.settings import shipped

SAMPLE = """\
name: rolling
vars:
  batch: {type: integer, default: 1, min: 1, max: 3}
  dumps: {type: integer, default: 2}
  careful: {type: boolean, default: "no"}
strategy: {batch: "{batch}", canary: "{careful}", soak: 2m}
steps:
  - drain
  - settle: 3s
  - stop
  - evidence: {dumps: "{dumps}"}
    when: hung
    timeout: 30s
    on_failure: continue
  - kill: KILL
    when: hung
  - start
  - health: {times: 5}
    retries: 2
    when: {careful: "yes"}
  - undrain
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rolling.yml").write_text(SAMPLE)
    return tmp_path


def load(folder: Path, old: str = "", new: str = "") -> playbook.Playbook:
    path = folder / "rolling.yml"
    path.write_text(SAMPLE.replace(old, new) if old else SAMPLE)
    return playbook.load(path)


def test_every_kind_of_step_is_carried_out_by_a_function_of_its_name() -> None:
    assert set(DO) == set(KINDS)


def test_the_shipped_playbooks_are_right_and_end_as_their_names_say() -> None:
    books = {p.stem: playbook.proven(playbook.load(p)) for p in playbook.every([shipped("playbooks")])}
    goals = {name: book.goal for name, book in books.items()}
    words = {"restart": "restarted", "stop": "stopped", "start": "started", "drain": "drained", "undrain": "undrained"}
    assert goals.items() >= words.items()


def test_variables_fill_strategy_and_steps(folder: Path) -> None:
    bound = playbook.bind(load(folder), {"batch": "3", "dumps": "7"})
    assert (bound.strategy.batch, bound.strategy.soak) == (3, 120.0)
    assert next(s.args["dumps"] for s in bound.steps if s.kind == "evidence") == 7


def test_a_condition_on_a_variable_decides_whether_a_step_is_there(folder: Path) -> None:
    assert not playbook.bind(load(folder), {}).has("health")
    careful = playbook.bind(load(folder), {"careful": "yes"})
    assert careful.strategy.canary
    assert next(s for s in careful.steps if s.kind == "health").retries == 2


def test_a_boolean_means_the_same_by_either_of_its_words(folder: Path) -> None:
    yes, true = (playbook.bind(load(folder), {"careful": word}) for word in ("yes", "true"))
    assert yes.steps == true.steps
    assert yes.steps != playbook.bind(load(folder), {"careful": "false"}).steps


def test_a_condition_on_a_fact_is_left_for_the_moment_of_the_step(folder: Path) -> None:
    kill = next(s for s in playbook.bind(load(folder), {}).steps if s.kind == "kill")
    assert (kill.when, kill.args) == ("hung", {"signal": "KILL"})


@pytest.mark.parametrize(
    ("old", "new", "line", "word"),
    [
        ("  - drain", "  - drian", 8, "did you mean drain"),
        ("name: rolling", "nam: rolling", 1, "did you mean name"),
        ("when: hung\n    timeout", "when: hanged\n    timeout", 12, "unknown fact"),
        ("  - start", "  - start: now", 17, "takes nothing"),
        ("kill: KILL", "kill: BANG", 15, "KILL"),
        ("settle: 3s", "settle: 3", 9, "duration"),
        ("dumps: \"{dumps}\"", "dumps: \"{dump}\"", 11, "dumps"),
        ("{times: 5}", "{time: 5}", 18, "did you mean times"),
        ("when: {careful: \"yes\"}", "when: {carefull: \"yes\"}", 20, "no variable"),
        ("batch: \"{batch}\"", "batch: many", 6, "digits"),
        ("    retries: 2", "    retires: 2", 18, "one kind"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_with_file_and_line(folder: Path, old: str, new: str, line: int, word: str) -> None:
    with pytest.raises(ConfigError, match=rf"rolling\.yml:{line}: .*{word}"):
        load(folder, old, new)


def test_a_kill_without_evidence_before_it_is_refused(folder: Path) -> None:
    (folder / "rolling.yml").write_text("name: x\nsteps:\n  - kill: KILL\n  - start\n")
    with pytest.raises(ConfigError, match="evidence"):
        playbook.load(folder / "rolling.yml")


@pytest.mark.parametrize("pair", [("batch", "4"), ("batch", "0"), ("batch", "x"), ("careful", "maybe"), ("speed", "1")])
def test_a_wrong_value_of_a_variable_is_a_usage_error(folder: Path, pair: tuple[str, str]) -> None:
    with pytest.raises(UsageError):
        playbook.bind(load(folder), dict([pair]))


def test_a_variable_without_a_default_must_be_set(folder: Path) -> None:
    book = load(folder, "default: 2}", "min: 1}")
    with pytest.raises(UsageError, match="needs dumps"):
        playbook.bind(book, {})
    assert playbook.bind(book, {"dumps": "4"}).has("evidence")


def test_a_sites_own_playbook_stands_before_the_shipped_one(folder: Path) -> None:
    (folder / "restart.yml").write_text("name: restart\nsteps: [start]\n")
    folders = [folder, shipped("playbooks")]
    assert playbook.find("restart", folders) == folder / "restart.yml"
    assert {"rolling", "stop"} <= {p.stem for p in playbook.every(folders)}
    with pytest.raises(UsageError, match="did you mean restart"):
        playbook.find("restrat", folders)
