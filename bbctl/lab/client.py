"""The lab's sample client: an HTTP server that does the steps of VAT invoicing as an application of Backbeat does.

    python -m bbctl.lab.client FOLDER

It gets posts from the engine and calls back through the VIP. Every effect is a line of `ledger.jsonl`, written once per
step however often the post comes. `client/faults/silent`: takes posts and never reports; `errors`: answers 500; `slow`.
"""

from __future__ import annotations

import http.client
import json
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bbctl.lab import invoicing
from bbctl.lab.ground import Ground, load

SLOW = 5.0
PATIENCE = 30.0  # seconds in which a report must get through


@dataclass
class Ledger:
    """What was done, each effect once."""

    path: Path
    lock: threading.Lock = field(default_factory=threading.Lock)
    known: dict[str, dict[str, Any]] = field(default_factory=dict)

    def read(self) -> None:
        if self.path.exists():
            for line in self.path.read_text("utf-8").splitlines():
                entry = json.loads(line)
                self.known[entry["node"]] = entry

    def once(self, node: str, entry: dict[str, Any]) -> dict[str, Any]:
        """Keep the entry, unless the step was done before: then what was kept."""
        with self.lock:
            if node not in self.known:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"node": node, **entry}) + "\n")
                self.known[node] = {"node": node, **entry}
            return self.known[node]


@dataclass
class Application:
    ground: Ground
    ledger: Ledger
    id: str
    token: str

    def broken(self, fault: str) -> bool:
        return (self.ground.client_folder / "faults" / fault).exists()

    def take(self, node: Mapping[str, Any], attempt: int) -> None:
        """One post of the engine: a decision gets its steps, a step is done and reported."""
        if self.broken("slow"):
            time.sleep(SLOW)
        if self.broken("silent"):
            return
        where, data = f"/activities/{node['id']}", node.get("clientData") or {}
        step = next((step for step in invoicing.STEPS if step.name == node["name"]), None)
        if step is None:
            self._call(
                "POST", f"{where}/decisions", {"decisions": invoicing.decisions(data, time.time())}, f"{node['id']}:d"
            )
            self._call("PUT", f"{where}/status/completed", {}, attempt=attempt)
            return
        time.sleep(step.seconds)
        number = int(node["subject"]["invoice"])
        try:
            result = invoicing.done(step.name, number, data, attempt)
        except RuntimeError as error:
            self._call(
                "PUT", f"{where}/status/errored", {"response": {"error": {"message": str(error)}}}, attempt=attempt
            )
            return
        kept = self.ledger.once(
            node["id"], {"invoice": number, "step": step.name, "attempt": attempt, "result": result}
        )
        self._call("PUT", f"{where}/status/completed", {"response": {"result": kept["result"]}}, attempt=attempt)

    def _call(self, method: str, path: str, body: object, key: str | None = None, attempt: int | None = None) -> None:
        """One call to the engine through the VIP, tried again until it gets through: it may safely come twice."""
        head = {
            "Client-Id": self.id,
            "Authorization": f'Token token="{self.token}"',
            "Content-Type": "application/json",
        }
        head |= {"Idempotency-Key": key} if key else {}
        head |= {"X-Backbeat-Attempt": str(attempt)} if attempt else {}
        until = time.monotonic() + PATIENCE
        while True:
            link = http.client.HTTPConnection(self.ground.vip_address, self.ground.vip_port, timeout=10)
            try:
                link.request(method, path, json.dumps(body), head)
                if link.getresponse().status < 500:
                    return  # done, or done before (409)
            except (OSError, http.client.HTTPException):
                pass
            finally:
                link.close()
            if time.monotonic() > until:
                return
            time.sleep(0.3)


def handler(application: Application) -> type[BaseHTTPRequestHandler]:
    """The three endpoints."""

    class Endpoint(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            if application.broken("errors") and self.path != "/notification":
                self._answer(500)
                return
            if self.path != "/notification":
                node = body.get("decision") or body.get("activity")
                application.take(node, int(self.headers.get("X-Backbeat-Attempt") or 1))
            self._answer(200)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:
            """Quiet: the ledger says what was done."""

    return Endpoint


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main(folder: Path) -> int:
    ground = load(folder)
    if ground is None:
        return 2
    known = json.loads((ground.client_folder / "token.json").read_text("utf-8"))
    ledger = Ledger(ground.client_folder / "ledger.jsonl")
    ledger.read()
    server = Server((ground.client_address, ground.client_port), handler(Application(ground, ledger, **known)))
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
