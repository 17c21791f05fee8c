"""Every command of the table exists, and its help says what it is for, examples first."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

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


def _told() -> list[str]:
    """Every command that the source says to type next; what is filled in later is X."""
    found = set()
    for path in (Path(__file__).parents[2] / "bbctl").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            named = isinstance(node, ast.keyword) and node.arg == "next"
            named = named or (
                isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "next" for t in node.targets)
            )
            for text in _texts(node.value) if named and isinstance(node, ast.keyword | ast.Assign) else ():
                found |= {said.strip().removeprefix("then ") for said in text.split(" · ") if "bbctl " in said}
    return sorted(found)


def _texts(node: ast.AST) -> Iterator[str]:
    """The texts in an expression, each as a whole."""
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(p.value) if isinstance(p, ast.Constant) else "X" for p in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    else:
        for child in ast.iter_child_nodes(node):
            yield from _texts(child)


def test_the_source_tells_commands_to_type() -> None:
    assert len(_told()) > 50


@pytest.mark.parametrize("said", _told())
def test_a_command_that_is_told_as_the_next_one_exists_and_takes_those_words(said: str) -> None:
    assert said.startswith("bbctl "), "first the command, then ` · ` and a remark"
    words = sort(shlex.split(said)[1:])
    if not words.rest or ("X" in words.rest[:2] and words.rest[0] in ("X", "wf", "workflow")) or "--help" in words.rest:
        return  # what is told depends on the call
    command, rest = find(list(words.rest))
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name=command.name)(load(command))
    parsed = typer.main.get_command(app)
    _, left, _ = parsed.make_parser(parsed.context_class(parsed)).parse_args(list(rest))
    assert left == []
