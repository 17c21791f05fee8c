"""Workflows on the screen: why one stands still, its tree, its history as bars, what is stuck, what was repaired.

The verdict first; a mark before each node says how it stands, so the screen reads the same without colour:
✓ done · ▶ the cause · ◦ waits for another · ● under way · – deactivated.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from bbctl.render.screen import BAD, BUSY, DIM, GOOD, age, clock, cut, draw, noted, out, paragraph, safe, table

if TYPE_CHECKING:
    from engine.explain import Answer, Group, Reason
    from engine.heal import Finding
    from engine.model import Node, StatusReport
    from engine.overview import Standing
    from engine.preview import Preview
    from engine.wording import Option

COLOUR = {"done": GOOD, "waiting": GOOD, "late": BUSY, "stuck": BAD, "needs-person": BAD}
FOLD = 3  # finished nodes in a row that are shown; more are counted
ROWS = 60  # nodes of a tree in `why`; `show` shows all
DONE = ("complete", "deactivated")


def seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


def subject(root: Node) -> str:
    return cut(safe(root.subject or ""), 60)


def short(node: Node) -> str:
    return node.tail or node.id[-8:]


# -- why -----------------------------------------------------------------------------------------------------------


def why(answer: Answer) -> None:
    """The verdict, the way to the cause, the proof, what to type."""
    draw(_head(answer), "")
    about = _about(answer)
    nodes = _family(answer)
    wide = max((len(safe(n.name)) + 2 * depth for n, depth in nodes), default=0)
    for line in _folded(nodes, about, wide):
        draw(line)
    for reason in answer.causes:
        if reason.node.wf != answer.root.id or reason.node.is_workflow:
            draw(*_reason_lines(reason, 0, len(reason.node.name)))
    for reason in answer.reasons:
        if reason.row.remark and about[reason.node.id] is not reason:
            draw(
                Text(
                    f"  also {safe(reason.node.name)} {short(reason.node)}: {reason.row.says}    {reason.row.id}",
                    style=DIM,
                )
            )
    if answer.same > 1 and answer.causes:
        since = f" since {clock(seconds(answer.same_since))}" if answer.same_since else ""
        more = " or more" if answer.same_more else ""
        draw("", f"same cause: {answer.same}{more} workflows{since} → bbctl wf stuck --group {answer.causes[0].group}")
    if answer.causes:
        draw("", *_options(answer.causes[0].options))


def _about(answer: Answer) -> dict[str, Reason]:
    """Each node's reason; a remark only where there is nothing else to say."""
    found = {r.node.id: r for r in answer.reasons if r.row.remark}
    return found | {r.node.id: r for r in answer.reasons if not r.row.remark}


def _head(answer: Answer) -> Text:
    root, now = answer.root, answer.scene.now
    line = Text(answer.verdict.upper(), style=f"bold {COLOUR[answer.verdict]}")
    line.append(f"  {safe(root.name)} {short(root)} {subject(root)} · {safe(answer.client)}", style="default")
    line.append(f" · started {clock(seconds(root.created))}, {age((now - root.created) / 1000)} ago", style="default")
    if root.paused:
        line.append(f" · paused by {safe(answer.paused_by or 'nobody known')}", style=BUSY)
    if root.complete:
        line.append(" · closed", style=DIM)
    return line


def _family(answer: Answer) -> list[tuple[Node, int]]:
    """The nodes that belong on the screen, parents first, with their depth."""
    if answer.asked.is_workflow:
        return list(walk(answer.root, answer.scene.kids, answer.scene.nodes))
    return [(r.node, 0) for r in answer.reasons if r.node.wf == answer.root.id] or [(answer.asked, 0)]


def walk(root: Node, kids: Mapping[str, Sequence[Node]], nodes: Mapping[str, Node]) -> Iterator[tuple[Node, int]]:
    """All nodes below, parents before children, without recursion. What an attempt before left is not there."""
    todo = [(n, 0) for n in reversed(kids.get(root.id, ()))]
    while todo:
        node, depth = todo.pop()
        above = nodes.get(node.parent or "")
        if above is not None and node.pgen != above.gen and node.ss not in DONE:
            continue
        yield node, depth
        todo += [(n, depth + 1) for n in reversed(kids.get(node.id, ()))]


