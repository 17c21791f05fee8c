"""What the engine asks of a full store costs what it gives back, not what lies there: keys and documents examined, by MongoDB's
own count.

The store is filled with finished work, with work that waits, and with one workflow of thousands of nodes; then workers and
callers go about a day's work under the profiler.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine import figures, overview, workflows
from engine.change import document
from engine.handlers import activity, register
from engine.model import NewNode, NewWorkflow, Search
from engine.registry import Registry
from engine.runtime import Runtime, open_runtime
from engine.settings import Settings
from tests.integration.engine_kit import finish

HANDLERS = Registry()
BATCH = 10_000
BOUND = 64
"""Keys or documents one command may examine: a page of results, a bulk of what a worker holds; far less than lies there."""


@activity(registry=HANDLERS)
def decide() -> None:
    for mode in ("blocking", "non_blocking", "fire_and_forget") * 3:
        register(step, mode=mode, registry=HANDLERS)  # type: ignore[arg-type]


@activity(registry=HANDLERS)
def step() -> None:
    pass


@pytest.fixture
def rt(mongo_url: str) -> Iterator[Runtime]:
    found = open_runtime(Settings(mongo_url=mongo_url), handlers=HANDLERS)
    yield found
    found.close()


def fill(rt: Runtime, client: str, others: int) -> str:
    """Copies of real documents: finished ones, ones that wait for their client, and a workflow full of both; its id."""
    new = NewWorkflow(name="town", subject="big", signal=NewNode(name="decide"))
    ((root, signal),) = workflows.start_many(rt, client, [new])
    finish(rt)
    nodes = rt.store.db["nodes"]
    done = nodes.find_one({"parent": signal.id, "ss": "complete", "mode": "blocking"})
    waits = {**done, "ss": "sent_to_client", "cs": "received", "open": "n", "do": {"timeout": True}, "due": 1 << 50}

    def copy(place: int) -> dict[str, Any]:
        kind = waits if place % 3 == 0 else done
        family = {} if place % 2 else {"wf": f"w{place // 20}", "parent": f"p{place // 20}", "pgen": "g"}
        id = str(uuid.UUID(int=place + (1 << 64)))
        return {**kind, "_id": id, "tail": id[-8:], "seq": done["seq"] + 1 + place, **family}

    for first in range(0, others, BATCH):
        nodes.insert_many([copy(place) for place in range(first, min(first + BATCH, others))], ordered=False)
    top = document(root)
    others = [
        {**top, "_id": f"w{place}", "tail": f"{place:08x}", "subject": f'"{place}"', "shash": f"{place}"}
        for place in range(others // 20)
    ]
    nodes.insert_many(others)
    return root.id


def examined(rt: Runtime) -> list[tuple[int, int, dict[str, Any]]]:
    lines = rt.store.db["system.profile"].find({"ns": f"{rt.store.db.name}.nodes"})
    found = [(line.get("keysExamined", 0), line.get("docsExamined", 0), line) for line in lines]
    return sorted(found, key=lambda one: -max(one[:2]))


@pytest.mark.parametrize("others", [20_000, pytest.param(300_000, marks=pytest.mark.faults)])
def test_no_command_of_a_day_s_work_examines_more_than_it_needs(
    rt: Runtime, others: int, record_property: Callable[[str, object], None]
) -> None:
    client = workflows.add_client(rt, "town")[0].id
    big = fill(rt, client, others)
    rt.store.db.command("profile", 2)
    try:
        new = [NewWorkflow(name="town", subject=place, signal=NewNode(name="decide")) for place in range(5)]
        pairs = workflows.start_many(rt, client, new)
        finish(rt)
        late = workflows.signal(rt, client, big, NewNode(name="step"))
        finish(rt)
        assert rt.store.by_ids([late.id])[late.id].ss == "complete"
        root, signal = pairs[0]
        assert len(workflows.tree(rt, client, root.id)[1]) == 10
        assert workflows.find_workflow(rt, client, subject=3, name="town").id == pairs[3][0].id
        assert workflows.resolve_id(rt, signal.id[-8:]).id == signal.id
        workflows.get_node(rt, client, signal.id)
        workflows.history(rt, client, signal.id)
        workflows.children(rt, client, root.id)
        workflows.pause(rt, client, root.id)
        workflows.resume(rt, client, root.id)
        finish(rt)
        assert workflows.list_workflows(rt, client, Search(per_page=20))
        assert workflows.search_workflows(rt, client, Search(name="town", per_page=20))
        assert workflows.search_activities(rt, client, Search(name="step", per_page=20))
        assert workflows.error_workflows(rt, client) == []
        assert workflows.stats(rt).late == 0
    finally:
        rt.store.db.command("profile", 0)
    found = examined(rt)
    record_property("nodes in the store", others)
    record_property("commands", len(found))
    record_property("most keys or documents one examined", max(found[0][:2]))
    assert len(found) > 50, "the profiler saw the work"
    assert [one for one in found if one[0] > BOUND or one[1] > BOUND] == []


def test_a_report_reads_what_was_made_of_late_and_not_the_whole_store(rt: Runtime) -> None:
    client = workflows.add_client(rt, "town")[0].id
    fill(rt, client, 5_000)  # finished and waiting ones from long ago
    new = [NewWorkflow(name="village", subject=place, signal=NewNode(name="decide")) for place in range(3)]
    workflows.start_many(rt, client, new)
    finish(rt)
    now = rt.store.now()
    rt.store.db.command("profile", 2)
    try:
        done = figures.completed(rt, since=now - 3_600_000, made_since=now - 3_600_000)
    finally:
        rt.store.db.command("profile", 0)
    assert done == {"town": 10, "village": 30}
    found = examined(rt)
    assert found
    assert max(found[0][:2]) < 100, found[0]


def test_a_list_of_workflows_with_how_each_stands_reads_what_it_shows_and_counts_a_huge_one_by_keys_alone(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "MOST", 2_000)  # the huge one has 5,000 nodes
    monkeypatch.setattr(overview, "ROOM", 1_000)
    client = workflows.add_client(rt, "town")[0].id
    big = rt.store.by_ids([fill(rt, client, 10_000)])
    rt.store.db.command("profile", 2)
    try:
        page = workflows.list_workflows(rt, None, Search(per_page=20))
        found = overview.overview(rt, [*page, *big.values()], expected={})
    finally:
        rt.store.db.command("profile", 0)
    small = [found[root.id] for root in page]
    assert [(one.verdict is None, one.all) for one in small] == [(False, 10)] * 20, "each is judged"
    huge = found[next(iter(big))]
    assert huge == overview.Standing(all=2_000, more=True)
    costs = examined(rt)
    assert 0 < len(costs) < 25, "a handful of commands, however many workflows"
    counting = [one for one in costs if one[2].get("command", {}).get("aggregate")]
    assert [(one[0] < 2_500, one[1]) for one in counting] == [(True, 0)], "keys of an index, no document"
    rest = [one for one in costs if one not in counting]
    assert [one for one in rest if one[0] > 1_000 or one[1] > 1_000] == []
