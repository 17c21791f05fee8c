"""The table of states: each row tells itself, in the fixed order, and healthy waits are never called stuck."""

from __future__ import annotations

import hashlib

import pytest

from engine.model import ClientRecord
from engine.rows import ORDER, ROWS, first, matches
from engine.scene import Scene
from tests.states import CLIENT, HEALTHY, INCONSISTENT, State, made, stored

NOW = 1_800_000_000_000


def scene_of(state: State) -> Scene:
    nodes = stored(state)
    digests = {n.id: hashlib.sha256(n.data.encode()).hexdigest() for n in nodes.values() if n.name == "pay"}
    clients = {CLIENT: ClientRecord(id=CLIENT, name="accounting")}
    return Scene(now=NOW, nodes=nodes, clients=clients, digests=digests)


@pytest.mark.parametrize("id", INCONSISTENT)
def test_an_inconsistent_state_is_told_by_its_row(id: str) -> None:
    state = made(id, NOW)
    scene = scene_of(state)
    rows = matches(scene, scene.nodes[state.subject.id])
    found = rows[0] if ROWS[id].remark else first(rows)
    assert found is not None
    assert found.id == id


@pytest.mark.parametrize("id", HEALTHY)
def test_a_healthy_wait_matches_its_row_first_and_no_inconsistent_one(id: str) -> None:
    state = made(id, NOW)
    scene = scene_of(state)
    for node in scene.nodes.values():
        assert [row.id for row in matches(scene, node) if row.mode != "W"] == []
    row = first(matches(scene, scene.nodes[state.subject.id]))
    assert row is not None
    assert row.id == id


def test_the_rows_are_tried_in_the_fixed_order() -> None:
    order = [row.id for row in ORDER]
    fixed = ["I27", "I23", "I24", "I28", "I29", "I18", "I9", "I7"] + [
        f"I{n}" for n in (10, 11, 12, 13, 14, 1, 2, 3, 4, 5, 6, 8)
    ]
    fixed += ["I15", "I16", "I17", "I19"]
    assert order[: len(fixed)] == fixed
    assert order.index("I30") < min(order.index(f"W{n}") for n in range(1, 10))
    assert set(order) == {f"I{n}" for n in range(1, 31)} | {f"W{n}" for n in range(1, 10)}


def test_every_row_that_repairs_names_an_action_and_no_other_does() -> None:
    assert all((row.action != "nothing") == (row.mode in ("A", "C")) for row in ORDER)


def test_a_client_that_asked_for_it_is_timed_out_by_the_engine_and_not_reported() -> None:
    state = made("I5", NOW)
    state.subject.do, state.subject.due = {"timeout": True}, NOW
    nodes = stored(state)
    clients = {CLIENT: ClientRecord(id=CLIENT, name="accounting", reap=True)}
    scene = Scene(now=NOW, nodes=nodes, clients=clients)
    row = first(matches(scene, nodes[state.subject.id]))
    assert row is not None
    assert row.id == "W9"
