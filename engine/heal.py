"""Repairing what a crash, an import or an edit left: each repair one compare-and-set that tests its row again.

Safe twice, and beside workers: what has moved on meanwhile no longer fits its row and is left alone. The repairs only
owe again what was lost; the workers carry it out as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from engine import door, events, follow, survey
from engine.errors import NotFound
from engine.events import Context, owe
from engine.model import Node
from engine.retry import DEFAULT_TIMEOUT
from engine.rows import LEFT_ON_FINAL, MAX_TRIES, ROWS, Mode, Row, first, matches
from engine.runtime import Runtime
from engine.scene import Scene, owes, spent, whole
from engine.states import code

ROUNDS = 5  # several rows may fit one node, one after the other
Repair = Callable[[Node, Context], None]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`target` is the node that the repair changes: this one, or its parent. `consequence` says what follows from it."""

    row: Row
    node: Node
    target: str
    consequence: str
    applied: bool = False

    @property
    def repairable(self) -> bool:
        return self.row.mode in ("A", "C")


@dataclass(frozen=True)
class Action:
    """`on` is whose document changes; `says` what follows."""

    repair: Repair
    says: str
    on_parent: bool = False


# -- the repairs, pure ---------------------------------------------------------------------------------------------


def _park(node: Node, ctx: Context) -> None:
    events.poisoned(node, ctx, f"taken up {node.tries} times (at most {MAX_TRIES}) without a result")


def _due(node: Node, ctx: Context) -> None:
    """Settling the change works out when what is owed is due."""


def _open(node: Node, ctx: Context) -> None:
    node.open = events.openness(node)
    if node.parent:
        events.owe_tell(node, [*dict.fromkeys([*events.told_by(node), node.parent])])


def _prune(node: Node, ctx: Context) -> None:
    wanted = True if node.ss == "deactivated" else follow.UNBORN
    owe(node, "prune", (node.do or {}).get("prune", wanted))  # what an event owes stands


def _error(node: Node, ctx: Context) -> None:
    """The retries left are counted from the history, so that none is used up twice."""
    if whole(node):
        node.retries = [node.retries[0], max(0, node.retries[0] - spent(node))]
    events.errored(node, ctx, events.text({"error": {"message": "an error that was noted and not acted on"}}))


def _cut(node: Node, ctx: Context) -> None:
    owe(node, "cut")
    node.look = ctx.token


def _post(node: Node, ctx: Context) -> None:
    events.done(node, "timeout")
    owe(node, "post")
    _at_least_a_deadline(node, ctx)


def _timeout(node: Node, ctx: Context) -> None:
    owe(node, "timeout")
    _at_least_a_deadline(node, ctx)


def _deadline(node: Node, ctx: Context) -> None:
    _at_least_a_deadline(node, ctx)
    if not owes(node, "post"):
        owe(node, "timeout")


def _at_least_a_deadline(node: Node, ctx: Context) -> None:
    if node.complete_by is None:
        node.complete_by = ctx.now + int((node.timeout or DEFAULT_TIMEOUT) * 1000)


def _retry(node: Node, ctx: Context) -> None:
    node.fires_at = node.fires_at or ctx.now
    owe(node, "retry")


def _time_out(node: Node, ctx: Context) -> None:
    events.time_out(node, ctx, also_processing=True)


def _reconstruct(node: Node, ctx: Context) -> None:
    node.lines = [*node.lines, [ctx.now, code(node.ss, node.cs), events.text({"reconstructed": True})]]


def _clear(node: Node, ctx: Context) -> None:
    node.complete_by = None
    events.done(node, *(todo for todo in node.do or {} if todo not in LEFT_ON_FINAL))


ACTIONS: dict[str, Action] = {
    "park": Action(_park, "it is put out of the way, and its client is told"),
    "due": Action(_due, "what it owes is done now"),
    "open": Action(_open, "the mark is written anew, and its parent looks again"),
    "prune": Action(_prune, "its parent deactivates what no longer counts", on_parent=True),
    "error": Action(_error, "its error takes effect: a retry, or a person is told"),
    "look": Action(events.look_again, "it looks at its children again, and goes on or completes"),
    "look at parent": Action(events.look_again, "its parent looks at its children again and starts it", on_parent=True),
    "cut": Action(_cut, "the siblings after it are deactivated, then it completes"),
    "start": Action(events.hand_out, "it starts at its time"),
    "post": Action(_post, "it is sent to its client, with the same key"),
    "timeout": Action(_timeout, "its wait ends at its deadline, as a client error"),
    "time out": Action(_time_out, "its wait ends now, as a client error: a retry, or a person is told"),
    "deadline": Action(_deadline, "it gets a deadline from now on"),
    "retry": Action(_retry, "it is retried at its time"),
    "run again": Action(events.retry, "it runs again as its next attempt: what its client may have done is done twice"),
    "reconstruct": Action(_reconstruct, "a line of history says where it stands"),
    "clear": Action(_clear, "the leftover goes"),
}


