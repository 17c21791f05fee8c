"""The engine against a model of Backbeat's rules: whatever a client does, both agree on the status of every node.

The model is a page of plain Python that settles at once; the engine is the real one, asked over HTTP, with a client
that answers 200 to every post and does nothing by itself.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.integration.api_server import Engine, engine
from tests.integration.servers import Redis, wait_for

CLIENT = {
    "pending": "ready errored", "ready": "received errored", "received": "processing complete errored",
    "processing": "complete errored", "errored": "ready errored resolved shutdown", "complete": "complete",
    "resolved": "", "shutdown": "",
}  # fmt: skip
SERVER = {
    "pending": "ready", "ready": "started", "started": "sent_to_client paused", "paused": "started",
    "sent_to_client": "processing_children retrying retries_exhausted", "processing_children": "complete", "complete": "",
    "retries_exhausted": "ready processing_children",
}  # fmt: skip
WORDS = {  # what a client says: the client status and the server status it asks for
    "processing": ("processing", None), "completed": ("complete", "processing_children"),
    "resolved": ("resolved", "processing_children"), "shutdown": ("shutdown", "processing_children"),
}  # fmt: skip


@dataclass
class Item:
    """A node of the model, or the workflow itself (server status None)."""

    id: str
    parent: Item | None = None
    mode: str = "blocking"
    flag: bool = False
    retries: int = 0
    server: str | None = None
    client: str = "pending"
    below: list[Item] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return self.server in ("complete", "deactivated")

    def all_below(self) -> Iterator[Item]:
        for child in self.below:
            yield child
            yield from child.all_below()


class Model:
    def __init__(self, workflow: str) -> None:
        self.root = Item(workflow)
        self.paused = False

    def nodes(self) -> list[Item]:
        return list(self.root.all_below())

    def statuses(self) -> dict[str, tuple[str | None, str]]:
        return {node.id: (node.server, node.client) for node in self.nodes()}

    def settle(self, parent: Item) -> None:
        """Start what may start below `parent`; if nothing holds it, it is complete."""
        for child in parent.below:
            if child.server == "ready" and self.paused:
                child.server = "paused"
            elif child.server == "ready" and child.flag:
                child.server, child.client = "complete", "complete"
            elif child.server == "ready":
                child.server, child.client = "sent_to_client", "received"
            if child.mode == "blocking" and not child.done:
                return
        held = any(child.mode != "fire_and_forget" and not child.done for child in parent.below)
        if parent.server == "processing_children" and not held:
            parent.server = "complete"
            if parent.mode != "fire_and_forget" and parent.parent:
                self.settle(parent.parent)

    def move(self, node: Item, word: str) -> int:
        """A client's word; the HTTP status it deserves."""
        if node.server == "deactivated":
            return 200
        if word == "errored":
            return self.error(node)
        client, server = WORDS[word]
        if client not in CLIENT[node.client].split():
            return 409
        if server and server not in SERVER[str(node.server)].split():
            return 409
        node.client, node.server = client, server or node.server
        if word == "shutdown" and node.mode == "blocking" and node.parent:
            for later in node.parent.below[node.parent.below.index(node) + 1 :]:
                self.deactivate(later)
        if server:
            for child in node.below:
                if child.server == "pending":
                    child.server, child.client = "ready", "ready"
            self.settle(node)
        return 200

    def error(self, node: Item) -> int:
        if node.server != "sent_to_client":
            return 409
        node.client = "errored"
        if node.retries == 0:
            node.server = "retries_exhausted"
        else:
            node.retries -= 1
            self.restart(node)
        return 200

    def restart(self, node: Item) -> None:
        node.server, node.client = "ready", "ready"
        for child in node.below:
            self.deactivate(child)
        assert node.parent
        self.settle(node.parent)

    def deactivate(self, node: Item) -> None:
        for one in (node, *node.all_below()):
            one.server = "deactivated"

    def resume(self) -> None:
        self.paused = False
        for node in self.nodes():
            if node.server == "paused":
                node.server = "ready"
        for parent in (self.root, *self.nodes()):
            if any(child.server == "ready" for child in parent.below) and parent.server in (
                None,
                "processing_children",
                "complete",
            ):
                self.settle(parent)


pick = st.integers(0, 1_000_000)
kids = st.lists(
    st.tuples(st.sampled_from(["blocking", "non_blocking", "fire_and_forget"]), st.booleans(), st.integers(0, 2)),
    min_size=1,
    max_size=3,
)


