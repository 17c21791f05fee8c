"""The HTTP door itself: who may ask, wrong methods, health and heartbeat, keys, old attempts, how it ends."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from tests.integration.api_server import BBCTL, Engine, engine
from tests.integration.servers import Mongo, Redis, free_port, wait_for


@pytest.fixture(scope="module")
def api(mongo: Mongo, redis_server: Redis) -> Iterator[Engine]:
    with engine(mongo.url("t" + uuid.uuid4().hex[:12]), redis_server.url()) as server:
        yield server


def sent(api: Engine, node: str, times: int = 1) -> None:
    """Waits until the node was posted so often and is with its client."""
    wait_for("a post", lambda: len(api.stub.of(node)) >= times)
    wait_for("it to be with the client", lambda: api.states(node)[0] == "sent_to_client")


# -- who may ask -------------------------------------------------------------------------------------------------

OPEN = ("/users", "/sidekiq_stats", "/metrics", "/openapi.json")
ALWAYS = ("/health", "/heartbeat.txt")


def test_nobody_learns_anything_without_a_known_client(api: Engine) -> None:
    for headers in ({}, {"Client-Id": str(uuid.uuid4())}, {"Client-Id": "x"}, {"Client-Id": "$ne"}):
        answer = api.call("GET", f"/workflows/{uuid.uuid4()}", client=None, headers=headers)
        assert (answer.status, answer.json) == (401, {"error": "Unauthorized"})


def test_compatible_asks_for_the_token_on_signals_and_decisions_only(api: Engine) -> None:
    workflow = api.workflow()
    for token in ("", 'Token token="wrong"', f'Token token="{api.clients[1][1]}"', "Bearer x"):
        assert api.call("POST", f"/workflows/{workflow}/signal/go", {}, token=token).status == 401
        assert api.call("POST", f"/activities/{uuid.uuid4()}/decisions", {}, token=token).status == 401
        assert api.call("GET", f"/workflows/{workflow}", token=token).status == 200
    for path in OPEN + ALWAYS:
        assert api.call("GET", path, client=None).status == 200, path
    assert api.call("GET", f"/workflows/{workflow}/nodes").json == []


def test_another_clients_things_look_like_nothing(api: Engine) -> None:
    workflow = api.workflow()
    node = api.signal(workflow)
    for path in (f"/workflows/{workflow}", f"/workflows/{workflow}/tree", f"/activities/{node}"):
        theirs, nothing = (
            api.call("GET", path, client=1),
            api.call("GET", re.sub(r"[0-9a-f-]{36}", str(uuid.uuid4()), path), client=1),
        )
        assert theirs.status == nothing.status == 404
        assert theirs.json.keys() == nothing.json.keys()
        assert theirs.json["errorClass"] == nothing.json["errorClass"]
    assert api.call("GET", "/workflows/search?per_page=100", client=1).json == []
    assert api.call("PUT", f"/activities/{node}/status/canceled", client=1).status == 404


def test_strict_asks_for_the_token_on_every_route_but_health_and_heartbeat(mongo: Mongo, redis_server: Redis) -> None:
    with engine(mongo.url("t" + uuid.uuid4().hex[:12]), redis_server.url(), "--auth", "strict", workers=0) as api:
        workflow = api.workflow()
        for path in OPEN:
            assert api.call("GET", path, client=None).status == 401
            assert api.call("GET", path).status == 200
        for path in ALWAYS:
            assert api.call("GET", path, client=None).status == 200
        assert api.call("GET", f"/workflows/{workflow}", token="").status == 401
        assert api.call("PUT", f"/workflows/{workflow}/pause", token='Token token="x"').status == 401
        assert api.call("GET", f"/workflows/{workflow}").json["paused"] is False


def test_another_address_than_loopback_must_be_told_how_clients_prove_who_they_are(api: Engine) -> None:
    words = [BBCTL, "serve", "--host", "0.0.0.0", "--port", str(free_port())]
    done = subprocess.run(words, env=api.environ, cwd=api.home, capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert b"--auth strict" in done.stderr


def test_a_new_token_replaces_the_old_one(api: Engine) -> None:
    client, old = api.add_client("rotated", api.stub.url)
    number = len(api.clients) - 1
    workflow = api.call("POST", "/workflows", {"name": "w", "subject": 1, "decider": "d"}, client=number).json["id"]
    new = api.bbctl("client", "rotate", "rotated")
    assert new["id"] == client
    path = f"/workflows/{workflow}/signal/go"
    wait_for("the old token to be refused", lambda: api.call("POST", path, {}, client=number).status == 401)
    assert api.call("POST", path, {}, client=number, token=f'Token token="{new["authToken"]}"').status == 201
    assert old not in json.dumps(api.bbctl("client", "list"))


def test_a_client_that_has_moved_is_asked_at_its_new_address(api: Engine) -> None:
    api.add_client("moved", f"http://127.0.0.1:{free_port()}")
    number = len(api.clients) - 1
    body = {"name": "w", "subject": "moved", "decider": "d"}
    workflow = api.call("POST", "/workflows", body, client=number).json["id"]
    signal = api.call("POST", f"/workflows/{workflow}/signal/go", {"retry": 0}, client=number).json["id"]

    def status() -> str:
        return str(api.call("GET", f"/activities/{signal}", client=number).json["currentServerStatus"])

    wait_for("nobody to be found at the old address", lambda: status() == "retries_exhausted")
    there = [
        "--activity-endpoint",
        f"{api.stub.url}/activity",
        "--notification-endpoint",
        f"{api.stub.url}/notification",
    ]
    row = api.bbctl("client", "edit", "moved", *there, "--decision-endpoint", "none", "--timeout", "20s")
    assert (row["activityEndpoint"], row["decisionEndpoint"], row["timeout"]) == (there[1], None, 20.0)

    def arrived() -> bool:
        if status() == "retries_exhausted":  # a worker may go to the old one for a second yet
            api.call("PUT", f"/activities/{signal}/restart", client=number)
        return any(path == "/activity" for path, _, _ in api.stub.of(signal))

    wait_for("the post at the new address", arrived)
    for words in (["edit", "moved"], ["edit", "moved", "--decision-endpoint", "http://169.254.169.254/"]):
        done = subprocess.run([BBCTL, "client", *words], env=api.environ, capture_output=True, timeout=60, check=False)
        assert done.returncode == 2, done


# -- paths, methods, headers -------------------------------------------------------------------------------------


def test_a_wrong_method_is_405_and_says_which_are_right(api: Engine) -> None:
    answer = api.call("DELETE", "/workflows")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")
    assert api.call("POST", "/health").status == 405
    answer = api.call("FROB", "/health")  # one that nobody has ever heard of
    assert (answer.status, answer.json["errorClass"]) == (405, "Backbeat::MethodNotAllowed")


def test_head_is_answered_as_get_without_the_body(api: Engine) -> None:
    answer = api.call("HEAD", "/heartbeat.txt", client=None)
    assert (answer.status, answer.body) == (200, b"")


def test_every_answer_has_a_transaction_id_of_its_own(api: Engine) -> None:
    answers = [api.call("GET", path) for path in ("/nothing", "/workflows/names", "/workflows/x", "/health")]
    ids = {answer.headers["x-backbeat-tid"] for answer in answers}
    assert [answer.status for answer in answers] == [404, 200, 400, 200]
    assert len(ids) == 4


def test_the_transaction_id_of_the_call_that_made_a_node_is_found_from_the_command_line(api: Engine) -> None:
    path = f"/workflows/{api.workflow()}/signal/go"
    made, again = (api.call("POST", path, {}, headers={"Idempotency-Key": "tid-1"}) for _ in range(2))
    signal = made.json["id"]
    sent(api, signal)
    children = api.call("POST", f"/activities/{signal}/decisions", {"decisions": [{"name": "a"}, {"name": "b"}]})
    for node, call in ((again.json["id"], made), *((child, children) for child in children.json)):
        assert api.bbctl("wf", "show", node, "--request")["tid"] == call.headers["x-backbeat-tid"]


def test_metrics_count_the_answers(api: Engine) -> None:
    def count() -> int:
        found = re.search(
            r'^backbeat_http_requests_total\{code="404"\} (\d+)$', api.call("GET", "/metrics").body.decode(), re.M
        )
        return int(found[1]) if found else 0

    before = count()
    api.call("GET", "/nothing")
    assert count() == before + 1


def test_a_form_is_read_as_the_original_reads_it(api: Engine) -> None:
    raw = b"workflow_type=form&subject[subjectId]=100&decider=D"
    made = api.call("POST", "/workflows", raw=raw, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert (made.status, made.json["subject"]) == (201, {"subject_id": "100"})


# -- workflows ---------------------------------------------------------------------------------------------------


def test_a_workflow_is_one_whatever_the_order_of_its_subjects_keys(api: Engine) -> None:
    first = api.call("POST", "/workflows", {"name": "o", "subject": {"aB": 1, "c": "<&>"}, "decider": "D"})
    second = api.call("POST", "/workflows", {"workflowType": "o", "subject": {"c": "<&>", "a_b": 1}, "decider": "E"})
    assert (first.json["id"], second.json["decider"]) == (second.json["id"], "D")


def test_subjects_whose_keys_differ_in_more_than_their_case_are_two_workflows(api: Engine) -> None:
    name = uuid.uuid4().hex
    made = [
        api.call("POST", "/workflows", {"name": name, "subject": subject, "decider": "D"}).json["id"]
        for subject in ({"aB": 1, "a_b": 2}, {"a_b": 2}, {"aB": 2})
    ]
    assert made[1] == made[2]
    assert made[0] != made[1]


@pytest.mark.parametrize("missing", ["name", "subject", "decider"])
def test_a_workflow_needs_name_subject_and_decider(api: Engine, missing: str) -> None:
    body = {"name": "n", "subject": {"x": missing}, "decider": "D"}
    del body[missing]
    answer = api.call("POST", "/workflows", body)
    assert answer.status == 400
    assert missing in answer.json["message"]


@pytest.mark.parametrize("subject", ["plain text", '{"id": 1}', {"id": 2}, [1, {"kindOf": "x"}], 7, "Ünïcode & <b>"])
def test_a_workflow_is_found_by_its_subject(api: Engine, subject: object) -> None:
    name = uuid.uuid4().hex
    made = api.call("POST", "/workflows", {"name": name, "subject": subject, "decider": "D"}).json["id"]
    text = subject if isinstance(subject, str) else json.dumps(subject)
    found = api.call("GET", "/workflows?" + urlencode({"subject": text, "decider": "D", "name": name}))
    assert (found.status, found.json["id"]) == (200, made)
    assert api.call("GET", "/workflows?" + urlencode({"subject": text, "decider": "E", "name": name})).status == 404


def test_a_search_with_a_page_and_nothing_else_finds_the_newest_and_one_without_a_word_nothing(api: Engine) -> None:
    made = [api.workflow() for _ in range(3)]
    nodes = [api.signal(workflow) for workflow in made]
    for path, wanted in (("/workflows/search", made), ("/activities/search", nodes)):
        first = api.call("GET", f"{path}?per_page=2").json
        assert [one["id"] for one in first] == wanted[:0:-1]
        assert api.call("GET", f"{path}?perPage=1&lastId={wanted[1]}").json[0]["id"] == wanted[0]
        assert api.call("GET", path).json == []
        assert api.call("GET", f"{path}?name=&per_page=").json == []


# -- keys and attempts -------------------------------------------------------------------------------------------


def test_the_same_key_twice_is_one_signal_and_another_body_is_422(api: Engine) -> None:
    path = f"/workflows/{api.workflow()}/signal/go"
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = api.call("POST", path, {"client_data": {"n": 1}}, headers=key)
    assert api.call("POST", path, {"client_data": {"n": 1}}, headers=key).json["id"] == first.json["id"]
    assert api.call("POST", path, {"client_data": {"n": 2}}, headers=key).status == 422
    assert api.call("POST", path, {}, headers={"Idempotency-Key": "a b"}).status == 400


def test_the_same_key_twice_is_one_workflow_and_another_body_is_422(api: Engine) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"name": uuid.uuid4().hex, "subject": {"a": 1, "b": 2}, "decider": "D"}
    first = api.call("POST", "/workflows", body, headers=key).json["id"]
    again = api.call("POST", "/workflows", {**body, "subject": {"b": 2, "a": 1}}, headers=key)
    assert (again.status, again.json["id"]) == (201, first)
    assert api.call("POST", "/workflows", body).json["id"] == first
    assert api.call("POST", "/workflows", {**body, "subject": "other"}, headers=key).status == 422
    assert api.call("POST", "/workflows", {**body, "subject": "other"}, headers=key, client=1).status == 201


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ({"response": False}, False),
        ({"response": 0}, 0),
        ({"response": []}, []),
        ({"response": {"a.b": {"$set": 2**70}}}, {"a.b": {"$set": 2**70}}),
        ({"args": "a text"}, "a text"),
        ({"response": False, "args": {"a": 1}}, {"a": 1}),
        ({}, {}),
    ],
)
def test_a_response_comes_back_as_it_was_sent(api: Engine, body: dict[str, object], kept: object) -> None:
    node = api.signal(api.workflow())
    sent(api, node)
    assert api.call("PUT", f"/activities/{node}/status/completed", body).status == 200
    assert api.call("GET", f"/activities/{node}/response").json == kept


def test_the_same_key_twice_adds_children_once(api: Engine) -> None:
    node = api.signal(api.workflow())
    sent(api, node)
    body = {"decisions": [{"name": "a"}, {"name": "b"}]}
    key = {"Idempotency-Key": uuid.uuid4().hex}
    answers = [api.call("POST", f"/activities/{node}/decisions", body, headers=key) for _ in range(2)]
    assert answers[0].json == answers[1].json
    body["decisions"].append({"name": "c"})
    assert api.call("POST", f"/activities/{node}/decisions", body, headers=key).status == 422


def test_decisions_are_all_stored_or_none(api: Engine) -> None:
    workflow = api.workflow()
    node = api.signal(workflow)
    sent(api, node)
    nowhere = str(uuid.uuid4())
    bads: list[object] = [{"type": "activity"}, "x"]
    bads += [{"name": "x", "mode": "sideways"}, {"name": "x", "retry": -1}, {"name": "x", "firesAt": "soon"}]
    bads += [{"name": "x", "clientId": nowhere}, {"name": "x", "parentLinkId": nowhere}]
    for bad in bads:
        answer = api.call("POST", f"/activities/{node}/decisions", {"decisions": [{"name": "good"}, bad]})
        assert answer.status == 400, bad
    assert len(api.call("GET", f"/workflows/{workflow}/nodes").json) == 1


def test_a_status_for_an_old_attempt_is_409(api: Engine) -> None:
    workflow = api.workflow()
    node = api.signal(workflow, retry=3, retry_interval=0)
    sent(api, node)
    assert api.stub.of(node)[0][2]["x-backbeat-attempt"] == "1"
    assert api.call("PUT", f"/activities/{node}/status/errored", {}, headers={"X-Backbeat-Attempt": "1"}).status == 200
    sent(api, node, 2)
    late = api.call("PUT", f"/activities/{node}/status/completed", {}, headers={"X-Backbeat-Attempt": "1"})
    assert late.status == 409
    assert (late.json["currentStatus"], late.json["attemptedStatus"]) == ("received", "complete")
    assert api.states(node) == ("sent_to_client", "received")
    assert (
        api.call("PUT", f"/activities/{node}/status/completed", {}, headers={"X-Backbeat-Attempt": "2"}).status == 200
    )


def test_a_transition_that_the_tables_forbid_is_409_with_both_statuses(api: Engine) -> None:
    node = api.signal(api.workflow())
    sent(api, node)
    answer = api.call("PUT", f"/activities/{node}/status/resolved", {})
    assert (answer.status, answer.json["currentStatus"], answer.json["attemptedStatus"]) == (
        409,
        "received",
        "resolved",
    )


# -- health, heartbeat, end --------------------------------------------------------------------------------------


def test_the_heartbeat_follows_its_file(mongo: Mongo, redis_server: Redis) -> None:
    with engine(mongo.url("t" + uuid.uuid4().hex[:12]), redis_server.url(), "--heartbeat", "hb.txt", workers=0) as api:
        assert api.call("GET", "/heartbeat.txt", client=None).status == 503
        (api.home / "hb.txt").touch()
        assert api.call("GET", "/heartbeat.txt", client=None).status == 200
        (api.home / "hb.txt").unlink()
        assert api.call("GET", "/heartbeat.txt", client=None).status == 503
        assert api.call("GET", "/health", client=None).status == 200


def test_stores_that_go_away_are_told_in_one_line_and_the_heartbeat_does_not_care() -> None:
    mongo, redis = Mongo.start(), Redis.start()
    try:
        with engine(mongo.url(), redis.url(), workers=0) as api:
            workflow = api.workflow()
            assert api.call("GET", "/health", client=None).json["redis"] == "ok"
            redis.process.kill()
            health = wait_for(
                "it to notice", lambda: (a := api.call("GET", "/health", client=None)).json["redis"] == "down" and a
            )
            assert (health.status, health.json["status"]) == (200, "OK")
            assert api.call("POST", f"/workflows/{workflow}/signal/go", {}).status == 201
            mongo.nodes[0].kill()
            health = wait_for(
                "it to notice", lambda: (a := api.call("GET", "/health", client=None)).status == 503 and a
            )
            assert "\n" not in health.json["mongo"]
            wait_for(
                "another look",
                lambda: api.call("GET", "/health", client=None, timeout=5).json["time"] > health.json["time"],
            )
            assert b"\nbackbeat_mongo_up 0\n" in api.call("GET", "/metrics", client=None, timeout=5).body
            assert api.call("GET", "/heartbeat.txt", client=None).status == 200
            answer = api.call("POST", "/workflows", {"name": "x", "subject": 1, "decider": "d"})
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert "\n" not in answer.json["message"]
            assert mongo.password not in answer.body.decode() + health.body.decode()
            mongo.nodes[0].start()
            wait_for("it to come back", lambda: api.call("GET", "/health", client=None).status == 200)
            assert api.call("GET", f"/workflows/{workflow}").status == 200
    finally:
        redis.stop()
        mongo.stop()


def test_sigterm_answers_what_is_under_way_and_ends_with_0(mongo: Mongo, redis_server: Redis) -> None:
    with engine(mongo.url("t" + uuid.uuid4().hex[:12]), redis_server.url(), workers=0) as api:
        serving = api.processes[0]
        connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=20)
        body = json.dumps({"name": "late", "subject": 1, "decider": "d"}).encode()
        connection.putrequest("POST", "/workflows")
        for name, value in {"Client-Id": api.clients[0][0], "Content-Length": str(len(body))}.items():
            connection.putheader(name, value)
        connection.endheaders(body[:10])
        api.call("GET", "/heartbeat.txt", client=None)  # by now the first has been read, too
        os.kill(serving.pid, signal.SIGTERM)
        wait_for("it to stop accepting", lambda: not accepts(api.port))
        finished = threading.Thread(target=connection.send, args=(body[10:],))
        finished.start()
        assert connection.getresponse().status == 201
        finished.join()
        connection.close()
        assert serving.wait(15) == 0


def accepts(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.connect()
        return True
    except OSError:
        return False
    finally:
        connection.close()


def test_a_port_that_is_taken_is_said_in_one_line(api: Engine) -> None:
    words = [BBCTL, "serve", "--port", str(api.port)]
    done = subprocess.run(words, env=api.environ, cwd=api.home, capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"port {api.port}".encode() in done.stderr


def test_too_many_requests_of_one_client_are_429(mongo: Mongo, redis_server: Redis) -> None:
    with engine(mongo.url("t" + uuid.uuid4().hex[:12]), redis_server.url(), "--rate", "0.5", workers=0) as api:
        answers = [api.call("GET", "/workflows/names") for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 429, 429]
        assert int(answers[2].headers["retry-after"]) >= 1
        assert api.call("GET", "/workflows/names", client=1).status == 200
        assert api.call("GET", "/heartbeat.txt", client=None).status == 200