def _folded(nodes: list[tuple[Node, int]], about: Mapping[str, Reason], wide: int) -> Iterator[Text]:
    quiet: list[tuple[Node, int]] = []
    shown = 0
    for node, depth in nodes:
        if node.id not in about and node.ss in DONE:
            quiet.append((node, depth))
            continue
        yield from _quiet(quiet, wide)
        quiet = []
        shown += 1
        if shown <= ROWS:
            yield from (_reason_lines(about[node.id], depth, wide) if node.id in about else [_plain(node, depth, wide)])
    yield from _quiet(quiet, wide)
    if shown > ROWS:
        yield Text(f"  … {shown - ROWS} more: bbctl wf show", style=DIM)


def _quiet(nodes: list[tuple[Node, int]], wide: int) -> Iterator[Text]:
    if len(nodes) > FOLD:
        indent = "  " * (nodes[0][1] + 1)
        yield Text(f"{indent}✓ … {len(nodes) - FOLD + 1} finished before", style=DIM)
        nodes = nodes[1 - FOLD :]
    for node, depth in nodes:
        yield _plain(node, depth, wide)


def _plain(node: Node, depth: int, wide: int) -> Text:
    mark, style = ("–", DIM) if node.ss == "deactivated" else ("✓", GOOD) if node.ss == "complete" else ("●", BUSY)
    line = Text("  " + "  " * depth)
    line.append(f"{mark} ", style=style)
    line.append(f"{safe(node.name):<{wide - 2 * depth}}  {short(node)}")
    line.append(f"  {node.ss} {clock(seconds(node.changed))}", style=DIM)
    return line


def _reason_lines(reason: Reason, depth: int, wide: int) -> list[Text]:
    cause = reason.row.id not in ("W4", "W5", "W7")
    style = COLOUR[reason.verdict]
    line = Text("  " + "  " * depth)
    line.append("▶ " if cause else "◦ ", style=style if cause else DIM)
    line.append(f"{safe(reason.node.name):<{wide - 2 * depth}}  {short(reason.node)}", style="bold" if cause else "")
    line.append("  ")
    said = Text(safe(reason.because))
    if cause:
        said.append(f"    {reason.row.id}{' late' if reason.late else ''}", style=style)
    indent = Text(" " * (2 + 2 * depth) + "│" + " " * (wide - 2 * depth + 13), style=DIM)
    facts = reason.evidence if cause else ()
    return [paragraph(line, said), *(paragraph(indent, Text(safe(fact), style=DIM)) for fact in facts)]


def _options(options: Sequence[Option]) -> list[Text]:
    label = max(len(o.label) for o in options)
    command = max(len(o.command) for o in options)
    lines = [Text("next, safest first" if len(options) > 1 else "next", style="bold")]
    for option in options:
        line = Text(f"  {safe(option.label):<{label}}  ")
        line.append(f"{option.command:<{command}}", style="bold")
        line.append(f"  {safe(option.warning)}", style=BUSY if option.warning.startswith("!") else DIM)
        lines.append(line)
    for line in lines:
        line.rstrip()
    return lines


def watched(answer: Answer) -> None:
    """The tree, in place of the last one on a terminal."""
    if sys.stdout.isatty():
        out("\x1b[H\x1b[2J", end="")
    show(answer)


# -- show ----------------------------------------------------------------------------------------------------------


def show(answer: Answer) -> None:
    """The whole tree: how each node stands, since when, its attempt, its next try; the blocker marked."""
    draw(_head(answer))
    about = _about(answer)
    now = answer.scene.now
    family = walk(answer.root, answer.scene.kids, answer.scene.nodes)
    rows = [_tree_row(node, depth, about.get(node.id), now) for node, depth in family]
    if rows:
        noted(("", "node", "id", "server/client", "for", "attempt", "next"), rows)
    else:
        draw(Text("no nodes yet", style=DIM))


