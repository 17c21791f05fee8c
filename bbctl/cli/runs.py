"""runs list, show, resume, abort: what was done, what is going on, and going on with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bbctl import audit
from bbctl.capacity import Refusal
from bbctl.cli import copying, knowing
from bbctl.cli.front import Call, DryRun, Reason
from bbctl.cli.running import Manner, go, job_of, next_for
from bbctl.errors import BbctlError, Failed, NotConfirmed, UsageError
from bbctl.model import RunRecord
from bbctl.render import plain
from bbctl.render import run as render
from bbctl.run import abort as aborting
from bbctl.run import journal
from bbctl.run.journal import Journal
from bbctl.settings import load as load_settings
from bbctl.ssh.transport import Transport

Look = Callable[[], tuple[list[journal.Event], RunRecord]]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or the beginning of it.")]
Watch = Annotated[bool, typer.Option("-w", "--watch", help="Follow it until it ends.")]
DONE = ("restarted", "started", "stopped", "drained", "undrained", "skipped")


def list_runs(ctx: typer.Context) -> None:
    """All runs, newest first: those of this machine, and what MongoDB knows of others where it answers.

    \b
    Examples:
      bbctl runs list
      bbctl runs list -o json
    """
    call: Call = ctx.obj
    records, why = knowing.every(call)
    if why:
        call.say(f"the runs of other machines are not known: {why}")
    rows = [{k: v for k, v in journal.as_json(r).items() if k != "hosts"} for r in records]
    call.show(rows, lambda: render.listing(records), name="run")


def show(ctx: typer.Context, run: RunId, watch: Watch = False) -> None:
    """One run: every step on every host, the evidence, what to type next. -w follows it.

    \b
    Examples:
      bbctl runs show r-7f3a
      bbctl runs show r-7f3a -w
    """
    call: Call = ctx.obj
    record = knowing.record(call, run)
    if watch and record.outcome == "running":
        record = _follow(call, record)
        if not call.json:
            call.show(journal.as_json(record), lambda: render.result(record, drawn=False, next=next_for(record)))
        return
    next = next_for(record)
    call.show({**journal.as_json(record), "next": next}, lambda: render.show(record, next=next))


def _follow(call: Call, record: RunRecord) -> RunRecord:
    """Show the run as it goes on, until it has ended or its process has; the record then."""
    look = _events(call, record) if record.elsewhere is None else _news(call, record)
    with render.Progress([h.host for h in record.hosts], quiet=call.output != "table") as progress:
        while True:
            events, now = look()
            for event in events:
                progress.event(event)
            if call.json and events:
                plain.line(journal.as_json(now))
            if now.outcome != "running":
                return now
            time.sleep(0.3 if record.elsewhere is None else 2.0)


def _events(call: Call, record: RunRecord) -> Look:
    """What was added to a journal that is here since the last look."""
    folder, seen = journal.find(call.settings.home(), record.run), 0

    def look() -> tuple[list[journal.Event], RunRecord]:
        nonlocal seen
        events, held = journal.load(folder)
        new, seen = events[seen:], len(events)
        return new, journal.fold(events, held=held)

    return look


def _news(call: Call, record: RunRecord) -> Look:
    """The same of a run made elsewhere, out of its copies."""
    seen: list[journal.Event] = []

    def look() -> tuple[list[journal.Event], RunRecord]:
        nonlocal seen
        now = knowing.record(call, record.run)
        told = journal.unfold(now)
        new, seen = [e for e in told if e not in seen], told
        return new, now

    return look


def resume(ctx: typer.Context, run: RunId, dry_run: DryRun = False, reason: Reason = None) -> int:
    """Go on with the hosts that are not done, failed ones first. Reality is looked at before anything is repeated.

    \b
    Examples:
      bbctl runs resume r-7f3a
      bbctl runs resume r-7f3a --dry-run
    """
    call: Call = ctx.obj
    folder = knowing.folder(call, run)
    before = journal.read(folder)
    if before.outcome == "done" or before.aborted:
        return _nothing_to_do(call, before, dry_run)
    if dry_run:  # the journal is only read: nothing in its folder changes
        events, held = journal.load(folder)
        return _go_on(
            call, before, events, reason, Manner(dry_run=True, resumed=before.run, refusals=_alive(folder, held))
        )
    book = _reopen(before, folder)
    try:
        return _go_on(call, before, book.events, reason, Manner(retrying=book, resumed=book.run))
    finally:
        book.close()


def _go_on(call: Call, before: RunRecord, events: list[journal.Event], reason: str | None, manner: Manner) -> int:
    begin = events[0]
    _same_inventory(call, begin)
    job = job_of(begin)
    left = sorted((h for h in before.hosts if h.outcome not in DONE), key=lambda h: _RANK.get(h.outcome, 9))
    missing = [h.host for h in left if h.host not in call.fleet.hosts]
    if missing:
        raise UsageError(
            f"{missing[0]} of run {before.run} is not in the inventory", next=f"add -i {begin['inventory']}"
        )
    failed = tuple(h.host for h in left if h.outcome == "failed")
    manner = replace(manner, known=notes(events, failed=set(failed)), first=failed)
    return go(call, replace(job, reason=reason or job.reason), [call.fleet.hosts[h.host] for h in left], manner)


def _nothing_to_do(call: Call, before: RunRecord, dry_run: bool) -> int:
    said = f"run {before.run} is {_how(before)}: nothing to do"
    nothing = {"dry_run": True, "plan": [], "batches": [], "refusals": []}
    call.show(nothing if dry_run else journal.as_json(before), lambda: said)
    return 0


def _alive(folder: Path, held: bool) -> tuple[Refusal, ...]:
    """What a dry run says of a run whose process lives."""
    if not held:
        return ()
    error = journal.alive(folder)
    return (Refusal(code=error.code, message=error.message, next=error.next),)


_RANK = {"failed": 0, "interrupted": 1, "untouched": 2}


def notes(events: list[journal.Event], *, failed: set[str]) -> dict[str, dict[str, Any]]:
    """What an earlier life of a run knew of its hosts. One that failed is begun afresh where its process is not well."""
    known: dict[str, dict[str, Any]] = {}
    for e in events:
        if e["event"] == "note":
            said = {k: v for k, v in e.items() if k not in ("event", "at", "host", "evidence")}
            known.setdefault(e["host"], {}).update(said)
    for host in failed:
        known.setdefault(host, {})["again"] = True
    return known


def _reopen(before: RunRecord, folder: Any) -> Journal:
    try:
        return Journal.reopen(folder)
    except BbctlError as error:
        error.result = journal.as_json(replace(before, outcome="refused", error=error.as_json()))
        raise


def _same_inventory(call: Call, begin: journal.Event) -> None:
    """Without a word about inventories, a run goes on with the one that it began with."""
    named = call.inventory or call.environ.get("BBCTL_INVENTORY")
    if not named and begin["inventory"]:
        call.settings = load_settings(call.environ, inventory=begin["inventory"], output=call.output)


def abort(ctx: typer.Context, run: RunId, dry_run: DryRun = False, reason: Reason = None) -> int:
    """Give a run up: it is marked as aborted and its hosts are unlocked. Nothing else is changed on them.

    \b
    Examples:
      bbctl runs abort r-7f3a --reason "done by hand"
    """
    call: Call = ctx.obj
    folder = knowing.folder(call, run)
    before = journal.read(folder)
    if before.outcome == "done" or before.aborted:
        return _nothing_to_do(call, before, dry_run)
    events, held = journal.load(folder)
    _same_inventory(call, events[0])
    hosts = [call.fleet.hosts[h.host] for h in before.hosts if h.host in call.fleet.hosts]
    if dry_run:
        value = aborting.preview(hosts, refusals=[r.as_json() for r in _alive(folder, held)])
        call.show(value, lambda: render.dry_run(value))
        return 0
    book = _reopen(before, folder)
    try:
        copying.beside(call, book.run)
        try:
            call.confirm(f"give up run {before.run} and unlock {', '.join(h.name for h in hosts)}?")
        except NotConfirmed as error:
            error.message = f"{error.message}; it needs --yes"
            error.result = journal.as_json(replace(before, outcome="refused", error=error.as_json()))
            raise
        with Transport(call.fleet) as transport:
            wrong = aborting.abort(book, hosts, transport=transport, reason=reason or "")
        wrong |= {h.host: "not in the inventory any more" for h in before.hosts if h.host not in call.fleet.hosts}
        record = book.record()
        entry = {"operator": call.settings.operator(), "command": call.command, "argv": audit.masked(call.words)}
        more = {"targets": [h.name for h in hosts], "reason": reason or "", "run": book.run, "kind": "result"}
        audit.append(call.settings.home(), {**entry, **more, "result": "aborted"})
    finally:
        book.close()
    if wrong:
        said = "; ".join(f"{host}: {why}" for host, why in wrong.items())
        raise Failed(
            f"aborted, but not unlocked: {said}", next=f"bbctl unlock {','.join(wrong)}", result=journal.as_json(record)
        )
    call.show(journal.as_json(record), lambda: f"run {record.run} is aborted, its hosts are unlocked")
    return 0


def _how(record: RunRecord) -> str:
    return "aborted" if record.aborted else record.outcome
