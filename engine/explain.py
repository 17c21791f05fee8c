"""Why is this not finished? What is stuck, and what do they have in common? Answered from stored state alone.

`why` judges every node of a workflow by the table of `rows`, follows what waits for what to the causes, and says which
wait takes longer than it should. `stuck` does it for all workflows and puts equal causes together.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from engine import survey, wording
from engine.model import Node, WorkerRecord
from engine.present import time
from engine.rows import ROWS, Row, Verdict, first, matches
from engine.runtime import Runtime
from engine.scene import Scene, active, chain, paused_by, since_when, waits_for
from engine.states import CLIENT_LETTER, FINAL_CLIENT, SERVER_LETTER
from engine.wording import Option, Telling, Usual

ALIVE = 30_000  # ms since a worker's last heartbeat
AT_LEAST = 300_000  # ms: a wait shorter than this is late only where the inventory says so
TIMES = 10  # and this many times the usual
COMPLETIONS = 1000
SAME = 500  # waits looked at to count those with the same cause
LOOKS = 5
FOLLOWERS = ("W4", "W5", "W7")  # wait for another node: never a cause
MAY_BE_LATE = ("W2", "W9")
WORST: tuple[Verdict, ...] = ("stuck", "needs-person", "late", "waiting")
Why = Literal["done", "waiting", "late", "stuck", "needs-person"]
Judged = list[tuple[Node, list[Row]]]
"""Nodes that stand still, each with the rows that fit."""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One node that stands still. `since` is ms."""

    row: Row
    node: Node
    since: int | None
    late: bool
    because: str
    evidence: tuple[str, ...]
    options: tuple[Option, ...]
    group: str

    @property
    def verdict(self) -> Verdict:
        return verdict_of(self.row, self.late)

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.row.id,
            "node": self.node.id,
            "name": self.node.name,
            "statuses": {"server": self.node.ss, "client": self.node.cs},
            "since": time(self.since),
            "late": self.late,
            "because": self.because,
            "evidence": list(self.evidence),
            "next": self.options[0].command,
            "group": self.group,
        }


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`causes` first, then who waits for them; `same` is how many workflows share the first cause, itself included; at
    least so many where `same_more`."""

    verdict: Why
    root: Node
    asked: Node
    client: str
    causes: tuple[Reason, ...]
    followers: tuple[Reason, ...]
    scene: Scene
    same: int = 1
    same_since: int | None = None
    same_more: bool = False

    @property
    def reasons(self) -> tuple[Reason, ...]:
        return self.causes + self.followers

    @property
    def paused_by(self) -> str | None:
        return paused_by(self.scene, self.root)

    def as_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "workflow": self.root.id,
            "asked": self.asked.id,
            "reasons": [r.as_json() for r in self.reasons],
            "next": self.causes[0].options[0].command if self.causes else None,
        }


@dataclass(frozen=True, kw_only=True)
class Group:
    """Nodes held up in the same way. `id` is made from the cause alone, so it is the same tomorrow."""

    id: str
    row: Row
    late: bool
    client: str
    name: str
    because: str
    since: int | None
    reasons: tuple[Reason, ...]

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(r.node.id for r in self.reasons)

    @property
    def workflows(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(r.node.wf for r in self.reasons))

    def as_json(self) -> dict[str, Any]:
        return {
            "group": self.id,
            "id": self.row.id,
            "mode": self.row.mode,
            "late": self.late,
            "verdict": self.reasons[0].verdict,
            "client": self.client,
            "name": self.name,
            "because": self.because,
            "since": time(self.since),
            "count": len(self.reasons),
            "workflows": list(self.workflows),
            "nodes": list(self.nodes),
            "evidence": list(self.reasons[0].evidence),
            "next": self.reasons[0].options[0].command,
        }


@dataclass
class Judge:
    """Judges nodes, remembering how long each step usually takes. `expected` is step → seconds, from the inventory."""

    rt: Runtime
    expected: Mapping[str, float]
    workers: Sequence[WorkerRecord]  # those that live
    _usual: dict[tuple[str, str], Usual] = field(default_factory=dict)

    def usual(self, node: Node) -> Usual:
        key = (node.client, node.name)
        if key not in self._usual:
            self._usual[key] = usual(self.rt, *key)
        return self._usual[key]

    def limit(self, node: Node) -> int:
        """How long this step may wait, ms."""
        if node.name in self.expected:
            return int(self.expected[node.name] * 1000)
        return max(AT_LEAST, TIMES * self.usual(node).p95)

    def unhandled(self, scene: Scene, node: Node, row: Row) -> bool:
        """Is it for a Python handler that no living worker has loaded? Said only where each tells what it has loaded."""
        client = (scene.clients or {}).get(node.client)
        if row.id != "W9" or client is None or not client.local or node.type == "flag" or not active(node):
            return False
        loaded = [worker.handlers for worker in self.workers]
        return bool(loaded) and all(names is not None and node.name not in names for names in loaded)

    def late(self, scene: Scene, node: Node, row: Row) -> bool:
        if row.id not in MAY_BE_LATE:
            return False
        began = since_when(node, server=node.ss) or node.changed or node.created
        waited = scene.now - began
        if self.unhandled(scene, node, row):
            return waited > scene.grace
        if node.name not in self.expected and waited <= AT_LEAST:
            return False
        return waited > self.limit(node)

    def reason(self, scene: Scene, node: Node, row: Row, *, late: bool = False) -> Reason:
        asks = row.id in ("W2", "I3", "I4", "I5")
        unhandled = self.unhandled(scene, node, row)
        telling = Telling(
            scene=scene, node=node, row=row, since=wording.wait_began(node, row), late=late, workers=len(self.workers),
            unhandled=unhandled,
            usual=self.usual(node) if asks else Usual(),
            limit=self.limit(node) if late and row.id in MAY_BE_LATE and not unhandled else None,
        )  # fmt: skip
        return Reason(
            row=row, node=node, since=telling.since, late=late, because=wording.because(telling),
            evidence=tuple(wording.evidence(telling)), options=tuple(wording.options(telling)),
            group=fingerprint(wording.cause(telling)),
        )  # fmt: skip


def judge(rt: Runtime, expected: Mapping[str, float]) -> Judge:
    return Judge(rt, expected, living(rt))


def living(rt: Runtime) -> list[WorkerRecord]:
    return rt.store.workers(rt.store.now() - ALIVE)


def usual(rt: Runtime, client: str, name: str) -> Usual:
    """How long this step took, of its last 1,000 completions."""
    query = {"client": client, "kind": "node", "name": name, "ss": "complete"}
    done = rt.store.find(query, sort="_id", newest=True, limit=COMPLETIONS, history=True)
    took = sorted(d for d in (duration(n) for n in done) if d is not None)
    if not took:
        return Usual()
    return Usual(len(took), took[len(took) // 2], took[min(len(took) - 1, int(len(took) * 0.95))])


def duration(node: Node) -> int | None:
    """From when its last attempt went out to its client's last word, ms; None where its history does not say."""
    began = ended = None
    final = {CLIENT_LETTER[c] for c in FINAL_CLIENT}
    out = {SERVER_LETTER["started"], SERVER_LETTER["sent_to_client"]}
    before = ""
    for line in node.h or []:
        server, client = line[1][0], line[1][1]
        if server in out and before != server:
            began, ended = int(line[0]), None
        elif client in final and began is not None and ended is None:
            ended = int(line[0])
        before = server
    return ended - began if began is not None and ended is not None else None


