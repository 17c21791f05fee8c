"""A crash before, after and inside every write of every event leads to the tree of an uncut run.

The stories below are told once uncut, which counts the points where a worker or a caller can die; then once for each of
them. A dead worker's claims run out and another goes on; a caller that got no answer asks again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from engine import failpoint, workflows
from engine.drain import Drain
from engine.errors import Conflict, InvalidTransition
from engine.handlers import activity, register, task
from engine.model import NewNode, NewWorkflow
from engine.registry import Registry
from engine.runtime import Runtime, open_runtime
from engine.settings import Settings
from engine.store import Store
from tests.integration.engine_kit import Stub, act, named, outcomes, shape, stub_client
from tests.integration.servers import wait_for

HANDLERS = Registry()
LEASE = 0.15


@activity(registry=HANDLERS)
def decide() -> None:
    register(step, registry=HANDLERS)
    register(fails_once, mode="non_blocking", registry=HANDLERS)
    register(nest, registry=HANDLERS)
    register(step, mode="fire_and_forget", registry=HANDLERS)


@activity(registry=HANDLERS)
def step() -> str:
    return "done"


@activity(retries=2, retry_interval=0, registry=HANDLERS)
def fails_once() -> None:
    if task().node.attempt == 1:
        raise ValueError("the first time")


@activity(registry=HANDLERS)
def nest() -> None:
    register(step, mode="non_blocking", registry=HANDLERS)
    register(step, mode="non_blocking", registry=HANDLERS)


@dataclass
class Stage:
    """One telling of a story: the worker of the moment, and where it is cut. `half`: in the middle of a bulk instead."""

    rt: Runtime
    local: str
    remote: str
    cut_at: int = 0
    half: bool = False
    points: int = 0
    bulks: int = 0
    cut: str | None = None
    died: bool = False
    drain: Drain | None = None
    kept: dict[str, str] = field(default_factory=dict)

    def reach(self, name: str) -> None:
        self.points += 1
        if not self.half and self.points == self.cut_at:
            self.cut, self.died = name, True
            raise failpoint.Cut

    def call(self, ask: Callable[[], Any]) -> Any:
        """A caller that asks until it is answered; that it was done before is an answer."""
        for _ in range(2):
            try:
                return ask()
            except failpoint.Cut:
                self.died = False
            except (InvalidTransition, Conflict):
                if self.cut is None:
                    raise
                return None
        raise AssertionError("cut twice")

    def settle(self) -> None:
        """Workers, one after the other, until nothing is owed now."""
        wait_for("quiet", self._quiet, 20, every=0.001)

    def _quiet(self) -> bool:
        if self.drain is None:
            self.drain = Drain(self.rt, f"worker-{uuid.uuid4().hex[:6]}")
        busy = True
        try:
            busy = self.drain.round(0.01)
        except failpoint.Cut:
            pass
        if self.died:
            self.close()
            self.died = False
            return False
        soon = {"$or": [{"by": {"$gt": ""}}, {"due": {"$lt": self.rt.store.now() + 60_000}}]}
        return not busy and not self.drain.held and not self.rt.store.ids_where(soon, 1)

    def close(self) -> None:
        if self.drain is not None:
            self.drain.leases.stop()
            self.drain.flights.close()
            self.drain = None


# -- the stories ---------------------------------------------------------------------------------------------------


def handlers_in_the_worker(stage: Stage) -> str:
    """A decision, children of every mode, one that fails once, one with children of its own."""
    new = NewWorkflow(name="python", subject=uuid.uuid4().hex, signal=NewNode(name="decide"), key="start")
    ((root, _),) = stage.call(lambda: workflows.start_many(stage.rt, stage.local, [new]))
    stage.settle()
    return str(root.id)


def a_client_over_http(stage: Stage) -> str:
    """Signals, decisions in one call and in parts, progress, an error with a retry, completion of all."""
    rt, me = stage.rt, stage.remote
    subject = uuid.uuid4().hex
    root = stage.call(lambda: workflows.create_workflow(rt, me, name="http", subject=subject)).id
    signal = stage.call(lambda: workflows.signal(rt, me, root, act("signal"), key="one")).id
    second = stage.call(lambda: workflows.signal(rt, me, root, act("second"), key="two")).id
    stage.settle()
    family = [act("a", retry=1, retry_interval=0), act("b", mode="non_blocking"), act("c", mode="fire_and_forget")]
    stage.call(lambda: workflows.add_children(rt, me, signal, family, key="family"))
    stage.call(lambda: workflows.change_status(rt, me, signal, "completed", response={"result": 1}))
    stage.settle()
    (late,) = stage.call(lambda: workflows.add_children(rt, me, signal, [act("late", mode="non_blocking")], key="late"))
    a = named(rt, root, "a").id
    stage.call(lambda: workflows.change_status(rt, me, a, "errored", response={"error": {"message": "no"}}, attempt=1))
    stage.settle()
    stage.call(lambda: workflows.change_status(rt, me, a, "processing", attempt=2))
    stage.call(lambda: workflows.add_children(rt, me, a, [act("below")], key="below"))
    stage.call(lambda: workflows.change_status(rt, me, a, "completed", attempt=2))
    stage.settle()
    for name in ("below", "b", "c"):
        stage.settle()
        node = named(rt, root, name).id
        stage.call(lambda node=node: workflows.change_status(rt, me, node, "completed"))
    stage.call(lambda: workflows.change_status(rt, me, late, "completed"))
    stage.settle()
    stage.call(lambda: workflows.change_status(rt, me, second, "completed"))
    stage.settle()
    return str(root)


def an_operator_steers(stage: Stage) -> str:
    """Pause and resume, restart, cancel, reset, shutdown, deactivation of what came before, a link, a flag."""
    rt, me = stage.rt, stage.remote
    root = stage.call(lambda: workflows.create_workflow(rt, me, name="steer", subject=uuid.uuid4().hex)).id
    stage.call(lambda: workflows.pause(rt, me, root, by="ann"))
    signal = stage.call(lambda: workflows.signal(rt, me, root, act("signal"), key="one")).id
    stage.settle()
    stage.call(lambda: workflows.resume(rt, me, root))
    stage.settle()
    first = [NewNode(name="flag", type="flag"), act("x", mode="non_blocking"), act("y", retry=0), act("z")]
    stage.call(lambda: workflows.add_children(rt, me, signal, first, key="first"))
    stage.call(lambda: workflows.change_status(rt, me, signal, "completed"))
    stage.settle()
    x, y = named(rt, root, "x").id, named(rt, root, "y").id
    stage.call(lambda: workflows.add_children(rt, me, x, [act("under"), act("under")], key="under"))
    stage.call(lambda: workflows.reset(rt, me, x))
    stage.call(lambda: workflows.add_children(rt, me, x, [act("again")], key="again"))
    stage.call(lambda: workflows.change_status(rt, me, x, "canceled"))
    stage.call(lambda: workflows.change_status(rt, me, y, "errored", attempt=1))
    stage.settle()
    stage.call(lambda: workflows.retry_now(rt, me, y))
    stage.settle()
    stage.call(lambda: workflows.change_status(rt, me, y, "errored", attempt=2))
    stage.call(lambda: workflows.change_status(rt, me, y, "shutdown", attempt=2))
    stage.settle()
    held = stage.call(lambda: workflows.signal(rt, me, root, act("held"), key="held")).id
    stage.settle()
    other = stage.call(lambda: workflows.create_workflow(rt, me, name="other", subject=root)).id
    link = stage.call(lambda: workflows.signal(rt, me, other, act("link", link=held), key="link")).id
    stage.settle()
    stage.call(lambda: workflows.change_status(rt, me, held, "completed"))
    stage.settle()
    stage.call(lambda: workflows.change_status(rt, me, link, "completed"))
    stage.settle()
    last = stage.call(lambda: workflows.signal(rt, me, root, act("last"), key="last")).id
    stage.settle()
    stage.call(lambda: workflows.add_children(rt, me, last, [act("p", mode="non_blocking"), act("q")], key="pq"))
    stage.call(lambda: workflows.change_status(rt, me, last, "completed"))
    stage.settle()
    stage.call(lambda: workflows.change_status(rt, me, named(rt, root, "q").id, "deactivated"))
    stage.call(lambda: workflows.complete(rt, me, root))
    stage.settle()
    return str(root)


STORIES = (handlers_in_the_worker, a_client_over_http, an_operator_steers)

# -- telling them --------------------------------------------------------------------------------------------------


@dataclass
class Theatre:
    rt: Runtime
    local: str
    remote: str
    stub: Stub
    patch: pytest.MonkeyPatch

    def tell(self, story: Callable[[Stage], str], cut_at: int = 0, *, half: bool = False) -> tuple[Stage, str]:
        self.rt.store.db["nodes"].delete_many({})
        stage = Stage(self.rt, self.local, self.remote, cut_at, half)
        whole = Store._updated

        def updated(store: Store, changes: Any, statements: Any, journalled: bool) -> set[str]:
            if len(changes) > 1:
                stage.bulks += 1
                if half and stage.bulks == cut_at:
                    middle = len(changes) // 2
                    whole(store, changes[:middle], statements[:middle], journalled)
                    stage.cut, stage.died = "half of a bulk", True
                    raise failpoint.Cut
            return whole(store, changes, statements, journalled)

        with self.patch.context() as patch:
            patch.setattr(failpoint, "hook", stage.reach)
            patch.setattr(Store, "_updated", updated)
            try:
                root = story(stage)
            finally:
                stage.close()
        return stage, root


@pytest.fixture
def theatre(mongo_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Theatre]:
    rt = open_runtime(Settings(mongo_url=mongo_url, lease=LEASE, period=0.02, post_threads=4), handlers=HANDLERS)
    local = workflows.add_client(rt, "local")[0].id
    with stub_client() as stub:
        remote = workflows.add_client(rt, "remote", activity_endpoint=stub.url, notification_endpoint=stub.url)[0].id
        yield Theatre(rt, local, remote, stub, monkeypatch)
    rt.close()


def enumerate_cuts(theatre: Theatre, story: Callable[[Stage], str], stride: int, *, half: bool = False) -> set[str]:
    """Cuts the story at every `stride`th point until there is none left; the names of the points it was cut at."""
    _, root = theatre.tell(story)
    expected = shape(theatre.rt, root)
    names = set()
    for point in count(1, stride):
        stage, root = theatre.tell(story, point, half=half)
        assert shape(theatre.rt, root) == expected, f"cut at point {point}: {stage.cut}"
        twice = [node for node, times in outcomes(theatre.rt, root).items() if times > 1]
        assert not twice, f"cut at point {point}: {stage.cut}: an outcome twice: {twice}"
        if stage.cut is None:
            break
        names.add(stage.cut)
    return names


@pytest.mark.parametrize(
    ("story", "stride"),
    [(handlers_in_the_worker, 3), (a_client_over_http, 9), (an_operator_steers, 13)],
    ids=lambda it: getattr(it, "__name__", str(it)),
)
def test_a_cut_at_any_point_leads_to_the_same_tree(
    story: Callable[[Stage], str], stride: int, theatre: Theatre
) -> None:
    assert len(enumerate_cuts(theatre, story, stride)) >= 5


@pytest.mark.faults
@pytest.mark.parametrize("story", STORIES, ids=lambda it: getattr(it, "__name__", str(it)))
def test_a_cut_at_every_single_point_leads_to_the_same_tree(story: Callable[[Stage], str], theatre: Theatre) -> None:
    assert len(enumerate_cuts(theatre, story, 1)) >= 8


@pytest.mark.parametrize("story", STORIES, ids=lambda it: getattr(it, "__name__", str(it)))
def test_a_cut_in_the_middle_of_a_bulk_leads_to_the_same_tree(story: Callable[[Stage], str], theatre: Theatre) -> None:
    assert enumerate_cuts(theatre, story, 1, half=True) == {"half of a bulk"}
