"""restart, stop, start, drain, undrain: the shipped playbooks, each with the options that people want at 3 a.m."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

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
    seconds,
)
from bbctl.cli.running import Manner, go, playbook_folders, service_for
from bbctl.errors import UsageError
from bbctl.run import playbook
from bbctl.run.plan import Job
from bbctl.targets import select

NoDrain = Annotated[bool, typer.Option("--no-drain", help="Leave the VIP as it is.")]


def restart(
    ctx: typer.Context,
    target: Targets = None,
    exclude: Exclude = None,
    label: Label = None,
    service: ServiceName = None,
    batch: Annotated[int | None, typer.Option("--batch", metavar="N", min=1, help="Hosts at a time (1).")] = None,
    canary: Annotated[bool, typer.Option("--canary", help="The first host alone.")] = False,
    soak: Annotated[str | None, typer.Option("--soak", metavar="D", help="Wait so long after the canary.")] = None,
    max_failures: Annotated[
        int | None, typer.Option("--max-failures", metavar="N", min=0, help="Go on while at most N hosts failed (0).")
    ] = None,
    pause: Annotated[str | None, typer.Option("--pause", metavar="D", help="Wait between batches.")] = None,
    no_drain: NoDrain = False,
    force: Force = False,
    rehearse: Rehearse = False,
    dry_run: DryRun = False,
    reason: Reason = None,
) -> int:
    """Out of the VIP, stop, start, prove healthy, back in: one host at a time.

    \b
    Examples:
      bbctl restart accounting-worker2              one host
      bbctl restart workers --canary --soak 10m     the first alone, then the rest
      bbctl restart workers --dry-run               every command, nothing done
    """
    need_reason(force, reason)
    more = {
        "batch": batch,
        "max_failures": max_failures,
        "soak": _span("--soak", soak),
        "pause": _span("--pause", pause),
    }
    changes = {key: value for key, value in more.items() if value is not None} | ({"canary": True} if canary else {})
    return _run(
        ctx.obj, "restart", target, exclude, label, service, changes=changes,
        job={"drain": not no_drain, "force": force}, manner=Manner(dry_run=dry_run, rehearse=rehearse), reason=reason,
    )  # fmt: skip


def stop(
    ctx: typer.Context,
    target: Targets = None,
    exclude: Exclude = None,
    label: Label = None,
    service: ServiceName = None,
    no_drain: NoDrain = False,
    force: Force = False,
    rehearse: Rehearse = False,
    dry_run: DryRun = False,
    reason: Reason = None,
) -> int:
    """Out of the VIP, settle, stop; the host stays out.

    \b
    Examples:
      bbctl stop accounting-worker2 --reason "disk swap"
      bbctl start accounting-worker2                 brings it back
    """
    need_reason(force, reason)
    return _run(
        ctx.obj, "stop", target, exclude, label, service,
        job={"drain": not no_drain, "force": force}, manner=Manner(dry_run=dry_run, rehearse=rehearse), reason=reason,
    )  # fmt: skip


def start(
    ctx: typer.Context,
    target: Targets = None,
    exclude: Exclude = None,
    label: Label = None,
    service: ServiceName = None,
    rehearse: Rehearse = False,
    dry_run: DryRun = False,
    reason: Reason = None,
) -> int:
    """Start, wait for the line in the log, prove healthy, into the VIP. A host that runs is left alone.

    \b
    Examples:
      bbctl start accounting-worker2
      bbctl start workers --dry-run
    """
    manner = Manner(dry_run=dry_run, rehearse=rehearse)
    return _run(ctx.obj, "start", target, exclude, label, service, job={}, manner=manner, reason=reason)


def drain(
    ctx: typer.Context,
    target: Targets = None,
    exclude: Exclude = None,
    label: Label = None,
    service: ServiceName = None,
    lease: Annotated[str | None, typer.Option("--for", metavar="D", help="How long it is meant to last.")] = None,
    force: Force = False,
    dry_run: DryRun = False,
    reason: Reason = None,
) -> int:
    """Out of the VIP, with owner, reason and lease left on the host; the process is not touched.

    No host comes back by itself: when the time of --for is over, `status`, `diagnose` and `sweep` say so (before, `sweep`
    is quiet about it), until somebody types `bbctl undrain`. Drained again, the time begins anew.

    \b
    Examples:
      bbctl drain accounting-worker2 --for 2h --reason "heap dump"
      bbctl undrain accounting-worker2
    """
    need_reason(force, reason)
    return _run(
        ctx.obj, "drain", target, exclude, label, service,
        job={"lease": _span("--for", lease), "force": force}, manner=Manner(dry_run=dry_run), reason=reason,
    )  # fmt: skip


def undrain(
    ctx: typer.Context,
    target: Targets = None,
    exclude: Exclude = None,
    label: Label = None,
    service: ServiceName = None,
    dry_run: DryRun = False,
    reason: Reason = None,
) -> int:
    """Back into the VIP.

    \b
    Examples:
      bbctl undrain accounting-worker2
    """
    return _run(
        ctx.obj, "undrain", target, exclude, label, service, job={}, manner=Manner(dry_run=dry_run), reason=reason
    )


def _run(
    call: Call, kind: str, target: list[str] | None, exclude: list[str] | None, label: list[str] | None,
    service: str | None, *, job: dict[str, object], manner: Manner, reason: str | None,
    changes: Mapping[str, object] | None = None,
) -> int:  # fmt: skip
    hosts = select(call.fleet, target, exclude=exclude, labels=label, needed=True)
    book = playbook.load(playbook.find(kind, playbook_folders(call)))
    procedure = playbook.bind(book, {})
    strategy = replace(procedure.strategy, **(changes or {}))  # type: ignore[arg-type]
    if "soak" in (changes or {}) and not strategy.canary:
        raise UsageError("--soak says how long the canary must stay good; there is no --canary", next="add --canary")
    made = Job(
        kind=kind,
        procedure=replace(procedure, strategy=strategy),
        service=service_for(hosts, service or book.service),
        reason=reason or "",
        **job,  # type: ignore[arg-type]
    )
    return go(call, made, hosts, manner)


def _span(flag: str, text: str | None) -> float | None:
    return None if text is None else seconds(text, flag)
