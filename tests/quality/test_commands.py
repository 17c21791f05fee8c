"""Every command of the table exists, and its help says what it is for, examples first."""

from __future__ import annotations

import re

import pytest
import typer
from typer.testing import CliRunner

from bbctl.cli.app import find, load, overview, sort
from bbctl.cli.table import COMMANDS, NOUNS, nouns


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_help_of_every_command_begins_with_what_it_is_for_and_examples(name: str) -> None:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name=name)(load(COMMANDS[name]))
    shown = CliRunner().invoke(app, ["--help"], prog_name=f"bbctl {name}")
    assert shown.exit_code == 0, shown.output
    text = shown.output
    assert f"bbctl {name.split()[0]}" in text
    examples = re.search(r"^\s*Examples?:?", text, re.MULTILINE)
    options = re.search(r"^\s*Options:?", text, re.MULTILINE)
    assert examples, f"bbctl {name} --help shows no example"
    assert options
    assert examples.start() < options.start()
    assert re.search(r"^\s+bbctl ", text[examples.start() :], re.MULTILINE)


def test_every_command_stands_on_the_front_page() -> None:
    page = overview()
    for name in COMMANDS:
        assert name.split()[0] in page


def test_a_noun_is_understood_in_singular_and_plural() -> None:
    for said, meant in NOUNS.items():
        assert meant in nouns() or meant in COMMANDS
        verbs = [n for n in COMMANDS if n.startswith(meant + " ")]
        if verbs:
            assert find([said, verbs[0].split()[1]])[0].name == verbs[0]


def test_our_options_are_taken_out_before_and_after_the_command_but_never_after_the_dashes() -> None:
    words = sort(["-i", "lab", "exec", "w1", "-o", "json", "-y", "--", "echo", "-o", "yaml", "-i", "x", "--yes"])
    assert (words.inventory, words.output, words.yes) == ("lab", "json", True)
    assert words.rest == ("exec", "w1")
    assert words.tail == ("echo", "-o", "yaml", "-i", "x", "--yes")


def test_a_free_text_that_looks_like_one_of_our_options_stays_a_text() -> None:
    assert sort(["logs", "w1", "-g", "-o"]).rest == ("logs", "w1", "-g", "-o")
    assert sort(["restart", "w1", "--reason", "-y"]).yes is False
