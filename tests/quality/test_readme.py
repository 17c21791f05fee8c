"""README, runbook and docs tell the truth: the map of the code, every command with its options, every link."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from bbctl.cli.app import find, load, sort
from bbctl.cli.table import COMMANDS, nouns
from bbctl.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "RUNBOOK.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]


def code_map() -> dict[str, list[str]]:
    """Folder → the files named beside it, from the last block of the README."""
    block = (ROOT / "README.md").read_text(encoding="utf-8").rstrip().removesuffix("```").rpartition("```")[2]
    found: dict[str, list[str]] = {}
    for line in block.strip().splitlines():
        folder, _, rest = line.partition(" ")
        files = [word for word in rest.partition("·")[0].split() if word.endswith(".py")] if "·" in rest else []
        found.setdefault(folder, []).extend(files)
    return found


def test_the_map_has_a_line_for_every_package_and_every_top_level_file() -> None:
    mapped = code_map()
    for root in ("bbctl", "engine"):
        files = {path.name for path in (ROOT / root).glob("*.py")}
        assert sorted(mapped[f"{root}/"]) == sorted(files)
        packages = {f"{root}/{path.parent.name}/" for path in (ROOT / root).glob("*/__init__.py")}
        assert {folder for folder in mapped if folder.startswith(f"{root}/")} - {f"{root}/"} == packages


def test_the_map_stays_a_map() -> None:
    block = (ROOT / "README.md").read_text(encoding="utf-8").rstrip().removesuffix("```").rpartition("```")[2]
    assert len(block.strip().splitlines()) <= 25


# -- commands --------------------------------------------------------------------------------------------------------


def commands(page: Path) -> list[str]:
    """Every `bbctl …` of a page: lines of blocks, and spans between backticks."""
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = [line for line in prose.splitlines() if line.startswith("    ")]
    spans = re.findall(r"`([^`]+)`", "\n".join(line for line in prose.splitlines() if not line.startswith("    ")))
    found = []
    for piece in [*spans, *indented, *(line for block in fenced for line in block.splitlines())]:
        for said in re.findall(r"(?:^|[\s(`])(bbctl (?:-i|[a-z_]).*)", piece.replace("\n", " ")):
            found += _apart(said)
    return found


def _apart(said: str) -> list[str]:
    """One line may hold several, and a remark after two blanks or a `#`."""
    said = re.split(r"\s{2,}|\s#|\s&(?:\s|$)|\s[·→]\s", said)[0].strip(" .;,")
    return [part.strip() for part in said.split("&&") if part.strip().startswith("bbctl ")]


EVERY = [
    pytest.param(said, id=f"{name}: {said}") for page, name in zip(PAGES, NAMES, strict=True) for said in commands(page)
]


def options(name: str) -> set[str]:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name=name)(load(COMMANDS[name]))
    built = typer.main.get_command(app)
    return {word for each in built.params for word in [*each.opts, *each.secondary_opts]} | {"-h", "--help"}


@pytest.mark.parametrize("said", EVERY)
def test_every_command_of_the_pages_is_one_and_has_these_options(said: str) -> None:
    words = sort(shlex.split(said)[1:])
    if not words.rest or words.rest == ("--help",):
        return
    try:
        command, rest = find(words.rest)
    except UsageError:
        assert len(words.rest) == 1, said
        assert words.rest[0] in nouns() | {"wf"}, said
        return
    known = options(command.name)
    for word in rest:
        if word.startswith("-") and word != "-" and not re.fullmatch(r"-\d+", word):
            option = word.split("=", 1)[0]
            assert option in known or (not option.startswith("--") and option[:2] in known), f"{said}: no {option}"


def test_the_pages_name_many_commands() -> None:
    assert len(EVERY) > 60


# -- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_link_to_a_file_leads_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{name} links {target}"


def test_every_write_of_the_protocol_names_a_test_that_exists() -> None:
    text = (ROOT / "docs/write-protocol.md").read_text(encoding="utf-8")
    stories = (ROOT / "tests/integration/test_crash_anywhere.py").read_text(encoding="utf-8")
    told = dict(re.findall(r"\*\*([A-Z])\*\* `([a-z_]+)`", text))
    assert told
    for function in told.values():
        assert f"def {function}(" in stories or f"def test_{function}(" in stories or f'"{function}"' in stories, (
            function
        )
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    for row in rows:
        proof = row.strip("| ").rpartition("|")[2].strip()
        letters = set(re.findall(r"\b([A-Z])\b", re.sub(r"\[.*?\]\(.*?\)", "", proof)))
        linked = re.findall(r"\]\(\.\./(tests/[^)]+)\)", proof)
        harmless = proof == "–" and "(light)" in row
        assert letters <= set(told), row
        assert letters or linked or "stories" in proof or harmless, f"no proof: {row}"