def _tree_row(node: Node, depth: int, reason: Reason | None, now: int) -> tuple[list[Text], Text]:
    """The cells of a node's row, and its remark."""
    cause = reason is not None and reason.row.id not in ("W4", "W5", "W7")
    mark = (
        "▶" if cause else "✓" if node.ss == "complete" else "–" if node.ss == "deactivated" else "◦" if reason else "●"
    )
    style = COLOUR[reason.verdict] if reason and cause else GOOD if node.ss == "complete" else DIM
    upcoming = f"at {clock(seconds(node.fires_at))}" if node.ss in ("started", "retrying") and node.fires_at else ""
    if node.ss == "sent_to_client" and node.complete_by:
        upcoming = f"by {clock(seconds(node.complete_by))}"
    said = f"{safe(reason.because)} ({reason.row.id}{' late' if reason.late else ''})" if reason else ""
    attempt = f"{node.attempt} of {node.retries[0] + 1}" if node.ss not in ("pending", "ready") else ""
    cells = [
        Text(mark, style=style),
        Text("  " * depth + safe(node.name), style="bold" if cause else ""),
        Text(short(node)),
        Text(f"{node.ss}/{node.cs}", style=style),
        Text(age((now - node.changed) / 1000)),
        Text(attempt),
        Text(upcoming),
    ]
    return cells, Text(said, style=style if cause else DIM)


def request(sent: Mapping[str, Any]) -> str:
    """What was sent to a client, and what came back."""

    def block(value: Any) -> str:
        return "\n".join("  " + line for line in safe(json.dumps(value, indent=2, ensure_ascii=False)).split("\n"))

    lines = [f"POST {sent['url']}" if sent["url"] else f"a Python handler of {safe(sent['client'])}"]
    lines += [f"  {name}: {safe(str(value))}" for name, value in sent["headers"].items()]
    lines += [block(sent["body"])]
    made = f"by the call with X-backbeat-tid {sent['tid']}" if sent["tid"] else "by no call over HTTP"
    lines += [f"made     {made}", f"sent     {sent['sent'] or 'not yet'}", f"answer   {sent['answer']}"]
    lines += ["said     " + ("nothing yet" if sent["response"] is None else "")]
    return "\n".join(lines if sent["response"] is None else [*lines, block(sent["response"])])


# -- lists ---------------------------------------------------------------------------------------------------------


def listing(roots: Sequence[Node], clients: Mapping[str, str], standings: Mapping[str, Standing], now: int) -> None:
    """Workflows a line each, with the verdict on each; `now` is database time, ms."""
    if not roots:
        draw("no workflow fits")
        return
    head = ("id", "name", "client", "state", "for", "nodes", "age")
    noted(head, [_listed(root, clients.get(root.client, root.client), standings[root.id], now) for root in roots])
    unknown = [root for root in roots if standings[root.id].verdict is None]
    if unknown:
        draw(
            Text("? too many nodes, or too little time, for a list", style=DIM),
            f"next  bbctl wf why {short(unknown[0])}",
        )


def _listed(root: Node, client: str, standing: Standing, now: int) -> tuple[list[Text], Text]:
    """The cells of a workflow's row, and its subject."""
    word = standing.verdict
    state = Text(word or "?", style=COLOUR[word] if word else DIM)
    for mark, holds in (("paused", root.paused), ("closed", root.complete)):
        state.append(f", {mark}" if holds else "", style=DIM)
    waits = age((now - standing.since) / 1000) if standing.since else ""
    counted = f"{'?' if standing.done is None else standing.done}/{standing.all:,}{'+' if standing.more else ''}"
    texts = [Text(waits), Text(counted), Text(age((now - root.created) / 1000))]
    return [Text(short(root)), Text(safe(root.name)), Text(safe(client)), state, *texts], Text(subject(root))


def stuck(groups: Sequence[Group]) -> None:
    """Causes, the worst first; late waits and remarks under their own headings."""
    headings = (
        ("stuck", [g for g in groups if not g.row.remark and g.reasons[0].verdict == "stuck"]),
        ("needs a person", [g for g in groups if not g.row.remark and g.reasons[0].verdict == "needs-person"]),
        ("late", [g for g in groups if not g.row.remark and g.reasons[0].verdict == "late"]),
        ("worth a look", [g for g in groups if g.row.remark]),
    )
    if not groups:
        draw(Text("nothing is stuck, nothing is late", style=GOOD))
    for heading, found in headings:
        if found:
            draw(Text(heading, style=f"bold {BUSY if heading in ('late', 'worth a look') else BAD}"))
            for group in found:
                draw(*_group_lines(group))