def fingerprint(cause: str) -> str:
    return "F-" + hashlib.sha256(cause.encode("utf-8", "replace")).hexdigest()[:6]


# -- why -----------------------------------------------------------------------------------------------------------


def why(rt: Runtime, asked: Node, *, expected: Mapping[str, float]) -> Answer:
    """The verdict on a workflow, or on one node and all it waits for."""
    judging = judge(rt, expected)
    workflow = asked.id if asked.is_workflow else asked.wf
    scene, judged = settled(rt, {workflow: asked})[workflow]
    asked = scene.nodes.get(asked.id, asked)
    root = scene.nodes.get(workflow, asked)
    late = late_ones(judging, scene, judged)
    reasons = [judging.reason(scene, n, row, late=n.id in late) for n, rows in judged for row in _worth_saying(rows)]
    causes = sorted((r for r in reasons if r.row.id not in FOLLOWERS), key=_worst_first)
    followers = sorted((r for r in reasons if r.row.id in FOLLOWERS), key=lambda r: r.node.seq)
    same, since, more = _same_cause(rt, judging, causes[0]) if causes else (1, None, False)
    clients = scene.clients or {}
    return Answer(
        verdict=verdict(reasons), root=root, asked=asked, causes=tuple(causes), followers=tuple(followers), scene=scene,
        client=clients[root.client].name if root.client in clients else root.client, same=same, same_since=since,
        same_more=more,
    )  # fmt: skip


