"""What a MongoDB of long ago says of itself, over the real protocol: no such server runs on a machine of today."""

from __future__ import annotations

import datetime
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import bson

QUERY, REPLY, MESSAGE = 2004, 1, 2013


class OldMongod(socketserver.BaseRequestHandler):
    """Whatever it is asked, it answers with who it is, and that it has nothing."""

    said: ClassVar[dict[str, Any]] = {}

    def handle(self) -> None:
        while head := self._read(16):
            size, request, _, code = struct.unpack("<iiii", head)
            self._read(size - 16)
            body = bson.encode({**self.said, "localTime": datetime.datetime.now(datetime.UTC)})
            before = struct.pack("<iqii", 8, 0, 0, 1) if code == QUERY else struct.pack("<IB", 0, 0)
            kind = REPLY if code == QUERY else MESSAGE
            self.request.sendall(struct.pack("<iiii", 16 + len(before + body), 1, request, kind) + before + body)

    def _read(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            more = self.request.recv(size - len(got))
            if not more:
                return b""
            got += more
        return got


@contextmanager
def old_mongod(version: str, wire: int) -> Iterator[int]:
    """Its port. `wire` is the newest version of the protocol that it speaks."""
    numbers = [int(part) for part in version.split(".")]
    told = {"ismaster": True, "isWritablePrimary": True, "setName": "rs0", "maxBsonObjectSize": 1 << 24, "ok": 1.0}
    told |= {"cursor": {"id": 0, "ns": "x.nothing", "firstBatch": []}}
    told |= {"minWireVersion": 0, "maxWireVersion": wire, "version": version, "versionArray": [*numbers, 0]}
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), type("Handler", (OldMongod,), {"said": told}))
    server.daemon_threads = True
    port = int(server.server_address[1])
    told |= {"hosts": [f"127.0.0.1:{port}"], "me": f"127.0.0.1:{port}", "setVersion": 1}
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
