"""A write whose reply is lost is sent again; whether it had won is known also where somebody went on from there meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from engine import door, events, follow, periodic, workflows
from engine.ids import token
from engine.model import NewNode, NewWorkflow, Node
from engine.runtime import Runtime, open_runtime
from engine.settings import Settings

ENDPOINT = "http://127.0.0.1:9/activity"


@pytest.fixture
def rt(mongo_url: str) -> Iterator[Runtime]:
    found = open_runtime(Settings(mongo_url=mongo_url))
    yield found
    found.close()


@pytest.fixture
def client(rt: Runtime) -> str:
    return workflows.add_client(rt, "one", activity_endpoint=ENDPOINT, decision_endpoint=ENDPOINT)[0].id


class Lossy:
    """The database, whose next write of `command` is done and never answered; `meanwhile` happens before the next try."""

    def __init__(self, database: Any, command: str, meanwhile: Callable[[], None]) -> None:
        self._database = database
        self._command = command
        self._meanwhile = meanwhile
        self.lost = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def __getitem__(self, name: str) -> Any:
        return self._database[name]

    def command(self, body: Any, **more: Any) -> Any:
        answer = self._database.command(body, **more)
        if self.lost or not isinstance(body, dict) or self._command not in body:
            return answer
        self.lost += 1
        self._meanwhile()
        raise AutoReconnect("connection closed")


def lose(rt: Runtime, command: str, meanwhile: Callable[[], None] = lambda: None) -> Lossy:
    rt.store.open()
    lossy = Lossy(rt.store._database, command, meanwhile)
    rt.store._database = lossy
    return lossy


def begun(rt: Runtime, client: str) -> Node:
    """An activity that its client has, in its first attempt, with retries that come at once."""
    new = NewWorkflow(name="w", subject=1, signal=NewNode(name="go", retry=5, retry_interval=0))
    ((_, signal),) = workflows.start_many(rt, client, [new])
    door.act(rt, signal.id, events.deliver, check=lambda node: node or signal)
    return signal


def test_workflows_whose_insert_was_not_answered_are_there_once(rt: Runtime, client: str) -> None:
    lossy = lose(rt, "insert")
    new = [NewWorkflow(name="w", subject=place, signal=NewNode(name="go")) for place in range(50)]
    pairs = workflows.start_many(rt, client, new)
    assert lossy.lost == 1
    assert rt.store.count({"kind": "workflow"}) == 50
    assert sorted(rt.store.ids_where({"kind": "node"})) == sorted(signal.id for _, signal in pairs)


def test_an_insert_of_which_half_was_done_is_completed(rt: Runtime, client: str) -> None:
    ((root, signal),) = workflows.start_many(rt, client, [NewWorkflow(name="w", subject=1, signal=NewNode(name="go"))])
    again = [NewWorkflow(name="w", subject=place, signal=NewNode(name="go")) for place in range(2, 5)]
    pairs = workflows.start_many(rt, client, again)
    nodes = [node for pair in pairs for node in pair]
    late = rt.store.by_ids([node.id for node in nodes])
    rt.store.db["nodes"].delete_many({"_id": {"$in": [node.id for node in nodes[3:]]}})
    rt.store.insert(nodes)
    assert rt.store.by_ids([node.id for node in nodes]).keys() == late.keys()
    assert rt.store.by_ids([root.id, signal.id]).keys() == {root.id, signal.id}


def test_an_error_that_was_not_answered_is_not_reported_to_the_next_attempt_too(rt: Runtime, client: str) -> None:
    node = begun(rt, client)

    def retried() -> None:
        workflows.retry_now(other, None, node.id)

    other = open_runtime(rt.settings)
    lossy = lose(rt, "update", retried)
    workflows.change_status(rt, client, node.id, "errored", response='{"error": "once"}')
    other.close()
    assert lossy.lost == 1
    found = rt.store.by_ids([node.id])[node.id]
    assert (found.cs, found.attempt) == ("ready", 2)
    errors = [
        c for c in workflows.status_changes(rt, client, node.id) if c.machine == "client" and c.after == "errored"
    ]
    assert len(errors) == 1


def test_pruning_that_comes_late_spares_the_children_of_the_next_attempt(rt: Runtime, client: str) -> None:
    node = begun(rt, client)
    (old,) = workflows.add_children(rt, client, node.id, [NewNode(name="old")])
    workflows.change_status(rt, client, node.id, "errored")
    ctx = rt.context()
    stale = rt.store.by_ids([node.id])[node.id].copy()
    events.retry(stale, ctx)
    events.settle(stale, ctx)  # as the API holds it between its commit and what it does afterwards
    workflows.retry_now(rt, client, node.id)
    door.act(rt, node.id, events.deliver, check=lambda found: found or node)
    (new,) = workflows.add_children(rt, client, node.id, [NewNode(name="new")])
    follow.prune(rt.store, stale, ctx)
    assert {id: found.ss for id, found in rt.store.by_ids([old, new]).items()} == {old: "deactivated", new: "pending"}


# -- many at once --------------------------------------------------------------------------------------------------


def test_what_many_reconcilers_find_due_is_claimed_once(rt: Runtime, client: str) -> None:
    new = [NewWorkflow(name="w", subject=place, signal=NewNode(name="go")) for place in range(300)]
    signals = [signal.id for _, signal in workflows.start_many(rt, client, new)]
    runtimes = [open_runtime(rt.settings) for _ in range(4)]

    def reconcile(one: Runtime) -> list[str]:
        won: list[str] = []
        while due := one.store.due(64):
            won += [node.id for node in one.store.claim(due, token(), f"worker-{id(one)}")]
        return won

    with ThreadPoolExecutor(4) as pool:
        claimed = [id for won in pool.map(reconcile, runtimes) for id in won]
    for one in runtimes:
        one.close()
    assert sorted(claimed) == sorted(signals)
    assert {node.tries for node in rt.store.by_ids(signals).values()} == {1}


def test_a_tick_that_many_workers_come_for_runs_once(rt: Runtime) -> None:
    ran: list[int] = []

    def run(rt: Runtime, kept: periodic.Kept, now: int) -> tuple[str, periodic.Kept]:
        ran.append(now)
        return "done", {"times": kept.get("times", 0) + 1}

    job = periodic.Job("a job", "tests", periodic.DAY, run)
    runtimes = [open_runtime(rt.settings) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        did = list(pool.map(lambda place: periodic._run(runtimes[place], job, f"worker {place}"), range(6)))
    for one in runtimes:
        one.close()
    assert did.count(True) == 1
    assert len(ran) == 1
    assert rt.store.ticks()["a job"]["kept"] == {"times": 1}
