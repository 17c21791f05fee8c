"""Runs on the screen: the question before, what happens while, what came of it after. Takes records and events only.

On a terminal one table is redrawn in place, a row a host; without one the same events are lines on stderr. The failure
is what this is designed for: where it stands, in or out of the VIP, where the evidence lies, and what to type.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from bbctl.model import HostRecord, RunRecord
from bbctl.render import screen
from bbctl.render.hostrows import HostRows
from bbctl.render.screen import BAD, BUSY, DIM, GOOD, age, clock, safe

MARK = {"ok": ("✓", GOOD), "failed": ("✗", BAD), "skipped": ("–", DIM)}
COLOUR = {
    "restarted": GOOD, "started": GOOD, "stopped": GOOD, "drained": GOOD, "undrained": GOOD, "done": GOOD,
    "failed": BAD, "refused": BAD, "interrupted": BUSY, "running": BUSY, "untouched": DIM, "skipped": DIM,
}  # fmt: skip
QUIET_STEPS = ("lock", "unlock")  # worth a line only where they fail


# -- before ------------------------------------------------------------------------------------------------------


def dry_run(plan: Mapping[str, Any]) -> str:
    """Every command on every host, and that none was carried out."""
    return plan_text(plan) + "\ndry run: nothing was changed"


def plan_text(plan: Mapping[str, Any]) -> str:
    """Every command on every host."""
    lines = []
    for row in plan["plan"]:
        lines.append(safe(row["host"]) + ("" if row["steps"] else "  already so: nothing to do"))
        lines += [f"  {s['step']:<10} {safe(s['command'])}" for s in row["steps"]]
    if len(plan["batches"]) > 1:
        lines.append("order      " + " → ".join(" + ".join(batch) for batch in plan["batches"]))
    for refusal in plan["refusals"]:
        lines.append(f"refused    {safe(refusal['message'])}")
    return "\n".join(lines)


def question(head: str, rows: Sequence[tuple[str, str]], will: Sequence[str], warnings: Sequence[str]) -> str:
    """What was found, and what will be done. `rows`: host and what was found of it."""
    wide = max((len(host) for host, _ in rows), default=0)
    lines = [safe(head), *(f"{safe(host):<{wide}}  {safe(found)}" for host, found in rows)]
    lines += [f"will   {safe(line)}" if at == 0 else f"       {safe(line)}" for at, line in enumerate(will)]
    return "\n".join([*lines, *(f"!      {safe(w)}" for w in warnings)])


# -- while -------------------------------------------------------------------------------------------------------


class Progress:
    """A run as it goes on. Feed it the journal's events; on a terminal it draws, else it prints a line a step."""

    def __init__(self, hosts: Sequence[str], *, quiet: bool = False) -> None:
        self._rows = HostRows(hosts)
        self._steps: dict[str, list[Mapping[str, Any]]] = {h: [] for h in hosts}
        self._began = time.monotonic()
        self._said: list[str] = []
        self._over = False
        draw = not quiet and sys.stderr.isatty() and screen.console(stderr=True).is_terminal
        self._live = (
            Live(get_renderable=self._draw, console=screen.console(stderr=True), refresh_per_second=5) if draw else None
        )
        self._quiet = quiet

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._over = True
            self._live.refresh()
            self._live.stop()

    @property
    def drawn(self) -> bool:
        """Whether the table stands on the screen already."""
        return self._live is not None

    def say(self, text: str) -> None:
        """A remark beside the steps."""
        if self._live is not None and self._live.is_started:
            self._said.append(text)
        elif not self._quiet:
            screen.err(text)

    def event(self, event: Mapping[str, Any]) -> None:
        """One event of the journal."""
        host = event.get("host")
        if host not in self._steps:
            return
        self._rows.event(event)
        if event["event"] == "step":
            self._steps[host].append(event)
        if self._live is not None or self._quiet:
            return
        if event["event"] == "step" and self._worth(event):
            screen.err(f"{host}  {_step_line(event)}")
        elif event["event"] == "host":
            screen.err(f"{host}  {event['outcome']}{_vip(event.get('vip'))}")

    def _worth(self, step: Mapping[str, Any]) -> bool:
        return step["outcome"] == "failed" or not (
            step["step"] in QUIET_STEPS or (step["outcome"] == "skipped" and step["detail"].startswith("not "))
        )

    def _draw(self) -> RenderableType:
        body = self._one(next(iter(self._steps))) if len(self._steps) == 1 else self._many()
        return Group(*body, *(Text(line, style=BUSY) for line in self._said))

    def _one(self, host: str) -> list[RenderableType]:
        lines: list[RenderableType] = []
        for step in self._steps[host]:
            if self._worth(step):
                mark, colour = MARK[step["outcome"]]
                lines.append(_line((f"  {mark}", colour), (_step_line(step)[1:], "")))
        row, ended = self._rows.rows[host], self._steps[host] and self._steps[host][-1]["step"]
        if row.since and row.step != ended:
            says = f"  {row.word}" if row.step == "stop" and row.word else ""
            lines.append(_line((f"  ▶ {row.step:<10} {age(time.monotonic() - row.since):>6}{safe(says)}", BUSY)))
        return lines

    def _many(self) -> list[RenderableType]:
        spent = Text(f"{age(time.monotonic() - self._began)}", style=DIM)
        return [self._rows.table(), *([] if self._over else [spent])]  # the result says it at the end


