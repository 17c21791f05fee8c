"""Many callers of the API at once: what they commit goes to MongoDB as one command, and each hears of his own node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from engine import workflows
from engine.change import Change
from engine.errors import Conflict, InvalidTransition, StoreDown
from engine.model import NewNode
from engine.registry import Registry
from engine.runtime import Runtime, open_runtime
from engine.settings import Settings
from tests.integration.house import Build, House, houses
from tests.integration.servers import wait_for


@pytest.fixture
def build(mongo_url: str) -> Iterator[Build]:
    with houses(mongo_url, Registry()) as made:
        yield made


@pytest.fixture
def idle(mongo_url: str) -> Iterator[Runtime]:
    """Nobody works here."""
    rt = open_runtime(Settings(mongo_url=mongo_url))
    yield rt
    rt.close()


def say_at_once(rt: Runtime, client: str, nodes: Sequence[str], word: str) -> list[str]:
    """Every call reads its node before any of them is written; how each ended, in the order of `nodes`."""

    def say(id: str) -> str:
        try:
            workflows.change_status(rt, client, id, word)
        except (Conflict, InvalidTransition):
            return "refused"
        except StoreDown:
            return "gone"
        return "taken"

    gate = rt._writing
    with ThreadPoolExecutor(len(nodes)) as pool:
        with gate._turn:
            calls = [pool.submit(say, id) for id in nodes]
            wait_for("all callers", lambda: len(gate._waiting) >= len(nodes), every=0.01)
        return [call.result(60) for call in calls]


def completions(house: House, id: str) -> int:
    """Lines of its history in which its client becomes complete."""
    lines = workflows.history(house.rt, house.me, id)
    pairs = [(before.client, after.client) for before, after in pairwise(lines)]
    return pairs.count(("received", "complete"))


def test_of_two_who_complete_the_same_node_in_one_command_one_is_taken_and_one_refused(build: Build) -> None:
    house = build()
    nodes = [house.signal(house.workflow()) for _ in range(5)]
    ended = say_at_once(house.rt, house.me, nodes + nodes, "completed")
    for place, id in enumerate(nodes):
        assert sorted([ended[place], ended[place + 5]]) == ["refused", "taken"]
        house.reaches(id, "complete", "complete")
        assert completions(house, id) == 1


def test_callers_at_once_share_a_command_and_a_store_that_is_gone_is_told_to_each(
    idle: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = workflows.add_client(idle, "me")[0].id
    roots = [workflows.create_workflow(idle, me, name="w", subject=place).id for place in range(5)]
    nodes = [workflows.signal(idle, me, root, NewNode(name="signal")).id for root in roots]
    update, sent = idle.store.update, list[list[str]]()

    def once_in_vain(changes: Sequence[Change], **more: bool) -> set[str]:
        sent.append(sorted(change.id for change in changes))
        if len(sent) == 1:
            raise StoreDown("gone")
        return update(changes, **more)

    monkeypatch.setattr(idle.store, "update", once_in_vain)
    assert say_at_once(idle, me, nodes, "canceled") == ["gone"] * 5
    assert {node.ss for node in idle.store.by_ids(nodes).values()} == {"ready"}
    assert say_at_once(idle, me, nodes, "canceled") == ["taken"] * 5
    assert {node.ss for node in idle.store.by_ids(nodes).values()} == {"deactivated"}
    assert sent == [sorted(nodes), sorted(nodes)]
