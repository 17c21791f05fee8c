"""POSTs to clients that misbehave: the deadline holds, the answer is cut, nothing is followed, the reason is told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from engine.client import Poster, check_endpoint
from engine.errors import BadRequest

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
Peer = Callable[[socket.socket], None]


@contextmanager
def server(peer: Peer) -> Iterator[tuple[str, list[bytes]]]:
    """Answers each connection with `peer`, after its request was read; the requests are kept."""
    listener = socket.create_server(("127.0.0.1", 0))
    requests: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while request := read_request(connection):
                requests.append(request)
                peer(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/activity", requests
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def read_request(connection: socket.socket) -> bytes:
    got = b""
    while b"\r\n\r\n" not in got:
        piece = connection.recv(65536)
        if not piece:
            return b""
        got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@pytest.fixture
def poster() -> Iterator[Poster]:
    found = Poster(connect_timeout=0.5, max_answer=100_000)
    yield found
    found.close()


def test_an_answer_is_its_status_and_the_connection_serves_again(poster: Poster) -> None:
    with server(lambda connection: connection.sendall(OK)) as (url, requests):
        for body in (b"one", b"two"):
            assert poster.post(url, body, {"Idempotency-Key": "n:1"}, timeout=5).ok
    assert [request.rpartition(b"\r\n\r\n")[2] for request in requests] == [b"one", b"two"]
    assert b"Idempotency-Key: n:1" in requests[0]


def test_a_server_that_never_answers_is_left_at_the_deadline(poster: Poster) -> None:
    with server(lambda connection: connection.recv(1)) as (url, _):  # until the other side has gone
        answer = poster.post(url, b"", {}, timeout=0.4)
    assert answer.status is None
    assert answer.late
    assert answer.error == "no answer within 0.4 s"


@pytest.mark.parametrize("start", [b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"])
def test_a_byte_now_and_then_does_not_prolong_the_deadline(poster: Poster, start: bytes) -> None:
    def trickle(connection: socket.socket) -> None:
        connection.sendall(start)
        for _ in range(100):
            time.sleep(0.1)
            connection.sendall(b"0")

    with server(trickle) as (url, _):
        answer = poster.post(url, b"", {}, timeout=0.5)
    assert answer.late


def test_an_endless_body_is_cut_and_the_status_counts(poster: Poster) -> None:
    sent = 0

    def endless(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            sent += 0x10000

    with server(endless) as (url, _):
        assert poster.post(url, b"", {}, timeout=10).ok
    assert sent < 50_000_000


def test_a_redirect_is_not_followed(poster: Poster) -> None:
    with server(lambda connection: connection.sendall(OK)) as (target, hit):
        moved = f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()
        with server(lambda connection: connection.sendall(moved)) as (url, _):
            assert poster.post(url, b"", {}, timeout=5).status == 302
    assert hit == []


@pytest.mark.parametrize("said", [b"", b"no HTTP at all\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"])
def test_a_connection_that_ends_early_or_talks_nonsense_is_an_error_with_a_reason(poster: Poster, said: bytes) -> None:
    def close(connection: socket.socket) -> None:
        connection.sendall(said)
        connection.shutdown(socket.SHUT_RDWR)

    with server(close) as (url, _):
        answer = poster.post(url, b"", {}, timeout=5)
    assert answer.status is None
    assert answer.error
    assert not answer.late


def test_nobody_listening_is_an_error_with_a_reason(poster: Poster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    answer = poster.post(f"http://127.0.0.1:{port}/", b"", {}, timeout=5)
    assert answer.status is None
    assert "refused" in (answer.error or "")


def test_a_server_without_tls_is_an_error_for_an_https_endpoint(poster: Poster) -> None:
    with server(lambda connection: connection.sendall(OK)) as (url, _):
        assert poster.post(url.replace("http:", "https:"), b"", {}, timeout=3).status is None


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest",
        "http://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/",
        "ftp://host/",
        "http://user:secret@host/",
        "http:///nothing",
        "http://host:99999/",
    ],
)
def test_an_endpoint_no_client_may_have_is_refused(url: str) -> None:
    with pytest.raises(BadRequest):
        check_endpoint("activity_endpoint", url)