def _group_lines(group: Group) -> list[Text]:
    count = f"{len(group.workflows)} workflow{'s' if len(group.workflows) != 1 else ''}"
    head = Text("  ")
    head.append(group.id, style="bold")
    head.append(
        f"  {count}  {safe(group.name)} · {safe(group.client)} · since {clock(seconds(group.since))}  {group.row.id}"
    )
    ids = " ".join(dict.fromkeys(short(r.node) for r in group.reasons[:6]))
    more = f" and {len(group.reasons) - 6} more" if len(group.reasons) > 6 else ""
    next, indent = group.reasons[0].options[0].command, Text(" " * 12)
    return [
        head,
        paragraph(indent, Text(safe(group.because))),
        paragraph(indent, Text(f"{ids}{more}", style=DIM)),
        Text(f"            next  {next}" + (f" · bbctl wf retry --group {group.id}" if retryable(group) else "")),
    ]


def group(found: Group, roots: Mapping[str, Node]) -> None:
    """One cause with all its nodes."""
    draw(*_group_lines(found)[:2])
    rows = table("node", "workflow", "subject", "since", "statuses")
    for r in found.reasons:
        root = roots.get(r.node.wf)
        about = subject(root) if root else ""
        rows.add_row(short(r.node), r.node.wf[-8:], about, clock(seconds(r.since)), f"{r.node.ss}/{r.node.cs}")
    draw(rows)
    for fact in found.reasons[0].evidence:
        draw(Text(f"  {safe(fact)}", style=DIM))
    draw("", *_options(found.reasons[0].options))
    if retryable(found):
        draw(f"  all of them  bbctl wf retry --group {found.id}")


def retryable(group: Group) -> bool:
    return group.row.id in ("W8", "W2", "I4", "I5", "I15")


def healed(findings: Sequence[Finding], *, apply: bool) -> None:
    if not findings:
        draw(Text("nothing to repair", style=GOOD))
        return
    rows = table("", "id", "node", "name", "found", "action", "")
    for f in findings:
        mark = "✓" if f.applied else "·" if f.repairable else "!"
        todo = (
            "done"
            if f.applied
            else "a person decides"
            if not f.repairable
            else "moved on meanwhile"
            if apply
            else f.consequence
        )
        style = GOOD if f.applied else BUSY if f.repairable else BAD
        rows.add_row(
            Text(mark, style=style), f.row.id, short(f.node), safe(f.node.name), f.row.says, f.row.action, todo
        )
    draw(rows)


def preview(found: Sequence[Preview]) -> str:
    """What was found and what will be done: for the question."""
    lines = []
    for p in found:
        where = f"{safe(p.root.name)} {short(p.root)} {subject(p.root)}"
        lines.append(
            where if p.node.is_workflow else f"{where} · {safe(p.node.name)} {short(p.node)} {p.node.ss}/{p.node.cs}"
        )
        lines.append(f"will     {p.verb}: {p.says}")
        for label, nodes in (("again", p.runs_again), ("gone", p.deactivated), ("goes on", p.goes_on)):
            lines += [f"{label:<8} {_names(nodes)}"] if nodes else []
        lines += [f"refused  {safe(p.refusal)}"] if p.refusal else []
    return "\n".join(lines)


def _names(nodes: Sequence[Node]) -> str:
    more = f" and {len(nodes) - 8} more" if len(nodes) > 8 else ""
    return ", ".join(f"{safe(n.name)} {short(n)}" for n in nodes[:8]) + more


# -- the daily report ------------------------------------------------------------------------------------------------


def report(found: StatusReport) -> None:
    draw(f"completed since {clock(found.since / 1000)}, made since {clock(found.made_since / 1000)}; inconsistent now")
    names = sorted({*found.completed, *found.inconsistent})
    if not names:
        draw("nothing was completed")
        return
    rows = table("workflow", "completed", "inconsistent")
    for name in names:
        bad = found.inconsistent.get(name, 0)
        rows.add_row(safe(name), str(found.completed.get(name, 0)), Text(str(bad), style=BAD if bad else ""))
    draw(rows)
