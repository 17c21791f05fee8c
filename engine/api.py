"""The HTTP door: bytes of a request → the route's function in a thread → bytes of an answer.

`bbctl serve` starts it; a signal ends it: it stops accepting, finishes what is under way (at most `GRACE` seconds) and
returns. The event loop only reads and writes; every function that touches a store runs in a bounded pool of threads, so
that journalled writes of many requests share one flush. Nothing a client sends is answered with 500 or above, except
503 where a store is gone or the door is full.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import uvicorn
from httptools import HttpParserInvalidMethodError
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from engine import routes, trouble
from engine.calls import Answer, Ask, Door, Written
from engine.errors import BadRequest, EngineError, TooLarge
from engine.gate import Gate
from engine.openapi import document
from engine.params import Params, as_count, read_request
from engine.runtime import Runtime
from engine.trouble import Busy, TooSlow

GRACE = 10  # seconds for requests under way once asked to stop
HEAD_LIMIT = 65_536  # bytes of request line and headers
HEAD_SECONDS = 20.0  # to send them
LINGER_SECONDS = 2.0  # reading on after an early answer, so that the answer is not lost to a reset
STORE = 1 / 2  # of the deadline: what a request may ask of MongoDB; the call of others that it waits behind may last on
WAITING = 16  # requests that may wait for each thread
REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}) [/*]\S* HTTP/1\.[01]\r?\n")

log = logging.getLogger("engine.api")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How to serve. `heartbeat`: /heartbeat.txt is 200 only while that file exists. `rate`: requests a second each
    client may make, 0 for no limit. `deadline`: seconds for a whole body, and then for the answer."""

    host: str = "127.0.0.1"
    port: int = 8080
    strict: bool = False
    heartbeat: Path | None = None
    max_body: int = 1_048_576
    rate: float = 0
    deadline: float = 30.0
    threads: int = 32
    version: str = "0"


@dataclass(frozen=True)
class Reply:
    """A finished answer. `last`: the connection closes after it, the rest of the request is not wanted."""

    status: int
    body: bytes
    media: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    last: bool = False


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _trouble(error: EngineError, *, last: bool = False) -> Reply:
    status, body, headers = trouble.answer(error)
    return Reply(status, _json(body), headers=headers, last=last)


def _plain(status: int, error_class: str, message: str, *, headers: trouble.Headers = ()) -> Reply:
    return Reply(status, _json({"errorClass": error_class, "message": message}), headers=headers)


