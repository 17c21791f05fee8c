"""A network between servers on one machine that can be cut in two: each server stands behind a door (a TCP proxy) that asks
the kernel which process knocks, and lets nobody through who is on the other side.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.worker_kit import children_of

HERE = "127.0.0.1"


def sockets_of(pid: int) -> set[str]:
    """The sockets that a process has open, by their number."""
    found = set()
    with contextlib.suppress(OSError):
        for one in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(one.path))
    return found


def socket_from(port: int, to: int) -> str | None:
    """The socket that is connected from one port of this machine to another."""
    ends = f":{port:04X} 0100007F:{to:04X} "
    for line in Path("/proc/net/tcp").read_text().splitlines():
        if ends in line:
            return f"socket:[{line.split()[9]}]"
    return None


def family(pids: Iterable[int]) -> set[int]:
    """These processes and all that descend from them."""
    found: set[int] = set()
    todo = list(pids)
    while todo:
        pid = todo.pop()
        found.add(pid)
        todo += children_of(pid)
    return found


@dataclass
class Network:
    """`apart`: the processes on the far side (with all that descend from them) and the ports of the servers there; while it
    is `cut` nothing passes between them and the others."""

    apart: Callable[[], Iterable[int]] = lambda: ()
    ports: set[int] = field(default_factory=set)
    cut: bool = False
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _open: dict[asyncio.StreamWriter, tuple[int, int, int]] = field(default_factory=dict)  # their port, door, server
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _doors: list[asyncio.Server] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def door(self, port: int) -> int:
        """A door before the server at this port."""
        return self._do(self._listen(port))

    def divide(self) -> None:
        self._do(self._divide())

    def heal(self) -> None:
        self.cut = False

    def close(self) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(60)

    async def _listen(self, port: int) -> int:
        async def knock(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                await self._pass(reader, writer, port)
            finally:
                self._tasks.discard(task)

        self._doors.append(await asyncio.start_server(knock, HERE, 0))
        return int(self._doors[-1].sockets[0].getsockname()[1])

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        with contextlib.suppress(OSError):
            here, there = writer.get_extra_info("sockname")[1], writer.get_extra_info("peername")[1]
            self._open[writer] = (there, here, port)
            try:
                if self.cut and self._crosses(there, here, port):
                    return
                inner, outer = await asyncio.open_connection(HERE, port)
                await asyncio.gather(_pump(reader, outer), _pump(inner, writer))
            finally:
                del self._open[writer]
                writer.close()

    def _crosses(self, there: int, here: int, port: int) -> bool:
        found = socket_from(there, here)
        far = any(found in sockets_of(pid) for pid in family(self.apart()))
        return far != (port in self.ports)

    async def _divide(self) -> None:
        self.cut = True
        for writer, (there, here, port) in list(self._open.items()):
            if self._crosses(there, here, port):
                writer.transport.abort()

    async def _close(self) -> None:
        for door in self._doors:
            door.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    finally:
        writer.close()
