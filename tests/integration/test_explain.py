"""What `why` and `stuck` find in a real database: the root cause, what is late, who shares a cause; periodic jobs and flushes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from bbctl.render import workflow as screen
from engine import explain, figures, heal, periodic
from engine.model import ClientRecord, Node, WorkerRecord
from engine.runtime import Runtime, open_runtime
from engine.settings import Settings
from tests.integration.servers import Redis
from tests.states import CLIENT, HOUR, MINUTE, Builder, State


@pytest.fixture
def rt(mongo_url: str) -> Iterator[Runtime]:
    runtime = open_runtime(Settings(mongo_url=mongo_url))
    runtime.store.add_client(ClientRecord(id=CLIENT, name="accounting"))
    yield runtime
    runtime.close()


def building(rt: Runtime) -> Builder:
    return Builder(rt.store.now())


def write(rt: Runtime, builder: Builder, subject: Node) -> State:
    rt.store.insert(builder.state.nodes)
    return builder.of(subject)


def with_client(builder: Builder, *, since: int, name: str = "send-to-bank") -> Node:
    """A node that its client has had since then."""
    wait = {
        "sent": [1, since, 200],
        "complete_by": builder.now + HOUR,
        "due": builder.now + HOUR,
        "do": {"timeout": True},
    }
    return builder.node("sent_to_client/received", name=name, history=[[since, "rr"], [since, "cc"]], **wait)


def completed(builder: Builder, *, took: int, name: str = "send-to-bank") -> Node:
    lines = [[builder.then, "rr"], [builder.then, "cc"], [builder.then + took, "ff"]]
    return builder.node("complete/complete", name=name, history=lines)


def test_why_follows_the_blocked_to_the_one_that_holds_them_up(rt: Runtime) -> None:
    b = building(rt)
    cause = with_client(b, since=b.now - 6 * HOUR)
    b.node("ready/ready", name="archive")
    last = b.node("ready/ready", name="notify-merchant")
    write(rt, b, last)
    answer = explain.why(rt, b.root, expected={})
    assert answer.verdict == "late"
    assert [r.node.id for r in answer.causes] == [cause.id]
    assert [(r.node.name, r.because) for r in answer.followers] == [
        ("archive", "waits for send-to-bank"),
        ("notify-merchant", "waits for archive"),
    ]
    assert all(r.late for r in answer.reasons)
    of_last = explain.why(rt, last, expected={})
    assert of_last.verdict == "late"
    assert [r.node.id for r in of_last.causes] == [cause.id]


@pytest.mark.parametrize(
    ("waited", "expected", "usual", "verdict"),
    [
        (4 * MINUTE, {}, None, "waiting"),
        (6 * MINUTE, {}, None, "late"),
        (6 * MINUTE, {}, MINUTE, "waiting"),
        (9 * MINUTE, {}, 1_000, "late"),
        (2_000, {"send-to-bank": 1.0}, None, "late"),
        (HOUR, {"send-to-bank": 7200.0}, 1_000, "waiting"),
        (9 * MINUTE, {"another": 1.0}, MINUTE, "waiting"),
    ],
)
def test_a_wait_is_late_by_the_inventory_or_by_what_was_usual(
    rt: Runtime, waited: int, expected: dict[str, float], usual: int | None, verdict: str
) -> None:
    """Without a word in the inventory: more than five minutes, and ten times the p95 of the step's completions."""
    b = building(rt)
    if usual is not None:
        for _ in range(20):
            completed(b, took=usual)
    write(rt, b, with_client(b, since=b.now - waited))
    assert explain.why(rt, b.root, expected=expected).verdict == verdict


def test_a_finished_workflow_is_done_and_an_empty_one_too(rt: Runtime) -> None:
    b = building(rt)
    write(rt, b, completed(b, took=10))
    assert explain.why(rt, b.root, expected={}).verdict == "done"
    empty = building(rt)
    rt.store.insert([empty.root])
    answer = explain.why(rt, empty.root, expected={})
    assert (answer.verdict, answer.reasons) == ("done", ())