class App:
    """The ASGI application of one process."""

    def __init__(self, rt: Runtime, serving: Serving) -> None:
        self.rt = rt
        self.serving = serving
        self.pool = ThreadPoolExecutor(serving.threads, thread_name_prefix="http")
        self.gate = Gate(rt, strict=serving.strict, rate=serving.rate)
        description = document(routes.ROUTES, version=serving.version, strict=serving.strict)
        self.door = Door(heartbeat=serving.heartbeat, openapi=Written(json.dumps(description)), version=serving.version)
        self.under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tid = secrets.token_hex(16)
        try:
            reply = await self._reply(scope, receive, tid)
        except Exception:
            log.exception("tid=%s %s %s", tid, scope["method"], scope["path"])
            reply = _plain(500, "Backbeat::InternalError", f"A defect of the server; its log names it by {tid}")
        self.door.answered(reply.status)
        head = [(b"content-type", reply.media), (b"content-length", b"%d" % len(reply.body))]
        head += [(b"x-backbeat-tid", tid.encode()), *reply.headers]
        head += [(b"connection", b"close")] if reply.last else []
        await send({"type": "http.response.start", "status": reply.status, "headers": head})
        if reply.last:
            await send({"type": "http.response.body", "body": reply.body, "more_body": True})
            await _read_on(receive)
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "http.response.body", "body": reply.body})

    async def _reply(self, scope: Scope, receive: Receive, tid: str) -> Reply:
        try:
            body = await self._body(scope, receive)
        except TooLarge as error:
            return _trouble(error, last=True)
        except TimeoutError:
            return _trouble(TooSlow("The body did not come in time"), last=True)
        try:
            found = routes.find(_segments(scope["raw_path"]))
        except UnicodeDecodeError:
            return _trouble(BadRequest("path", "The path is not UTF-8"))
        if found is None:
            return _plain(404, "Backbeat::NoSuchPath", "There is no such path; GET /openapi.json lists them")
        method = scope["method"]
        route = found.methods.get("GET" if method == "HEAD" else method)
        if route is None:
            allowed = ((b"allow", ", ".join(sorted(found.methods)).encode()),)
            return _plain(405, "Backbeat::MethodNotAllowed", f"{method} is not for this path", headers=allowed)
        if route.here and (route.auth == "always" or not self.serving.strict):
            return self._work(route, found.names, scope, body, tid)
        return await self._in_thread(route, found.names, scope, body, tid)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body. TooLarge as soon as that is known; TimeoutError where it does not come."""
        limit = self.serving.max_body
        for name, value in scope["headers"]:
            if name == b"content-length" and int(value) > limit:
                raise TooLarge(f"The body is larger than {limit} bytes")
        parts: list[bytes] = []
        size = 0
        async with asyncio.timeout(self.serving.deadline):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise TimeoutError
                parts.append(message["body"])
                size += len(message["body"])
                if size > limit:
                    raise TooLarge(f"The body is larger than {limit} bytes")
                if not message["more_body"]:
                    return b"".join(parts)

    async def _in_thread(
        self, route: routes.Route, names: Mapping[str, str], scope: Scope, body: bytes, tid: str
    ) -> Reply:
        if self.under_way >= self.serving.threads * (WAITING + 1):
            return _trouble(Busy("Too many requests wait here; try again"))
        self.under_way += 1
        task = asyncio.get_running_loop().run_in_executor(self.pool, self._work, route, names, scope, body, tid)
        task.add_done_callback(self._done)
        try:
            return await asyncio.wait_for(asyncio.shield(task), self.serving.deadline)
        except TimeoutError:
            return _trouble(Busy("The answer did not come in time; what was asked may still happen"))

    def _done(self, task: asyncio.Future[Reply]) -> None:
        self.under_way -= 1
        if not task.cancelled():
            task.exception()  # one that nobody waits for any more

    def _work(self, route: routes.Route, names: Mapping[str, str], scope: Scope, body: bytes, tid: str) -> Reply:
        """In a thread: who is it, what do they say, what becomes of it."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        try:
            with self.rt.store.within(self.serving.deadline * STORE):
                client = self.gate.admit(route.auth, headers)
                _plain_body(body, headers)
                values = read_request(
                    query=scope["query_string"], body=body, content_type=headers.get(b"content-type", "").lower()
                )
                ask = Ask(
                    rt=self.rt,
                    door=self.door,
                    client=client,
                    names=names,
                    params=Params(values),
                    tid=tid,
                    key=_key(headers) if route.keyed else None,
                    attempt=_attempt(headers),
                )
                value = route.call(ask)
        except EngineError as error:
            return _trouble(error)
        status = route.status
        if isinstance(value, Answer):
            status, value = value.status, value.body
        if isinstance(value, Written):
            payload = value.text.encode("utf-8")
        else:
            payload = value.encode("utf-8") if route.media.startswith("text/") else _json(value)
        return Reply(status, payload, media=route.media.encode())


def _segments(raw_path: bytes) -> list[str]:
    return [unquote_to_bytes(part).decode("utf-8") for part in raw_path.strip(b"/").split(b"/")]


def _plain_body(body: bytes, headers: dict[bytes, str]) -> None:
    """BadRequest where the body is compressed."""
    coding = headers.get(b"content-encoding", "identity").strip().lower()
    if body and coding != "identity":
        raise BadRequest("Content-Encoding", f"Content-Encoding {coding[:40]} is not read here: send the body as it is")


