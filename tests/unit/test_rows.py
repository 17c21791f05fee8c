"""The table of states: each row tells itself, in the fixed order, and healthy waits are never called stuck."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.drain import POISONED
from engine.model import MODES, ClientRecord
from engine.rows import MAX_TRIES, ORDER, ROWS, first, matches
from engine.scene import Scene, active
from engine.states import CLIENT as CLIENT_MACHINE
from engine.states import LEGAL_PAIRS
from tests.states import CLIENT, HEALTHY, HOUR, INCONSISTENT, Builder, State, made, stored

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


@pytest.mark.parametrize("why", ["it owes something itself", "it is about to be told", "its workflow is paused"])
def test_children_that_are_on_their_way_to_be_made_ready_are_no_inconsistency(why: str) -> None:
    state = made("I10", NOW)
    parent, child = state.subject, state.nodes[-1]
    if "owes" in why:
        parent.do, parent.due = {"mark": True}, NOW
    elif "told" in why:
        child.do, child.due = {"tell": True}, NOW
    else:
        state.root.paused = {"by": "ann", "at": NOW}
    scene = scene_of(state)
    assert "I10" not in [row.id for row in matches(scene, scene.nodes[parent.id])]


def test_a_parent_that_is_to_look_at_its_children_at_no_time_is_told_like_anything_owed() -> None:
    state = made("I28", NOW)
    state.subject.do, state.subject.look, state.subject.due = None, "t", None
    scene = scene_of(state)
    assert "I28" in [row.id for row in matches(scene, scene.nodes[state.subject.id])]


def test_a_node_is_poisoned_for_the_table_when_it_is_for_the_worker() -> None:
    assert MAX_TRIES == POISONED


WHEN = st.sampled_from([None, NOW - HOUR, NOW - 1000, NOW + HOUR])
PAIRS = st.sampled_from([f"{server}/{client}" for server, clients in LEGAL_PAIRS.items() for client in clients])
TODOS = st.sampled_from(
    [None, {"start": True}, {"post": True}, {"timeout": True}, {"retry": True}, {"prune": True}, {"tell": ["x"]}]
)
FIELDS = st.fixed_dictionaries(
    {
        "due": WHEN, "complete_by": WHEN, "fires_at": WHEN, "do": TODOS, "mode": st.sampled_from(MODES),
        "sent": st.sampled_from([None, [1, NOW - HOUR, 200], [2, NOW - HOUR, 500]]), "look": st.sampled_from([None, "t"]),
        "by": st.sampled_from([None, "w1"]), "tries": st.sampled_from([None, 1, 6]), "parked": st.sampled_from([None, "why"]),
        "gen": st.sampled_from([None, "g", "old"]), "changed": st.sampled_from([NOW - HOUR, NOW - 100]),
    }
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_whatever_an_unfinished_node_is_like_some_row_says_why(data: st.DataObject) -> None:
    """Random trees of random nodes, healthy or not: nothing is ever stuck without a word."""
    builder = Builder(NOW)
    builder.root.paused = data.draw(st.sampled_from([None, {"by": "ann", "at": NOW}]))
    builder.root.due = data.draw(WHEN)
    nodes = [builder.root]
    for _ in range(data.draw(st.integers(1, 7))):
        above = data.draw(st.sampled_from(nodes))
        pair = data.draw(st.one_of(PAIRS, st.sampled_from([f"sent_to_client/{c}" for c in CLIENT_MACHINE])))
        fields = data.draw(FIELDS)
        nodes.append(builder.node(pair, under=above, pgen=data.draw(st.sampled_from([above.gen, "old"])), **fields))
    scene = scene_of(builder.of(nodes[-1]))
    for node in scene.nodes.values():
        if active(node):
            assert any(not row.remark for row in matches(scene, node)), f"{node.ss}/{node.cs} {node}"
