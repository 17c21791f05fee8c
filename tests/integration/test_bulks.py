"""A round's changes go to MongoDB in few statements, and each node is won or lost by itself all the same."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from engine import drain, events, failpoint, heal, workflows
from engine.change import Change
from engine.drain import Drain
from engine.hand import Held
from engine.handlers import activity, register
from engine.hints import Hints
from engine.ids import token
from engine.model import NewNode, NewWorkflow, Node
from engine.registry import Registry
from engine.runtime import Runtime, open_runtime
from engine.settings import Settings
from tests.integration.engine_kit import finish
from tests.integration.servers import Redis, wait_for

HANDLERS = Registry()
WIDTH = 30


@activity(registry=HANDLERS)
def fan() -> None:
    for _ in range(WIDTH):
        register(part, mode="non_blocking", registry=HANDLERS)


@activity(registry=HANDLERS)
def part() -> str:
    return "done"


@pytest.fixture
def rt(mongo_url: str) -> Iterator[Runtime]:
    found = open_runtime(Settings(mongo_url=mongo_url), handlers=HANDLERS)
    yield found
    found.close()


def family(rt: Runtime, data: tuple[str, ...]) -> list[Node]:
    """Ready siblings of one birth, so that equal changes of them are alike."""
    me = workflows.add_client(rt, "me")[0].id
    ((_, signal),) = workflows.start_many(rt, me, [NewWorkflow(name="w", subject=1, signal=NewNode(name="elsewhere"))])
    new = [NewNode(name="part", mode="non_blocking", data=text) for text in data]
    made = workflows.add_children(rt, me, signal.id, new)
    found = rt.store.by_ids(made)
    return [found[id] for id in made]


def completed(rt: Runtime, nodes: list[Node], response: str) -> list[Change]:
    ctx = rt.context()
    changes = []
    for node in nodes:
        after = node.copy()
        events.send(after, ctx)
        events.completed(after, ctx, response)
        changes.append(Change(node, events.settle(after, ctx)))
    return changes


def outcomes(rt: Runtime, nodes: list[Node]) -> list[str]:
    found = rt.store.by_ids([node.id for node in nodes])
    return [found[node.id].ss for node in nodes]


def test_equal_work_of_several_workflows_takes_few_statements_and_leaves_a_history_with_every_node(
    mongo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow the machine: what one round does bears one time here, and no round is cut short."""
    monkeypatch.setattr(drain, "SAME", 600.0)
    rt = open_runtime(Settings(mongo_url=mongo_url, slice=600.0, lease=600.0), handlers=HANDLERS)
    me = workflows.add_client(rt, "me")[0].id
    new = [NewWorkflow(name="w", subject=place, signal=NewNode(name="fan")) for place in range(4)]
    started = workflows.start_many(rt, me, new)
    rt.store.db.command("profile", 2)
    finish(rt)
    rt.store.db.command("profile", 0)
    parts = rt.store.find({"wf": {"$in": [root.id for root, _ in started]}, "name": "part"}, history=True)
    assert len(parts) == 4 * WIDTH
    assert {(node.ss, len(node.h or [])) for node in parts} == {("complete", 6)}
    statements = rt.store.db["system.profile"].count_documents({"op": "update", "ns": f"{rt.store.db.name}.nodes"})
    assert 0 < statements <= 6  # the claim, the fans, their parts, the fans' end, and what they told
    rt.close()


def test_of_equal_changes_the_one_whose_node_moved_on_is_lost_and_no_other(rt: Runtime) -> None:
    nodes = family(rt, ("a", "b", "c"))
    rt.store.db["nodes"].update_one({"_id": nodes[1].id}, {"$set": {"rev": token()}})
    assert rt.store.update(completed(rt, nodes, "{}")) == {nodes[1].id}
    assert outcomes(rt, nodes) == ["complete", "pending", "complete"]


def test_of_equal_changes_the_one_that_would_grow_too_large_is_lost_and_no_other(rt: Runtime) -> None:
    nodes = family(rt, ("a", "b", "c"))
    rt.store.db["nodes"].update_one({"_id": nodes[1].id}, {"$set": {"data": "x" * ((16 << 20) - 50_000)}})
    assert rt.store.update(completed(rt, nodes, "y" * 60_000)) == {nodes[1].id}
    assert outcomes(rt, nodes) == ["complete", "pending", "complete"]


