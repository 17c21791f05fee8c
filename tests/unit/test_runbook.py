"""The runbook page: what is read from it, and how drift is found."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbctl import runbook
from bbctl.cli.app import run
from bbctl.errors import ConfigError, UsageError
from bbctl.render.page import html
from bbctl.runbook import Known, parse

PAGE = """\
# Runbook

| Severity | Check Name | Problem/Alert | Immediate action | Directions to fix | Monitoring |
| -------- | ---------- | ------------- | ---------------- | ----------------- | ---------- |
| 3 | process-missing | jboss is down | `bbctl restart HOST` | [Restart](#restart_jboss) | `bbctl status` |
| 4 - med low | | a \\| b | | [Gone](#gone) | |

### Directions

<a name="restart_jboss">Restart JBoss</a>

    ssh jboss@accounting-worker{1-3}.snc1
    bbctl restart workers --dri    what it would do

Ask on other.snc1 or see https://graph.example.com/x/nowhere.snc1.

### Links
"""
TAGS = {"h1", "h2", "h3", "h4", "h5", "h6", "p", "ul", "li", "pre", "table", "tr", "td", "th", "code", "a", "strong"}
SHIPPED = Path(__file__).parents[2] / "RUNBOOK.md"


def known(**changes: object) -> Known:
    facts: dict[str, object] = {
        "command": lambda text: None, "host": lambda name: True, "checks": frozenset({"process-missing"}), "playbooks": {},
    }  # fmt: skip
    return Known(**(facts | changes))  # type: ignore[arg-type]


def drift(**changes: object) -> list[tuple[int, str]]:
    return [(found.line, found.what) for found in runbook.check(parse(PAGE, "r.md"), known(**changes))]


def test_an_entry_is_a_row_and_its_directions_end_at_the_next_heading() -> None:
    page = parse(PAGE, "r.md")
    entry, section = runbook.find(page, "jboss is down")
    assert entry is not None
    assert section is not None
    assert (entry.id, entry.severity, entry.anchor, entry.line) == ("process-missing", 3, "restart_jboss", 5)
    assert section.title == "Restart JBoss"
    assert section.text.splitlines()[-1].startswith("Ask on other")
    assert page.entries[1].problem == "a | b"


@pytest.mark.parametrize("word", ["process-missing", "restart_jboss", "#restart_jboss", "Jboss is down"])
def test_an_entry_is_found_by_check_anchor_or_problem(word: str) -> None:
    entry, section = runbook.find(parse(PAGE, "r.md"), word)
    assert (entry.id if entry else None, section.anchor if section else None) == ("process-missing", "restart_jboss")


def test_an_unknown_entry_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean restart_jboss"):
        runbook.find(parse(PAGE, "r.md"), "restart_jbos")


def test_a_row_that_cannot_be_read_names_its_line() -> None:
    with pytest.raises(ConfigError, match=r"r\.md:5: severity"):
        parse(PAGE.replace("| 3 | process", "| high | process"), "r.md")
    with pytest.raises(ConfigError, match=r"r\.md:5: 4 columns"):
        parse(PAGE.replace("| 3 | process-missing | jboss is down |", "| 3 |"), "r.md")


def test_a_link_to_nothing_is_drift() -> None:
    assert drift() == [(6, "nothing on this page is named #gone")]


def test_a_command_that_is_wrong_is_drift_where_it_stands() -> None:
    found = drift(command=lambda text: "no such option" if "--dri" in text else None)
    assert (13, "bbctl restart workers --dri: no such option") in found


def test_a_host_that_the_inventory_does_not_know_is_drift_and_urls_are_not_asked() -> None:
    asked: list[str] = []
    drift(host=lambda name: bool(asked.append(name)) or True)
    assert asked == ["accounting-worker{1-3}.snc1", "other.snc1"]
    assert (15, "the inventory knows no other.snc1") in drift(host=lambda name: name != "other.snc1")


def test_a_check_without_entry_and_an_entry_without_check_are_drift() -> None:
    found = drift(checks=frozenset({"disk-full"}))
    assert (1, "the check disk-full has no entry") in found
    assert (5, "there is no check process-missing") in found


def test_a_playbook_whose_problem_or_anchor_is_not_on_the_page_is_drift() -> None:
    said = [what for _, what in drift(playbooks={"restart": ("jboss is up", "restart_jbos")})]
    assert 'playbook restart: no entry has its problem "jboss is up": did you mean jboss is down?' in said
    assert "playbook restart: nothing on this page is named #restart_jbos" in said


def test_a_skeleton_pasted_into_the_page_is_read_back() -> None:
    row, _, body = runbook.skeleton("new-one", "something new", 2).partition("\n")
    page = parse(
        PAGE.replace("\n### Directions", f"{row}\n\n### Directions").replace("### Links", f"{body}\n### Links"), "r.md"
    )
    entry, section = runbook.find(page, "new-one")
    assert entry is not None
    assert section is not None
    assert (entry.severity, section.title) == (2, "something new")


def test_html_keeps_anchors_and_escapes_everything_else() -> None:
    text = html(PAGE + "\n<script>alert(1)</script> [x](javascript:alert(1))\n")
    assert 'id="restart_jboss"' in text
    assert 'href="#restart_jboss"' in text
    assert "<script>" not in text
    assert 'href="javascript' not in text


@given(st.text(alphabet="|#`[]()<>a \n\t-*&\"'=/:3", max_size=200))
def test_no_page_breaks_the_reader_or_gets_markup_of_its_own_into_html(text: str) -> None:
    with suppress(ConfigError):
        page = parse(PAGE + text, "r.md")
        runbook.check(page, known())
        tags = set(re.findall(r"</?([a-z0-9]+)", html(page.text).split("</style>")[1]))
        assert tags <= TAGS


def test_the_shipped_page_has_every_finding_of_the_legend_one_to_five_and_the_old_anchor() -> None:
    page = runbook.load(SHIPPED)
    assert {entry.severity for entry in page.entries} <= {1, 2, 3, 4, 5}
    wanted = "process-missing hung-stop disk-full host-down health-failing drained log-signature deadlock store-down"
    assert set(f"{wanted} queue-latency workflow-stuck clock-skew".split()) <= {entry.check for entry in page.entries}
    assert "kill -9" in page.sections["restart_jboss"].text
    assert "tokumx" in page.sections


def test_the_shipped_page_has_not_drifted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BBCTL_HOME", str(tmp_path))
    monkeypatch.delenv("BBCTL_OUTPUT", raising=False)
    assert run(["-i", str(SHIPPED.parent / "inventory.yml"), "runbook", "check"]) == 0, capfd.readouterr().err
