"""On a narrow terminal no name, id or command is broken, and what is long stands below its beginning."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console
from rich.text import Text

from bbctl.cli.app import overview
from bbctl.model import Host, Ssh
from bbctl.render import inventory, screen

NAME = "accounting-worker1.snc1"
WHY = "connect: 10.0.0.1 port 22: refused: nothing listens there, and nothing did an hour ago"
ROWS = [([Text(NAME), Text("unreachable")], Text(WHY)), ([Text("w2"), Text("ok")], Text())]
HEAD = ("host", "state")
REAL = screen.console


@pytest.fixture
def sixty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output goes to a terminal of 60 columns."""
    monkeypatch.setattr(
        screen, "console", lambda **_: Console(width=60, markup=False, highlight=False, color_system=None)
    )


pytestmark = pytest.mark.usefixtures("sixty")
Printed = pytest.CaptureFixture[str]


def test_a_remark_that_does_not_fit_beside_its_row_stands_below_it_indented(capsys: Printed) -> None:
    screen.noted(HEAD, ROWS)
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == ["host                     state", f"{NAME}  unreachable"]
    assert told[-1] == "w2                       ok"
    assert all(line.startswith("  ") and len(line) <= 60 for line in told[2:-1])
    assert " ".join(" ".join(told[2:-1]).split()) == WHY


def test_a_remark_that_fits_stands_beside_its_row(capsys: Printed) -> None:
    screen.noted(HEAD, [(ROWS[0][0], Text("refused"))])
    assert capsys.readouterr().out.splitlines()[1] == f"{NAME}  unreachable  refused"


def test_what_follows_of_a_long_line_stands_below_its_beginning(capsys: Printed) -> None:
    screen.draw(screen.paragraph(Text("   login   "), Text(WHY)))
    first, *more = capsys.readouterr().out.splitlines()
    assert first.startswith("   login   connect:")
    assert more
    assert all(line.startswith(" " * 11) and line[11] != " " and len(line) <= 60 for line in more)


def test_a_command_to_type_is_one_line_whatever_the_width(capsys: Printed) -> None:
    typed = f"  next  bbctl hosts trust {NAME} --replace   once you know why its key changed"
    with screen.commands_for("lab"):
        screen.draw(Text(typed), screen.paragraph(Text("  "), Text(typed)))
    told = typed.replace("bbctl ", "bbctl -i lab ")
    assert capsys.readouterr().out.splitlines() == [told, "  " + told]


def test_without_a_terminal_a_row_is_a_line_however_long(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    monkeypatch.setattr(screen, "console", REAL)
    why = f"{WHY}; " * 9
    screen.noted(HEAD, [(ROWS[0][0], Text(why))])
    screen.draw(screen.paragraph(Text("   login   "), Text(why)))
    assert capsys.readouterr().out.splitlines()[1:] == [f"{NAME}  unreachable  {why}".rstrip(), f"   login   {why}"]


def test_a_column_that_no_host_fills_is_not_shown() -> None:
    host = Host(name=NAME, address=NAME, ssh=Ssh(user="jboss"))
    labelled = replace(host, labels={"rack": "b"})
    assert "labels" not in inventory.hosts([host])
    assert inventory.hosts([host, labelled]).splitlines()[0].endswith("labels")


def test_what_is_cut_says_so() -> None:
    assert [screen.cut("a" * length, 3) for length in (2, 3, 4)] == ["aa", "aaa", "aa…"]


def test_the_front_page_fits_eighty_columns() -> None:
    assert max(map(len, overview().splitlines())) <= 80
