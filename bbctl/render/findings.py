"""Findings for people and programs: the most expensive first, each with its proof and one command to type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bbctl.checks import Pool, Trouble
from bbctl.diagnose import Diagnosis
from bbctl.model import Finding
from bbctl.remote.machine import Machine
from bbctl.render import screen
from bbctl.render.plain import stamp
from bbctl.render.screen import safe
from bbctl.sweep import Row

LEGEND = {1: "bleeding money", 2: "money is being lost", 3: "could be losing money", 4: "future money", 5: "low"}


def as_json(finding: Finding) -> dict[str, Any]:
    """A finding as programs get it."""
    return {
        "id": finding.id,
        "severity": finding.severity,
        "target": finding.target,
        "title": finding.title,
        "since": stamp(finding.since),
        "evidence": [{"label": label, "text": text} for label, text in finding.evidence],
        "runbook": finding.runbook,
        "next": finding.next,
    }


def diagnosis(found: Diagnosis, extra: Sequence[Trouble], fine: Sequence[str], beside: Sequence[str] = ()) -> None:
    """The page: a head, the findings, then one line each for what is fine, for what is wrong `beside` the hosts that were
    asked about, and for the pools."""
    from rich.text import Text

    names = list(dict.fromkeys(s.host.name for s in found.seen))
    about = names[0].split(".", 1)[0] if len(names) == 1 else f"{len(names)} hosts"
    at = f"{screen.clock(found.at)} UTC"
    screen.draw(
        Text(f"{found.site} · {about} · {at} · looked {found.seconds:.1f} s, changed nothing", style=screen.DIM)
    )
    troubles = [*extra, *found.troubles]
    for trouble in sorted(troubles, key=lambda t: t.finding.severity):
        screen.draw("", *_finding(trouble, found.at))
    if not troubles:
        screen.draw("", Text(f" nothing is wrong with {about}", style=screen.GOOD))
    tail = [f" {name}  {' · '.join(words)}" for name, words in (("fine", fine), ("else", beside)) if words]
    tail += [f" VIP   {safe(_pool(p))}" for p in found.pools.values()]
    if tail:
        screen.draw("", *(Text(line) for line in tail))


def _finding(trouble: Trouble, now: float) -> list[Any]:
    from rich.text import Text

    f = trouble.finding
    for_long = f", {screen.age(now - f.since)}" if f.since is not None and f.since <= now else ""
    colour = screen.BAD if trouble.state == "critical" else screen.BUSY
    lead = Text(f" {f.severity} {LEGEND.get(f.severity, ''):<21}  {f.id:<16} ", style=colour)
    title = Text(f"{safe(f.target)}: {safe(f.title)}{for_long}", style=colour)
    lines = [screen.paragraph(lead, title)]
    lines += [screen.paragraph(Text(f"   {safe(label):<9} "), Text(safe(text))) for label, text in f.evidence]
    lines.append(Text(f"   {'do':<9} {safe(f.next)}"))
    if f.runbook:
        lines.append(Text(f"   {'runbook':<9} bbctl runbook show {safe(f.runbook)}"))
    return lines


def _pool(pool: Pool) -> str:
    return f"{pool.vip}: {pool}"


def machine_words(box: Machine | None, offset: float) -> list[str]:
    """What is fine about a machine, in a few words."""
    if box is None:
        return []
    disks = {d.mount: d.used for d in box.disks.values()}
    words = [f"disk {max(disks.values()):.0%}"] if disks else []
    if box.memory_free is not None:
        words.append(f"memory {1 - box.memory_free:.0%} used")
    return [*words, f"load {box.load:.1f} of {box.cores}", f"clock {offset * 1000:+.0f} ms"]


# -- sweep -----------------------------------------------------------------------------------------------------


def sweep_row(row: Row, *, silenced: bool) -> dict[str, Any]:
    """One check of one target as programs get it."""
    return {
        "id": row.id,
        "target": row.target,
        "state": row.state,
        "severity": row.severity,
        "since": stamp(row.since),
        "title": row.title,
        "evidence": [{"label": label, "text": said} for label, said in row.evidence],
        "runbook": row.runbook,
        "next": row.next,
        "change": row.change,
        "sweeps": row.sweeps,
        "silenced": silenced,
    }


def page(row: Row) -> str:
    """A page, to be read on a telephone: what, since when, the proof, the command to type."""
    seen = "" if row.sweeps == 1 else f", seen by {row.sweeps} sweeps"
    lines = [f"[{row.severity}] {row.target}: {row.title}", f"since   {screen.clock(row.since)} UTC{seen}"]
    lines += [f"{label:<7} {said}" for label, said in row.evidence]
    lines.append(f"type    {row.next}")
    if row.runbook:
        lines.append(f"runbook RUNBOOK.md#{row.runbook}")
    return safe("\n".join(lines))


NAGIOS = {"ok": "OK", "warning": "WARNING", "critical": "CRITICAL", "unknown": "UNKNOWN"}


def changes(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """A line for every change; None where nothing changed."""
    marks = {"new": "✗", "worse": "✗", "recovered": "✓"}
    lines = [
        f"{marks[row['change']]} [{row['severity']}] {row['change']:<9} {safe(row['target'])}: {row['id']}"
        + (f"  {safe(row['title'])}  do {safe(row['next'])}" if row["change"] != "recovered" else _how(row))
        for row in rows
        if row["change"] in marks
    ]
    return "\n".join(lines) or None


def _how(row: Mapping[str, Any]) -> str:
    """How a trouble ended, where it did not just end."""
    return "".join(f"  {safe(said['text'])}" for said in row["evidence"])


def everything(rows: Sequence[Mapping[str, Any]]) -> str:
    """All that is not ok, and a count: for a person at a terminal."""
    bad = [row for row in rows if row["state"] != "ok"]
    lines = [
        f"{NAGIOS[row['state']]:<8} [{row['severity']}] {safe(row['target'])}: {row['id']}  {safe(row['title'] or '')}"
        f"{' (' + row['change'] + ')' if row['change'] else ''}\n         do {safe(row['next'] or '')}"
        for row in bad
    ]
    lines += [
        f"✓ recovered {safe(row['target'])}: {row['id']}{_how(row)}" for row in rows if row["change"] == "recovered"
    ]
    return "\n".join([*lines, f"{len(rows) - len(bad)} of {len(rows)} checks ok"])


def nagios(result: Mapping[str, Any]) -> str:
    """One line as plugins print it, then a line for each that is not ok."""
    bad = [c for c in result["checks"] if c["state"] != "ok"]
    worst = "; ".join(f"{c['target']} {c['id']}" for c in bad[:5]) or f"{len(result['checks'])} checks"
    counts = {word: sum(c["state"] == word for c in result["checks"]) for word in NAGIOS}
    data = " ".join(f"{word}={count}" for word, count in counts.items())
    lines = [f"BBCTL {NAGIOS[result['state']]} - {_pipe(worst)} | {data} seconds={result['seconds']:.3f}s"]
    lines += [
        _pipe(f"{NAGIOS[c['state']]} [{c['severity']}] {c['target']} {c['id']}: {c['title'] or ''}; {c['next'] or ''}")
        for c in bad
    ]
    return "\n".join(lines)


def _pipe(text: str) -> str:
    """A bar would begin performance data."""
    return safe(text).replace("|", "/")


def prometheus(result: Mapping[str, Any]) -> str:
    """Text format, for a file collector."""
    levels = {"ok": 0, "warning": 1, "critical": 2, "unknown": 3}
    lines = ["# HELP bbctl_check State of a check: 0 ok, 1 warning, 2 critical, 3 unknown.", "# TYPE bbctl_check gauge"]
    for c in result["checks"]:
        labels = f'check="{_label(c["id"])}",target="{_label(c["target"])}",severity="{c["severity"]}"'
        lines.append(f"bbctl_check{{{labels}}} {levels[c['state']]}")
    lines += [
        "# HELP bbctl_sweep_seconds How long the sweep took.", "# TYPE bbctl_sweep_seconds gauge",
        f"bbctl_sweep_seconds {result['seconds']:.3f}",
        "# HELP bbctl_sweep_timestamp_seconds When the sweep began.", "# TYPE bbctl_sweep_timestamp_seconds gauge",
        f"bbctl_sweep_timestamp_seconds {result['at']:.3f}",
    ]  # fmt: skip
    return "\n".join(lines)


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