def settled(rt: Runtime, asked: Mapping[str, Node], *, room: int | None = None) -> dict[str, tuple[Scene, Judged]]:
    """{workflow: what was asked about it}, all nodes judged. Several reads are no one moment: what looks inconsistent must
    look so twice running. `room` as in survey.of_workflows."""
    found: dict[str, tuple[Scene, Judged]] = {}
    before: dict[str, set[tuple[str, str]]] = {}
    todo = list(asked)
    for _ in range(LOOKS):
        scene = survey.of_workflows(rt, todo, room=room)
        own: dict[str, list[Node]] = defaultdict(list)
        for n in scene.nodes.values():
            own[n.id if n.is_workflow else n.wf].append(n)
        for workflow in todo:
            here = scene.nodes.get(asked[workflow].id, asked[workflow])
            found[workflow] = scene, _judged(scene, _with_causes(scene, own[workflow] if here.is_workflow else [here]))
        odd = {workflow: _odd(found[workflow][1]) for workflow in todo}
        todo = [workflow for workflow in todo if odd[workflow] and odd[workflow] != before.get(workflow)]
        before = odd
        if not todo:
            break
    return found


def _odd(judged: Judged) -> set[tuple[str, str]]:
    return {(n.id, row.id) for n, rows in judged if (row := first(rows)) and row.mode != "W"}


def late_ones(judging: Judge, scene: Scene, judged: Judged) -> set[str]:
    """The nodes that wait for longer than they should, and all that wait for these."""
    late = {n.id for n, rows in judged if (row := first(rows)) and judging.late(scene, n, row)}
    return late | _held_up_by(scene, late)


def verdict(reasons: Iterable[Reason]) -> Why:
    return worst(r.verdict for r in reasons if not r.row.remark)


def worst(verdicts: Iterable[Verdict]) -> Why:
    """The verdict on a workflow, of those on what stands still in it."""
    found = set(verdicts)
    return next((word for word in WORST if word in found), "done")


def verdict_of(row: Row, late: bool) -> Verdict:
    """The verdict on one node."""
    return "late" if late and row.verdict == "waiting" else row.verdict


def _with_causes(scene: Scene, nodes: Sequence[Node]) -> list[Node]:
    """These, and whatever in other workflows they wait for."""
    if len(nodes) == 1 and active(nodes[0]):
        return list(chain(scene, nodes[0]))
    found = {n.id: n for n in nodes}
    for n in nodes:
        for other in waits_for(scene, n):
            if other.id not in found:
                found |= {c.id: c for c in chain(scene, other)}
    return list(found.values())


def _judged(scene: Scene, nodes: Iterable[Node]) -> Judged:
    return [(n, rows) for n in nodes if (rows := matches(scene, n))]


def _worth_saying(rows: Sequence[Row]) -> list[Row]:
    """The cause, and the remarks."""
    cause = first(rows)
    return [row for row in rows if row is cause or row.remark]