def test_what_a_worker_inserted_before_it_died_is_seen_by_nobody_and_deleted_by_the_sweep(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = workflows.add_client(rt, "me")[0].id
    ((root, _),) = workflows.start_many(rt, me, [NewWorkflow(name="w", subject=1, signal=NewNode(name="fan"))])

    def die(name: str) -> None:
        if name == "update.before":
            raise failpoint.Cut

    dead = Drain(rt, "dead")
    with monkeypatch.context() as patch:
        patch.setattr(failpoint, "hook", die)
        with pytest.raises(failpoint.Cut):
            wait_for("the end of it", lambda: dead.round(0.01) and False, 30, every=0.001)
    dead.leases.stop()
    dead.flights.close()
    unborn = [node.id for node in rt.store.find({"name": "part"})]
    assert len(unborn) == WIDTH
    nodes = rt.store.db["nodes"]
    nodes.update_many({"by": "dead"}, {"$set": {"due": 1}})
    finish(rt)
    long_ago = rt.store.now() - 60_000
    nodes.update_many({"_id": {"$in": unborn}}, {"$set": {"created": long_ago, "changed": long_ago}})
    planned = [(node.name, node.ss) for node in workflows.tree(rt, None, root.id)[1]]
    assert planned == [("fan", "complete"), *[("part", "complete")] * WIDTH]
    heal.heal_slice(rt)
    finish(rt)
    assert rt.store.by_ids(unborn) == {}
    assert [(node.name, node.ss) for node in workflows.tree(rt, None, root.id)[1]] == planned


def test_a_pause_that_was_answered_holds_what_is_claimed_after_it(rt: Runtime) -> None:
    """A worker that has the workflow in hand, read a moment ago, looks at it again."""
    me = workflows.add_client(rt, "me")[0].id
    ((root, signal),) = workflows.start_many(rt, me, [NewWorkflow(name="w", subject=1, signal=NewNode(name="part"))])
    worker = Drain(rt, "worker")
    worker.roots[root.id] = rt.store.by_ids([root.id])[root.id]
    worker.held["another of its nodes"] = Held(rt.store.by_ids([root.id])[root.id], flying=True)
    workflows.pause(rt, me, root.id)
    worker.hand.claimed(rt.store.claim([signal.id], token(), "worker"))
    worker.hand.checked = time.monotonic()
    worker.round(0)
    assert outcomes(rt, [signal]) == ["paused"]


def test_children_of_an_old_attempt_never_hide_those_of_this_one(rt: Runtime) -> None:
    """Parents that one round has changed share a generation, so what one of them has left behind is found with the other's."""
    me = workflows.add_client(rt, "me")[0].id
    new = [NewWorkflow(name="w", subject=place, signal=NewNode(name="elsewhere")) for place in range(2)]
    again, other = (signal.id for _, signal in workflows.start_many(rt, me, new))
    mine: dict[str, list[str]] = {}
    for parent, count, gen in ((again, 100, "shared"), (again, 3, "this one"), (other, 2, "shared")):
        mine[parent] = workflows.add_children(rt, me, parent, [NewNode(name="part")] * count)
        rt.store.db["nodes"].update_many({"_id": {"$in": mine[parent]}}, {"$set": {"pgen": gen}})
    gens = {again: "this one", other: "shared"}
    parents = list(rt.store.by_ids(gens).values())
    for node in parents:
        node.gen = gens[node.id]
    found = rt.store.kids([(node, 8) for node in parents])
    assert [kid.id for kid in found[again].nodes] == mine[again]
    missing = [(node, 8) for node in parents if node.id not in found]
    found.update(rt.store.kids(missing) if missing else {})
    assert [kid.id for kid in found[other].nodes] == mine[other]


@pytest.mark.parametrize("left_behind", [3, 100])
def test_children_under_way_of_an_old_attempt_hold_no_parent_back_and_those_of_this_one_do(
    rt: Runtime, left_behind: int
) -> None:
    """However many there are of either, more than one question is answered with included."""
    me = workflows.add_client(rt, "me")[0].id
    new = [NewWorkflow(name="w", subject=place, signal=NewNode(name="elsewhere")) for place in range(3)]
    again, waits, free = (signal.id for _, signal in workflows.start_many(rt, me, new))
    for parent, count, gen in ((again, left_behind, "shared"), (waits, 1, "shared"), (free, 2, "another")):
        made = workflows.add_children(rt, me, parent, [NewNode(name="part", mode="non_blocking")] * count)
        rt.store.db["nodes"].update_many({"_id": {"$in": made}}, {"$set": {"pgen": gen, "open": "n"}})
    parents = rt.store.by_ids([again, waits, free])
    parents[again].gen, parents[waits].gen, parents[free].gen = "another", "shared", "shared"
    assert rt.store.with_open(list(parents.values())) == {waits}


def test_a_busy_worker_leaves_the_others_half_of_what_waits_and_yet_the_last_is_taken(redis_server: Redis) -> None:
    hints = Hints(redis_server.url(), prefix=token(), timeout=5.0)
    ids = [f"n{place}" for place in range(41)]
    hints.push(ids)
    taken = [hints.pop(16, 32) for _ in range(8)]
    assert [len(piece) for piece in taken] == [16, 13, 6, 3, 2, 1, 0, 0]
    assert [id for piece in taken for id in piece] == ids
    hints.close()


def test_of_a_long_queue_a_worker_takes_more_at_once_and_never_more_than_it_has_room_for(redis_server: Redis) -> None:
    hints = Hints(redis_server.url(), prefix=token(), timeout=5.0)
    ids = [f"n{place}" for place in range(200)]
    hints.push(ids)
    taken = [hints.pop(16, room) for room in (32, 32, 7, 32, 32)]
    assert [len(piece) for piece in taken] == [32, 32, 7, 32, 24]
    assert [id for piece in taken for id in piece] == ids[:127]
    hints.close()
