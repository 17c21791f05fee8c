"""What a client may send, up to the limits and past them: kept byte for byte, or refused with a reason and not stored."""

from __future__ import annotations

import gzip
import json
import re
import socket
import uuid
from collections.abc import Iterator

import pytest

from tests.integration.api_server import Engine, engine
from tests.integration.servers import Mongo, Redis

MB = 1_000_000


@pytest.fixture(scope="module")
def api(mongo: Mongo, redis_server: Redis) -> Iterator[Engine]:
    with engine(mongo.url("t" + uuid.uuid4().hex[:12]), redis_server.url(), workers=0) as server:
        yield server


@pytest.fixture(scope="module")
def roomy(mongo: Mongo, redis_server: Redis) -> Iterator[Engine]:
    with engine(mongo.url("t" + uuid.uuid4().hex[:12]), redis_server.url(), "--max-body", "15M", workers=0) as server:
        yield server


def body(data: str) -> bytes:
    """A signal whose client_data is this JSON text."""
    return b'{"name": "go", "client_data": ' + data.encode() + b"}"


def signals(api: Engine, workflow: str) -> list[dict[str, object]]:
    found = api.call("GET", f"/workflows/{workflow}/nodes")
    assert found.status == 200, found.body
    return list(found.json)


@pytest.mark.parametrize(
    "data",
    [
        '{"$set": {"a.b": 1, "": 2, "_id": [], "$where": null}}',
        '{"big": 12345678901234567890123, "negative": -9223372036854775809, "edge": 9223372036854775808}',
        '{"half": 1.5, "whole": 2.0, "tiny": 1e-300, "zero": -0.0}',
        r'{"nul\u0000key": "a\u0000b", "controls": "\u0001\u001f\u007f\u2028", "pair": "\ud83d\ude00"}',
        '"a text"',
        "[1, [2, [3]]]",
        "false",
        '{"camelKey": {"snake_key": 1, "Kebab-Key": 2}}',
    ],
)
def test_any_json_comes_back_as_it_was_sent(api: Engine, data: str) -> None:
    workflow = api.workflow()
    made = api.call("POST", f"/workflows/{workflow}/signal", raw=body(data))
    assert made.status == 201, made.body
    sent = json.loads(data)
    for shown in (made.json["clientData"], signals(api, workflow)[0]["clientData"]):
        assert json.dumps(shown) == json.dumps(sent)


