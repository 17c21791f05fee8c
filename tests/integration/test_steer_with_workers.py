"""An operator's acts on a client that does not answer, with a worker that carries them out: sent again, given up, timed out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from engine import explain, heal, workflows
from engine.drain import Drain
from engine.errors import InvalidTransition
from engine.model import NewNode, NewWorkflow, Node
from engine.runtime import Runtime, open_runtime
from engine.settings import Settings
from tests.integration.engine_kit import Stub, act, named, stub_client
from tests.integration.servers import wait_for
from tests.integration.test_crash_anywhere import HANDLERS


@pytest.fixture
def rt(mongo_url: str) -> Iterator[Runtime]:
    runtime = open_runtime(Settings(mongo_url=mongo_url, lease=1.0, period=0.05))
    yield runtime
    runtime.close()


@contextmanager
def at_work(rt: Runtime) -> Iterator[None]:
    """A worker and a sweep that heals all the while."""
    stop = threading.Event()
    drain = Drain(rt, "w1")

    def work() -> None:
        while not stop.is_set():
            drain.round(0.02)

    def sweep() -> None:
        while not stop.wait(0.05):
            heal.heal_slice(rt)

    threads = [threading.Thread(target=work), threading.Thread(target=sweep)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        drain.leave(2.0)


def keys(stub: Stub) -> list[str]:
    """Of the posts of work, in order."""
    return [post.key for post in stub.posts if post.path != "/notify"]


def silent(rt: Runtime, stub: Stub) -> tuple[str, str]:
    """A workflow whose signal its client has, without a word; (workflow, node)."""
    me = workflows.add_client(rt, "bank", activity_endpoint=stub.url, notification_endpoint=stub.url + "/notify")[0].id
    root = workflows.create_workflow(rt, me, name="pay", subject=time.time_ns()).id
    node = workflows.signal(rt, me, root, act("send", retry=1, retry_interval=0)).id
    wait_for("the first post", lambda: keys(stub) == [f"{node}:1"])
    wait_for("its answer", lambda: named(rt, root, "send").sent)
    return root, node


def test_a_retry_sends_it_again_as_the_next_attempt_and_uses_no_retry(rt: Runtime) -> None:
    with stub_client() as stub, at_work(rt):
        root, node = silent(rt, stub)
        assert explain.why(rt, rt.store.by_ids([root])[root], expected={}).verdict == "waiting"
        assert explain.why(rt, rt.store.by_ids([root])[root], expected={"send": 0.001}).verdict == "late"
        workflows.resend(rt, node, by="ann@ops1")
        wait_for("the second post", lambda: keys(stub) == [f"{node}:1", f"{node}:2"])
        assert named(rt, root, "send").retries == [1, 1]
        workflows.change_status(rt, None, node, "completed", attempt=2)
        wait_for("its end", lambda: explain.why(rt, rt.store.by_ids([root])[root], expected={}).verdict == "done")


def test_a_timeout_uses_up_a_retry_and_the_last_one_needs_a_person(rt: Runtime) -> None:
    with stub_client() as stub, at_work(rt):
        root, node = silent(rt, stub)
        workflows.time_out(rt, node, by="ann@ops1")
        wait_for("the retry", lambda: keys(stub) == [f"{node}:1", f"{node}:2"])
        assert named(rt, root, "send").retries == [1, 0]
        workflows.time_out(rt, node, by="ann@ops1")
        wait_for("the notification", lambda: [p.path for p in stub.posts].count("/notify") == 1)
        answer = explain.why(rt, rt.store.by_ids([root])[root], expected={})
        assert (answer.verdict, answer.causes[0].row.id) == ("needs-person", "W8")
        assert [g.row.id for g in explain.stuck(rt, expected={})] == ["W8"]


@pytest.mark.parametrize("word", ["resolved", "shutdown"])
def test_a_node_given_up_by_hand_is_done_without_a_notification(rt: Runtime, word: str) -> None:
    with stub_client() as stub, at_work(rt):
        root, node = silent(rt, stub)
        workflows.settle(rt, node, word, by="ann@ops1")
        wait_for("its end", lambda: explain.why(rt, rt.store.by_ids([root])[root], expected={}).verdict == "done")
        assert (named(rt, root, "send").ss, named(rt, root, "send").cs) == ("complete", word)
        assert [p.path for p in stub.posts if p.path == "/notify"] == []


def test_a_late_answer_to_an_attempt_that_was_given_up_changes_nothing(rt: Runtime) -> None:
    with stub_client() as stub, at_work(rt):
        root, node = silent(rt, stub)
        workflows.settle(rt, node, "resolved", by="ann@ops1")
        with pytest.raises(InvalidTransition):
            workflows.change_status(rt, None, node, "completed", response={"paid": True})
        wait_for("its end", lambda: named(rt, root, "send").ss == "complete")
        assert named(rt, root, "send").cs == "resolved"


def test_a_busy_engine_is_never_called_stuck_and_never_repaired(mongo_url: str) -> None:
    """Workers run workflows with children of all kinds while others look at them, again and again, from all sides."""
    rt = open_runtime(Settings(mongo_url=mongo_url, lease=2.0, period=0.05), handlers=HANDLERS)
    me = workflows.add_client(rt, "local")[0].id
    odd: list[object] = []
    looks = 0
    with at_work(rt), at_work(rt):
        for batch in range(12):
            new = [NewWorkflow(name="w", subject=[batch, n], signal=NewNode(name="decide")) for n in range(50)]
            roots = [root for root, _ in workflows.start_many(rt, me, new)]
            verdict = ""
            while verdict != "done":
                answer = explain.why(rt, roots[-1], expected={})
                odd += [r for r in answer.reasons if r.row.mode != "W"]
                odd += explain.stuck(rt, expected={})
                odd += list(heal.heal_all(rt))
                verdict = answer.verdict
                looks += 1
    rt.close()
    assert odd == []
    assert looks > 12


def test_a_node_asked_to_look_while_it_is_let_go_of_is_due_at_once(rt: Runtime) -> None:
    """Between a worker's last read and its letting go another may ask for a look: it must not be owed without a time."""
    root = workflows.create_workflow(rt, workflows.add_client(rt, "bank")[0].id, name="pay", subject=1)
    held = Node(
        wf=root.id,
        parent=root.id,
        ss="complete",
        cs="complete",
        rev="r",
        do={"tell": [root.id]},
        by="w1",
        due=rt.store.now() + 60_000,
    )
    held._id = held.tail = "held"
    rt.store.insert([held])
    assert rt.store.set_looking(["held"], "token") == set()
    rt.store.told({"held": "r"})
    kept = rt.store.by_ids(["held"])["held"]
    assert (kept.look, kept.do, kept.by) == ("token", None, None)
    assert kept.due is not None
    assert held.due is not None
    assert kept.due < held.due
