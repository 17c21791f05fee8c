"""The lab's VIP alone, in front of small servers that behave well or badly."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from bbctl.lab.vip import Backend, Vip
from tests.integration.servers import wait_for


class Site(ThreadingHTTPServer):
    """A host: `heartbeat` is the status of /heartbeat.txt; `mood` is fine, breaks (closes in mid-request) or ill (500)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.heartbeat, self.mood = 200, "fine"
        self.got: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/heartbeat.txt":
            self.answer(self.server.heartbeat, b"")
            return
        self.server.got.append(f"{self.command} {self.path}")
        self.server.gate.wait(20)
        if self.server.mood == "breaks":
            self.close_connection = True
            return
        self.answer(500 if self.server.mood == "ill" else 200, body or b"hello")

    do_POST = do_PUT = do_GET

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def running(vip: Vip) -> Iterator[int]:
    """The VIP on a port of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def begin() -> tuple[asyncio.Server, asyncio.Task[None]]:
        return await asyncio.start_server(vip.serve, "127.0.0.1", 0), asyncio.create_task(vip.watch())

    async def end() -> None:
        server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    server, _ = asyncio.run_coroutine_threadsafe(begin(), loop).result(10)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def sites() -> Iterator[list[Site]]:
    made = [Site(), Site()]
    threads = [threading.Thread(target=site.serve_forever) for site in made]
    for thread in threads:
        thread.start()
    yield made
    for site, thread in zip(made, threads, strict=True):
        site.gate.set()
        site.shutdown()
        site.server_close()
        thread.join()


@pytest.fixture
def vip(sites: list[Site]) -> Vip:
    return Vip([Backend(f"h{n}", "127.0.0.1", site.port) for n, site in enumerate(sites, 1)])


def ask(port: int, method: str = "GET", path: str = "/x", body: bytes | None = None, **more: Any) -> tuple[int, bytes]:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        link.request(method, path, body, **more)
        answer = link.getresponse()
        return answer.status, answer.read()
    finally:
        link.close()


def state(port: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ask(port, path="/vip")[1])
    return found


def up(port: int) -> list[bool]:
    return [backend["up"] for backend in state(port)["backends"]]


def test_requests_go_to_all_hosts_in_turn(vip: Vip, sites: list[Site]) -> None:
    with running(vip) as port:
        wait_for("both in", lambda: up(port) == [True, True])
        assert [ask(port)[0] for _ in range(10)] == [200] * 10
        assert all(len(site.got) == 5 for site in sites)


def test_a_host_whose_heartbeat_is_gone_gets_nothing_more(vip: Vip, sites: list[Site]) -> None:
    with running(vip) as port:
        wait_for("both in", lambda: up(port) == [True, True])
        sites[0].heartbeat = 404
        wait_for("one out", lambda: up(port) == [False, True])
        assert [ask(port)[0] for _ in range(4)] == [200] * 4
        assert sites[0].got == []
        sites[0].heartbeat = 200
        wait_for("both in", lambda: up(port) == [True, True])


def test_a_request_under_way_ends_on_a_host_that_is_drained(vip: Vip, sites: list[Site]) -> None:
    with running(vip) as port:
        wait_for("both in", lambda: up(port) == [True, True])
        for site in sites:
            site.gate.clear()
        answers: list[tuple[int, bytes]] = []
        asking = threading.Thread(target=lambda: answers.append(ask(port, "POST", body=b"slow")))
        asking.start()
        (busy,) = wait_for("it arrives", lambda: [site for site in sites if site.got])
        busy.heartbeat = 404
        wait_for("one out", lambda: up(port).count(False) == 1)
        busy.gate.set()
        asking.join(20)
        assert answers == [(200, b"slow")]


def test_a_sent_post_never_goes_twice(vip: Vip, sites: list[Site]) -> None:
    with running(vip) as port:
        wait_for("both in", lambda: up(port) == [True, True])
        for site in sites:
            site.mood = "breaks"
        assert ask(port, "POST", body=b"pay")[0] == 502
        assert sum(len(site.got) for site in sites) == 1
        assert state(port)["errors"] == 1


def test_a_get_that_breaks_off_is_asked_of_another_host(vip: Vip, sites: list[Site]) -> None:
    with running(vip) as port:
        wait_for("both in", lambda: up(port) == [True, True])
        sites[0].mood = "breaks"
        assert [ask(port)[0] for _ in range(4)] == [200] * 4
        assert state(port)["errors"] == 0


def test_a_post_that_was_not_sent_goes_to_another_host(sites: list[Site]) -> None:
    dead = Backend("dead", "127.0.0.1", 1, up=True)
    vip = Vip([dead, Backend("h1", "127.0.0.1", sites[0].port, up=True)])
    vip.watch = lambda: asyncio.sleep(60)  # type: ignore[method-assign]  # nobody notices that it died
    with running(vip) as port:
        assert [ask(port, "POST", body=b"pay")[0] for _ in range(3)] == [200] * 3
        assert state(port)["errors"] == 0


def test_without_any_host_it_says_so_and_counts(vip: Vip, sites: list[Site]) -> None:
    for site in sites:
        site.heartbeat = 404
    with running(vip) as port:
        status, body = ask(port)
        assert (status, json.loads(body)) == (503, {"error": "nobody is in service"})
        assert state(port)["refused"] == 1


def test_a_hosts_own_500_is_passed_on_and_counted(vip: Vip, sites: list[Site]) -> None:
    for site in sites:
        site.mood = "ill"
    with running(vip) as port:
        wait_for("both in", lambda: up(port) == [True, True])
        assert ask(port)[0] == 500
        assert state(port)["failed"] == 1


def test_a_chunked_body_arrives_whole(vip: Vip, sites: list[Site]) -> None:
    with running(vip) as port:
        wait_for("both in", lambda: up(port) == [True, True])
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        link.request("POST", "/x", iter([b"one ", b"two ", b"three"]), encode_chunked=True)
        assert link.getresponse().read() == b"one two three"
        link.request("GET", "/again")
        assert link.getresponse().status == 200, "the same connection serves on"
        link.close()
