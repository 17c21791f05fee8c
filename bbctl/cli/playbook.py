"""playbook list, show, check, plan, run: a site's own procedures, through the same runner as restart."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bbctl.cli.front import (
    Call,
    DryRun,
    Exclude,
    Force,
    Label,
    Reason,
    Rehearse,
    ServiceName,
    Targets,
    need_reason,
)
from bbctl.cli.running import Manner, go, playbook_folders, service_for
from bbctl.errors import ConfigError, UsageError
from bbctl.render import screen
from bbctl.run import playbook
from bbctl.run.plan import Job
from bbctl.targets import select

Name = Annotated[str, typer.Argument(metavar="NAME", help="A playbook's name, or a file.")]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="K=V", help="Set a variable.")]
PlanFile = Annotated[Path | None, typer.Option("--plan", metavar="FILE", help="The plan: written, or to be held to.")]


def list_playbooks(ctx: typer.Context) -> int:
    """The playbooks: the site's own, and the shipped ones. Exit 2 where a file is wrong; the others are listed all the same.

    \b
    Examples:
      bbctl playbook list
    """
    call: Call = ctx.obj
    rows = [_row_of(path) for path in playbook.every(playbook_folders(call))]

    def human() -> None:
        table = screen.table("name", "about", "from")
        for row in rows:
            table.add_row(row["name"], screen.safe(row["error"] or row["about"]), row["source"])
        screen.draw(table)

    call.show(rows, human)
    return 2 if any(row["error"] for row in rows) else 0


def _row_of(path: Path) -> dict[str, Any]:
    """A playbook's row; of a file that is wrong its name, and what is wrong with it."""
    try:
        return _row(playbook.load(path))
    except ConfigError as error:
        empty = dict.fromkeys(("problem", "severity", "runbook", "targets", "service"))
        return {"name": path.stem, "about": "", **empty, "source": str(path), "steps": [], "error": error.message}


def show(ctx: typer.Context, name: Name) -> None:
    """One playbook: its variables and its steps.

    \b
    Examples:
      bbctl playbook show restart
    """
    call: Call = ctx.obj
    book = playbook.load(playbook.find(name, playbook_folders(call)))
    value = _row(book) | {"vars": {k: asdict(v) for k, v in book.vars.items()}}
    call.show(value, lambda: book.source.read_text(encoding="utf-8"))


def check(ctx: typer.Context, name: Name) -> None:
    """Is the file right? Every complaint names file and line.

    \b
    Examples:
      bbctl playbook check restart
      bbctl playbook check ./rolling.yml
    """
    call: Call = ctx.obj
    book = playbook.load(playbook.find(name, playbook_folders(call)))
    call.show(_row(book), lambda: f"{book.source} ok · {len(book.steps)} steps")


def plan(
    ctx: typer.Context,
    name: Name,
    target: Targets = None,
    exclude: Exclude = None,
    label: Label = None,
    service: ServiceName = None,
    sets: Sets = None,
    plan: PlanFile = None,
) -> int:
    """What it would do on each host, to read, keep and approve: `playbook run --plan FILE` then does that or nothing.

    \b
    Examples:
      bbctl playbook plan restart workers --plan plan.json
    """
    job, hosts = _job(ctx.obj, name, target, exclude, label, service, sets)
    return go(ctx.obj, job, hosts, Manner(dry_run=True, keep=plan))


def run(
    ctx: typer.Context,
    name: Name,
    target: Targets = None,
    exclude: Exclude = None,
    label: Label = None,
    service: ServiceName = None,
    sets: Sets = None,
    plan: PlanFile = None,
    force: Force = False,
    rehearse: Rehearse = False,
    dry_run: DryRun = False,
    reason: Reason = None,
) -> int:
    """Carry it out. Look, question, lock, preflight, capacity, journal and unlock are the runner's.

    \b
    Examples:
      bbctl playbook run restart workers --set batch=2
      bbctl playbook run restart workers --rehearse
    """
    need_reason(force, reason)
    job, hosts = _job(ctx.obj, name, target, exclude, label, service, sets)
    job = replace(job, reason=reason or "", force=force)
    approved = None if plan is None else _approved(plan)
    return go(ctx.obj, job, hosts, Manner(dry_run=dry_run, rehearse=rehearse, approved=approved))


def _job(
    call: Call, name: str, target: list[str] | None, exclude: list[str] | None, label: list[str] | None,
    service: str | None, sets: list[str] | None,
) -> tuple[Job, list[Any]]:  # fmt: skip
    book = playbook.load(playbook.find(name, playbook_folders(call)))
    procedure = playbook.bind(book, _pairs(sets or []))
    hosts = select(
        call.fleet, target or ([book.targets] if book.targets else None), exclude=exclude, labels=label, needed=True
    )
    return Job(kind=book.name, procedure=procedure, service=service_for(hosts, service or book.service)), hosts


def _pairs(sets: list[str]) -> dict[str, str]:
    pairs = {}
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text}: expected NAME=VALUE")
        pairs[key] = value
    return pairs


def _approved(path: Path) -> list[dict[str, Any]]:
    """The `plan` of an approved dry run, from the JSON of `playbook plan`."""
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))["plan"]
        if not isinstance(plan, list):
            raise ValueError("`plan` is no list")
        return plan
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}:1: not a plan: {error}", next="bbctl playbook plan NAME --plan FILE") from None


def _row(book: playbook.Playbook) -> dict[str, Any]:
    return {
        "name": book.name,
        "about": book.about,
        "problem": book.problem,
        "severity": book.severity,
        "runbook": book.runbook,
        "targets": book.targets,
        "service": book.service,
        "source": str(book.source),
        "steps": [s.kind for s in playbook.proven(book).steps],
        "error": None,
    }
