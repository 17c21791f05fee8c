"""A command that a person is told to type goes to the same hosts as the one that told."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.text import Text

from bbctl.cli.front import Call
from bbctl.render import lab, screen


def typed(text: str, inventory: str | None) -> str:
    with screen.commands_for(inventory):
        return screen.typed(text)


def test_the_inventory_that_was_said_goes_along() -> None:
    said = "next     bbctl runs resume r-1 · bbctl diagnose w1"
    assert typed(said, "lab") == "next     bbctl -i lab runs resume r-1 · bbctl -i lab diagnose w1"
    assert typed("bbctl status w1", "/my fleets/a.yml") == "bbctl -i '/my fleets/a.yml' status w1"
    assert typed(said, None) == said


@pytest.mark.parametrize(
    "said", ["bbctl lab break w1 crash", "bbctl explain locked", "bbctl -i x status", "of bbctl 0.1"]
)
def test_what_asks_no_inventory_or_names_one_stays(said: str) -> None:
    assert typed(said, "lab") == said


def test_coloured_lines_get_it_too_and_keep_their_colours(capsys: pytest.CaptureFixture[str]) -> None:
    line = Text.assemble(("do ", "red"), "bbctl restart w1 or bbctl kill w1", (" now", "green"))
    with screen.commands_for("lab"):
        screen.draw(line)
    assert capsys.readouterr().out.strip() == "do bbctl -i lab restart w1 or bbctl -i lab kill w1 now"


def test_somebody_else_s_text_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Call(command="exec", inventory="lab").show([], lambda: "w1 | bbctl restart w1")
    Call(command="diagnose", inventory="lab").show([], lambda: "do bbctl restart w1")
    assert capsys.readouterr().out.splitlines() == ["w1 | bbctl restart w1", "do bbctl -i lab restart w1"]


def test_an_environment_that_is_not_active_is_named_by_a_path_that_leads_there_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("sys.prefix", str(tmp_path / "venv"))
    monkeypatch.chdir(tmp_path)
    assert ". venv/bin/activate && bbctl lab up" in lab._turn(kept=False)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert f". {tmp_path}/venv/bin/activate && bbctl lab up" in lab._turn(kept=False)
