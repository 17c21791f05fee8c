"""What the engine's tests share: a runtime on a database of its own, handlers to run, a stub client that notes its posts."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from engine import workflows
from engine.drain import Drain
from engine.model import NewNode, Node
from engine.runtime import Runtime
from tests.integration.servers import Site, wait_for


@dataclass
class Post:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def node(self) -> dict[str, Any]:
        found: dict[str, Any] = self.body.get("activity") or self.body.get("decision") or {}
        return found

    @property
    def key(self) -> str:
        return self.headers["idempotency-key"]


@dataclass
class Stub:
    """A client's endpoints: every post is noted and answered with 200, or with what `answer` says of it."""

    answer: Callable[[Post], int] = lambda post: 200
    posts: list[Post] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def sent_keys(self) -> list[str]:
        return [post.key for post in self.posts]


@contextmanager
def stub_client(answer: Callable[[Post], int] = lambda post: 200) -> Iterator[Stub]:
    stub = Stub(answer)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            post = Post(self.path, {key.lower(): value for key, value in self.headers.items()}, body)
            stub.posts.append(post)
            self.send_response(stub.answer(post))
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    server = Site(("127.0.0.1", 0), Handler)
    stub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def act(name: str, **more: Any) -> NewNode:
    return NewNode(name=name, **more)


def shape(rt: Runtime, workflow: str) -> list[tuple[Any, ...]]:
    """The tree without ids and times: (path of names, mode, server status, client status, attempt), in order."""
    root, nodes = workflows.tree(rt, None, workflow)
    paths = {root.id: ""}
    found = []
    for node in nodes:
        paths[node.id] = f"{paths[node.parent or '']}/{node.name}"
        found.append((paths[node.id], node.mode, node.ss, node.cs, node.attempt))
    return found


def named(rt: Runtime, workflow: str, name: str) -> Node:
    """The newest visible node of that name."""
    return [node for node in workflows.nodes(rt, None, workflow) if node.name == name][-1]


def outcomes(rt: Runtime, workflow: str) -> dict[str, int]:
    """{node id: how often it reached a final client status}; more than one of an attempt would be an outcome twice."""
    counts = {}
    for node in workflows.nodes(rt, None, workflow):
        changes = workflows.status_changes(rt, None, node.id)
        counts[node.id] = sum(
            c.machine == "client" and c.after in ("complete", "resolved", "shutdown") for c in changes
        )
    return counts


def finish(rt: Runtime) -> None:
    """One worker works until nothing is due."""
    drain = Drain(rt, "worker")
    wait_for("quiet", lambda: not drain.round(0.01) and not drain.held and not rt.store.due(1), 30, every=0.001)
    drain.leave(0)


def at_rest(rt: Runtime) -> bool:
    """No node is unfinished and nothing is owed."""
    unfinished = {"kind": "node", "ss": {"$nin": ["complete", "deactivated"]}}
    return not rt.store.count(unfinished, 1) and not rt.store.count({"due": {"$gt": 0}}, 1)


def unrest(rt: Runtime) -> str:
    """What is unfinished or owed, a line each with its history: what a test says that waited in vain."""
    now = rt.store.now()
    open_ = {"$or": [{"kind": "node", "ss": {"$nin": ["complete", "deactivated"]}}, {"due": {"$gt": 0}}]}
    lines = []
    for n in rt.store.find(open_, history=True)[:20]:
        owed = f"due in {n.due - now} ms" if n.due else "nothing due"
        lines.append(f"{n.name} {n._id[-8:]} {n.ss}/{n.cs} attempt {n.attempt}, {owed}: {n.do} look {n.look}")
        lines.append(f"   in {(n.parent or '')[-8:]}, gen {n.gen}, pgen {n.pgen}, open {n.open}, sent {n.sent}")
        lines.append(f"   by {n.by}, tries {n.tries}, parked {n.parked}, changed {now - n.changed} ms ago, {n.h}")
    return "\n".join(lines)