def _held_up_by(scene: Scene, late: set[str]) -> set[str]:
    """All that wait for these, directly or not: they are late with them."""
    followers: dict[str, list[str]] = defaultdict(list)
    for n in scene.nodes.values():
        for other in waits_for(scene, n):
            followers[other.id].append(n.id)
    found: set[str] = set()
    todo = list(late)
    while todo:
        fresh = [id for id in followers[todo.pop()] if id not in found]
        found |= set(fresh)
        todo += fresh
    return found


def _worst_first(reason: Reason) -> tuple[bool, int, int]:
    return reason.row.remark, WORST.index(reason.verdict), reason.since or 0


def _same_cause(rt: Runtime, judging: Judge, reason: Reason) -> tuple[int, int | None, bool]:
    """How many workflows are held up in this way, as far as the first few hundred show; since when; may there be more?"""
    if reason.verdict == "waiting":
        return 1, None, False
    narrow = {"ss": reason.node.ss, "client": reason.node.client, "name": reason.node.name}
    found = survey.slice_of(rt, "", SAME, narrow)
    batch = [n for n in found if n.id != reason.node.id]
    if not batch:
        return 1, reason.since, False
    scene = survey.around(rt, batch)
    alike = [r for r in _unhealthy(judging, scene, batch) if r.group == reason.group]
    since = min((r.since for r in [*alike, reason] if r.since is not None), default=None)
    return len({r.node.wf for r in alike} | {reason.node.wf}), since, len(found) == SAME


# -- stuck ---------------------------------------------------------------------------------------------------------


def stuck(rt: Runtime, *, expected: Mapping[str, float], older: int = 0, group: str | None = None) -> list[Group]:
    """All that are no healthy waits, equal causes together, the worst and largest first. `older`: at least that long, ms."""
    judging = judge(rt, expected)
    groups: dict[str, list[Reason]] = defaultdict(list)
    for scene, batch in survey.unfinished(rt):
        for reason in _still(rt, list(_unhealthy(judging, scene, batch))):
            if not older or reason.since is None or scene.now - reason.since >= older:
                groups[reason.group].append(reason)
    for scene, knotted in survey.entangled(rt):
        for reason in (judging.reason(scene, n, ROWS["I19"]) for n in knotted):
            if not older or reason.since is None or scene.now - reason.since >= older:
                groups[reason.group].append(reason)
    made = [_group(rt, id, reasons) for id, reasons in groups.items() if group in (None, id)]
    return sorted(made, key=lambda g: (g.row.remark, WORST.index(g.reasons[0].verdict), -len(g.reasons), g.id))


def _unhealthy(judging: Judge, scene: Scene, nodes: Iterable[Node]) -> Iterable[Reason]:
    for node, rows in _judged(scene, nodes):
        row = first([row for row in rows if not row.whole])  # those are looked for by themselves
        if row is None or row.id in FOLLOWERS:
            continue
        late = judging.late(scene, node, row)
        if late or row.verdict != "waiting":
            yield judging.reason(scene, node, row, late=late)


def _still(rt: Runtime, reasons: list[Reason]) -> list[Reason]:
    """Without those that a second look does not find any more."""
    odd = {r.node.id for r in reasons if r.row.mode != "W" and not r.row.whole}
    if not odd:
        return reasons
    scene = survey.again(rt, odd)
    return [r for r in reasons if r.node.id not in odd or ((n := scene.nodes.get(r.node.id)) and r.row.test(scene, n))]


def _group(rt: Runtime, id: str, reasons: list[Reason]) -> Group:
    reasons.sort(key=lambda r: r.since or 0)
    head = reasons[0]
    client = rt.client(head.node.client)
    return Group(
        id=id, row=head.row, late=head.late, client=client.name if client else head.node.client, name=head.node.name,
        because=head.because, since=head.since, reasons=tuple(reasons),
    )  # fmt: skip
