"""Clients that answer badly, late, never, or twice: every activity still ends in the state that it deserves."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.integration.api_server import Engine, engine
from tests.integration.servers import Mongo, Redis, wait_for

HEAD = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n"
FAILED = "HTTP request for activity failed"
DROPPED = "Could not POST"


def answer(status: int, more: bytes = b"", body: bytes = b"{}") -> bytes:
    return HEAD % status + more + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body


def endless(connection: socket.socket) -> None:
    """100 MB nobody asked for."""
    connection.sendall(HEAD % 200 + b"Content-Length: 104857600\r\n\r\n")
    for _ in range(1600):
        connection.sendall(b"x" * 65536)


def slow(connection: socket.socket, stop: threading.Event) -> None:
    """A byte each half second."""
    for byte in answer(200):
        connection.sendall(bytes([byte]))
        if stop.wait(0.5):
            return


# What the endpoint does with the post of an activity of that name.
PLAIN: dict[str, bytes] = {
    "error 500": answer(500),
    "missing 404": answer(404),
    "too many 429": answer(429, b"Retry-After: 3600\r\n"),
    "redirect 302": answer(302, b"Location: /elsewhere\r\n"),
    "redirect 307": answer(307, b"Location: /elsewhere\r\n"),
    "garbage": answer(200, body=b"\xff\xfenot json"),
    "no http": b"SSH-2.0-OpenSSH_9.2\r\n",
    "cut short": HEAD % 200 + b"Content-Length: 1000\r\n\r\n{",
    "early close": b"",
}


class Hostile:
    """A raw server: what it does is decided by the name of the node in the request."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.stop_event = threading.Event()
        self.lines: list[str] = []
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            self.threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(20)
            got = b""
            while b"\r\n\r\n" not in got:
                piece = connection.recv(65536)
                if not piece:
                    return
                got += piece
            head, _, body = got.partition(b"\r\n\r\n")
            self.lines.append(head.split(b"\r\n")[0].decode())
            length = next(
                (int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-length:")), 0
            )
            while len(body) < length:
                body += connection.recv(65536)
            said = json.loads(body)
            self._answer(connection, (said.get("activity") or said.get("decision"))["name"])

    def _answer(self, connection: socket.socket, name: str) -> None:
        special: dict[str, Callable[[], object]] = {
            "endless": lambda: endless(connection),
            "slow": lambda: slow(connection, self.stop_event),
            "never": lambda: self.stop_event.wait(30),
        }
        if name in special:
            special[name]()
        else:
            connection.sendall(PLAIN.get(name, answer(200)))

    def stop(self) -> None:
        self.stop_event.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join()


@pytest.fixture(scope="module")
def hostile() -> Iterator[Hostile]:
    server = Hostile()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def api(mongo: Mongo, redis_server: Redis, hostile: Hostile) -> Iterator[Engine]:
    with engine(mongo.url("t" + uuid.uuid4().hex[:12]), redis_server.url()) as server:
        for name, base in (("hostile", hostile.url), ("tls", hostile.url.replace("http://", "https://"))):
            words = ["--activity-endpoint", f"{base}/a", "--notification-endpoint", f"{server.stub.url}/notification"]
            made = server.bbctl("client", "add", name, *words, "--timeout", "2s")
            server.clients.append((made["id"], made["authToken"]))
        yield server


def send(api: Engine, name: str, client: int = 2) -> str:
    made = api.call("POST", "/workflows", {"name": "h", "subject": uuid.uuid4().hex, "decider": "D"}, client=client)
    path = f"/workflows/{made.json['id']}/signal"
    return str(api.call("POST", path, {"name": name, "retry": 0}, client=client).json["id"])


def ends(api: Engine, node: str, client: int = 2) -> tuple[str, str]:
    """Where the node stands once it has been posted and the post is over."""

    def over() -> tuple[str, str] | None:
        shown = api.call("GET", f"/activities/{node}", client=client).json
        states = shown["currentServerStatus"], shown["currentClientStatus"]
        return states if states[0] == "retries_exhausted" else None

    return tuple(wait_for("the post to be over", over, 15))  # type: ignore[return-value]


def said(api: Engine, node: str, client: int = 2) -> str:
    return json.dumps(api.call("GET", f"/activities/{node}/errors", client=client).json[-1]["response"])


@pytest.mark.parametrize("name", ["error 500", "missing 404", "too many 429", "redirect 302", "redirect 307"])
def test_an_answer_that_is_no_success_is_a_client_error(api: Engine, hostile: Hostile, name: str) -> None:
    node = send(api, name)
    assert ends(api, node) == ("retries_exhausted", "errored")
    assert FAILED in said(api, node)
    assert not [line for line in hostile.lines if "elsewhere" in line], "a redirect was followed"


@pytest.mark.parametrize("name", ["early close", "no http", "never", "slow"])
def test_a_connection_that_brings_no_answer_is_a_client_error(api: Engine, name: str) -> None:
    node = send(api, name)
    assert ends(api, node) == ("retries_exhausted", "errored")
    assert DROPPED in said(api, node)


def test_an_endpoint_that_cannot_speak_tls_is_a_client_error(api: Engine) -> None:
    node = send(api, "x", client=3)
    assert ends(api, node, client=3) == ("retries_exhausted", "errored")
    assert DROPPED in said(api, node, client=3)


@pytest.mark.parametrize("name", ["garbage", "endless"])
def test_a_success_counts_whatever_its_body_is(api: Engine, name: str) -> None:
    node = send(api, name)
    after = send(api, "early close")  # sent later, over before: by then the first has had its answer, or never will
    ends(api, after)
    shown = wait_for("it to be with the client", lambda: api.call("GET", f"/activities/{node}", client=2).json)
    assert (shown["currentServerStatus"], shown["currentClientStatus"]) == ("sent_to_client", "received")


def test_silent_clients_do_not_hold_up_others(api: Engine) -> None:
    silent = [send(api, "never") for _ in range(20)]
    node = api.signal(api.workflow())
    wait_for("the post to the other client", lambda: api.stub.of(node), 5)
    assert {ends(api, one) for one in silent} == {("retries_exhausted", "errored")}


def test_an_answer_that_was_lost_after_the_work_was_done_changes_nothing(api: Engine) -> None:
    def works_then_drops(node: dict[str, str]) -> None:
        for word in ("processing", "completed"):
            api.call("PUT", f"/activities/{node['id']}/status/{word}", {"response": {"result": 1}})

    api.stub.on["lost reply"] = works_then_drops  # type: ignore[assignment]
    node = api.signal(api.workflow(), "lost%20reply")
    wait_for("its end", lambda: api.states(node) == ("complete", "complete"))
    again = api.call("PUT", f"/activities/{node}/status/completed", {"response": {"result": 2}})
    assert (again.status, again.json["errorClass"]) == (409, "Backbeat::InvalidServerStatusChange")
    late = api.call("PUT", f"/activities/{node}/status/errored", {}, headers={"X-Backbeat-Attempt": "1"})
    assert late.status == 409
    assert api.call("GET", f"/activities/{node}/response").json == {"result": 1}
    assert len(api.stub.of(node)) == 1
