"""How each of many workflows stands: the verdict that `why` gives, in a handful of reads for a whole page, within bounds.

What would cost more than a list may is not judged there: a workflow of thousands of nodes is counted, by keys of an index
alone, and `why` judges it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine import explain, present, survey
from engine.explain import FOLLOWERS, Judge, Judged, Why
from engine.model import Node
from engine.reads import shown
from engine.rows import first
from engine.runtime import Runtime
from engine.scene import Scene
from engine.states import DONE
from engine.wording import wait_began

PAGE = 100  # workflows looked at together
ROOM = 5_000  # nodes read for a page, and again as many of the workflows they are linked with
MOST = 10_000  # nodes counted of one workflow
TIME = 3.0  # seconds after which no further workflow is judged


@dataclass(frozen=True, kw_only=True)
class Standing:
    """`verdict` None: not judged here, and `done` not counted. `all` at least so many where `more`. `since`: when the oldest of
    the waits that make the verdict began, ms."""

    verdict: Why | None = None
    since: int | None = None
    done: int | None = None
    all: int = 0
    more: bool = False

    def as_json(self) -> dict[str, Any]:
        nodes = {"done": self.done, "all": self.all, "more": self.more}
        return {"state": self.verdict, "since": present.time(self.since), "nodes": nodes}


class _OutOfTime(Exception):
    pass


class _HurriedJudge(Judge):
    """Asks the store for nothing more once the time is over."""

    until = 0.0  # monotonic

    def limit(self, node: Node) -> int:
        if time.monotonic() > self.until and node.name not in self.expected:
            raise _OutOfTime
        return super().limit(node)


def overview(rt: Runtime, roots: Sequence[Node], *, expected: Mapping[str, float]) -> dict[str, Standing]:
    """{workflow: how it stands}; `expected` is step → seconds, from the inventory."""
    judging = _HurriedJudge(rt, expected, explain.living(rt)) if roots else None
    found: dict[str, Standing] = {}
    until = time.monotonic() + TIME
    for place in range(0, len(roots), PAGE):
        page = {root.id: root for root in roots[place : place + PAGE]}
        sizes = survey.sizes(rt, list(page), MOST)
        found |= {id: Standing(all=min(n, MOST), more=n > MOST) for id in page for n in [sizes.get(id, 0)]}
        if judging is not None and time.monotonic() < until:
            judging.until = until
            found.update(_judged(judging, {id: page[id] for id in _that_fit(sizes)}))
    return found


def _that_fit(sizes: Mapping[str, int]) -> Iterator[str]:
    """As many workflows as there is room for, small ones first."""
    room = ROOM
    for id, size in sorted(sizes.items(), key=lambda item: item[1]):
        room -= size
        if room < 0:
            return
        yield id


def _judged(judging: Judge, page: Mapping[str, Node]) -> Iterator[tuple[str, Standing]]:
    if not page:
        return
    try:
        looked = explain.settled(judging.rt, page, room=ROOM)
    except survey.TooFar as far:
        yield from _judged(judging, {id: root for id, root in page.items() if id not in far.held})
        return
    late: dict[int, set[str] | None] = {}
    for scene, _ in looked.values():
        if id(scene) not in late:
            together = [one for there, judged in looked.values() if there is scene for one in judged]
            late[id(scene)] = _late(judging, scene, together)
    for workflow, (scene, judged) in looked.items():
        waits = late[id(scene)]
        if waits is not None:
            yield workflow, _standing(scene, workflow, judged, waits)


def _late(judging: Judge, scene: Scene, judged: Judged) -> set[str] | None:
    try:
        return explain.late_ones(judging, scene, judged)
    except _OutOfTime:
        return None


def _standing(scene: Scene, workflow: str, judged: Judged, late: set[str]) -> Standing:
    found = [
        (explain.verdict_of(row, node.id in late), row.id in FOLLOWERS, wait_began(node, row))
        for node, rows in judged
        if (row := first(rows)) and not row.remark
    ]
    verdict = explain.worst(one for one, _, _ in found)
    causes = [since for one, follows, since in found if one == verdict and not follows and since]
    below = [n for n in scene.nodes.values() if n.wf == workflow and not n.is_workflow]
    counted = [n for node in below if (n := shown(node, scene.parent(node)))]
    done = sum(n.ss in DONE for n in counted)
    return Standing(verdict=verdict, since=min(causes, default=None), done=done, all=len(counted))
