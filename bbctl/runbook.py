"""The runbook page: its table of troubles, its directions by anchor, and whether it still tells the truth.

The page is Markdown that people edit; this reads what they wrote. An entry's id is the check it belongs to (the same
word as the finding), or, without one, the anchor of its directions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bbctl.errors import ConfigError, UsageError
from bbctl.near import hint, shown

COLUMNS = ("severity", "check name", "problem/alert", "immediate action", "directions to fix", "monitoring")

_ANCHOR = re.compile(r'<a name="([^"]+)">([^<]*)</a>')
_LINK = re.compile(r"\[([^\]]+)\]\s?\(([^)\s]+)\)")
_SPAN = re.compile(r"`([^`]+)`")
_COMMAND = re.compile(r"(?:bbctl)(?:\s|$)")
_HOST = re.compile(r"(?<![\w./-])[a-z][a-z0-9-]*(?:[{\[][0-9,-]+[}\]])?[a-z0-9-]*\.[a-z][a-z0-9]*[0-9](?![\w/.-])")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of the table. `severity` is 1 to 5; `anchor` names its directions."""

    id: str
    severity: int
    check: str
    problem: str
    action: str
    anchor: str | None
    monitoring: str
    line: int


@dataclass(frozen=True, kw_only=True)
class Section:
    """Directions: from an anchor to the next anchor or heading."""

    anchor: str
    title: str
    text: str
    line: int


