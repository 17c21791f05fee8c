"""A whole engine for tests: `bbctl serve` and `bbctl work` on private stores, two clients, and a stand-in for a client."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.servers import Site, free_port, tidy_environment, wait_for

BBCTL = str(Path(sys.executable).with_name("bbctl"))


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Engine:
    """The processes of one engine. `clients` are (id, token)."""

    home: Path
    environ: dict[str, str]
    stub: Stub
    clients: list[tuple[str, str]] = field(default_factory=list)
    port: int = 0
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def bbctl(self, *words: str) -> Any:
        """Runs a command that must succeed; its JSON."""
        done = subprocess.run(
            [BBCTL, *words, "-o", "json"], env=self.environ, cwd=self.home, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    def add_client(self, name: str, base: str) -> tuple[str, str]:
        words = ["--activity-endpoint", f"{base}/activity", "--notification-endpoint", f"{base}/notification"]
        made = self.bbctl("client", "add", name, *words, "--decision-endpoint", f"{base}/decision")
        self.clients.append((made["id"], made["authToken"]))
        return self.clients[-1]

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """A command that goes on running; its output goes to a file of its own in `home`."""
        log = self.home / f"{words[0]}-{len(self.processes)}"
        with log.with_suffix(".out").open("wb") as out, log.with_suffix(".err").open("wb") as err:
            child = subprocess.Popen([BBCTL, *words], env=self.environ, cwd=self.home, stdout=out, stderr=err)
        self.processes.append(child)
        return child

    def serve(self, *words: str) -> subprocess.Popen[bytes]:
        self.port = free_port()
        child = self.start("serve", "--port", str(self.port), *words)
        wait_for("the API", lambda: self.call("GET", "/heartbeat.txt", client=None).status in (200, 503))
        return child

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        client: int | None = 0,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        raw: bytes | None = None,
        timeout: float = 30,
    ) -> Answer:
        """One request as client number `client` with its token (None: as nobody). `raw` is a body as it stands."""
        said = {"Content-Type": "application/json"}
        if client is not None:
            said |= {"Client-Id": self.clients[client][0], "Authorization": f'Token token="{self.clients[client][1]}"'}
        if token is not None:
            said["Authorization"] = token
        payload = raw if raw is not None else None if body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body=payload, headers={**said, **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def workflow(self, name: str = "w", **more: Any) -> str:
        body = {"name": name, "subject": {"id": time.monotonic_ns()}, "decider": "D", **more}
        answer = self.call("POST", "/workflows", body)
        assert answer.status == 201, answer.body
        return str(answer.json["id"])

    def signal(self, workflow: str, name: str = "go", **more: Any) -> str:
        answer = self.call("POST", f"/workflows/{workflow}/signal/{name}", more)
        assert answer.status == 201, answer.body
        return str(answer.json["id"])

    def states(self, node: str) -> tuple[str, str]:
        shown = self.call("GET", f"/activities/{node}").json
        return shown["currentServerStatus"], shown["currentClientStatus"]

    def stop(self) -> None:
        for child in self.processes:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGTERM)
        for child in self.processes:
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self.stub.stop()
        shutil.rmtree(self.home, ignore_errors=True)


class Stub:
    """A client's endpoints: notes what is posted, and answers 200 or what `on[name]` says (a status, or None to drop)."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.on: dict[str, Callable[[dict[str, Any]], int | None]] = {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None: ...

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
                node = body.get("activity") or body.get("decision")
                outer.posts.append((self.path, node, {k.lower(): v for k, v in self.headers.items()}))
                status = outer.on.get(node["name"], lambda node: 200)(node)
                if status is None:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

        self.server = Site(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def of(self, node: str) -> list[tuple[str, dict[str, Any], dict[str, str]]]:
        return [post for post in self.posts if post[1]["id"] == node]

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@contextlib.contextmanager
def engine(mongo_url: str, redis_url: str | None, *serve: str, workers: int = 1) -> Iterator[Engine]:
    """An engine with two clients, both served by `stub` (the second below /two)."""
    home = Path(tempfile.mkdtemp(prefix="bbctl-test-api-"))
    environ = {**tidy_environment(), "BBCTL_HOME": str(home / "state"), "BBCTL_INVENTORY": "none"}
    environ |= {"BBCTL_MONGO_URL": mongo_url, **({"BBCTL_REDIS_URL": redis_url} if redis_url else {})}
    made = Engine(home, environ, Stub())
    try:
        made.add_client("one", made.stub.url)
        made.add_client("two", made.stub.url + "/two")
        made.serve(*serve)
        if workers:
            made.start("work", "--processes", str(workers))
        yield made
    finally:
        made.stop()