@pytest.mark.parametrize(
    "data",
    ['{"x": NaN}', "[Infinity]", "1e400", r'"\ud800"', r'{"\udfff": 1}', "[" * 10_000 + "]" * 10_000, '{"a":' * 100 + "1" + "}" * 100,
     "9" * 5_000, "{", "'x'", "\x00"],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused_and_nothing_is_stored(api: Engine, data: str) -> None:
    workflow = api.workflow()
    answer = api.call("POST", f"/workflows/{workflow}/signal", raw=body(data))
    assert answer.status == 400, answer.body
    assert answer.json["message"]
    assert signals(api, workflow) == []


def test_bytes_that_are_no_utf8_are_refused(api: Engine) -> None:
    workflow = api.workflow()
    assert api.call("POST", f"/workflows/{workflow}/signal", raw=b'{"name": "\xff"}').status == 400


def test_a_hundred_levels_are_kept_and_one_more_is_refused(api: Engine) -> None:
    workflow = api.workflow()
    assert api.call("POST", f"/workflows/{workflow}/signal", raw=body("[" * 99 + "]" * 99)).status == 201
    assert api.call("POST", f"/workflows/{workflow}/signal", raw=body("[" * 100 + "]" * 100)).status == 400


def test_a_body_below_a_megabyte_is_kept_and_one_above_is_413(api: Engine) -> None:
    workflow = api.workflow()
    long = json.dumps("x" * 900_000)
    assert api.call("POST", f"/workflows/{workflow}/signal", raw=body(long)).status == 201
    assert signals(api, workflow)[0]["clientData"] == "x" * 900_000
    answer = api.call("POST", f"/workflows/{workflow}/signal", raw=body(json.dumps("x" * 1_100_000)))
    assert (answer.status, answer.json["errorClass"]) == (413, "Backbeat::PayloadTooLarge")
    assert len(signals(api, workflow)) == 1


@pytest.mark.parametrize("size", [15_900_000, 16 * MB, 17 * MB])
def test_more_than_the_store_can_hold_is_413_however_much_may_be_sent(roomy: Engine, size: int) -> None:
    workflow = roomy.workflow()
    answer = roomy.call("POST", f"/workflows/{workflow}/signal", raw=body(json.dumps("x" * size)))
    assert answer.status == 413
    assert signals(roomy, workflow) == []


def test_a_megabyte_that_grows_when_stored_is_kept_or_refused_but_never_lost(roomy: Engine) -> None:
    workflow = roomy.workflow()
    data = {"client_data": "\u0000" * 1_400_000, "metadata": "é" * 1_400_000}
    answer = roomy.call("POST", f"/workflows/{workflow}/signal/go", data)
    assert answer.status in (201, 413)
    assert len(signals(roomy, workflow)) == (answer.status == 201)


def test_a_long_body_without_a_length_is_answered_before_its_end(api: Engine) -> None:
    head = (
        f"POST /workflows HTTP/1.1\r\nHost: x\r\nClient-Id: {api.clients[0][0]}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as connection:
        connection.sendall(head.encode())
        piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        for _ in range(17):
            connection.sendall(piece)
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_length_that_is_too_much_is_answered_before_the_body(api: Engine) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as connection:
        connection.sendall(b"POST /workflows HTTP/1.1\r\nHost: x\r\nContent-Length: 99000000\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "head",
    [b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /health HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
     b"GET /health HTTP/1.1\r\nX: " + b"a" * 400_000],
)  # fmt: skip
def test_headers_without_end_are_431(api: Engine, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as connection:
        connection.sendall(head)
        assert connection.recv(100).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "head",
    [b"hello\r\n\r\n", b"POST /workflows HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
     b"POST /workflows HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
     b"POST /workflows HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nabc\r\n0\r\n\r\n"],
)  # fmt: skip
def test_what_is_not_http_is_400_and_the_connection_closes(api: Engine, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as connection:
        connection.sendall(head)
        got = b""
        while piece := connection.recv(65536):
            got += piece
    assert got.startswith(b"HTTP/1.1 400 ")


def test_what_follows_a_request_and_is_not_http_does_not_take_the_place_of_its_answer(api: Engine) -> None:
    client, token = api.clients[0]
    body = '{"name": "æøå", "subject": "ß"}'
    head = f"POST /workflows HTTP/1.1\r\nHost: x\r\nClient-Id: {client}\r\nAuthorization: Token token={token}\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"  # as one who counts characters does: four bytes too few
    for before in ("", "GET /heartbeat.txt HTTP/1.1\r\nHost: x\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", api.port), timeout=20) as connection:
            connection.sendall((before + head + body).encode())
            got = b""
            while piece := connection.recv(65536):
                got += piece
        statuses = re.findall(rb"HTTP/1.1 (\d+)", got)
        assert statuses == [b"200", b"400"][not before :], got
        assert b"The body is not JSON" in got


def test_a_compressed_body_is_refused_by_name(api: Engine) -> None:
    packed = gzip.compress(b'{"name": "w"}')
    answer = api.call("POST", "/workflows", raw=packed, headers={"Content-Encoding": "gzip"})
    assert (answer.status, answer.json["message"]) == (
        400, "Content-Encoding gzip is not read here: send the body as it is",
    )  # fmt: skip


def test_a_long_subject_that_is_not_found_is_not_said_again_whole(api: Engine) -> None:
    answer = api.call("GET", "/workflows?name=w&decider=D&subject=" + "a" * 50_000)
    assert answer.status == 404
    assert len(answer.body) < 400


@pytest.mark.parametrize("value", [{"$ne": None}, ["x"], True, 1.5])
def test_an_operator_where_a_text_is_due_is_refused(api: Engine, value: object) -> None:
    assert api.call("POST", "/workflows", {"name": value, "subject": "s", "decider": "d"}).status == 400
    assert api.call("GET", "/workflows/search?name[$ne]=x").status == 400
    assert api.call("GET", "/workflows/search?subject[$regex]=.").status == 400
    assert api.call("GET", "/activities/search?last_id[$gt]=").status == 400


def test_a_piece_of_a_subject_is_a_text_and_not_a_pattern(api: Engine) -> None:
    api.workflow("pattern", subject={"text": "a.*(b"})
    found = api.workflow("pattern", subject={"text": "plain"})
    api.signal(found)
    assert api.call("GET", "/workflows/search?name=pattern&subject=pl.*n").json == []
    assert api.call("GET", "/workflows/search?name=pattern&subject=(").json == []
    assert api.call("GET", "/workflows/search?name=pattern&subject=%00").json == []
    assert api.call("GET", "/activities/search?metadata=n%00&per_page=1").json == []
    assert len(api.call("GET", "/workflows/search?name=pattern&subject=plain").json) == 1
    assert len(api.call("GET", "/workflows/search?name=pattern&subject=&last_id=&per_page=&status_end=").json) == 1
    assert api.call("GET", "/workflows/search?name=&subject=").json == []
