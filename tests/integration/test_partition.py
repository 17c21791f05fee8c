"""The primary is cut off from the majority together with clients, an API and a worker that still reach it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from engine import workflows
from engine.model import NewNode, NewWorkflow
from engine.runtime import Runtime, open_runtime
from engine.settings import Settings
from tests.integration.api_server import Answer, Engine, engine
from tests.integration.engine_kit import at_rest, outcomes, shape, unrest
from tests.integration.partition import Network
from tests.integration.servers import Mongo, Redis, free_port, wait_for

ELECTION = 8.0
"""Seconds for which a primary without a majority goes on thinking that it leads: our time to write to it."""
ASKED = 90.0
"""Seconds within which the far side has its answers: it is told within the deadline of one call, or of one after another."""
TREES = {
    "go": Counter({("/go", 1): 1}),
    "decide": Counter({("/decide", 1): 1, ("/decide/step", 1): 4, ("/decide/fails_once", 2): 1}),
}
FAR = 3
"""Workers beside the old primary. One that writes hangs: some must be about to look for work when it is cut off."""
CLIENTS = {"go": 0, "decide": 2}
"""Who is asked to do it, by number: one over HTTP, one whose handlers run in the workers."""
Ask = Callable[[Engine], bool]
"""Asks for something, with a key of its own; whether it was granted."""


STARTER = """
import json, sys
from tests.integration import test_partition as here
rt = here.open_runtime(here.Settings(mongo_url=sys.stdin.readline().strip()))
rt.store.open()
print("ready", flush=True)
here.starter(rt, *json.loads(sys.stdin.readline()))
"""


def starter(rt: Runtime, client: str, place: str) -> None:
    new = NewNode(name=signal_of(place))
    workflows.start_many(
        rt, client, [NewWorkflow(name="town", subject={"place": place}, decider="D", signal=new, key="once")]
    )


def signal_of(place: str) -> str:
    return place.partition("-")[0]


@dataclass
class Town:
    """`near` speaks to the API beside the majority, `far` to the one beside the old primary."""

    mongo: Mongo
    network: Network
    near: Engine
    rt: Runtime
    ran: Path
    far: Engine = field(init=False)
    apart: list[int] = field(default_factory=list)
    starters: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def create(self, place: str, api: Engine) -> Answer:
        body = {"name": "town", "subject": {"place": place}, "decider": "D"}
        headers, client = {"Idempotency-Key": place}, CLIENTS[signal_of(place)]
        return api.call("POST", "/workflows", body, client=client, headers=headers, timeout=ASKED)

    def signal(self, id: str, place: str, key: str, api: Engine) -> Answer:
        name = signal_of(place)
        headers, client = {"Idempotency-Key": key}, CLIENTS[name]
        return api.call("POST", f"/workflows/{id}/signal/{name}", {}, client=client, headers=headers, timeout=ASKED)

    def start(self, place: str, api: Engine) -> bool:
        """A workflow and its signal in one write, on the far side by a programme that was connected before the cut."""
        if api is self.near:
            starter(self.rt, api.clients[CLIENTS[signal_of(place)]][0], place)
            return True
        child = self.starters.pop()
        said = json.dumps([api.clients[CLIENTS[signal_of(place)]][0], place]) + "\n"
        child.communicate(said.encode(), timeout=ASKED)
        return child.returncode == 0

    def connect(self, count: int) -> None:
        """Programmes on the far side that wait for a word to start a workflow."""
        for _ in range(count):
            words = [sys.executable, "-c", STARTER]
            child = subprocess.Popen(
                words, env=self.near.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            assert child.stdin is not None
            assert child.stdout is not None
            self.apart.append(child.pid)
            self.starters.append(child)
            child.stdin.write(self.rt.settings.mongo_url.encode() + b"\n")
            child.stdin.flush()
            assert child.stdout.readline() == b"ready\n"

    def acted_for(self) -> set[str]:
        """The nodes for which a handler ran or a post went out."""
        ran = self.ran.read_text().splitlines() if self.ran.exists() else []
        return {line.partition(":")[0] for line in ran} | {node["id"] for _, node, _ in self.near.stub.posts}

    def places(self) -> dict[str, str]:
        """place → workflow; AssertionError where one has two."""
        found = [
            (json.loads(root.subject or "{}")["place"], root.id) for root in self.rt.store.find({"kind": "workflow"})
        ]
        assert len(found) == len(dict(found)), found
        return dict(found)

    def settle(self) -> None:
        try:
            wait_for("all work to be done", lambda: at_rest(self.rt), 90, every=0.2)
        except AssertionError:
            raise AssertionError(f"not done:\n{unrest(self.rt)}") from None

    def work(self, node: dict[str, Any]) -> int:
        """The client has done it at once, and says so to the API beside the majority until it is heard."""
        id = node["id"]

        def heard() -> bool:
            with suppress(OSError):
                return self.near.call("PUT", f"/activities/{id}/status/completed", {}).status in (200, 409)
            return False

        wait_for("the API to hear the client", heard, ASKED)
        return 200


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    network, server = Network(), Redis.start()
    mongo = Mongo.start(3, behind=lambda ports, nodes: [network.door(port) for port in ports], election=ELECTION)
    try:
        url, ran = mongo.url("town"), tmp_path / "ran"
        with engine(url, server.url(), workers=0) as api:
            api.environ |= {"PYTHONPATH": str(Path(__file__).parents[2]), "BB_TEST_RAN": str(ran)}
            rt = open_runtime(Settings(mongo_url=url))
            local, token = workflows.add_client(rt, "local")
            api.clients.append((local.id, token))
            made = Town(mongo, network, api, rt, ran)
            made.far = replace(api, port=free_port())
            leader = mongo.primary()
            network.ports = {mongo.ports[leader]}
            network.apart = lambda: [mongo.nodes[leader].pid, *made.apart]
            work = ("work", "--import", "tests.integration.killed_handlers", "--processes")
            for far in (api.start("serve", "--port", str(made.far.port)), api.start(*work, str(FAR))):
                made.apart.append(far.pid)
            api.start(*work, "1")
            api.stub.on["go"] = made.work
            wait_for("the workers", lambda: len(workflows.workers(rt)) == FAR + 1, 60)
            wait_for("the far API", lambda: made.far.call("GET", "/heartbeat.txt", client=None).status == 200, 60)
            assert mongo.primary() == leader
            yield made
            rt.close()
    finally:
        mongo.stop()
        server.stop()
        network.close()


def asks(town: Town, before: dict[str, str]) -> dict[str, Ask]:
    """What the far clients ask for: workflows; signals of those that are there; a workflow and its signal in one write."""
    made: dict[str, Ask] = {}
    for name in TREES:
        for place in (f"{name}-new-1", f"{name}-new-2"):
            made[place] = lambda api, place=place: town.create(place, api).status < 300  # type: ignore[misc]
        for place in (f"{name}-at-once-1", f"{name}-at-once-2"):
            made[place] = lambda api, place=place: town.start(place, api)  # type: ignore[misc]
    for place, id in before.items():
        key = f"{place}-again"
        made[key] = lambda api, id=id, place=place, key=key: town.signal(id, place, key, api).status < 300  # type: ignore[misc]
    return made


def tried(ask: Ask, api: Engine) -> bool:
    with suppress(OSError, subprocess.TimeoutExpired):
        return ask(api)
    return False


@pytest.mark.faults
def test_nobody_acts_on_what_a_primary_without_a_majority_took_and_a_repeat_gets_it_once(
    town: Town, record_property: Callable[[str, object], None]
) -> None:
    before = {}
    for place in (f"{name}-before-{number}" for name in TREES for number in range(2)):
        before[place] = str(town.create(place, town.far).json["id"])
        assert town.signal(before[place], place, place, town.far).status < 300
    town.settle()
    old, known = town.mongo.primary(), set(town.rt.store.distinct("_id", {}))

    town.connect(2 * len(TREES))
    town.network.divide()
    wishes, granted = asks(town, before), {}
    threads = [
        threading.Thread(target=lambda key=key, ask=ask: granted.update({key: tried(ask, town.far)}))  # type: ignore[misc]
        for key, ask in wishes.items()
    ]
    for thread in threads:
        thread.start()
    seen = held_by(town, old) - known
    for thread in threads:
        thread.join(ASKED)
    assert granted == dict.fromkeys(wishes, False), "acknowledged without a majority"
    assert seen, "the old primary took nothing: this has shown nothing"
    new = wait_for("another primary", lambda: [n for n in range(3) if n != old and town.mongo.leads(n)])[0]
    during = {f"{name}-during" for name in TREES}
    for place in during:
        wait_for("the new primary to take it", lambda place=place: town.create(place, town.near).status < 300)
        assert town.signal(town.places()[place], place, place, town.near).status < 300
    town.settle()  # while it is still cut off

    town.network.heal()
    wait_for("the old primary to follow, and to take back what it took", lambda: follows(town, old, seen), 60)
    town.settle()
    there = set(town.rt.store.distinct("_id", {}))
    lost = town.acted_for() - there
    record_property("asked of the old primary", len(wishes))
    record_property("seen written there", len(seen))
    record_property("acted on without an acknowledgement", len(lost))
    assert not lost, [line for line in town.ran.read_text().splitlines() if line.partition(":")[0] in lost]
    assert set(town.places()) == {*before, *during}

    for key, ask in wishes.items():
        assert ask(town.near), key
    town.settle()
    places = town.places()
    for place, id in places.items():
        times = 0 if "new" in place else 2 if "before" in place else 1  # how often it was signalled
        found = Counter((path, attempt) for path, _, _, _, attempt in shape(town.rt, id))
        assert found == Counter({one: times * number for one, number in TREES[signal_of(place)].items() if times}), (
            place
        )
        assert set(outcomes(town.rt, id).values()) <= {1}, place
    assert set(places) == {*before, *during, *(key for key in wishes if not key.endswith("again"))}
    assert town.acted_for() <= set(town.rt.store.distinct("_id", {})), new


def held_by(town: Town, old: int) -> set[str]:
    """What the old primary has, by its own word, until it leads no more."""
    found: set[str] = set()
    with town.mongo.directly(old) as client:
        nodes = client.town.nodes

        def over() -> bool:
            found.update(doc["_id"] for doc in nodes.find({}, {"_id": 1}))
            return not town.mongo.leads(old)

        wait_for("the old primary to step down", over, 60, every=0.2)
    return found


def follows(town: Town, old: int, seen: set[str]) -> bool:
    with town.mongo.directly(old) as one:
        hello = one.admin.command("hello")
        left = one.town.nodes.count_documents({"_id": {"$in": list(seen)}})
    return bool(hello.get("secondary")) and hello.get("primary") is not None and not left
