"""Every inconsistent state, written straight into the database: named, repaired or left alone; twice; beside workers."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from engine import explain, heal
from engine.drain import Drain
from engine.model import ClientRecord
from engine.registry import Handler, Registry
from engine.rows import ROWS
from engine.runtime import Runtime, open_runtime
from engine.settings import Settings
from tests.integration.engine_kit import finish
from tests.integration.servers import Mongo, wait_for
from tests.states import CLIENT, HEALTHY, HOUR, INCONSISTENT, Builder, State, made

AUTOMATIC = sorted(id for id in INCONSISTENT if ROWS[id].mode == "A")
CONFIRMED = sorted(id for id in INCONSISTENT if ROWS[id].mode == "C")
REPORTED = sorted(id for id in INCONSISTENT if ROWS[id].mode == "R")


def opened(url: str) -> Runtime:
    registry = Registry()
    for name in ("decision", "pay", *(f"step-{n}" for n in range(1, 6))):
        registry.add(Handler(name=name, run=lambda *args, **kwargs: None))
    runtime = open_runtime(Settings(mongo_url=url, lease=1.0, period=0.1), handlers=registry)
    runtime.store.add_client(ClientRecord(id=CLIENT, name="accounting"))
    return runtime


@pytest.fixture
def rt(mongo_url: str) -> Iterator[Runtime]:
    runtime = opened(mongo_url)
    yield runtime
    runtime.close()


@pytest.fixture(scope="module")
def shared(mongo: Mongo) -> Iterator[Runtime]:
    """One database for all states: each is looked for in its own workflow."""
    runtime = opened(mongo.url("t" + uuid.uuid4().hex[:12]))
    yield runtime
    runtime.close()


def written(rt: Runtime, id: str) -> State:
    state = made(id, rt.store.now())
    rt.store.insert(state.nodes)
    return state


def documents(rt: Runtime, state: State) -> list[dict[str, Any]]:
    found = rt.store.by_ids([n.id for n in state.nodes], history=True)
    return [found[n.id].__dict__ for n in state.nodes]


def aged(rt: Runtime, state: State) -> None:
    """As if it had all been changed long ago: a repair that only touched its node is wanted again then."""
    long_ago = rt.store.now() - 24 * HOUR
    rt.store.db["nodes"].update_many({"_id": {"$in": [n.id for n in state.nodes]}}, {"$set": {"changed": long_ago}})


def found_on(findings: list[heal.Finding], state: State) -> list[str]:
    return [f.row.id for f in findings if f.node.id == state.subject.id]


@pytest.mark.parametrize("id", INCONSISTENT)
def test_a_dry_run_names_the_state_and_changes_nothing(shared: Runtime, id: str) -> None:
    state = written(shared, id)
    before = documents(shared, state)
    findings = heal.heal_workflow(shared, state.root.id)
    assert not any(f.applied for f in findings)
    assert documents(shared, state) == before
    answer = explain.why(shared, state.subject, expected={})
    assert id in [r.row.id for r in answer.reasons]
    if not ROWS[id].remark:
        assert found_on(findings, state) == [id]


@pytest.mark.parametrize("id", AUTOMATIC + CONFIRMED)
def test_a_repair_is_made_once_and_leaves_nothing_to_repair(shared: Runtime, id: str) -> None:
    state = written(shared, id)
    first = heal.heal_workflow(shared, state.root.id, apply=True)
    assert next(f.row.id for f in first if f.applied and f.node.id == state.subject.id) == id
    after = documents(shared, state)
    second = heal.heal_workflow(shared, state.root.id, apply=True)
    assert not [f.row.id for f in second if f.repairable]
    assert documents(shared, state) == after
    aged(shared, state)
    later = heal.heal_workflow(shared, state.root.id)
    assert not [f.row.id for f in later if f.repairable and f.node.id == state.subject.id]


@pytest.mark.parametrize("id", CONFIRMED)
def test_the_sweep_leaves_to_people_what_is_theirs(rt: Runtime, id: str) -> None:
    state = written(rt, id)
    before = documents(rt, state)
    assert heal.heal_slice(rt) == ("", 0)
    assert documents(rt, state) == before


@pytest.mark.parametrize("id", REPORTED)
def test_what_a_person_must_decide_stays_untouched(rt: Runtime, id: str) -> None:
    state = written(rt, id)
    before = documents(rt, state)
    assert not [f for f in heal.heal_workflow(rt, state.root.id, apply=True) if f.applied]
    assert not [f for f in heal.heal_all(rt, apply=True) if f.applied]
    assert documents(rt, state) == before


def test_healthy_waits_are_not_touched(rt: Runtime) -> None:
    states = [written(rt, id) for id in HEALTHY]
    before = [documents(rt, s) for s in states]
    assert list(heal.heal_all(rt, apply=True)) == []
    assert [documents(rt, s) for s in states] == before


def test_beside_workers_and_other_healers_all_states_end_repaired(rt: Runtime) -> None:
    """A worker drains and a sweep runs all the while; what is left in the end is only for people."""
    states = {id: written(rt, id) for id in AUTOMATIC}

    def left() -> list[heal.Finding]:
        return [f for f in heal.heal_all(rt, apply=True, modes=("A",)) if f.row.mode == "A"]

    stop = threading.Event()
    drain = Drain(rt, "w1")

    def work() -> None:
        while not stop.is_set():
            drain.round(0.02)

    def sweep() -> None:
        while not stop.is_set():
            heal.heal_slice(rt)

    threads = [threading.Thread(target=work), threading.Thread(target=sweep)]
    for thread in threads:
        thread.start()
    try:
        wait_for("all to be repaired", lambda: not left(), 30)
        wait_for(
            "the parents to look", lambda: rt.store.by_ids([states["I11"].subject.id]).popitem()[1].ss == "complete"
        )
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        drain.leave(1.0)
    fates = {id: rt.store.by_ids([s.subject.id])[s.subject.id] for id, s in states.items()}
    assert fates["I18"].ss == "deactivated"
    assert fates["I9"].ss == "deactivated"
    assert fates["I1"].ss == "complete"
    assert fates["I14"].ss == "complete"
    assert fates["I24"].ss == "errored"
    assert fates["I10"].ss == "complete"


def test_a_worker_lets_go_of_what_is_due_and_owes_nothing(rt: Runtime) -> None:
    """As a crash or an edit may leave it: held for ever it would look like work under way."""
    builder = Builder(rt.store.now())
    state = builder.of(builder.node("retries_exhausted/errored", retries=[0, 0], due=builder.then))
    rt.store.insert(state.nodes)
    finish(rt)
    node = rt.store.by_ids([state.subject.id])[state.subject.id]
    assert (node.ss, node.due, node.by) == ("retries_exhausted", None, None)


def test_the_sweep_goes_on_where_it_stopped(rt: Runtime) -> None:
    states = [written(rt, "I8") for _ in range(5)]
    after, healed = heal.heal_slice(rt, "", 2)
    total = healed
    while after:
        after, healed = heal.heal_slice(rt, after, 2)
        total += healed
    assert total == len(states)