def _key(headers: dict[bytes, str]) -> str | None:
    key = headers.get(b"idempotency-key")
    if key is not None and not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
        raise BadRequest("Idempotency-Key", "Idempotency-Key must be 1 to 255 visible ASCII characters")
    return key


def _attempt(headers: dict[bytes, str]) -> int | None:
    attempt = headers.get(b"x-backbeat-attempt")
    return None if attempt is None else as_count(attempt, "X-Backbeat-Attempt")


async def _read_on(receive: Receive) -> None:
    """Swallow what the client is still sending: closing at once would reset the connection and lose the answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect" or not message["more_body"]:
                    return


class Protocol(HttpToolsProtocol):
    """uvicorn's, with limits on the head of a request: its size and the time it may take."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._in_head, self._head_size, self._line, self._deaf = True, 0, b"", False
        self._head_timer: asyncio.TimerHandle | None = self.loop.call_later(HEAD_SECONDS, self._too_slow)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._in_head:
            self._line = data[:HEAD_LIMIT] if self._head_size == 0 else self._line
            self._head_size += len(data)
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)
        super().data_received(data)
        if self._in_head and self._head_size > HEAD_LIMIT and not self.transport.is_closing():
            self.send_400_response("")

    def on_headers_complete(self) -> None:
        if self._head_size > HEAD_LIMIT and len(self.url) + sum(len(n) + len(v) for n, v in self.headers) > HEAD_LIMIT:
            raise ValueError("the parser stops and calls send_400_response")
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._head_size = True, 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        if self._head_size > HEAD_LIMIT:
            self._refuse(b"431 Request Header Fields Too Large", "The headers are too large")
        elif isinstance(sys.exception(), HttpParserInvalidMethodError) and (line := REQUEST_LINE.match(self._line)):
            message = f"{line[1].decode()} is not for this path"
            self._refuse(b"405 Method Not Allowed", message, "Backbeat::MethodNotAllowed")
        else:
            self._refuse(b"400 Bad Request", "This is not HTTP")

    def _too_slow(self) -> None:
        if self._in_head and not self.transport.is_closing():
            self._refuse(b"408 Request Timeout", "The headers did not come in time")

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, status: bytes, message: str, kind: str = "Backbeat::BadRequest") -> None:
        """Answers what cannot be read, and closes. Where whole requests before it wait for their answers they get them
        first, and it gets none: ours would be taken for theirs."""
        if self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body:
            self.cycle.keep_alive, self._deaf = False, True
            self._stop_timer()
            return
        body = _json({"errorClass": kind, "message": message})
        head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % (status, len(body))
        tid = secrets.token_hex(16).encode()
        self.transport.write(head + b"x-backbeat-tid: " + tid + b"\r\nconnection: close\r\n\r\n" + body)
        self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's, but signals are ours: a graceful end is a success, not a death by signal."""

    def capture_signals(self) -> Any:
        return nullcontext()


def listen(host: str, port: int) -> socket.socket:
    """The listening socket; port 0 takes a free one. OSError where that cannot be."""
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener


def serve(rt: Runtime, serving: Serving, *, listener: socket.socket, ready: Callable[[], None]) -> int:
    """Serve until SIGTERM, SIGINT or SIGHUP and give its number, with all requests under way answered. A second signal
    ends it at once."""
    app = App(rt, serving)
    config = uvicorn.Config(
        app, http=Protocol, ws="none", lifespan="off", loop="asyncio", log_config=None, access_log=False,
        proxy_headers=False, server_header=False, timeout_keep_alive=75, timeout_graceful_shutdown=GRACE,
    )  # fmt: skip
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    server = Server(config)
    got: list[int] = []

    def stop(number: int) -> None:
        got.append(number)
        server.force_exit = len(got) > 1
        server.should_exit = True

    async def run() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, stop, number)
        loop.call_soon(ready)
        await server.serve(sockets=[listener])

    try:
        asyncio.run(run())
    finally:
        app.pool.shutdown(wait=False, cancel_futures=True)
    return got[0] if got else 0
