"""The events of a node's life: whatever order they come in, what they leave is consistent and owed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import build, events, retry
from engine.change import Change, committed, document, inserted, spills, statement
from engine.errors import InvalidTransition
from engine.events import Context
from engine.ids import is_id, new_id, token
from engine.model import NewNode, Node
from engine.states import CLIENT, LEGAL_PAIRS, MOVES, SERVER, code, moved

NOW = 1_800_000_000_000


def context(at: int = NOW) -> Context:
    return Context(at, token(), 0.5)


def fresh(**more: object) -> Node:
    root = build.root("client", "workflow", {"n": 1}, None, context())
    new = NewNode(name="step", **more)  # type: ignore[arg-type]
    return inserted(build.children([new], root, context())[0])


def sent(**more: object) -> Node:
    node = fresh(**more)
    events.deliver(node, context())
    return node


ANY_EVENT = {
    "hand out": events.hand_out,
    "park": events.park,
    "deliver": events.deliver,
    "posted": lambda n, c: events.posted(n, c, 200),
    "post refused": lambda n, c: events.post_failed(n, c, 500, "HTTP request for activity failed"),
    "processing": events.processing,
    "completed": events.completed,
    "resolved": events.resolved,
    "shutdown": events.shut_down,
    "finish": events.finish,
    "errored": events.errored,
    "retry": events.retry,
    "resend": lambda n, c: events.resend(n, c, "ann"),
    "give up": lambda n, c: events.give_up(n, c, "ann"),
    "timeout": events.time_out,
    "canceled": events.canceled,
    "reset": events.reset,
    "deactivated": events.deactivate_earlier,
    "poisoned": lambda n, c: events.poisoned(n, c, "six claims"),
    "look": events.look_again,
}
STEPS = st.lists(st.sampled_from(sorted(ANY_EVENT)), max_size=25)
KINDS = st.fixed_dictionaries(
    {"mode": st.sampled_from(["blocking", "non_blocking", "fire_and_forget"]), "retry": st.integers(0, 2)}
)


def play(node: Node, steps: list[str]) -> list[Change]:
    """Each step that the tables allow, as a change."""
    changes = []
    for place, step in enumerate(steps):
        ctx, after = context(NOW + place), node.copy()
        try:
            ANY_EVENT[step](after, ctx)
        except InvalidTransition:
            continue
        change = Change(node, events.settle(after, ctx))
        changes.append(change)
        node = committed(change)
    return changes


@given(KINDS, STEPS)
def test_every_state_that_events_lead_to_is_legal_and_open_says_so(kind: dict[str, object], steps: list[str]) -> None:
    for change in play(fresh(**kind), steps):
        node = change.after
        assert node.cs in LEGAL_PAIRS[node.ss]
        assert node.open == events.openness(node)


@given(KINDS, STEPS)
def test_every_change_of_status_leaves_its_line(kind: dict[str, object], steps: list[str]) -> None:
    for change in play(fresh(**kind), steps):
        if (change.before.ss, change.before.cs) != (change.after.ss, change.after.cs):
            assert change.after.lines[-1][1] == code(change.after.ss, change.after.cs)


@given(KINDS, STEPS)
def test_what_waits_for_nobody_else_is_owed(kind: dict[str, object], steps: list[str]) -> None:
    """Any state that only a worker can end has a `due`: no crash between two events can leave it forgotten."""
    for change in play(fresh(**kind), steps):
        node = change.after
        if node.ss in ("started", "retrying") or (node.ss == "sent_to_client" and node.cs == "received" and node.do):
            assert node.due is not None
        assert (node.due is None) == (events.owed_at(node, NOW) is None)


@given(KINDS, STEPS)
def test_a_final_node_owes_only_what_concerns_others(kind: dict[str, object], steps: list[str]) -> None:
    for change in play(fresh(**kind), steps):
        node = change.after
        if node.ss == "complete":
            assert not (node.do or {}).keys() & {"start", "post", "timeout", "retry"}
            assert node.complete_by is None


@given(KINDS, STEPS)
@settings(max_examples=200)
def test_the_update_makes_of_the_stored_document_what_the_event_made_of_the_node(
    kind: dict[str, object], steps: list[str]
) -> None:
    node = fresh(**kind)
    stored = {**document(node), "h": [[NOW, "pp"]], "hn": 1, "hb": 24}
    for change in play(node, steps):
        change.before.h = stored["h"]
        update = statement(change)
        assert update["q"]["rev"] == stored["rev"]
        stored = {**stored, **update["u"].get("$set", {})}
        for gone in update["u"].get("$unset", {}):
            del stored[gone]
        push = update["u"].get("$push", {}).get("h")
        if push:
            stored["h"] = [*stored["h"], *push["$each"]][push.get("$slice", 0) :]
        kept = committed(change)
        expected = {
            key: value for key, value in kept.__dict__.items() if value is not None and key not in ("lines", "h")
        }
        assert {key: value for key, value in stored.items() if key != "h"} == expected
        assert len(stored["h"]) == stored["hn"]


def test_a_history_at_its_limit_moves_its_older_half_out() -> None:
    node = fresh()
    node.h = [[NOW, "pp"]] * 64
    node.hn, node.hb = 64, 64 * 24
    after = node.copy()
    events.hand_out(after, context())
    change = Change(node, events.settle(after, context()))
    assert spills(change) == 32
    assert committed(change).hn == 34
    assert committed(change).hs == 32


@pytest.mark.parametrize("move", MOVES)
def test_a_move_is_allowed_where_both_tables_allow_it_and_nowhere_else(move: str) -> None:
    to_client, to_server = MOVES[move]
    for server in SERVER:
        for client in CLIENT:
            allowed = (
                to_client is None or to_client in CLIENT[client] or (move == "again" and server == "errored")
            ) and (to_server is None or to_server in SERVER[server])
            if allowed:
                assert moved(server, client, move) == (to_server or server, to_client or client)
            else:
                with pytest.raises(InvalidTransition):
                    moved(server, client, move)


def test_the_client_machine_is_tested_first() -> None:
    with pytest.raises(InvalidTransition) as refused:
        events.completed(fresh(), context())
    assert (refused.value.machine, refused.value.current, refused.value.attempted) == ("client", "pending", "complete")


def test_completed_without_children_or_links_is_complete_at_once_and_tells_the_parent() -> None:
    node = sent()
    events.completed(node, context(), '{"result":1}')
    assert (node.ss, node.cs, node.do) == ("complete", "complete", {"tell": True})


def test_a_forgotten_activity_tells_its_parent_nothing() -> None:
    node = sent(mode="fire_and_forget")
    events.completed(node, context())
    assert node.do is None


def test_completed_with_children_has_them_marked_and_looked_at() -> None:
    node = sent()
    node.last, node.gen = 5, "g"
    events.completed(node, context())
    assert (node.ss, node.do) == ("processing_children", {"mark": True})
    assert node.look


def test_a_node_whose_children_were_dropped_still_looks_for_its_end() -> None:
    node = sent()
    node.last, node.gen = 5, "g"
    events.completed(node, context())
    node.look = None  # it has looked, and waits for its children
    events.reset(node, context())
    assert (node.gen, "prune" in (node.do or {}), bool(node.look)) == (None, True, True)


def test_a_poisoned_node_owes_nothing_but_the_telling() -> None:
    node = sent()
    events.poisoned(node, context(), "claimed 6 times without a result")
    assert (node.ss, list(node.do or {}), node.complete_by) == ("errored", ["notify"], None)


def test_a_parked_node_that_is_handed_out_owes_its_start_alone() -> None:
    node = fresh()
    events.mark(node, context())
    events.park(node, context())
    assert "recheck" in (node.do or {})
    events.hand_out(node, context())
    assert (node.ss, node.do) == ("started", {"start": True})


def test_an_error_uses_up_a_retry_and_the_last_one_notifies() -> None:
    node = sent(retry=1, retry_interval=100)
    events.errored(node, context())
    assert (node.ss, node.retries) == ("retrying", [1, 0])
    assert node.fires_at == NOW + 100_000 * 2**6
    events.retry(node, context())
    events.deliver(node, context())
    events.errored(node, context())
    assert node.ss == "retries_exhausted"
    assert (node.do or {})["notify"]["message"] == "Client Error"


def test_a_retry_is_a_new_attempt_and_gives_no_new_retries() -> None:
    node = sent(retry=2)
    events.errored(node, context())
    node.gen, node.last = "old", 7
    events.retry(node, context())
    assert (node.attempt, node.retries, node.gen) == (2, [2, 1], None)
    assert set(node.do or {}) == {"prune", "tell"}


def test_a_call_of_this_attempt_proves_that_the_post_arrived() -> None:
    node = sent()
    assert "post" in (node.do or {})
    events.processing(node, context())
    assert set(node.do or {}) == {"timeout"}


def test_the_deadline_is_the_clients_own_or_two_days() -> None:
    assert sent().complete_by == NOW + 172_800_000
    assert sent(data={"timeout": 1.5}).complete_by == NOW + 1500
    assert sent(data={"timeout": "soon"}).complete_by == NOW + 172_800_000


def test_a_client_that_has_begun_is_not_timed_out_unless_it_wants_to_be() -> None:
    node = sent()
    events.processing(node, context())
    events.time_out(node, context())
    assert (node.ss, node.cs) == ("sent_to_client", "processing")
    assert "timeout" not in (node.do or {}), "a worker would take it up again and again, and call it poisoned"
    events.time_out(node, context(), also_processing=True)
    assert node.ss == "retrying"


@pytest.mark.parametrize(
    ("kids", "starts"),
    [
        ([("r", "blocking"), ("r", "blocking")], [0]),
        ([("r", "non_blocking"), ("r", "fire_and_forget"), ("r", "blocking"), ("r", "non_blocking")], [0, 1, 2]),
        ([("b", "blocking"), ("r", "non_blocking")], []),
        ([("r", "blocking"), ("b", "blocking"), ("r", "blocking")], [0]),
        ([("n", "non_blocking"), ("r", "blocking")], [1]),
        ([], []),
    ],
)
def test_the_first_blocking_child_is_the_last_to_start(kids: list[tuple[str, str]], starts: list[int]) -> None:
    family = []
    for place, (openness, mode) in enumerate(kids):
        node = fresh(mode=mode)
        node.seq, node.open = place, openness
        family.append(node)
    random.Random(1).shuffle(family)
    assert [kid.seq for kid in events.startable(family)] == starts


@pytest.mark.parametrize(("left", "factor"), [(10, 1), (6, 1), (5, 2), (0, 64)])
def test_retries_back_off_as_in_backbeat(left: int, factor: int) -> None:
    assert retry.delay(left, 10, 0.5) == 10_000 * factor
    assert retry.delay(left, 10, 0.0) == 8_000 * factor
    assert retry.delay(left, 0, 0.9) == 0


def test_a_notification_is_tried_again_within_two_minutes_and_at_least_hourly() -> None:
    assert retry.notify_delay(1) <= 120_000
    assert retry.notify_delay(100) == 3_600_000


def test_ids_are_uuids_in_the_order_of_time() -> None:
    ids = [new_id(NOW + place) for place in range(100)]
    assert all(map(is_id, ids))
    assert ids == sorted(ids)
    assert len({id[-8:] for id in ids}) == 100


def test_ids_of_one_millisecond_sort_as_they_were_made() -> None:
    ids = [new_id(NOW) for _ in range(1000)]
    assert all(map(is_id, ids))
    assert ids == sorted(set(ids))
    assert len({id[-8:] for id in ids}) == 1000


def test_a_subject_is_the_same_whatever_the_order_and_case_of_its_keys() -> None:
    one = build.subject_hash({"invoiceNumber": 1, "b": [{"innerKey": 2}]})
    assert one == build.subject_hash({"b": [{"inner_key": 2}], "invoice_number": 1})
    assert one != build.subject_hash({"b": [{"inner_key": "2"}], "invoice_number": 1})


def test_children_come_in_order_after_all_that_were_there() -> None:
    root = build.root("client", "workflow", 1, None, context())
    root.last = NOW * 1000 + 50
    made = build.children([NewNode(name="a"), NewNode(name="b")], root, context())
    assert [child.seq for child in made] == [NOW * 1000 + 51, NOW * 1000 + 52]
