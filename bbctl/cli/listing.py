"""`bbctl workflow list`: workflows found, newest first, and how each stands."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from bbctl.cli.engine import as_text, client_for, find, remember, runtime, when
from bbctl.cli.front import Call
from bbctl.errors import UsageError

if TYPE_CHECKING:
    from engine.model import Node

FILTERS = ("--name", "--subject", "--status", "--past-status", "--client", "--since", "--limit")


def list_workflows(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Option("--name", metavar="N", help="Workflows of this name.")] = None,
    subject: Annotated[
        str | None, typer.Option("--subject", metavar="TEXT|KEY=VALUE", help="A piece of the subject, or a pair in it.")
    ] = None,
    status: Annotated[str | None, typer.Option("--status", metavar="S", help="With a node in this status now.")] = None,
    past_status: Annotated[
        str | None, typer.Option("--past-status", metavar="S", help="With a node that was in this status.")
    ] = None,
    client: Annotated[str | None, typer.Option("--client", metavar="C", help="Of this client.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="D", help="With a change since then: 2h, 03:00, …")
    ] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Paused ones only.")] = False,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="At most that many.")] = 25,
    before: Annotated[str | None, typer.Option("--before", metavar="ID", help="Older than this workflow.")] = None,
) -> None:
    """Find workflows, newest first, and how each stands: the verdict of `wf why`, since when, its nodes done and all.

    \b
    Examples:
      bbctl wf list --subject invoice=4711
      bbctl wf list --status retries_exhausted --since 1d
      bbctl wf list --paused -o name
    """
    from bbctl.render import workflow as screens
    from engine import overview, present, workflows
    from engine.model import Search

    call: Call = ctx.obj
    for option, word in (("--status", status), ("--past-status", past_status)):
        _known_status(option, word)
    text, changed = as_text("--name", name), when("--since", since)
    pair = subject.split("=", 1) if subject and "=" in subject else None
    with runtime(call) as rt:
        wanted = Search(
            name=text, text=None if pair else subject, status=status, past_status=past_status,
            per_page=limit + 1, since=changed, last_id=find(rt, before).wf if before else None,
        )  # fmt: skip
        owner = client_for(rt, client).id if client else None
        key, value = pair or (None, None)
        found = workflows.list_workflows(rt, owner, wanted, paused=paused, key=key, value=value)
        found, more = found[:limit], len(found) > limit
        names = {c.id: c.name for c in workflows.list_clients(rt)}
        judged = call.output != "name"
        standings = overview.overview(rt, found, expected=call.fleet.expected) if judged else {}
        now = rt.store.now()
    none = overview.Standing()
    rows = [
        {**present.workflow(n), "client": names.get(n.client, n.client), **standings.get(n.id, none).as_json()}
        for n in found
    ]
    call.show(rows, lambda: screens.listing(found, names, standings, now), name="id")
    if more and call.output == "table":
        words = [name, subject, status, past_status, client, since, None if limit == 25 else str(limit)]
        call.say(f"there are more · next  {_next_page(found[-1], words, paused=paused)}")
    remember(call, found)


def _next_page(last: Node, words: Sequence[str | None], *, paused: bool) -> str:
    """The same command, from where this page ends. `words`: what FILTERS were given, in their order."""
    said = [f"{option} {shlex.quote(word)}" for option, word in zip(FILTERS, words, strict=True) if word is not None]
    return " ".join(["bbctl wf list", *said, *(["--paused"] if paused else []), "--before", last.tail or last.id])


def _known_status(option: str, word: str | None) -> None:
    from bbctl.near import hint
    from engine.states import CLIENT, SERVER

    known = {*SERVER, *CLIENT}
    if word is not None and word not in known:
        known_ones = ", ".join(sorted(known))
        raise UsageError(f"{option} {word}: no such status{hint(word, known)}, of {known_ones}")
