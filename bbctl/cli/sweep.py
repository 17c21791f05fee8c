"""`bbctl sweep`: all checks over all hosts, for cron; `bbctl check …`: what they are."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bbctl.cli.front import Call, Exclude, Label, Targets, seconds
from bbctl.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from bbctl.checks import Trouble
    from bbctl.model import Host
    from bbctl.sweep import Row

CheckName = Annotated[
    list[str] | None, typer.Option("--check", metavar="NAME", help="Only this check; see `bbctl check list`.")
]
Since = Annotated[
    str | None, typer.Option("--since", metavar="last", help="`last`: only what changed since the last sweep.")
]
Deadline = Annotated[
    str, typer.Option("--deadline", metavar="D", help="For all hosts together; who has not answered is unknown.")
]


def sweep(
    ctx: typer.Context, target: Targets = None, check: CheckName = None, since: Since = None, deadline: Deadline = "60s",
    exclude: Exclude = None, label: Label = None,
) -> int:  # fmt: skip
    """All checks over hosts and engine, once. Changes nothing. Without a terminal: what changed since the last sweep, and
    nothing where nothing did. What becomes critical is paged, what recovers is ended.

    Exit 0 ok, 1 warning, 2 critical, 3 unknown.

    \b
    Examples:
      bbctl sweep                             everything, for a person
      */5 * * * *  bbctl sweep                for cron: mails changes only, pages by itself
      bbctl sweep --check disk-full -o nagios
      bbctl sweep -o prometheus
    """
    from bbctl import sweep as sweeping
    from bbctl.render import findings as screens
    from bbctl.render import plain
    from bbctl.targets import select

    call: Call = ctx.obj
    names = _names(check)
    if since not in (None, "last"):
        raise UsageError("--since knows one word: last", next="bbctl sweep --since last")
    hosts = select(call.fleet, target, exclude=exclude, labels=label)
    limit, began, at = seconds(deadline, "--deadline"), time.monotonic(), time.time()
    found: list[Row] = []
    quiet: set[str] = set()
    with _told_at_the_end(call), sweeping.memory(call.settings.home()) as memory:
        before = dict(memory)
        found = _hosts(call, hosts, names, limit) + ([] if target else _engine(call, names))
        found = sweeping.news(found, before, at)
        inventory = str(call.fleet.source)
        unasked = call.fleet.hosts if target or check or exclude or label else ()
        found += sweeping.left(found, before, inventory=inventory, now=at, unasked=unasked)
        quiet, paged = _page(call, found, before, at)
        memory.clear()
        memory.update(sweeping.remember(found, before, paged, inventory=inventory))
    state = sweeping.overall(found)
    checks = [screens.sweep_row(row, silenced=row.target in quiet) for row in found]
    result: dict[str, Any] = {
        "state": state, "started": plain.stamp(at), "at": at, "seconds": round(time.monotonic() - began, 3),
        "checks": checks,
    }  # fmt: skip
    _show(call, result, changes_only=since == "last" or not sys.stdout.isatty())
    return sweeping.EXITS[state]


@contextmanager
def _told_at_the_end(call: Call) -> Iterator[None]:
    """A memory that cannot be written keeps no finding back."""
    from bbctl.sweep import NotKept

    try:
        yield
    except NotKept as error:
        call.say(f"{error.message}; what was found is told again by the next sweep")


def _show(call: Call, result: dict[str, Any], *, changes_only: bool) -> None:
    from bbctl.render import findings as screens
    from bbctl.render import plain, screen

    checks = result["checks"]
    if call.json:
        plain.emit(result, "json")
    elif call.output in ("nagios", "prometheus"):
        screen.out(getattr(screens, call.output)(result))
    elif not changes_only:
        call.tell(screens.everything(checks))
    elif (said := screens.changes(checks)) is not None:
        call.tell(said)


def _names(check: Sequence[str] | None) -> tuple[str, ...]:
    from bbctl.checks import CHECKS
    from bbctl.near import hint

    for name in check or ():
        if name not in CHECKS:
            raise UsageError(f"no check {name!r}{hint(name, CHECKS)}", code="no-check", next="bbctl check list")
    return tuple(check) if check else tuple(CHECKS)


def _hosts(call: Call, hosts: Sequence[Host], names: Sequence[str], deadline: float) -> list[Row]:
    from bbctl import diagnose, sweep
    from bbctl.cli import knowing
    from bbctl.settings import shipped
    from bbctl.ssh.transport import Transport

    rules = diagnose.known_signatures(Path(call.settings.playbooks().value), shipped("playbooks"))
    runs = knowing.Asked(call)
    with Transport(call.fleet) as transport:
        found = diagnose.diagnose(
            transport, call.fleet, hosts, signatures=rules, runs=runs, names=names, deadline=deadline
        )
    return sweep.rows(found.seen, found.troubles, names)


def _engine(call: Call, names: Sequence[str]) -> list[Row]:
    """The engine's rows, where there is an engine to ask and one of its checks is wanted."""
    from bbctl.checks import CHECKS

    wanted = [n for n in names if CHECKS[n].scope == "engine"]
    if not wanted:
        return []
    from bbctl import enginecheck, sweep

    room = enginecheck.look(call.settings.stores(), call.settings.home(), expected=call.fleet.expected)
    if room is None:
        return []
    asked = {"store-down": [s.name for s in room.stores]}
    if room.summary is not None:
        asked |= {"queue-latency": ["engine"], "workflow-stuck": ["engine"]}
    troubles: list[Trouble] = [t for t in room.troubles if t.finding.id in wanted]
    return sweep.engine_rows(troubles, {name: asked.get(name, []) for name in wanted})