@dataclass(frozen=True, kw_only=True)
class Page:
    source: str
    text: str
    entries: tuple[Entry, ...]
    sections: Mapping[str, Section]

    def entry(self, word: str) -> Entry | None:
        """By id, check, anchor, or the problem's own words."""
        wanted = word.lower().lstrip("#")
        return next((e for e in self.entries if wanted in (e.id, e.check, e.anchor, e.problem.lower())), None)

    def directions(self, entry: Entry) -> Section | None:
        return self.sections.get(entry.anchor) if entry.anchor else None


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the page is held against. `command` says what is wrong with a command line, or None; `host` whether a name exists."""

    command: Callable[[str], str | None]
    host: Callable[[str], bool]
    checks: frozenset[str]
    playbooks: Mapping[str, tuple[str, str | None]]  # name: (its problem, its anchor)


@dataclass(frozen=True, kw_only=True)
class Drift:
    line: int
    what: str


def load(path: Path) -> Page:
    """Raises ConfigError where the page cannot be read or its table not be understood."""
    try:
        return parse(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}:1: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None


def parse(text: str, source: str) -> Page:
    lines = text.splitlines()
    entries = tuple(_entry(cells, at, source) for at, cells in _table(lines))
    return Page(source=source, text=text, entries=entries, sections=_sections(lines))


def find(page: Page, word: str) -> tuple[Entry | None, Section | None]:
    """The entry and directions that a word means; an anchor alone will do. Raises UsageError with near matches."""
    entry = page.entry(word)
    section = page.directions(entry) if entry else page.sections.get(word.lstrip("#"))
    if entry is None and section is None:
        known = [e.id for e in page.entries] + list(page.sections)
        said = f"no runbook entry {shown(word)}{hint(word, known)}"
        raise UsageError(said, code="unknown-entry", next="bbctl runbook list")
    return entry, section


def search(page: Page, text: str) -> list[tuple[int, str, str]]:
    """(line, the id under which `runbook show` prints it or "", the line's text) of every line that holds `text`."""
    wanted = text.lower()
    return [
        (at, _owner(page, at), line.strip())
        for at, line in enumerate(page.text.splitlines(), start=1)
        if wanted in line.lower()
    ]


def skeleton(check: str, problem: str, severity: int) -> str:
    """A new entry to paste into the page: its row, and its directions."""
    anchor = check.replace("-", "_")
    row = f"| {severity} | {check} | {problem} | `bbctl diagnose HOST` | [{problem}](#{anchor}) | `bbctl status` |"
    todo = "What it means, what to do, how to see that it is well again."
    return f'{row}\n\n<a name="{anchor}">{problem}</a>\n\n    bbctl diagnose HOST\n\n{todo}\n'


# -- drift -------------------------------------------------------------------------------------------------------


def check(page: Page, known: Known) -> list[Drift]:
    """Everything on the page that is no longer so, in the page's order."""
    found = [*_lost_anchors(page), *_wrong_commands(page, known), *_unknown_hosts(page, known)]
    found += [*_checks(page, known), *_playbooks(page, known)]
    return sorted(set(found), key=lambda drift: (drift.line, drift.what))


def commands(page: Page) -> Iterator[tuple[int, str]]:
    """Every `bbctl …` of the page with its line: in code spans, and in indented blocks up to two blanks."""
    for at, line in enumerate(page.text.splitlines(), start=1):
        spans = [line.strip()] if line.startswith(("    ", "\t")) else _SPAN.findall(line)
        for span in spans:
            if _COMMAND.match(span):
                yield at, re.split(r"\s{2,}", span)[0]


def _lost_anchors(page: Page) -> Iterator[Drift]:
    for at, line in enumerate(page.text.splitlines(), start=1):
        for _, target in _LINK.findall(line):
            if target.startswith("#") and target[1:] not in page.sections:
                yield Drift(line=at, what=f"nothing on this page is named {target}{hint(target[1:], page.sections)}")
    for entry in page.entries:
        if entry.anchor is None:
            yield Drift(line=entry.line, what=f"{entry.id} has no directions")


def _wrong_commands(page: Page, known: Known) -> Iterator[Drift]:
    for at, command in commands(page):
        if wrong := known.command(command):
            yield Drift(line=at, what=f"{command}: {wrong}")


def _unknown_hosts(page: Page, known: Known) -> Iterator[Drift]:
    for at, line in enumerate(page.text.splitlines(), start=1):
        for name in _HOST.findall(re.sub(r"https?://\S+", "", line)):
            if not known.host(name):
                yield Drift(line=at, what=f"the inventory knows no {name}")


def _checks(page: Page, known: Known) -> Iterator[Drift]:
    written = {entry.check: entry.line for entry in page.entries if entry.check}
    for name in sorted(known.checks - set(written)):
        yield Drift(line=1, what=f"the check {name} has no entry")
    for name, line in written.items():
        if known.checks and name not in known.checks:
            yield Drift(line=line, what=f"there is no check {name}{hint(name, known.checks)}")


def _playbooks(page: Page, known: Known) -> Iterator[Drift]:
    problems = {entry.problem: entry.line for entry in page.entries}
    for name, (problem, anchor) in known.playbooks.items():
        if problem and problem not in problems:
            yield Drift(
                line=1, what=f"playbook {name}: no entry has its problem {shown(problem)}{hint(problem, problems)}"
            )
        if anchor and anchor not in page.sections:
            yield Drift(line=1, what=f"playbook {name}: nothing on this page is named #{anchor}")


# -- reading -----------------------------------------------------------------------------------------------------


def _table(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """The rows of the one table that has our columns, with their lines."""
    inside = False
    for at, line in enumerate(lines, start=1):
        cells = [cell.replace("\\|", "|").strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
        if tuple(cell.lower() for cell in cells) == COLUMNS:
            inside = True
        elif inside and not cells:
            return
        elif inside and not all(set(cell) <= set(":- ") for cell in cells):
            yield at, cells


def _entry(cells: list[str], at: int, source: str) -> Entry:
    if len(cells) != len(COLUMNS):
        raise ConfigError(f"{source}:{at}: {len(cells)} columns, expected {len(COLUMNS)}: {', '.join(COLUMNS)}")
    severity, name, problem, action, directions, monitoring = cells
    if not re.match(r"[1-5]\b", severity):
        raise ConfigError(f"{source}:{at}: severity {shown(severity)} is not 1 to 5")
    link = _LINK.search(directions)
    anchor = link[2][1:] if link and link[2].startswith("#") else None
    return Entry(
        id=name or anchor or problem, severity=int(severity[0]), check=name, problem=problem, action=action,
        anchor=anchor, monitoring=monitoring, line=at,
    )  # fmt: skip


def _sections(lines: list[str]) -> dict[str, Section]:
    starts = [(at, found) for at, line in enumerate(lines) if (found := _ANCHOR.search(line))]
    sections: dict[str, Section] = {}
    for at, found in starts:
        body = list(_until_next(lines[at + 1 :]))
        sections[found[1]] = Section(anchor=found[1], title=found[2], text="\n".join(body).strip("\n"), line=at + 1)
    return sections


def _until_next(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if line.startswith("#") or _ANCHOR.search(line):
            return
        yield line


def _owner(page: Page, line: int) -> str:
    row = next((entry.id for entry in page.entries if entry.line == line), None)
    if row is not None:
        return row
    within = [s for s in page.sections.values() if s.line <= line <= s.line + 1 + s.text.count("\n") + 1]
    return within[-1].anchor if within else ""
