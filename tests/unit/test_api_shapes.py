"""The JSON shapes, the route table and its description, the answers to errors, the rate: all without a network."""

from __future__ import annotations

import json

import pytest

from engine import errors, present, states
from engine.gate import TOKEN, Rate
from engine.model import Health, Node, Stats
from engine.openapi import SCHEMAS, document
from engine.routes import ROUTES, find
from engine.trouble import TooOften, Unauthorized, answer

ROOT = Node(
    _id="0199abcd-0000-7000-8000-0000000000aa", kind="workflow", name="invoice", client="c", decider="D",
    subject='{"camelKey":{"$set":1}}', created=1795489321123, changed=1795489321124,
)  # fmt: skip


def below(number: int, parent: Node, **more: object) -> Node:
    return Node(_id=f"n{number}", name=f"step {number}", wf=ROOT.id, parent=parent.id, client="c", created=1, **more)  # type: ignore[arg-type]


def test_times_have_milliseconds_and_a_z() -> None:
    assert present.time(1795489321123) == "2026-11-24T03:02:01.123Z"
    assert present.time(0) == "1970-01-01T00:00:00.000Z"
    assert present.time(10**18) == "9999-12-31T23:59:59.999Z"
    assert present.time(-62_135_596_800_000) == "0001-01-01T00:00:00.000Z"
    assert present.time(None) is None


def test_only_our_own_keys_are_camel_case() -> None:
    node = below(1, ROOT, data='{"some_key":1}', meta='{"other_key":2}')
    shown = present.node(node, ROOT)
    assert (shown["clientData"], shown["metadata"], shown["subject"]) == (
        {"some_key": 1}, {"other_key": 2}, {"camelKey": {"$set": 1}},
    )  # fmt: skip
    assert shown["workflowName"] == "invoice"


def test_a_signal_has_no_parent_and_its_child_has_one() -> None:
    signal = below(1, ROOT)
    assert present.node(signal, ROOT)["parentId"] is None
    assert present.node(below(2, signal), ROOT)["parentId"] == "n1"


def test_a_tree_keeps_order_and_shape() -> None:
    signal = below(1, ROOT, ss="retrying", cs="errored", fires_at=5)
    tree = json.loads(present.tree_text(ROOT, [signal, below(2, ROOT), below(3, signal), below(4, signal)]))
    assert [child["id"] for child in tree["children"]] == ["n1", "n2"]
    assert [child["id"] for child in tree["children"][0]["children"]] == ["n3", "n4"]
    assert tree["children"][0]["retryingAt"] == "1970-01-01T00:00:00.005Z"
    assert (tree["children"][1]["retryingAt"], tree["currentServerStatus"]) == (None, None)
    assert set(tree) == set(SCHEMAS["Tree"]["required"])


def test_a_tree_deeper_than_the_stack_is_written() -> None:
    chain = [ROOT]
    for number in range(5000):
        chain.append(below(number, chain[-1]))
    text = present.tree_text(ROOT, chain[1:])
    assert text.count('"children":[') == 5001
    assert text.endswith("]}" * 5001)
    assert present.tree_print(ROOT, chain[1:]).count("\n") == 5001


def test_the_printed_tree_names_every_node_with_its_statuses() -> None:
    printed = present.tree_print(ROOT, [below(1, ROOT, ss="complete", cs="complete"), below(2, ROOT)])
    assert "step 1 - server: complete, client: complete" in printed
    assert printed.index("invoice") < printed.index("step 1") < printed.index("step 2")


def test_shapes_have_the_keys_that_are_described() -> None:
    assert set(present.workflow(ROOT)) == set(SCHEMAS["Workflow"]["required"])
    assert set(present.node(below(1, ROOT), ROOT)) == set(SCHEMAS["Node"]["required"])


def test_metrics_are_prometheus_text() -> None:
    stats = Stats(
        depth=3, latency=0.25, scheduled=1, late=0, next_timer=None, retrying=2, processed=12_345_678, failed=1,
        processed_today=5, failed_today=0,
    )  # fmt: skip
    text = present.prometheus(present.samples(Health(mongo=None, redis=True), stats, {200: 7}))
    assert "\nbackbeat_mongo_up 1\n" in text
    assert "\nbackbeat_nodes_processed_total 12345678\n" in text
    assert '\nbackbeat_http_requests_total{code="200"} 7\n' in text
    gone = present.prometheus(present.samples(Health(mongo="gone", redis=False), None, {503: 1}))
    assert "\nbackbeat_mongo_up 0\n" in gone
    assert "queue" not in gone
    assert present.sidekiq_stats(stats)["today"] == {"processed": 5, "failed": 0}


