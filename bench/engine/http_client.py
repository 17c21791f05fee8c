"""A client of Backbeat's protocol, as lean as can be: takes our POST, answers 200, calls back by HTTP. One process, asyncio.

    python -m bench.engine.http_client PORT API_PORT CLIENT TOKEN STEPS

A decision registers STEPS activities in sequence and completes; an activity completes. Every call has its own request.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
CALLS = 32
"""Calls of ours under way at once."""


async def message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of a request or an answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line[:15].lower() == b"content-length:"), 0)
    return head, await reader.readexactly(length) if length else b""


class Caller:
    """Connections to the API that stay open."""

    def __init__(self, port: int, client: str, token: str) -> None:
        self.port = port
        self.head = f'Host: api\r\nContent-Type: application/json\r\nClient-Id: {client}\r\nAuthorization: Token token="{token}"'
        self.free: list[Pair] = []
        self.room = asyncio.Semaphore(CALLS)

    async def call(self, line: str, body: Any) -> None:
        text = json.dumps(body)
        async with self.room:
            pair = self.free.pop() if self.free else await asyncio.open_connection("127.0.0.1", self.port)
            pair[1].write(f"{line} HTTP/1.1\r\n{self.head}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
            head, answer = await message(pair[0])
            if not head.startswith(b"HTTP/1.1 2"):
                print(line, head.split(b"\r\n")[0], answer, file=sys.stderr, flush=True)
            self.free.append(pair)


async def work(caller: Caller, node: dict[str, Any], steps: int) -> None:
    path = f"/activities/{node['id']}"
    if node["name"] == "chain":
        await caller.call(f"POST {path}/decisions", {"decisions": [{"name": "step"}] * steps})
    await caller.call(f"PUT {path}/status/completed", {})


async def main() -> None:
    port, api, client, token, steps = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])
    caller = Caller(api, client, token)
    under_way: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                _, body = await message(reader)
                told = json.loads(body)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                task = asyncio.create_task(work(caller, told.get("activity") or told["decision"], steps))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