def _line(*pieces: tuple[str, str]) -> Text:
    """One line of the live picture: cut at the terminal's width, so that redrawing in place holds."""
    return Text.assemble(*pieces, no_wrap=True, overflow="ellipsis")


def _step_line(step: Mapping[str, Any]) -> str:
    mark, _ = MARK[step["outcome"]]
    spent = age(step["seconds"]) if step["outcome"] != "skipped" else ""
    return f"{mark} {safe(step['step']):<10} {spent:>6}  {safe(step['detail'])}".rstrip()


def _vip(state: str | None) -> str:
    return {"in": ", in its VIP", "out": ", OUT of its VIP", "unknown": ", VIP state unknown"}.get(state or "", "")


# -- after -------------------------------------------------------------------------------------------------------


def result(record: RunRecord, *, drawn: bool, next: str | None) -> str:
    """What came of a run. `drawn`: the hosts stand on the screen already."""
    lines = [] if drawn else [_host_line(h, _widest(record)) for h in record.hosts]
    for host in record.hosts:
        if host.outcome in ("failed", "interrupted"):
            lines += ["", *_trouble(host)]
    left = [h.host.split(".", 1)[0] for h in record.hosts if h.outcome == "untouched"]
    if left and record.outcome != "refused":
        lines.append(f"  untouched  {safe(', '.join(left))}")
    spent = age(record.finished - record.started) if record.finished else ""
    counts = " · ".join(_counts(record.hosts))
    lines += [
        "",
        f"{record.outcome}{f' in {spent}' if spent else ''} · {counts or 'no hosts'} · run {safe(record.run)}",
    ]
    if record.error:
        lines.append(f"because    {safe(str(record.error['message']))}")
    there = f"{record.elsewhere.machine}:" if record.elsewhere else ""
    lines += [f"evidence   {safe(there)}{path}" for path in _folders(record.hosts)]
    if next:
        lines.append(f"next       {safe(next)}")
    return "\n".join(lines).lstrip("\n")


def show(record: RunRecord, *, next: str | None) -> str:
    """One run, step by step."""
    head = f"{record.run}  {record.kind}  {record.outcome}  {record.operator}  {clock(record.started)}"
    lines = [safe(head) + (f'  "{safe(record.reason)}"' if record.reason else "")]
    if where := record.elsewhere:
        lines.append(
            safe(f"made on {where.machine}{f', in {where.home}' if where.home else ''} · heard of {age(where.age)} ago")
        )
    for host in record.hosts:
        lines.append(_host_line(host, 0))
        lines += [
            f"  {_step_line({'step': s.step, 'outcome': s.outcome, 'seconds': s.seconds, 'detail': s.detail})}"
            for s in host.steps
        ]
        lines += [f"    {safe(path)}" for path in host.evidence]
    return "\n".join([*lines, result(record, drawn=True, next=next)])


def listing(rows: Sequence[RunRecord]) -> str | None:
    """The runs, newest first."""
    if not rows:
        return "no runs yet"
    table = screen.table("run", "when", "kind", "outcome", "operator", "hosts", "reason")
    for r in rows:
        hosts = ", ".join(h.host.split(".", 1)[0] for h in r.hosts[:3]) + (
            f" +{len(r.hosts) - 3}" if len(r.hosts) > 3 else ""
        )
        table.add_row(
            safe(r.run),
            clock(r.started),
            safe(r.kind),
            Text(_heard(r), COLOUR.get(r.outcome, DIM)),
            safe(r.operator),
            safe(hosts),
            safe(r.reason),
        )
    screen.draw(table)
    return None


def _heard(record: RunRecord) -> str:
    """The outcome in a list; a run of another machine that was under way when it was last heard of need not be any more."""
    old = record.outcome == "running" and record.elsewhere is not None and record.elsewhere.age > 60
    return f"running {age(record.elsewhere.age)} ago" if old and record.elsewhere else record.outcome


def _host_line(host: HostRecord, wide: int) -> str:
    hung = f" (hung, {'killed ' + str(host.killed_pid) if host.killed_pid else 'not killed'})" if host.hung else ""
    outcome = f"under way, at {host.step}" if host.outcome == "running" else host.outcome
    return safe(f"{host.host:<{wide}}  {outcome}{hung}{_vip(host.vip) if host.outcome != 'untouched' else ''}")


def _trouble(host: HostRecord) -> list[str]:
    """Where a host that is not done stands."""
    last = host.failure
    where = f" at {last.step}: {last.detail}" if last else f" at {host.step}" if host.step else ""
    lines = [safe(f"✗ {host.host} {host.outcome}{where}")]
    stands = {"in": "in its VIP", "out": "OUT of its VIP", "none": "it has no VIP"}.get(host.vip, "VIP state unknown")
    killed = f" · process {host.killed_pid} was killed" if host.killed_pid else ""
    lines.append(f"  stands     {stands}{killed}")
    return lines


def _counts(hosts: Sequence[HostRecord]) -> list[str]:
    words: dict[str, int] = {}
    for host in hosts:
        word = "under way" if host.outcome == "running" else host.outcome
        words[word] = words.get(word, 0) + 1
    hung = sum(h.hung for h in hosts)
    return [f"{n} {word}" for word, n in words.items()] + ([f"{hung} hung"] if hung else [])


def _folders(hosts: Sequence[HostRecord]) -> list[str]:
    return list(dict.fromkeys(safe(path.rpartition("/")[0]) + "/" for h in hosts for path in h.evidence))


def _widest(record: RunRecord) -> int:
    return max((len(h.host) for h in record.hosts), default=0)
