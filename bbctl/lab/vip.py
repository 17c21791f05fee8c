"""The lab's VIP: one HTTP address in front of all hosts, which sends nobody to a host whose /heartbeat.txt does not answer.

    python -m bbctl.lab.vip FOLDER

A request that no byte of has been sent may go to another host; a POST that was sent never goes twice. Every answer that
the VIP had to make up itself is an error, counted, as is a 5xx of a host. `GET /vip` says how it stands.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bbctl.lab.ground import Ground, load

EVERY = 0.25  # seconds between two looks at a host
FALL = 2  # failed looks after which it is out; a 404 (drained) takes it out at once
PATIENCE = 60.0  # for a whole answer
MOST = 2 << 20  # bytes of a body
HEAD = 65536
SAFE = ("GET", "HEAD")


@dataclass(eq=False)
class Backend:
    """One host. `up`: asked and answered 200."""

    name: str
    address: str
    port: int
    up: bool = False
    failed: int = 0
    active: int = 0
    requests: int = 0

    async def look(self) -> None:
        try:
            async with asyncio.timeout(1.0):
                status, _ = await ask(self, b"GET /heartbeat.txt HTTP/1.1\r\nHost: vip\r\nConnection: close\r\n\r\n")
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            status = 0
        self.failed = 0 if status == 200 else self.failed + 1
        self.up = status == 200 or (status == 0 and self.up and self.failed < FALL)


class Unsent(OSError):
    """No connection: not a byte was sent."""


async def ask(backend: Backend, request: bytes) -> tuple[int, bytes]:
    """One request on a connection of its own; status and the whole answer. Unsent, or what broke after sending."""
    try:
        reader, writer = await asyncio.open_connection(backend.address, backend.port, limit=HEAD)
    except OSError as error:
        raise Unsent(str(error)) from error
    try:
        writer.write(request)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        length = header(head, b"content-length")
        if length is not None:
            body = await reader.readexactly(int(length))
        else:
            body = b"" if status_of(head) in (204, 304) else await reader.read(-1)
    finally:
        writer.close()
    return status_of(head), head + body


def status_of(head: bytes) -> int:
    return int(head.split(b" ", 2)[1])


def header(head: bytes, name: bytes) -> bytes | None:
    """The value of a header, whatever its case."""
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return None


def passed_on(head: bytes, body: bytes) -> bytes:
    """The request as a host gets it: a connection for itself, the body with its length."""
    first, *lines = head.rstrip(b"\r\n").split(b"\r\n")
    mine = (b"connection", b"content-length", b"transfer-encoding", b"expect", b"keep-alive")
    kept = [line for line in lines if line.partition(b":")[0].strip().lower() not in mine]
    length = [b"Content-Length: %d" % len(body)] if body or not first.startswith(b"GET ") else []
    return b"\r\n".join([first, *kept, *length, b"Connection: close", b"", b""]) + body


@dataclass
class Vip:
    backends: list[Backend]
    requests: int = 0
    refused: int = 0  # answers made up here: nobody in service, or a host broke off
    failed: int = 0  # a host's own 5xx
    turn: int = 0

    async def watch(self) -> None:
        while True:
            await asyncio.gather(*(backend.look() for backend in self.backends))
            await asyncio.sleep(EVERY)

    def choices(self) -> Iterable[Backend]:
        """Those in service, the least busy first, in turn."""
        self.turn += 1
        count = len(self.backends)
        order = [self.backends[(self.turn + n) % count] for n in range(count)]
        return sorted((backend for backend in order if backend.up), key=lambda backend: backend.active)

    async def answer(self, head: bytes, body: bytes) -> bytes:
        """The answer of a host, or ours."""
        self.requests += 1
        request, safe = passed_on(head, body), head.split(b" ", 1)[0].decode("latin-1") in SAFE
        why = "nobody is in service"
        for backend in self.choices():
            backend.active += 1
            try:
                async with asyncio.timeout(PATIENCE):
                    status, answer = await ask(backend, request)
            except Unsent as error:
                backend.up, why = False, f"{backend.name}: {error}"
                continue
            except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
                why = f"{backend.name} broke off: {error!r}"
                if safe:
                    continue
                return self._refuse(502, why)
            finally:
                backend.active -= 1
            backend.requests += 1
            self.failed += status >= 500
            return answer
        return self._refuse(503, why)

    def _refuse(self, status: int, why: str) -> bytes:
        self.refused += 1
        return made(status, {"error": why})

    def state(self) -> dict[str, object]:
        return {
            "requests": self.requests,
            "errors": self.refused + self.failed,
            "refused": self.refused,
            "failed": self.failed,
            "backends": [
                {"host": b.name, "up": b.up, "active": b.active, "requests": b.requests} for b in self.backends
            ],
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a caller, request after request."""
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        body = await body_of(reader, head, writer)
        if head.startswith(b"GET /vip "):
            answer = made(200, self.state())
        else:
            answer = await self.answer(head, body)
        start = answer.partition(b"\r\n\r\n")[0]
        stays = header(head, b"connection") != b"close" and header(start, b"content-length") is not None
        writer.write(_without_close(answer) if stays else answer)
        await writer.drain()
        return stays


def _without_close(answer: bytes) -> bytes:
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def body_of(reader: asyncio.StreamReader, head: bytes, writer: asyncio.StreamWriter) -> bytes:
    """A request's body, chunked or counted. ValueError where it is too large."""
    if (header(head, b"expect") or b"").lower() == b"100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    if (header(head, b"transfer-encoding") or b"").lower() == b"chunked":
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readline()
            if len(body) > MOST:
                raise ValueError("too large")
        while (await reader.readline()).strip():
            pass
        return body
    length = int(header(head, b"content-length") or 0)
    if length > MOST:
        raise ValueError("too large")
    return await reader.readexactly(length)


def made(status: int, value: object) -> bytes:
    """An answer of the VIP itself."""
    body = json.dumps(value).encode()
    words = {200: "OK", 502: "Bad Gateway", 503: "Service Unavailable"}
    head = f"HTTP/1.1 {status} {words[status]}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + (b"Retry-After: 1\r\n" if status == 503 else b"") + b"\r\n" + body


async def run(ground: Ground) -> None:
    """Until TERM."""
    vip = Vip([Backend(host.name, host.address, ground.http_port) for host in ground.hosts])
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    server = await asyncio.start_server(vip.serve, ground.vip_address, ground.vip_port, limit=HEAD)
    watch = asyncio.create_task(vip.watch())
    async with server:
        await over.wait()
    watch.cancel()


def main(folder: Path) -> int:
    ground = load(folder)
    if ground is None:
        return 2
    asyncio.run(run(ground))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
