"""`bbctl workflow …`, the acts: retry, resolve, timeout, shutdown, cancel, reset, pause, resume, complete.

Each shows what runs again and what is deactivated, asks, acts, and is audited.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bbctl.cli.audited import act
from bbctl.cli.engine import find, runtime, translated
from bbctl.cli.front import Call, DryRun, Reason
from bbctl.cli.launch import Data, read_json
from bbctl.cli.workflow import Id
from bbctl.errors import BbctlError, NotConfirmed, Refused, UsageError
from bbctl.render.screen import safe

if TYPE_CHECKING:
    from engine.model import Node
    from engine.preview import Preview
    from engine.runtime import Runtime

NodeOption = Annotated[
    str | None, typer.Option("--node", metavar="N", help="Which node: its name, id, or the end of it.")
]


# -- on one node -------------------------------------------------------------------------------------------------------


def retry(
    ctx: typer.Context,
    id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Workflow or node.")] = None,
    node: NodeOption = None,
    group: Annotated[
        str | None, typer.Option("--group", metavar="G", help="All nodes of this cause (see wf stuck).")
    ] = None,
    rate: Annotated[
        float, typer.Option("--rate", metavar="N", min=0.01, help="With --group: so many a second.")
    ] = 10.0,
    dry_run: DryRun = False,
    reason: Reason = None,
) -> int:
    """Run a node again, now, as its next attempt; no retry is used up. One whose client is silent is sent again.

    \b
    Examples:
      bbctl wf retry 9d20b7c4                        one node
      bbctl wf retry invoice=4711 --node send-to-bank
      bbctl wf retry --group F-3ae1c0 --rate 5       one cause, five a second; the same again goes on
    """
    from bbctl.cli.regroup import retry_group
    from engine import workflows

    call: Call = ctx.obj
    if (id is None) is (group is None):
        raise UsageError("retry takes one ID, or --group G", next="bbctl wf stuck")
    if group is not None:
        return retry_group(call, group, rate=rate, dry_run=dry_run, reason=reason or "")
    assert id is not None
    return _on_node(
        call, id, "retry", lambda rt, n, by: workflows.resend(rt, n, by=by), node=node, dry_run=dry_run, reason=reason
    )


def resolve(
    ctx: typer.Context,
    id: Id,
    node: NodeOption = None,
    data: Data = None,
    dry_run: DryRun = False,
    reason: Reason = None,
) -> int:
    """Go on as if the node had succeeded: no retry, no notification. Not while it waits for a retry.

    \b
    Examples:
      bbctl wf resolve 9d20b7c4 --reason "paid by hand, ticket 81"
      bbctl wf resolve invoice=4711 --node send-to-bank --dry-run
    """
    from engine import workflows

    response = None if data is None else read_json("--data", data)

    def settle(rt: Runtime, id: str, by: str) -> None:
        workflows.settle(rt, id, "resolved", response=response, by=by)

    return _on_node(ctx.obj, id, "resolve", settle, node=node, dry_run=dry_run, reason=reason)


def timeout(ctx: typer.Context, id: Id, node: NodeOption = None, dry_run: DryRun = False, reason: Reason = None) -> int:
    """End the wait for a silent client as a client error, which uses up a retry.

    \b
    Examples:
      bbctl wf timeout 9d20b7c4
      bbctl wf timeout invoice=4711 --node send-to-bank -y
    """
    from engine import workflows

    return _on_node(
        ctx.obj,
        id,
        "timeout",
        lambda rt, n, by: workflows.time_out(rt, n, by=by),
        node=node,
        dry_run=dry_run,
        reason=reason,
    )


def shutdown(
    ctx: typer.Context, id: Id, node: NodeOption = None, dry_run: DryRun = False, reason: Reason = None
) -> int:
    """Give the node up, and, if it blocks, the siblings after it; its parent goes on.

    \b
    Examples:
      bbctl wf shutdown 9d20b7c4 --dry-run       what would be deactivated
      bbctl wf shutdown 9d20b7c4 --reason "customer gone"
    """
    from engine import workflows

    def settle(rt: Runtime, id: str, by: str) -> None:
        workflows.settle(rt, id, "shutdown", by=by)

    return _on_node(ctx.obj, id, "shutdown", settle, node=node, dry_run=dry_run, reason=reason)


def cancel(ctx: typer.Context, id: Id, node: NodeOption = None, dry_run: DryRun = False, reason: Reason = None) -> int:
    """Deactivate a node and all below it; what waits for it goes on.

    \b
    Examples:
      bbctl wf cancel 9d20b7c4 --dry-run
      bbctl wf cancel invoice=4711 --node send-to-bank
    """
    from engine import workflows

    return _on_node(
        ctx.obj,
        id,
        "cancel",
        lambda rt, n, by: workflows.cancel(rt, None, n),
        node=node,
        dry_run=dry_run,
        reason=reason,
    )


def reset(ctx: typer.Context, id: Id, node: NodeOption = None, dry_run: DryRun = False, reason: Reason = None) -> int:
    """Deactivate all below a node; the node itself stays as it is.

    \b
    Examples:
      bbctl wf reset 9d20b7c4 --dry-run
      bbctl wf reset invoice=4711 --node decide
    """
    from engine import workflows

    return _on_node(
        ctx.obj, id, "reset", lambda rt, n, by: workflows.reset(rt, None, n), node=node, dry_run=dry_run, reason=reason
    )


# -- on a workflow -----------------------------------------------------------------------------------------------------


def pause(ctx: typer.Context, id: Id, dry_run: DryRun = False, reason: Reason = None) -> int:
    """Start nothing more in a workflow; what runs goes on.

    \b
    Examples:
      bbctl wf pause invoice=4711 --reason "bank closed"
      bbctl wf pause 8c1f03a2 -y
    """
    from engine import workflows

    return _on_workflow(ctx.obj, id, "pause", lambda rt, w, by: workflows.pause(rt, None, w, by=by), dry_run, reason)


def resume(ctx: typer.Context, id: Id, dry_run: DryRun = False, reason: Reason = None) -> int:
    """Go on after a pause.

    \b
    Examples:
      bbctl wf resume invoice=4711
    """
    from engine import workflows

    return _on_workflow(ctx.obj, id, "resume", lambda rt, w, by: workflows.resume(rt, None, w), dry_run, reason)


def complete(ctx: typer.Context, id: Id, dry_run: DryRun = False, reason: Reason = None) -> int:
    """Close a workflow: signals are refused from now on; what runs goes on.

    \b
    Examples:
      bbctl wf complete invoice=4711
    """
    from engine import workflows

    return _on_workflow(ctx.obj, id, "complete", lambda rt, w, by: workflows.complete(rt, None, w), dry_run, reason)


# -- find, look, ask, act ----------------------------------------------------------------------------------------------

Do = Callable[["Runtime", str, str], None]


def _on_node(call: Call, id: str, verb: str, do: Do, *, node: str | None, dry_run: bool, reason: str | None) -> int:
    from engine import preview as previews
    from engine import survey

    with runtime(call) as rt:
        asked = find(rt, id)
        scene = survey.of_workflow(rt, asked.wf)
        chosen = choose(
            list(scene.nodes.values()),
            scene.nodes[asked.wf],
            asked,
            node,
            lambda r: previews.candidates(scene, r, verb),
            verb,
        )
        return _carry_out(call, rt, previews.preview(scene, scene.nodes[chosen.id], verb), do, dry_run, reason)


def _on_workflow(call: Call, id: str, verb: str, do: Do, dry_run: bool, reason: str | None) -> int:
    from engine import preview as previews
    from engine import survey

    with runtime(call) as rt:
        asked = find(rt, id)
        scene = survey.of_workflow(rt, asked.wf)
        return _carry_out(call, rt, previews.of_workflow(scene, scene.nodes[asked.wf], verb), do, dry_run, reason)


def choose(
    nodes: list[Node], root: Node, asked: Node, named: str | None, likely: Callable[[Node], list[Node]], verb: str
) -> Node:
    """The node that is meant: by name or the end of its id within the workflow, the one asked for, or the only likely one."""
    if named is not None:
        inner = [n for n in nodes if n.wf == root.id and not n.is_workflow]
        found = [n for n in inner if n.id == named or n.tail.endswith(named.lower())] or [
            n for n in inner if n.name == named
        ]
        found = [n for n in found if n.ss not in ("complete", "deactivated")] or found
    elif asked.is_workflow:
        found = likely(root)
    else:
        return asked
    if len(found) == 1:
        return found[0]
    if not found:
        what = f"has no node {named!r}" if named else f"has no node to {verb}"
        raise UsageError(f"{root.name} {root.tail} {what}", code="not-found", next=f"bbctl wf show {root.tail}")
    rows = "\n".join(f"  {n.tail}  {n.name}  {n.ss}/{n.cs}" for n in found[:20])
    raise UsageError(
        f"{len(found)} nodes of {root.name} {root.tail} can be meant:\n{rows}", code="ambiguous",
        next=f"bbctl wf {verb} {found[0].tail}",
    )  # fmt: skip


def _carry_out(call: Call, rt: Runtime, found: Preview, do: Do, dry_run: bool, reason: str | None) -> int:
    from bbctl.render import workflow as screens

    value = found.as_json()
    if dry_run:
        refusals = [{"node": found.node.id, "code": "refused", "message": found.refusal}] if found.refusal else []
        plan = planned(value, found.verb, f"bbctl wf {found.verb} {found.node.tail}")
        shown = {"dry_run": True, "plan": [plan], "refusals": refusals}
        call.show(shown, lambda: screens.preview([found]) + "\nnothing was changed")
        return 0
    if found.refusal:
        raise _refused(Refused(found.refusal, next=found.next), value)
    if found.nothing:
        call.show({**value, "outcome": "nothing-to-do"}, lambda: f"nothing to do: {found.verb} was done before")
        return 0
    _ask(call, found, value)
    targets = {"workflow": found.root.id, "node": found.node.id, "name": found.node.name}
    try:
        with act(call, targets=targets, reason=reason or ""), translated():
            do(rt, found.node.id, call.settings.operator())
    except Refused as error:
        raise _refused(error, value) from None
    done = f"done     {found.verb} {safe(found.node.name)} {found.node.tail}: {found.says}"
    call.show({**value, "outcome": "done"}, lambda: done)
    if not call.json:
        call.say(f"next     bbctl wf show {found.root.tail} -w")
    return 0


def planned(value: dict[str, Any], verb: str, command: str) -> dict[str, Any]:
    """One entry of a dry run's plan, in the shape of every plan; no host takes part."""
    return {"host": None, "steps": [{"step": verb, "command": command}], **value}


def _ask(call: Call, found: Preview, value: dict[str, Any]) -> None:
    from bbctl.render import workflow as screens

    if not call.yes:
        call.say(screens.preview([found]))
    try:
        call.confirm("Go?")
    except NotConfirmed as error:
        raise _refused(error, value) from None


def _refused(error: BbctlError, value: dict[str, Any]) -> BbctlError:
    """The same, and with `-o json` the command's result says so."""
    error.result = {**value, "outcome": "refused", "error": dict(error.as_json())}
    return error
