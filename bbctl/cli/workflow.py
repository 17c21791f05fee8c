"""`bbctl workflow …`, the questions: why, stuck, heal, show, history, report; list is in `listing`. The acts are in `steer`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bbctl.cli.engine import find, remember, runtime, until_interrupted, when
from bbctl.cli.front import Call, DryRun, Reason, seconds
from bbctl.errors import UsageError
from bbctl.render import plain

if TYPE_CHECKING:
    from engine.heal import Finding
    from engine.model import HistoryLine, Node
    from engine.runtime import Runtime

EVERY = 1.0  # seconds between two looks of --watch

Id = Annotated[
    str, typer.Argument(metavar="ID", help="Workflow or node: id, its beginning or end, or KEY=VALUE of the subject.")
]
Watch = Annotated[bool, typer.Option("-w", "--watch", help="Look again until it is done, or Ctrl-C.")]


def why(ctx: typer.Context, id: Id) -> int:
    """Why is it not finished: the cause, since when, the proof, what was usual, and what to type, safest first.

    \b
    Examples:
      bbctl wf why invoice=4711          by a pair of its subject
      bbctl wf why 8c1f03a2              by the end of its id, workflow or node
      bbctl wf why 8c1f03a2 -o json      exit 0 while it is done or only waits, else 1
    """
    from bbctl.render import workflow as screens
    from engine import explain

    call: Call = ctx.obj
    with runtime(call) as rt:
        answer = explain.why(rt, find(rt, id), expected=call.fleet.expected)
        call.show(answer.as_json(), lambda: screens.why(answer))
    remember(call, [answer.root, *(r.node for r in answer.causes[:20])])
    return 0 if answer.verdict in ("done", "waiting") else 1


def stuck(
    ctx: typer.Context,
    older: Annotated[str | None, typer.Option("--older", metavar="D", help="Only what stands still that long.")] = None,
    group: Annotated[str | None, typer.Option("--group", metavar="G", help="Only this cause, all its nodes.")] = None,
) -> int:
    """All that are no healthy waits, equal causes together, late ones under their own heading. Exit 1 if there are any.

    \b
    Examples:
      bbctl wf stuck                       everything that needs attention
      bbctl wf stuck --older 1h            and has for an hour
      bbctl wf stuck --group F-3ae1c0      one cause; its nodes with -o json
    """
    from bbctl.render import workflow as screens
    from engine import explain

    call: Call = ctx.obj
    least = int(seconds(older, "--older") * 1000) if older else 0
    with runtime(call) as rt:
        groups = explain.stuck(rt, expected=call.fleet.expected, older=least, group=group)
        roots = rt.store.by_ids({wf for g in groups for wf in g.workflows}) if group else {}
    if group and not groups:
        raise UsageError(f"no group {group}: its cause is gone, or never was", code="not-found", next="bbctl wf stuck")
    call.show(
        [g.as_json() for g in groups],
        lambda: screens.group(groups[0], roots) if group else screens.stuck(groups),
        name="group",
    )
    remember(call, [r.node for g in groups for r in g.reasons[:20]])
    return 1 if any(not g.row.remark for g in groups) else 0


def heal(
    ctx: typer.Context,
    id: Annotated[str | None, typer.Argument(metavar="[ID]", help="A workflow (or a node: its workflow).")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All workflows.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Repair it; without, nothing is changed.")] = False,
    dry_run: DryRun = False,
    reason: Reason = None,
) -> int:
    """What a crash, an import or an edit left, and its repair. Safe twice, and while workers run. Mode A repairs itself
    in time, C asks first, R is for a person to decide.

    \b
    Examples:
      bbctl wf heal                      what is wrong anywhere, what the repair would do
      bbctl wf heal 8c1f03a2             in one workflow
      bbctl wf heal 8c1f03a2 --apply     do it, after a question
      bbctl wf heal --all --apply -y     everywhere
    """
    from bbctl.render import workflow as screens

    call: Call = ctx.obj
    if id is not None and everything:
        raise UsageError("one workflow, or --all: not both", next="bbctl wf heal --all")
    if id is None and apply and not everything:
        raise UsageError("--apply takes one workflow, or --all", next="bbctl wf heal --all --apply")
    with runtime(call) as rt:
        workflow = None if id is None else find(rt, id).wf
        found = _heal(rt, workflow, apply=False)
        act = apply and not dry_run and any(f.repairable for f in found)
        if act:
            found = _apply(call, rt, workflow, found, reason or "")
    call.show({"findings": [_finding(f) for f in found]}, lambda: screens.healed(found, apply=act))
    if not act and not call.json and any(f.repairable for f in found):
        asks_first = next((f for f in found if f.row.mode == "C"), None)
        why_first = f"bbctl wf why {asks_first.node.tail}, then  " if asks_first else ""
        call.say(f"nothing was changed · next  {why_first}bbctl wf heal {id or '--all'} --apply")
    return 0


def _heal(rt: Runtime, workflow: str | None, *, apply: bool) -> list[Finding]:
    from engine import heal as healing

    if workflow is None:
        return list(healing.heal_all(rt, apply=apply))
    return healing.heal_workflow(rt, workflow, apply=apply)


def _apply(call: Call, rt: Runtime, workflow: str | None, found: list[Finding], reason: str) -> list[Finding]:
    from bbctl.cli.audited import act
    from bbctl.render import workflow as screens

    if not call.yes and call.can_ask:
        screens.healed(found, apply=False)
    count = sum(f.repairable for f in found)
    call.confirm(f"Repair {count}?", result={"findings": [_finding(f) for f in found], "error": _unconfirmed()})
    with act(call, targets={"workflow": workflow or "all"}, reason=reason) as outcome:
        outcome["found"] = count
        done = _heal(rt, workflow, apply=True)
        outcome["applied"] = [f"{f.row.id} {f.node.id}" for f in done if f.applied]
    return done


def _unconfirmed() -> dict[str, str]:
    return {
        "code": "not-confirmed",
        "message": "not confirmed: nothing was changed",
        "next": "the same command with --yes",
    }


def _finding(f: Finding) -> dict[str, Any]:
    return {
        "id": f.row.id, "node": f.node.id, "name": f.node.name, "workflow": f.node.wf, "action": f.row.action,
        "mode": f.row.mode, "applied": f.applied, "statuses": {"server": f.node.ss, "client": f.node.cs},
        "found": f.row.says, "consequence": f.consequence,
    }  # fmt: skip


def show(
    ctx: typer.Context,
    id: Id,
    watch: Watch = False,
    request: Annotated[bool, typer.Option("--request", help="What was sent to the client, and its answer.")] = False,
) -> int:
    """The tree: how each node stands, since when, its attempt, its next try; the blocker marked.

    \b
    Examples:
      bbctl wf show invoice=4711
      bbctl wf show 8c1f03a2 -w            live
      bbctl wf show 9d20b7c4 --request     what its client was sent, what it answered
    """
    call: Call = ctx.obj
    with runtime(call) as rt:
        node = find(rt, id)
        if request:
            _request(call, rt, node)
            return 0
        if watch:
            return _watch(call, rt, node)
        _show(call, rt, node)
    return 0


def _show(call: Call, rt: Runtime, node: Node) -> None:
    from bbctl.render import workflow as screens
    from engine import explain, present, workflows

    if call.output in ("json", "yaml"):
        root, below = workflows.tree(rt, None, node.wf)
        workflow, text = present.workflow(root), present.tree_text(root, below)
        if call.output == "json":  # as text: a tree may be deeper than a recursive encoder goes
            plain.write(f'{{"workflow": {json.dumps(workflow, ensure_ascii=False)},\n"tree": {text}}}\n')
        else:
            plain.emit({"workflow": workflow, "tree": json.loads(text)}, "yaml")
        return
    whole = rt.store.by_ids([node.wf])[node.wf]
    screens.show(explain.why(rt, whole, expected=call.fleet.expected))


def _watch(call: Call, rt: Runtime, node: Node) -> int:
    """In place on a terminal, else a line of JSON (or a screen) whenever something has changed. Ends when it is done."""
    from bbctl.render import workflow as screens
    from engine import explain, present, workflows

    last = ""

    def look() -> int | None:
        nonlocal last
        answer = explain.why(rt, rt.store.by_ids([node.wf])[node.wf], expected=call.fleet.expected)
        root, below = workflows.tree(rt, None, node.wf)
        text = present.tree_text(root, below)
        if call.output in ("json", "yaml"):
            if text != last:
                workflow = json.dumps(present.workflow(root), ensure_ascii=False)
                plain.write(f'{{"verdict": "{answer.verdict}", "workflow": {workflow}, "tree": {text}}}\n')
        elif text != last or sys.stdout.isatty():
            screens.watched(answer)
        last = text
        return 0 if answer.verdict == "done" else None

    return until_interrupted(look, EVERY)


def _request(call: Call, rt: Runtime, node: Node) -> None:
    """What the last post held. It is made anew from the node: what a client is sent is not stored."""
    from bbctl.render import workflow as screens
    from engine import present, workflows

    if node.is_workflow:
        raise UsageError("--request is about one node", next=f"bbctl wf show {node.tail}")
    root, client = workflows.get_workflow(rt, None, node.wf), rt.client(node.client)
    decides = node.type == "decision" and client is not None and bool(client.decision_endpoint)
    endpoint = (client.decision_endpoint if decides else client.activity_endpoint) if client else None
    pairs = [(line.at, line.server, line.client) for line in workflows.history(rt, None, node.id)]
    posted = [at for at, *pair in pairs if pair == ["sent_to_client", "received"]]
    answered = node.sent if node.sent and node.sent[0] == node.attempt else None
    waits = node.ss in ("pending", "ready", "started", "paused")
    at = answered[1] if answered else posted[-1] if posted and not waits else None
    then = node.copy()
    then.ss, then.cs = "sent_to_client", "received"
    value = {
        "node": node.id, "client": client.name if client else node.client, "url": endpoint,
        "headers": {"Idempotency-Key": f"{node.id}:{node.attempt}", "X-Backbeat-Attempt": str(node.attempt)},
        "body": present.post(then, root, kind="decision" if decides else "activity"),
        "sent": present.time(at), "status": answered[2] if answered else None,
        "answer": _answer(node, at, answered),
        "response": workflows.last_response(rt, None, node.id), "tid": node.tid,
    }  # fmt: skip
    call.show(value, lambda: screens.request(value))


def _answer(node: Node, at: int | None, answered: list[Any] | None) -> str:
    if at is None:
        return "none: it was not sent yet"
    if answered is not None:
        return f"HTTP {answered[2]}" if answered[2] else "none: the connection ended"
    return "none yet" if (node.ss, node.cs) == ("sent_to_client", "received") else "its client called back first"


def history(
    ctx: typer.Context,
    id: Id,
    bars: Annotated[bool, typer.Option("--bars", help="What ran when, as bars.")] = False,
) -> None:
    """Every change of a node, or of all nodes of a workflow, in order; or what ran when.

    \b
    Examples:
      bbctl wf history 9d20b7c4            one node
      bbctl wf history invoice=4711 --bars
      bbctl wf history 9d20b7c4 -o json    as the HTTP API gives them
    """
    from bbctl.render import history as screens
    from engine import present, reads

    call: Call = ctx.obj
    with runtime(call) as rt:
        found, now = _histories(rt, find(rt, id)), rt.store.now()
    rows = sorted(((n, line) for n, _, lines in found for line in lines), key=lambda row: row[1].at)
    changes = [c for n, _, lines in found for c in reads.changes_of(n.id, list(lines))]
    value = [present.status_change(c) for c in sorted(changes, key=lambda c: c.at)]
    call.show(value, lambda: screens.bars(found, now) if bars else screens.history(rows))


def _histories(rt: Runtime, asked: Node) -> list[tuple[Node, int, list[HistoryLine]]]:
    """(node, depth, lines) in the order of the tree."""
    from bbctl.render.workflow import walk
    from engine import reads, survey

    if asked.is_workflow:
        scene = survey.of_workflow(rt, asked.id, history=True)
        nodes = list(walk(scene.nodes[asked.id], scene.kids, scene.nodes))
    else:
        node = survey.node_with_history(rt, asked.id)
        nodes = [(node, 0)] if node else []
    return [(n, depth, reads.lines_of(n, rt.store.spilled(n) if n.hs else [])) for n, depth in nodes]


def report(
    ctx: typer.Context,
    since: Annotated[str, typer.Option("--since", metavar="D", help="From when on: 1d, yesterday, 03:00, …")] = "1d",
) -> None:
    """The daily activity report by workflow name: nodes completed since then, of those made up to 30 days before it, and all
    that look inconsistent now.

    \b
    Examples:
      bbctl wf report
      bbctl wf report --since 1w -o json
    """
    from bbctl.render import workflow as screens
    from engine import figures, present

    call: Call = ctx.obj
    began = when("--since", since)
    with runtime(call) as rt:
        found, nodes = figures.daily_report(rt, since=began or 0, expected=call.fleet.expected)
    value = {
        "since": present.time(found.since), "made_since": present.time(found.made_since), "completed": found.completed,
        "inconsistent": found.inconsistent, "nodes": nodes,
    }  # fmt: skip
    call.show(value, lambda: screens.report(found))