# -- routes ------------------------------------------------------------------------------------------------------


def test_every_route_is_found_by_its_own_path_and_described() -> None:
    described = document(ROUTES, version="1", strict=False)["paths"]
    for route in ROUTES:
        segments = [f"<{part[1:-1]}>" if part.startswith("{") else part for part in route.path.strip("/").split("/")]
        found = find(segments)
        assert found is not None
        assert found.methods[route.method] is route
        assert all(value == f"<{name}>" for name, value in found.names.items())
        assert route.method.lower() in described[route.path]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "nothing",
        "workflows/x/nothing",
        "v2",
        "v2/nothing",
        "workflows/names/x",
        "workflows/x/v2/events/y",
        "v3/users",
    ],
)
def test_other_paths_lead_nowhere(path: str) -> None:
    assert find(path.split("/")) is None


def test_the_paths_of_both_versions_are_there() -> None:
    for path in ("workflows/a/signal/go", "v2/workflows/a/signal/go"):
        found = find(path.split("/"))
        assert found is not None
        assert dict(found.names) == {"id": "a", "name": "go"}
    for path in ("activities/a", "v2/events/a", "v2/activities/a"):
        assert find(path.split("/")) is not None
    nested = find(["workflows", "w", "activities", "a", "status", "completed"])
    assert nested is not None
    assert dict(nested.names) == {"workflow_id": "w", "id": "a", "new": "completed"}


def test_every_reference_of_the_description_leads_somewhere() -> None:
    text = json.dumps(document(ROUTES, version="1", strict=True))
    for part in text.split('"#/components/schemas/')[1:]:
        assert part.split('"')[0] in SCHEMAS


def test_strict_asks_for_the_token_everywhere_but_health_and_heartbeat() -> None:
    paths = document(ROUTES, version="1", strict=True)["paths"]
    free = {path for path, verbs in paths.items() for verb in verbs.values() if not verb["security"]}
    assert free == {"/health", "/heartbeat.txt"}


# -- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (errors.NotFound("Node", "x"), 404,
         {"errorClass": "ActiveRecord::RecordNotFound", "message": "Couldn't find Node with 'id'=x"}),
        (errors.UnknownStatus("done"), 400, {"errorClass": "Backbeat::UnknownStatus", "message": "Unknown status change done"}),
        (errors.InvalidTransition("server", "complete", "processing_children"), 409,
         {"errorClass": "Backbeat::InvalidServerStatusChange", "currentStatus": "complete", "attemptedStatus": "processing_children",
          "message": "Cannot transition current_server_status from complete to processing_children"}),
        (errors.KeyReused("used"), 422, {"errorClass": "Backbeat::IdempotencyKeyReused", "message": "used"}),
        (Unauthorized(), 401, {"error": "Unauthorized"}),
    ],
)  # fmt: skip
def test_errors_are_answered_as_backbeat_does(error: errors.EngineError, status: int, body: dict[str, str]) -> None:
    assert answer(error)[:2] == (status, body)


def test_every_error_of_the_engine_but_its_own_defects_is_below_500_or_says_when_to_come_back() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.EngineError)]
    for kind in set(kinds) - {errors.EngineError}:
        error = kind.__new__(kind)
        error.message, error.machine, error.current, error.attempted = "m", "client", "a", "b"  # type: ignore[attr-defined]
        status, _, headers = answer(error)
        assert status < 500 or (status == 503 and headers[0][0] == b"retry-after"), kind


# -- who may ask -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ['Token token="abc"', "Token token=abc", 'token  token="abc"', "Token abc"])
def test_tokens_are_read_as_clients_write_them(text: str) -> None:
    said = TOKEN.fullmatch(text)
    assert said is not None
    assert said[1] == "abc"


@pytest.mark.parametrize("text", ["", "Bearer abc", "Token", 'Token token="a" b'])
def test_other_schemes_are_no_token(text: str) -> None:
    assert TOKEN.fullmatch(text) is None


def test_a_client_may_burst_and_is_then_told_when_to_come_back() -> None:
    clock = [0.0]
    rate = Rate(10, lambda: clock[0])
    for _ in range(20):
        rate.take("a")
    with pytest.raises(TooOften) as refused:
        rate.take("a")
    assert refused.value.seconds == pytest.approx(0.1)
    rate.take("b")
    clock[0] = 0.1
    rate.take("a")


def test_status_words_of_the_description_are_those_of_the_machines() -> None:
    assert SCHEMAS["Node"]["properties"]["currentServerStatus"]["enum"] == list(states.SERVER)
