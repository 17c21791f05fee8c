"""Rules of the engine that a client may rely on, on a real store with a worker in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from engine import failpoint, heal, workflows
from engine.errors import BadRequest, Conflict, InvalidTransition, KeyReused, WorkflowComplete
from engine.handlers import activity, open_program, register
from engine.model import NewNode, NewWorkflow
from engine.registry import Registry
from engine.runtime import Runtime
from tests.integration.engine_kit import Post, act, named, shape
from tests.integration.house import Build, houses
from tests.integration.servers import wait_for

HANDLERS = Registry()


@activity(retries=0, registry=HANDLERS)
def always_fails() -> None:
    raise ValueError("as ever")


@activity(later=True, registry=HANDLERS)
def later() -> None:
    pass


@activity(registry=HANDLERS)
def waits_for_later() -> None:
    register(later, registry=HANDLERS)


@activity(retries=0, registry=HANDLERS)
def hands_on(client: str) -> None:
    register("elsewhere", 1, client=client, registry=HANDLERS)


@activity(retries=0, slow=True, registry=HANDLERS)
def hands_on_slowly(client: str) -> None:
    register("elsewhere", 1, client=client, registry=HANDLERS)


@pytest.fixture
def build(mongo_url: str) -> Iterator[Build]:
    with houses(mongo_url, HANDLERS) as made:
        yield made


def test_history_beyond_its_limit_moves_out_and_is_read_as_one(build: Build) -> None:
    house = build()
    node = house.signal(house.workflow(), retry=60, retry_interval=0)
    for attempt in range(1, 46):
        house.sent(node, attempt)
        house.says(node, "errored", response={"error": {"message": f"try {attempt}"}}, attempt=attempt)
    found = workflows.errors(house.rt, house.me, node)
    assert [change.response["error"]["message"] for change in found] == [f"try {n}" for n in range(1, 46)]
    stored = house.rt.store.node(node)
    assert stored is not None
    assert stored.hs > 0
    assert stored.hn == len(stored.h or []) <= 64


def test_a_call_for_an_old_attempt_is_refused_and_its_result_kept(build: Build) -> None:
    house = build()
    node = house.signal(house.workflow(), retry=1, retry_interval=0)
    house.says(node, "errored", attempt=1)
    house.sent(node, 2)
    with pytest.raises(Conflict):
        house.says(node, "completed", response={"result": "late"}, attempt=1)
    house.reaches(node, "sent_to_client", "received")
    refused = [line for line in workflows.history(house.rt, house.me, node) if line.refused]
    assert [line.response for line in refused] == [{"result": "late"}]
    house.says(node, "completed", response={"result": "in time"}, attempt=2)
    house.reaches(node, "complete", "complete")
    assert workflows.last_response(house.rt, house.me, node) == {"result": "in time"}


def test_completing_twice_is_refused_and_changes_nothing(build: Build) -> None:
    house = build()
    node = house.signal(house.workflow())
    house.says(node, "completed", response={"result": 1})
    with pytest.raises(InvalidTransition):
        house.says(node, "completed", response={"result": 2})
    assert workflows.last_response(house.rt, house.me, node) == {"result": 1}


def test_an_idempotency_key_makes_one_signal_and_refuses_another_body(build: Build) -> None:
    house = build()
    root = house.workflow()
    first = workflows.signal(house.rt, house.me, root, act("pay"), key="k")
    assert workflows.signal(house.rt, house.me, root, act("pay"), key="k").id == first.id
    with pytest.raises(KeyReused):
        workflows.signal(house.rt, house.me, root, act("pay", data={"other": 1}), key="k")
    assert len(workflows.children(house.rt, house.me, root)) == 1


def test_callers_with_one_key_at_the_same_time_get_the_same_children(build: Build) -> None:
    house = build()
    node = house.signal(house.workflow())
    answers: list[list[str]] = []
    family = [act("a"), act("b")]

    def ask() -> None:
        answers.append(workflows.add_children(house.rt, house.me, node, family, key="k"))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    assert all(answer == answers[0] for answer in answers)


def test_a_failing_notification_endpoint_fails_no_call_and_is_asked_again(build: Build) -> None:
    house = build(lambda post: 500 if post.path == "/notification" else 200)
    node = house.signal(house.workflow(), retry=0)
    house.says(node, "errored", response={"error": {"message": "broken"}})
    house.reaches(node, "retries_exhausted", "errored")
    (told,) = wait_for("the notification", lambda: [p for p in house.stub.posts if p.path == "/notification"])
    assert told.body["notification"] == {"name": "signal", "message": "Client Error"}
    assert told.body["error"] == {"message": "broken"}

    def waiting() -> bool:
        stored = house.rt.store.node(node)
        return stored is not None and (stored.do or {}).get("notify", {}).get("tries") == 1 and stored.by is None

    wait_for("its next try", waiting)
    stored = house.rt.store.node(node)
    assert stored is not None
    assert stored.due is not None
    assert 0 < stored.due - house.rt.store.now() <= 120_000


@pytest.mark.parametrize(
    ("response", "told"),
    [(None, {}), ({"result": 1}, {}), ({"error": "why"}, {"message": "why"}), ({"error": {"a": 1}}, {"a": 1})],
)
def test_a_notification_tells_the_error_of_the_last_attempt_and_of_no_other(
    build: Build, response: object, told: object
) -> None:
    house = build(lambda post: 200)
    node = house.signal(house.workflow(), retry=1, retry_interval=0)
    house.says(node, "errored", response={"error": {"message": "of the first attempt"}})
    house.sent(node, 2)
    house.says(node, "errored", response=response)
    (said,) = wait_for("the notification", lambda: [p for p in house.stub.posts if p.path == "/notification"])
    assert said.body["error"] == told
    assert (said.key, said.headers["x-backbeat-attempt"]) == (f"{node}:2", "2")


@pytest.mark.parametrize("word", ["resolved", "shutdown", "restart", "decisions", "deactivated"])
def test_a_client_that_rescues_inside_its_notification_is_told_once(build: Build, word: str) -> None:
    def answer(post: Post) -> int:
        if post.path == "/notification":
            node = post.body["activity"]["id"]
            if word == "restart":
                workflows.retry_now(house.rt, house.me, node)
            elif word == "decisions":
                workflows.add_children(house.rt, house.me, node, [act("later")])
            else:
                house.says(node, word)
        return 200

    house = build(answer)
    node = house.signal(house.workflow(), retry=0)
    house.says(node, "errored")
    if word in ("resolved", "shutdown"):
        house.reaches(node, "complete", word)
    if word == "restart":
        house.sent(node, 2)

    def nothing_owed() -> bool:
        stored = house.rt.store.node(node)
        return stored is not None and "notify" not in (stored.do or {}) and stored.by is None

    wait_for("nobody to be told any more", nothing_owed)
    assert [p.path for p in house.stub.posts].count("/notification") == 1


def test_a_client_that_may_take_ten_minutes_is_not_notified_again_while_it_works_inside_its_notification(
    build: Build,
) -> None:
    owed: list[int] = []

    def answer(post: Post) -> int:
        if post.path != "/notification":
            return 200
        node = post.body["activity"]["id"]
        workflows.add_children(house.rt, house.me, node, [act("child")])
        stored = house.rt.store.node(node)
        assert stored is not None
        owed.append((stored.do or {})["notify"]["at"] - house.rt.store.now())
        return 500

    house = build(answer)
    house.rt.store.set_client(house.me, timeout=600.0)
    house.rt.forget_client(house.me)
    node = house.signal(house.workflow(), retry=0)
    house.says(node, "errored")
    wait_for("the notification", lambda: owed)
    assert owed[0] > 600_000


@pytest.mark.parametrize("word", ["resolved", "restart"])
def test_what_has_gone_on_is_no_longer_told_to_need_a_person(build: Build, word: str) -> None:
    house = build(lambda post: 500 if post.path == "/notification" else 200)
    node = house.signal(house.workflow(), retry=0)
    house.says(node, "errored")
    wait_for("a notification that fails", lambda: any(p.path == "/notification" for p in house.stub.posts))
    if word == "resolved":
        house.says(node, "resolved")
        house.reaches(node, "complete", "resolved")
    else:
        workflows.retry_now(house.rt, house.me, node)
        house.sent(node, 2)
    stored = house.rt.store.node(node)
    assert stored is not None
    assert "notify" not in (stored.do or {})


def test_a_slow_notification_endpoint_holds_up_nothing(build: Build) -> None:
    release = threading.Event()

    def answer(post: Post) -> int:
        if post.path == "/notification":
            release.wait(20)
        return 200

    house = build(answer)
    node = house.signal(house.workflow(), retry=0)
    house.says(node, "errored")
    wait_for("the notification", lambda: any(p.path == "/notification" for p in house.stub.posts))
    house.says(node, "resolved")
    house.reaches(node, "complete", "resolved")
    release.set()


def test_a_refused_post_is_a_client_error_and_is_sent_again_as_the_next_attempt(build: Build) -> None:
    answers = iter([500, 404, 301, 200])
    house = build(lambda post: next(answers))
    root = house.workflow()
    node = workflows.signal(house.rt, house.me, root, act("s", retry=5, retry_interval=0)).id
    house.sent(node, 4)
    house.reaches(node, "sent_to_client", "received")
    messages = [change.response["error"]["message"] for change in workflows.errors(house.rt, house.me, node)]
    assert messages == ["HTTP request for activity failed"] * 3
    assert house.stub.posts[3].headers["x-backbeat-attempt"] == "4"


def test_a_post_refused_after_the_client_began_is_a_client_error(build: Build) -> None:
    def begins_and_fails(post: Post) -> int:
        if post.path == "/notification":
            return 200
        house.says(post.node["id"], "processing")
        return 500

    house = build(begins_and_fails)
    node = house.signal(house.workflow(), retry=0)
    house.reaches(node, "retries_exhausted", "errored")
    messages = [change.response["error"]["message"] for change in workflows.errors(house.rt, house.me, node)]
    assert messages == ["HTTP request for activity failed"]


def test_a_post_refused_after_the_client_completed_is_no_error(build: Build) -> None:
    def completes_and_fails(post: Post) -> int:
        house.says(post.node["id"], "completed")
        return 500

    house = build(completes_and_fails)
    root = house.workflow()
    first, second = house.signal(root, retry=0), house.signal(root, retry=0)
    for node in (first, second):
        house.reaches(node, "complete", "complete")
        assert workflows.errors(house.rt, house.me, node) == []


def test_an_activity_that_waits_its_turn_can_be_neither_restarted_nor_failed(build: Build) -> None:
    house = build()
    node = house.signal(house.workflow())
    waiting = workflows.add_children(house.rt, house.me, node, [act("first"), act("second")])[1]
    for when in ("pending", "ready"):
        changes: list[Callable[[], None]] = [
            lambda: workflows.retry_now(house.rt, house.me, waiting),
            lambda: house.says(waiting, "errored"),
        ]
        for change in changes:
            with pytest.raises(InvalidTransition) as refused:
                change()
            assert refused.value.current == when
        house.reaches(waiting, when, when)
        if when == "pending":
            house.says(node, "completed")


@pytest.mark.parametrize("end", ["canceled", "reset", "retried", "cleared"])
def test_a_linked_activity_that_is_deactivated_holds_nobody_back(build: Build, end: str) -> None:
    house = build()
    held = house.signal(house.workflow())
    root = house.workflow()
    above = house.signal(root, retry_interval=0)
    workflows.add_children(house.rt, house.me, above, [act("linked", link=held)])
    house.says(held, "completed")
    house.reaches(held, "processing_children", "complete")
    if end == "canceled":
        house.says(above, "canceled")
    elif end == "reset":
        workflows.reset(house.rt, house.me, above)
    elif end == "retried":
        house.says(above, "errored")
    else:
        later = workflows.signal(house.rt, house.me, root, act("later")).id
        house.says(later, "deactivated")
    house.reaches(held, "complete", "complete")


def test_a_link_that_would_wait_for_itself_is_refused(build: Build) -> None:
    house = build()
    root = house.workflow()
    node = house.signal(root)
    with pytest.raises(BadRequest):
        workflows.signal(house.rt, house.me, root, act("after it", link=node))


def test_a_complete_workflow_takes_no_signal_and_a_complete_activity_no_child(build: Build) -> None:
    house = build()
    root = house.workflow()
    node = house.signal(root)
    house.says(node, "completed")
    house.reaches(node, "complete", "complete")
    with pytest.raises(Conflict):
        workflows.add_children(house.rt, house.me, node, [act("too late")])
    workflows.complete(house.rt, house.me, root)
    with pytest.raises(WorkflowComplete):
        workflows.signal(house.rt, house.me, root, act("too late"))


def test_a_child_that_a_client_was_told_of_never_vanishes_though_its_parent_was_restarted_meanwhile(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = build()
    workflow = house.workflow()
    parent = house.signal(workflow)
    me = threading.get_ident()

    def restart(name: str) -> None:
        between_the_two = name == "insert.before" and threading.get_ident() == me
        if between_the_two and not restarted:
            restarted.append(parent)
            workflows.resend(house.rt, parent, by="somebody")

    restarted: list[str] = []
    monkeypatch.setattr(failpoint, "hook", restart)
    (child,) = workflows.add_children(house.rt, house.me, parent, [act("child")])
    assert restarted
    house.sent(parent, 2)
    assert named(house.rt, workflow, "child").ss == "deactivated"
    long_ago = house.rt.store.now() - 60_000
    house.rt.store.db["nodes"].update_many({"wf": workflow}, {"$set": {"created": long_ago, "changed": long_ago}})

    def written() -> bool:
        heal.heal_slice(house.rt)  # again where a worker holds the parent just now
        stored = house.rt.store.node(child)
        assert stored is not None
        return stored.ss == "deactivated"

    wait_for("the sweep to deactivate it", written)
    assert named(house.rt, workflow, "child").id == child


def test_a_handler_without_retries_left_waits_for_a_person(build: Build) -> None:
    house = build()
    client = workflows.add_client(house.rt, "python")[0].id
    new = NewWorkflow(name="p", subject=1, signal=NewNode(name="always_fails", retry=0))
    ((_, signal),) = workflows.start_many(house.rt, client, [new])
    house.reaches(signal.id, "retries_exhausted", "errored")
    (error,) = workflows.errors(house.rt, client, signal.id)
    assert error.response["error"]["message"] == "as ever"
    workflows.settle(house.rt, signal.id, "resolved", by="ann")
    house.reaches(signal.id, "complete", "resolved")


@pytest.mark.parametrize("handler", [hands_on, hands_on_slowly])
def test_a_child_for_another_client_goes_there_by_its_name_and_to_one_that_is_not_there_is_a_failure(
    build: Build, mongo_url: str, handler: Callable[[str], None]
) -> None:
    house = build()
    with open_program(mongo_url, client="shop", registry=HANDLERS) as program:
        root, _ = program.signal("by name", 1, handler, "me")
        wait_for("the post", lambda: [post.node["name"] for post in house.stub.posts] == ["elsewhere"])
        assert named(house.rt, root.id, "elsewhere").client == house.me
        _, doomed = program.signal("nobody", 1, handler, "nobody")
        house.reaches(doomed.id, "retries_exhausted", "errored")
        error = workflows.errors(house.rt, None, doomed.id)[0].response["error"]
        assert error["message"] == "there is no client nobody"


def test_an_activity_left_open_is_completed_by_id_from_any_programme(build: Build, mongo_url: str) -> None:
    house = build()
    with open_program(mongo_url, client="python", registry=HANDLERS) as program:
        root, signal = program.signal("open", {"n": 1}, waits_for_later)
        wait_for("the open one", lambda: ("/waits_for_later/later", "sent_to_client") in _states(house.rt, root.id))
        program.complete(named(house.rt, root.id, "later").id, {"paid": True})
        house.reaches(signal.id, "complete", "complete")
        assert program.signal("open", {"n": 1}, waits_for_later, key="k")[0].id == root.id


def _states(rt: Runtime, root: str) -> list[tuple[str, str]]:
    return [(path, server) for path, _, server, _, _ in shape(rt, root)]


def test_an_operator_may_send_again_time_out_or_give_up_a_silent_client(build: Build) -> None:
    house = build()
    root = house.workflow()
    first = house.signal(root, retry=1, retry_interval=0)
    workflows.resend(house.rt, first, by="ann")
    house.sent(first, 2)
    workflows.time_out(house.rt, first, by="ann")
    house.sent(first, 3)
    node = workflows.get_node(house.rt, None, first).node
    assert (node.attempt, node.retries_left) == (3, 0)
    workflows.settle(house.rt, first, "shutdown", by="ann")
    house.reaches(first, "complete", "shutdown")
    assert not [post for post in house.stub.posts if post.path == "/notification"]


def test_what_a_client_leaves_unanswered_ends_at_its_deadline(build: Build) -> None:
    house = build()
    node = house.signal(house.workflow(), retry=0, data={"timeout": 0.3})
    house.reaches(node, "retries_exhausted", "errored")
    (error,) = workflows.errors(house.rt, house.me, node)
    assert error.response == {"error": {"message": "Client timeout"}}


def test_a_timer_of_a_paused_workflow_runs_and_only_what_it_starts_is_parked(build: Build) -> None:
    house = build()
    root = house.workflow()
    workflows.pause(house.rt, house.me, root, by="ann")
    at = house.rt.store.now() + 60_000
    node = workflows.signal(house.rt, house.me, root, act("timer", fires_at=at)).id
    house.reaches(node, "started", "ready")
    now = {"fires_at": at - 60_000, "due": at - 60_000, "rev": "its time has come"}
    house.rt.store.db["nodes"].update_one({"_id": node}, {"$set": now})
    house.reaches(node, "paused", "ready")
    assert house.stub.posts == []
    workflows.resume(house.rt, house.me, root)
    house.sent(node)


def test_a_node_claimed_again_and_again_is_put_aside_and_somebody_is_told(build: Build) -> None:
    house = build()
    root = house.workflow()
    workflows.pause(house.rt, house.me, root, by="ann")
    node = workflows.signal(house.rt, house.me, root, act("poison")).id
    house.reaches(node, "paused", "ready")
    poison = {"$set": {"ss": "started", "do": {"start": True}, "tries": 6, "due": 1, "rev": "x", "by": "w"}}
    house.rt.store.db["nodes"].update_one({"_id": node}, poison)
    house.reaches(node, "errored", "ready")
    wait_for("the news", lambda: [p for p in house.stub.posts if p.path == "/notification"])
    assert house.stub.posts[-1].body["notification"]["message"] == "Server Error"
