"""Invoices sent through the VIP, one after the other, and watched until the engine says that each is done."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bbctl.lab import cluster, invoicing
from bbctl.lab.ground import Ground
from bbctl.stores.servers import private

FIRST = 4711
TRIES = 20


@dataclass
class Batch:
    """`count` invoices, sent evenly over `seconds` by a thread of its own. Their numbers are new ones."""

    ground: Ground
    count: int
    seconds: float
    sent: dict[int, str] = field(default_factory=dict)  # invoice -> workflow
    done: set[int] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._send, args=(self._number(),), name="invoices", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until all are sent."""
        if self._thread is not None:
            self._thread.join()

    def stop(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(30)

    @property
    def complete(self) -> bool:
        return len(self.done) == self.count

    def look(self) -> None:
        """Ask the engine about those whose effects are all in the ledger: it alone says when a workflow is done."""
        effects: dict[int, int] = {}
        for entry in self._ledger():
            effects[entry["invoice"]] = effects.get(entry["invoice"], 0) + 1
        for number, workflow in list(self.sent.items()):
            if number not in self.done and effects.get(number, 0) >= len(invoicing.STEPS) and self._finished(workflow):
                self.done.add(number)

    def effects(self) -> tuple[int, int]:
        """How many steps of these invoices were carried out, and how many of them more than once."""
        seen: dict[tuple[int, str], int] = {}
        for entry in self._ledger():
            if entry["invoice"] in self.sent:
                key = (entry["invoice"], entry["step"])
                seen[key] = seen.get(key, 0) + 1
        return len(seen), sum(1 for times in seen.values() if times > 1)

    def _number(self) -> int:
        """The first of `count` numbers that no batch has had."""
        path = self.ground.client_folder / "next-invoice"
        first = int(path.read_text("ascii")) if path.exists() else FIRST
        private(path, str(first + self.count))
        return first

    def _send(self, first: int) -> None:
        began = time.monotonic()
        for at in range(self.count):
            if self._over.wait(max(0.0, began + at * self.seconds / self.count - time.monotonic())):
                return
            number = first + at
            workflow = self._try(
                "/workflows",
                {"name": invoicing.NAME, "subject": invoicing.subject(number), "decider": invoicing.DECIDER},
            )
            if workflow and self._try(
                f"/workflows/{workflow['id']}/signal/{invoicing.NAME}",
                {"options": {"client_data": invoicing.signal_data(number)}}, f"invoice-{number}",
            ):  # fmt: skip
                self.sent[number] = workflow["id"]

    def _try(self, path: str, body: object, key: str | None = None) -> Any:
        """A POST that may safely come twice, until it is taken."""
        head = cluster.credentials(self.ground) | ({"Idempotency-Key": key} if key else {})
        for _ in range(TRIES):
            found = cluster.ask(self.ground, "POST", path, body, head)
            if found is not None and found[0] == 201:
                return found[1]
            self.failed.append(f"{path}: {found[0] if found else 'no answer'}")
            if self._over.wait(0.5):
                break
        return None

    def _finished(self, workflow: str) -> bool:
        found = cluster.ask(self.ground, "GET", f"/workflows/{workflow}/tree", None, cluster.credentials(self.ground))
        if found is None or found[0] != 200:
            return False
        states = [node["currentServerStatus"] for node in _below(found[1])]
        return len(states) == 1 + len(invoicing.STEPS) and set(states) == {"complete"}

    def _ledger(self) -> Iterator[dict[str, Any]]:
        path = self.ground.client_folder / "ledger.jsonl"
        if path.exists():
            for line in path.read_text("utf-8").splitlines(keepends=True):
                if line.endswith("\n"):
                    yield json.loads(line)


def _below(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node below the root."""
    for child in tree["children"]:
        yield child
        yield from _below(child)
