"""The lab on the screen, and the demo's story as it goes on."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from bbctl.lab.demo import Result
from bbctl.render import screen
from bbctl.render.hostrows import HostRows
from bbctl.render.screen import BAD, DIM, GOOD, age, safe

VIP = {"in": "in the VIP", "out": "OUT of the VIP"}
NEXT = """\
Your turn:  bbctl lab break accounting-worker2 hang-on-stop
            bbctl -i lab restart workers
            bbctl lab break client silent && bbctl -i lab wf stuck"""


def status(found: Mapping[str, Any], *, next: str | None) -> str:
    """The screen of `lab status`."""
    lines = []
    for host in found["hosts"]:
        jboss = f"jboss {host['jboss']}" if host["jboss"] else "jboss DOWN"
        broken = f"  broken: {', '.join(host['faults'])}" if host["faults"] else ""
        lines.append(
            f"{host['host']}  {host['address']}:{host['port']}  {jboss}  {VIP.get(host['vip'], 'VIP unknown')}{broken}"
        )
    vip, client = found["vip"], found["client"]
    lines.append(f"vip     {vip['url']}  {vip['requests']} requests · {vip['errors']} errors")
    broken = f"  broken: {', '.join(client['faults'])}" if client["faults"] else ""
    lines.append(f"client  {client['url']}  {'running' if client['running'] else 'DOWN'}{broken}")
    lines.append("stores  " + " · ".join(f"{name} {one['state']}" for name, one in found["stores"].items()))
    return safe("\n".join([*lines, *(["", next] if next else [])]))


class Stage:
    """The demo while it goes on: on a terminal one table of hosts with the invoices below, redrawn in place; else lines."""

    def __init__(self, *, quiet: bool) -> None:
        self._began = time.monotonic()
        self._quiet = quiet
        self._rows = HostRows(())
        self._steps: list[str] = []
        self._count: dict[str, Any] = {}
        self._told = 0.0
        tty = not quiet and sys.stderr.isatty()
        self._live = (
            Live(get_renderable=self._draw, console=screen.console(stderr=True), refresh_per_second=5) if tty else None
        )
        self._drawn = tty

    @property
    def drawn(self) -> bool:
        """Whether the hosts stand on the screen."""
        return self._drawn

    def __enter__(self) -> Stage:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.refresh()
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        line = f"{age(time.monotonic() - self._began):>6}  {text}"
        if self._live is not None:
            self._steps.append(line)
        elif not self._quiet:
            screen.err(line)

    def event(self, event: Mapping[str, Any]) -> None:
        """One event of the restart's journal."""
        host = str(event.get("host"))
        if event["event"] == "begin":
            self._rows = HostRows(event["hosts"])
        self._rows.event(event)
        if event["event"] == "step" and (
            event["outcome"] == "failed" or (event["outcome"] == "ok" and event["step"] in ("stop", "evidence", "kill"))
        ):
            self._line(f"{host}  {event['step']}  {event['detail'][:100]}")
        elif event["event"] == "host":
            self._line(f"{host}  {event['outcome']}")

    def count(self, *, done: int, sent: int, total: int, errors: int | None) -> None:
        """How the invoices stand."""
        self._count = {"done": done, "sent": sent, "total": total, "errors": errors}
        if self._live is None and time.monotonic() - self._told > 5:
            self._told = time.monotonic()
            self._line(_invoices(self._count))

    def _line(self, text: str) -> None:
        if self._live is None:
            self.say(safe(text))

    def _draw(self) -> RenderableType:
        lines: list[RenderableType] = [Text(line, DIM) for line in self._steps]
        if self._rows.rows:
            lines += [Text(""), self._rows.table()]
        if self._count:
            errors = self._count["errors"]
            lines += [Text(""), Text(_invoices(self._count), BAD if errors else GOOD)]
        return Group(*lines)


def _invoices(count: Mapping[str, Any]) -> str:
    width, total = 40, count["total"]
    bar = "█" * (width * count["done"] // max(1, total))
    said = f"invoices {count['done']:>3} of {total} done, {count['sent']:>3} sent"
    return f"{said}  {bar:·<{width}}  VIP errors {count['errors']}"


def result(found: Result, *, drawn: bool) -> str:
    """The end of `bbctl demo`. `drawn`: the hosts stand on the screen already."""
    lines = [] if drawn else [_host_line(host) for host in found.record.get("hosts", [])]
    hangs = len(found.hung)
    proven = "found, proven, killed" if all(host["killed_pid"] for host in found.hung) else "found"
    lines += [
        "",
        f"{found.done} of {found.invoices} invoices done · {hangs} hang{'' if hangs == 1 else 's'} {proven} · "
        f"VIP errors {found.vip_errors} · {age(found.seconds)}",
        f"{found.effects} of {found.wanted_effects} steps carried out, {found.twice} of them twice · {found.requests} requests",
    ]
    if found.evidence:
        lines.append(f"evidence  {found.evidence}")
    if not found.good:
        lines.append(
            f"NOT as it should be; the restart was {found.record.get('outcome')}: bbctl runs show {found.record.get('run')}"
        )
    return safe("\n".join([*lines, "", _turn(kept=found.kept)]).lstrip("\n"))


def _host_line(host: Mapping[str, Any]) -> str:
    seconds = sum(step["seconds"] for step in host["steps"])
    hung = f"hung, killed {host['killed_pid']}, {len(host['evidence'])} files of evidence" if host["hung"] else ""
    return f"{host['host']}  {host['outcome']:<10} {age(seconds):>6}  {hung}".rstrip()


def _turn(*, kept: bool) -> str:
    first = "bbctl -i lab status" if kept else "bbctl lab up"
    if shutil.which("bbctl") is None:  # run out of a virtual environment that is not active
        here, prefix = Path.cwd(), Path(sys.prefix)
        first = f". {prefix.relative_to(here) if prefix.is_relative_to(here) else prefix}/bin/activate && {first}"
    return f"""\
Your turn:  {first}
            bbctl lab break accounting-worker2 hang-on-stop
            bbctl -i lab restart workers
            bbctl lab break client silent && bbctl -i lab wf stuck"""


def result_row(found: Result) -> dict[str, Any]:
    """The demo as programs get it."""
    return {
        "good": found.good, "invoices": found.invoices, "done": found.done, "steps": found.effects, "twice": found.twice,
        "vip_errors": found.vip_errors, "requests": found.requests, "seconds": round(found.seconds, 1), "kept": found.kept,
        "hung": [host["host"] for host in found.hung], "evidence": found.evidence, "run": dict(found.record),
    }  # fmt: skip