# -- finding and repairing -----------------------------------------------------------------------------------------


def findings(scene: Scene, nodes: Iterable[Node]) -> Iterator[Finding]:
    """What is inconsistent among `nodes`: the first row of each node that is no healthy wait, remarks last."""
    for node in nodes:
        row = first(matches(scene, node))
        if row is not None and row.mode != "W":
            yield _finding(row, node)


def _finding(row: Row, node: Node, *, applied: bool = False) -> Finding:
    action = ACTIONS.get(row.action)
    target = node.parent if action and action.on_parent and node.parent else node.id
    says = action.says if action else "a person decides"
    return Finding(row=row, node=node, target=target, consequence=says, applied=applied)


def heal_workflow(rt: Runtime, workflow: str, *, apply: bool = False) -> list[Finding]:
    """All of a workflow's nodes; `apply` repairs what can be, the findings say which it did."""
    scene = survey.of_workflow(rt, workflow, history=True)
    own = [n for n in scene.nodes.values() if workflow in (n.id, n.wf)]
    return list(_healed(rt, _still(rt, findings(scene, own)), apply, ("A", "C")))


def heal_all(rt: Runtime, *, apply: bool = False, modes: tuple[Mode, ...] = ("A", "C")) -> Iterator[Finding]:
    """The same for every node there is, as it goes, and for the rows of these modes."""
    for scene, batch in survey.unfinished(rt):
        here = (f for f in findings(scene, batch) if not f.row.whole)
        yield from _healed(rt, _still(rt, here), apply, modes)
    for _, knotted in survey.entangled(rt):
        yield from (_finding(ROWS["I19"], node) for node in knotted)
    rest = survey.untidy(rt)
    yield from _healed(rt, _still(rt, findings(survey.around(rt, rest), rest)), apply, modes)


def _still(rt: Runtime, found: Iterable[Finding]) -> list[Finding]:
    """Those that a second look finds too."""
    seen = list(found)
    if not seen:
        return []
    scene = survey.again(rt, {f.node.id for f in seen})
    return [f for f in seen if f.row.whole or ((n := scene.nodes.get(f.node.id)) is not None and f.row.test(scene, n))]


def heal_slice(rt: Runtime, after: str = "", limit: int = survey.BATCH) -> tuple[str, int]:
    """The slow sweep: A rows among the next unfinished nodes after that id. Where to go on ("" = from the start again),
    and how many were repaired."""
    batch = survey.slice_of(rt, after, limit)
    if not batch:
        return "", 0
    found = _healed(rt, findings(survey.around(rt, batch), batch), True, ("A",))
    return batch[-1].id if len(batch) == limit else "", sum(f.applied for f in found)


def _healed(rt: Runtime, found: Iterable[Finding], apply: bool, modes: tuple[Mode, ...]) -> Iterator[Finding]:
    for finding in found:
        if not apply or finding.row.mode not in modes:
            yield finding
            continue
        seen: set[str] = set()
        while finding.row.mode in modes and finding.row.id not in seen and len(seen) < ROUNDS:
            seen.add(finding.row.id)
            yield _finding(finding.row, finding.node, applied=_repair(rt, finding))
            following = _now(rt, finding.node.id)
            if following is None:
                break
            finding = following


def _now(rt: Runtime, id: str) -> Finding | None:
    node = survey.node_with_history(rt, id)
    return None if node is None else next(findings(survey.around(rt, [node]), [node]), None)


def _repair(rt: Runtime, finding: Finding) -> bool:
    """Whether this very call made the change. What a worker holds is left to it."""
    won = False

    def event(target: Node, ctx: Context) -> bool:
        nonlocal won
        won = False
        if target.by is not None and target.due is not None and target.due > ctx.now:
            return False
        node = survey.node_with_history(rt, finding.node.id)
        if node is None:
            return False
        scene = survey.around(rt, [node])
        fits = finding.row.test(scene, node)
        if fits and target.id == node.id and target.rev == node.rev:
            target.h = node.h
        elif target.id == node.id:
            return False
        if fits:
            ACTIONS[finding.row.action].repair(target, ctx)
            won = True
        return fits

    door.act(rt, finding.target, event, check=_there(finding.target))
    return won


def _there(id: str) -> Callable[[Node | None], Node]:
    def check(node: Node | None) -> Node:
        if node is None:
            raise NotFound("Node", id)
        return node

    return check