class Behaviour(RuleBasedStateMachine):
    """One workflow an example. After every rule both sides must agree."""

    api: Engine

    @initialize()
    def begin(self) -> None:
        self.model = Model(self.api.workflow(name=uuid.uuid4().hex))
        self.signal(0)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        return self.api.call(method, path, {} if body is None else body)

    def agree(self) -> None:
        path = f"/workflows/{self.model.root.id}/nodes"
        expected = self.model.statuses()
        seen: dict[str, Any] = {}

        def same() -> bool:
            shown = self.api.call("GET", path).json
            seen.update({n["id"]: (n["currentServerStatus"], n["currentClientStatus"]) for n in shown})
            return seen == expected

        try:
            wait_for("both to agree", same, 15, 0.01)
        except AssertionError:
            assert seen == expected

    def choose(self, number: int) -> Item:
        nodes = self.model.nodes()
        return nodes[number % len(nodes)]

    @rule(retries=st.integers(0, 2))
    def signal(self, retries: int) -> None:
        body = {"retry": retries, "retry_interval": 0}
        answer = self.call("POST", f"/workflows/{self.model.root.id}/signal/go", body)
        assert answer.status == 201
        made = Item(answer.json["id"], self.model.root, retries=retries, server="ready", client="ready")
        self.model.root.below.append(made)
        self.model.settle(self.model.root)
        self.agree()

    @rule(number=pick, wanted=kids)
    def decide(self, number: int, wanted: list[tuple[str, bool, int]]) -> None:
        node = self.choose(number)
        if node.server not in ("sent_to_client", "complete", "deactivated"):
            return
        decisions = [
            {"name": "step", "mode": mode, "type": "flag" if flag else "activity", "retry": retry, "retryInterval": 0}
            for mode, flag, retry in wanted
        ]
        answer = self.call("POST", f"/activities/{node.id}/decisions", {"decisions": decisions})
        assert answer.status == (409 if node.done else 201), answer.body
        if not node.done:
            for id, (mode, flag, retry) in zip(answer.json, wanted, strict=True):
                node.below.append(Item(id, node, mode, flag, retry, "pending"))
        self.agree()

    @rule(
        number=pick,
        word=st.sampled_from(
            ["processing", "completed", "completed", "completed", "errored", "errored", "resolved", "shutdown"]
        ),
    )
    def say(self, number: int, word: str) -> None:
        node = self.choose(number)
        answer = self.call("PUT", f"/activities/{node.id}/status/{word}")
        assert answer.status == self.model.move(node, word), (word, node.server, node.client, answer.body)
        self.agree()

    @rule(number=pick)
    def restart(self, number: int) -> None:
        node = self.choose(number)
        if node.server == "pending":
            return
        answer = self.call("PUT", f"/activities/{node.id}/restart")
        assert answer.status == (200 if node.server in ("retries_exhausted", "deactivated") else 409), answer.body
        if node.server == "retries_exhausted":
            self.model.restart(node)
        self.agree()

    @rule(number=pick)
    def cancel(self, number: int) -> None:
        node = self.choose(number)
        if node.server == "complete":
            return
        assert self.call("PUT", f"/activities/{node.id}/status/canceled").status == 200
        if node.server != "deactivated" and node.parent:
            self.model.deactivate(node)
            self.model.settle(node.parent)
        self.agree()

    @rule(number=pick)
    def reset(self, number: int) -> None:
        node = self.choose(number)
        if node.server != "sent_to_client":
            return
        assert self.call("PUT", f"/activities/{node.id}/reset").status == 200
        for child in node.below:
            self.model.deactivate(child)
        self.agree()

    @precondition(lambda self: not self.model.paused)
    @rule()
    def pause(self) -> None:
        assert self.call("PUT", f"/workflows/{self.model.root.id}/pause").status == 200
        self.model.paused = True
        self.agree()

    @precondition(lambda self: self.model.paused)
    @rule()
    def resume(self) -> None:
        assert self.call("PUT", f"/workflows/{self.model.root.id}/resume").status == 200
        self.model.resume()
        self.agree()

    def teardown(self) -> None:
        if hasattr(self, "model"):
            out = [n for n in self.model.nodes() if n.client not in ("pending", "ready") and not n.flag]
            posted = [n.id for n in out if n.server != "deactivated"]  # one canceled at once may have been spared it
            wait_for("the posts", lambda: all(self.api.stub.of(id) for id in posted))


@pytest.fixture
def api(mongo_url: str, redis_server: Redis) -> Iterator[Engine]:
    with engine(mongo_url, redis_server.url()) as server:
        yield server


def run(api: Engine, **how: Any) -> None:
    machine = type("Behaviour", (Behaviour,), {"api": api})
    run_state_machine_as_test(
        machine, settings=settings(deadline=None, database=None, suppress_health_check=list(HealthCheck), **how)
    )


def test_engine_and_model_agree(api: Engine) -> None:
    run(api, max_examples=8, stateful_step_count=12, derandomize=True)


@pytest.mark.faults
def test_engine_and_model_agree_for_long(api: Engine) -> None:
    run(api, max_examples=int(os.environ.get("BBCTL_TEST_EXAMPLES", "100")), stateful_step_count=25)