def _page(call: Call, found: Sequence[Row], before: Mapping[str, Any], at: float) -> tuple[set[str], dict[str, bool]]:
    """Send the pages that are due, and those of earlier that could not be sent. The targets that are silenced, and by key
    whether it was paged or its page was ended."""
    from bbctl import alerts, silences, sweep
    from bbctl.inventory.fleet import links
    from bbctl.render import findings as screens

    home, places = call.settings.home(), call.fleet.alerts
    kept = silences.active(home, at)
    quiet = {row.target for row in found if any(s.covers(row.target) for s in kept)}
    if not places:
        return quiet, {}
    addresses = {name: links(call.fleet, host) for name, host in call.fleet.hosts.items()}
    due = sweep.pages(found, before, quiet=quiet.__contains__, links=addresses, text=screens.page)
    receipts, paged = [], {page.key: page.action == "trigger" for page in due}
    with _said(call, "pages of earlier"):
        receipts += alerts.send_spooled(alerts=places, spool=home / "spool")
    for page in due:
        with _said(call, page.key, partial(paged.pop, page.key)):  # the next sweep pages it
            receipts += alerts.send(page, alerts=places, spool=home / "spool", now=at)
    for receipt in receipts:
        if receipt.outcome == "spooled":
            call.say(f"page to {receipt.where} could not be sent, kept for the next sweep: {receipt.detail}")
    return quiet, paged


@contextmanager
def _said(call: Call, what: str, lost: Callable[[], object] = lambda: None) -> Iterator[None]:
    """A page that can neither be sent nor kept is told, and keeps no finding back."""
    try:
        yield
    except (ConfigError, OSError) as error:
        call.say(f"{what} could not be paged: {error.strerror if isinstance(error, OSError) else error}")
        lost()


def check_list(ctx: typer.Context) -> None:
    """The checks of a sweep and of diagnose; a check's name is its finding's id and its entry in the runbook.

    \b
    Examples:
      bbctl check list
      bbctl check list -o name
    """
    from bbctl.checks import CHECKS
    from bbctl.render.inventory import columns

    call: Call = ctx.obj
    rows = [_check(name) for name in CHECKS]
    cells = [(r["name"], str(r["severity"]), r["scope"], r["about"]) for r in rows]
    call.show(rows, lambda: columns(cells, head=("check", "severity", "of", "asks")))


def check_show(
    ctx: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME", help="See `bbctl check list`.")]
) -> None:
    """One check: what it asks, what it costs, and, for logs, the signatures that it knows.

    \b
    Examples:
      bbctl check show log-signature
    """
    from bbctl import diagnose
    from bbctl.settings import shipped

    call: Call = ctx.obj
    (wanted,) = _names([name])
    row = _check(wanted)
    rules = diagnose.known_signatures(Path(call.settings.playbooks().value), shipped("playbooks"))
    row["signatures"] = [
        {"name": s.name, "title": s.title, "match": s.match.pattern} for s in rules if s.check == wanted
    ]
    lines = [
        f"{wanted}: {row['about']}?",
        f"severity {row['severity']} · of a {row['scope']} · bbctl runbook show {row['runbook']}",
    ]
    lines += [f"  {s['name']}: {s['title']}  /{s['match']}/" for s in row["signatures"]]
    call.show(row, lambda: "\n".join(lines))


def _check(name: str) -> dict[str, Any]:
    from bbctl.checks import CHECKS

    check = CHECKS[name]
    return {
        "name": name,
        "severity": check.severity,
        "scope": check.scope,
        "about": check.about,
        "runbook": check.runbook,
    }