def test_a_node_held_up_by_a_link_is_explained_by_the_linked_workflow(rt: Runtime) -> None:
    b = building(rt)
    parent = b.parent(links=True)
    write(rt, b, parent)
    other = building(rt)
    blocker = other.node("retries_exhausted/errored", retries=[0, 0])
    linked = other.node("ready/ready", link=parent.id)
    write(rt, other, linked)
    answer = explain.why(rt, b.root, expected={})
    assert answer.verdict == "needs-person"
    assert answer.causes[0].node.id == blocker.id


def test_a_workflow_paused_by_its_client_names_it(rt: Runtime) -> None:
    b = building(rt)
    b.root.paused = {"by": CLIENT, "at": b.then}
    write(rt, b, b.node("paused/ready"))
    answer = explain.why(rt, b.root, expected={})
    assert answer.paused_by == "accounting"
    assert answer.causes[0].because.startswith("paused by accounting since ")


def test_workflows_that_wait_for_each_other_are_found_and_no_others_with_them(rt: Runtime) -> None:
    builders = [building(rt) for _ in range(5)]
    firsts = [b.parent(links=True) for b in builders]
    behind = []
    for place, b in enumerate(builders):  # what is behind each first holds the next one's back: 0 → 1 → 2 → 0, 3 → 4
        target = firsts[(place + 1) % 3] if place < 3 else firsts[4] if place == 3 else None
        behind.append(b.node("ready/ready", link=target.id if target else None))
    for b, first in zip(builders, firsts, strict=True):
        write(rt, b, first)
    knotted = {n.id for n in [*firsts[:3], *behind[:3]]}
    groups = [g for g in explain.stuck(rt, expected={}) if g.row.id == "I19"]
    assert {id for g in groups for id in g.nodes} == knotted
    assert {g.reasons[0].verdict for g in groups} == {"stuck"}
    assert {f.node.id for f in heal.heal_all(rt) if f.row.id == "I19"} == knotted
    assert explain.why(rt, builders[0].root, expected={}).verdict == "stuck"


def test_a_step_whose_handler_no_living_worker_has_loaded_says_so(rt: Runtime) -> None:
    hours = {"known": 3600.0, "unknown": 3600.0}
    b = building(rt)
    due: dict[str, Any] = {"do": {"start": True}, "due": b.now + MINUTE}
    unknown = b.node("started/ready", name="unknown", mode="non_blocking", **due)
    known = b.node("started/ready", name="known", mode="non_blocking", **due)
    write(rt, b, unknown)
    worker = WorkerRecord(id="w1", host="h", pid=1, started=b.now, seen=b.now, handlers=["known"])
    rt.store.beat(worker)
    answer = explain.why(rt, b.root, expected=hours)
    said = {reason.node.id: reason for reason in answer.causes}
    assert answer.verdict == "late"
    assert said[unknown.id].because == "no worker has loaded a handler named unknown"
    assert said[unknown.id].options[0].command == "bbctl work --import MODULE"
    assert not said[known.id].late
    assert [g.nodes for g in explain.stuck(rt, expected=hours)] == [(unknown.id,)]
    rt.store.beat(replace(worker, id="w2", handlers=["unknown"]))
    assert explain.why(rt, b.root, expected=hours).verdict == "waiting"


def test_while_a_worker_of_an_older_version_lives_nobody_claims_that_no_worker_has_a_handler(rt: Runtime) -> None:
    b = building(rt)
    node = b.node("started/ready", name="unknown", do={"start": True}, due=b.now + MINUTE)
    write(rt, b, node)
    rt.store.beat(WorkerRecord(id="new", host="h", pid=1, started=b.now, seen=b.now, handlers=[]))
    assert "no worker has loaded" in explain.why(rt, b.root, expected={}).causes[0].because
    rt.store.db["workers"].insert_one({"_id": "old", "host": "h", "pid": 2, "started": b.now, "seen": b.now})
    answer = explain.why(rt, b.root, expected={"unknown": 3600.0})
    assert answer.verdict == "waiting"
    assert "no worker has loaded" not in answer.causes[0].because


def test_equal_causes_stand_together_under_a_fingerprint_that_does_not_change(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failed(error: str) -> Node:
        b = building(rt)
        lines = [[b.then, "xe", f'{{"error":{{"message":"{error}"}}}}']]
        return write(rt, b, b.node("retries_exhausted/errored", name="pay", retries=[0, 0], history=lines)).subject

    timeouts = {failed("Bank timeout after 31 s").id, failed("Bank timeout after 44 s").id}
    other = failed("No such account")
    groups = explain.stuck(rt, expected={})
    assert [len(g.nodes) for g in groups] == [2, 1]
    assert set(groups[0].nodes) == timeouts
    assert groups[1].nodes == (other.id,)
    failed("Bank timeout after 7 s")
    again = explain.stuck(rt, expected={}, group=groups[0].id)
    assert [len(g.nodes) for g in again] == [3]
    answer = explain.why(rt, rt.store.by_ids([groups[0].nodes[0]])[groups[0].nodes[0]], expected={})
    assert (answer.causes[0].group, answer.same, answer.same_more) == (groups[0].id, 3, False)
    monkeypatch.setattr(explain, "SAME", 2)  # no more are looked at
    some = explain.why(rt, answer.root, expected={})
    assert (some.same, some.same_more) == (2, True)
    screen.why(some)
    assert "same cause: 2 or more workflows" in capsys.readouterr().out


def test_stuck_says_nothing_of_healthy_waits_and_keeps_young_ones_back_when_asked(rt: Runtime) -> None:
    b = building(rt)
    write(rt, b, with_client(b, since=b.now - 2 * MINUTE))
    b = building(rt)
    write(rt, b, b.node("paused/ready"))
    assert [g.row.id for g in explain.stuck(rt, expected={})] == ["I14"]
    assert explain.stuck(rt, expected={}, older=HOUR) == []


def test_the_summary_counts_what_stands_still(rt: Runtime) -> None:
    b = building(rt)
    b.node("retries_exhausted/errored", retries=[0, 0])
    b.node("started/ready", do={"start": True}, due=b.now - HOUR, mode="non_blocking")
    write(rt, b, with_client(b, since=b.now - HOUR, name="slow"))
    found = figures.health_summary(rt)
    assert (found.needs_person, found.stuck, found.late, found.workers, found.due) == (1, 1, 1, 0, 1)
    assert found.oldest >= 3600


def test_a_tick_is_done_once_however_many_look(rt: Runtime) -> None:
    done: list[str] = []
    start = threading.Barrier(4)

    def look(worker: str) -> None:
        start.wait()
        done.extend(periodic.run_due(rt, worker))

    threads = [threading.Thread(target=look, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == ["daily-report", "flush-check", "queue-log"]
    ticks = periodic.ticks(rt)
    assert all(t.last is not None and t.next is not None and t.next > t.last for t in ticks)
    assert not any((t.result or "").startswith("failed") for t in ticks)


def test_an_emptied_redis_is_seen_and_what_is_due_is_hinted_again(mongo_url: str, redis_server: Redis) -> None:
    import redis

    rt = open_runtime(Settings(mongo_url=mongo_url, redis_url=redis_server.url()))
    job = next(j for j in periodic.JOBS if j.name == "flush-check")
    with redis.Redis.from_url(redis_server.url()) as client:
        client.flushall()
        b = building(rt)
        write(rt, b, b.node("started/ready", do={"start": True}, due=b.now - 1000))
        assert "keeps" in job.run(rt, {}, 1)[0]
        said, kept = job.run(rt, {"left": True}, 2)
        assert (said, kept["flushes"]) == ("Redis keeps what it is told", [])
        client.flushall()
        said, kept = job.run(rt, kept, 3)
        assert kept["flushes"] == [{"at": 3, "hinted": 1}]
        assert rt.hints.pop(10, 10) == [b.state.subject.id]
    rt.close()
