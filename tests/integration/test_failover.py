"""Three MongoDB nodes whose primary dies, steps down or loses its majority, and a Redis that goes, under a working engine.

Callers and the client are good HTTP clients: whatever was not answered, or answered with 503, they ask again with the
same key. What was acknowledged is there afterwards, once.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine import workflows
from engine.errors import StoreDown
from engine.model import NewNode, NewWorkflow
from engine.runtime import Runtime, open_runtime
from engine.settings import Settings
from tests.integration.api_server import Answer, Engine, engine
from tests.integration.engine_kit import at_rest, outcomes, shape, unrest
from tests.integration.servers import Mongo, Process, Redis, free_port, tidy_environment, wait_for

BBCTL = Path(sys.executable).with_name("bbctl")
DEADLINE = 30.0  # the API's own for an answer
CHILDREN = [
    {"name": "first", "mode": "blocking"},
    {"name": "beside", "mode": "non_blocking"},
    {"name": "flaky", "mode": "blocking", "retry": 2, "retry_interval": 0},
    {"name": "forgotten", "mode": "fire_and_forget"},
]
TREE = Counter({("/go", 1): 1, ("/go/first", 1): 1, ("/go/beside", 1): 1, ("/go/flaky", 2): 1, ("/go/forgotten", 1): 1})


@dataclass
class Town:
    """`made` are acknowledged workflows with an acknowledged signal each.

    `refused` are the answers of 503, `answers` the seconds that each took.
    """

    mongo: Mongo
    redis: Redis
    api: Engine
    rt: Runtime
    made: list[str] = field(default_factory=list)
    refused: list[Answer] = field(default_factory=list)
    delivered: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    closed: threading.Event = field(default_factory=threading.Event)

    def ask(self, method: str, path: str, body: Any, key: str, again: bool = False, **headers: str) -> Answer:
        """Again until it is answered. A conflict is an answer where an earlier try may have been heard."""
        limit = time.monotonic() + 120
        while time.monotonic() < limit:
            began = time.monotonic()
            try:
                answer = self.api.call(
                    method, path, body, headers={"Idempotency-Key": key, **headers}, timeout=DEADLINE + 5
                )
            except OSError as error:
                self.troubles.append(f"{method} {path}: {error!r}")
                raise
            self.answers.append(time.monotonic() - began)
            if answer.status < 300 or (again and answer.status == 409):
                return answer
            if answer.status != 503:
                self.troubles.append(f"{method} {path}: {answer.status} {answer.body!r}")
                raise AssertionError(self.troubles[-1])
            self.refused.append(answer)
            again = True
            self.closed.wait(min(1.0, float(answer.headers["retry-after"])))
        self.troubles.append(f"{method} {path}: never answered")
        raise AssertionError(self.troubles[-1])

    def work(self, node: dict[str, Any]) -> int:
        """The client: calls back inside our POST."""
        id = node["id"]
        attempt = self.api.stub.of(id)[-1][2]["x-backbeat-attempt"]
        path, headers = f"/activities/{id}", {"X-Backbeat-Attempt": attempt}
        key = f"{id}:{attempt}"
        again = key in self.delivered
        self.delivered.append(key)
        if node["name"] == "go":
            self.ask("POST", f"{path}/decisions", {"decisions": CHILDREN}, key, again, **headers)
        failing = node["name"] == "flaky" and attempt == "1"
        self.ask("PUT", f"{path}/status/{'errored' if failing else 'completed'}", {}, key, again, **headers)
        return 200

    def submit(self, place: str) -> None:
        body = {"name": "town", "subject": {"place": place}, "decider": "D"}
        workflow = self.ask("POST", "/workflows", body, place).json["id"]
        self.ask("POST", f"/workflows/{workflow}/signal/go", {}, place)
        self.made.append(str(workflow))

    def settle(self) -> None:
        """Everything that was acknowledged is done, as planned, once."""
        try:
            wait_for("all work to be done", lambda: at_rest(self.rt), 90, every=0.2)
        except AssertionError:
            raise AssertionError(f"not done:\n{unrest(self.rt)}\n{self.troubles}") from None
        assert not self.troubles
        for workflow in self.made:
            found = Counter((path, attempt) for path, _, _, _, attempt in shape(self.rt, workflow))
            assert found == TREE, workflow
            assert set(outcomes(self.rt, workflow).values()) == {1}, workflow


@dataclass
class Callers:
    """Threads that submit one workflow after the other until told to stop."""

    town: Town
    threads: list[threading.Thread] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Callers:
        self.threads = [threading.Thread(target=self._run, args=(uuid.uuid4().hex,)) for _ in range(2)]
        for thread in self.threads:
            thread.start()
        return self

    def _run(self, name: str) -> None:
        place = 0
        while not self.stop.is_set():
            place += 1
            self.town.submit(f"{name}{place}")
            self.stop.wait(0.1)

    def more(self, count: int = 4) -> None:
        """Waits until so many more workflows were acknowledged."""
        want = len(self.town.made) + count
        wait_for("more to be acknowledged", lambda: self.town.troubles or len(self.town.made) >= want, 60)
        assert not self.town.troubles

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(150)


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    """One for all: each test leaves it whole."""
    mongo, server = Mongo.start(3), Redis.start()
    try:
        with engine(mongo.url("town"), server.url(), workers=2) as api:
            rt = open_runtime(Settings(mongo_url=mongo.url("town")))
            found = Town(mongo, server, api, rt)
            for name in ("go", *(str(child["name"]) for child in CHILDREN)):
                api.stub.on[name] = found.work
            wait_for("the workers", lambda: len(workflows.workers(rt)) == 2, 60)
            yield found
            found.closed.set()
            rt.close()
    finally:
        mongo.stop()
        server.stop()


# -- the primary ---------------------------------------------------------------------------------------------------


def kill_the_primary(town: Town) -> None:
    gone = town.mongo.nodes[town.mongo.primary()]
    gone.kill()
    town.mongo.primary()
    gone.start()


def step_down(town: Town) -> None:
    town.mongo.step_down()


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([kill_the_primary, step_down], id="short"),
        pytest.param([kill_the_primary, step_down] * 3, id="long", marks=pytest.mark.faults),
    ],
)
def test_a_fail_over_loses_and_doubles_nothing_that_was_acknowledged(
    town: Town, faults: list[Callable[[Town], None]]
) -> None:
    with Callers(town) as callers:
        for fault in faults:
            callers.more()
            fault(town)
        callers.more()
    town.settle()
    assert max(town.answers) < DEADLINE


PROXY = """global
  stats socket {socket} mode 600 level admin
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout check 5s
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  option httpchk GET /heartbeat.txt
  default-server inter 100ms fall 2 rise 1
"""
CROWD = 48
"""More callers at once than one `serve` has threads: all may wait for a primary."""


@contextmanager
def balanced(town: Town, folder: Path) -> Iterator[Callable[[], dict[str, dict[str, str]]]]:
    """The town's API as two `serve` behind a HAProxy that asks for their heartbeats; its counters of each, by name."""
    direct, second = town.api.port, free_port()
    child = town.api.start("serve", "--port", str(second))
    town.api.port = second
    wait_for("the second API", lambda: town.api.call("GET", "/heartbeat.txt", client=None).status == 200)
    town.api.port = free_port()
    lines = PROXY.format(socket=folder / "admin", port=town.api.port)
    lines += "".join(f"  server h{place} 127.0.0.1:{port} check\n" for place, port in enumerate((direct, second)))
    (folder / "haproxy.cfg").write_text(lines)
    proxy = Process(["haproxy", "-db", "-f", str(folder / "haproxy.cfg")], folder / "haproxy.log")
    proxy.start()

    def counters() -> dict[str, dict[str, str]]:
        data = b""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(10)
            asking.connect(str(folder / "admin"))
            asking.sendall(b"show stat\n")
            while piece := asking.recv(65536):
                data += piece
        rows = csv.DictReader(io.StringIO(data.decode()[2:]))
        return {row["svname"]: row for row in rows if row["pxname"] == "b"}

    try:
        wait_for("both to be asked", lambda: all(counters()[name]["check_code"] == "200" for name in ("h0", "h1")))
        yield counters
    finally:
        proxy.kill()
        town.api.port = direct
        child.terminate()
        child.wait(30)


def without_a_majority(town: Town) -> None:
    """Until a crowd, larger than the threads of both `serve`, has been told so."""
    primary = town.mongo.primary()
    gone = [node for index, node in enumerate(town.mongo.nodes) if index != primary]
    for node in gone:
        node.kill()
    answers: list[int] = []

    def ask() -> None:
        answers.append(town.api.call("GET", f"/workflows/{town.made[0]}/tree", timeout=DEADLINE + 5).status)

    crowd = [threading.Thread(target=ask) for _ in range(2 * CROWD)]
    for caller in crowd:
        caller.start()
    wait_for("refusals", lambda: town.troubles or len(town.refused) >= 2, 90)
    for caller in crowd:
        caller.join()
    for node in gone:
        node.start()
    assert len(answers) == 2 * CROWD
    assert set(answers) <= {200, 503}


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([without_a_majority], id="short"),
        pytest.param([kill_the_primary, without_a_majority, step_down] * 2, id="long", marks=pytest.mark.faults),
    ],
)
def test_elections_and_a_lost_majority_take_no_host_out_of_its_vip(
    town: Town, faults: list[Callable[[Town], None]], tmp_path: Path
) -> None:
    town.refused.clear()
    with balanced(town, tmp_path) as counters:
        with Callers(town) as callers:
            for fault in faults:
                callers.more()
                fault(town)
            callers.more()
        town.settle()
        seen = counters()
    for name in ("h0", "h1"):
        assert seen[name]["status"] == "UP"
        assert (seen[name]["chkdown"], seen[name]["chkfail"]) == ("0", "0"), name
        assert int(seen[name]["stot"]) > 0
    assert all(answer.json["errorClass"] for answer in town.refused), "the answers are ours, none the VIP's own"


@contextmanager
def no_primary(town: Town) -> Iterator[None]:
    """Only one node is up, and it knows that it leads nobody; afterwards all are, and one leads."""
    primary = town.mongo.primary()
    gone = [node for index, node in enumerate(town.mongo.nodes) if index != primary]
    for node in gone:
        node.kill()
    try:
        wait_for("no primary", lambda: not town.mongo.leads(primary))
        yield
    finally:
        for node in gone:
            node.start()
        town.mongo.primary()


def all_of(terminal: int) -> bytes:
    """What is written to a terminal until nobody holds it any more."""
    said = b""
    with suppress(OSError):
        while piece := os.read(terminal, 4096):
            said += piece
    os.close(terminal)
    return said


def test_a_person_at_a_terminal_is_told_that_a_command_waits_for_an_election_and_a_script_is_not(
    town: Town, tmp_path: Path
) -> None:
    """What was said is gone when the wait is over; whether the primary comes in time is this machine's affair."""
    waiting = b"no primary in rs0: waiting for an election, at most 12 s"
    environ = {"BBCTL_HOME": str(tmp_path), "BBCTL_MONGO_URL": town.mongo.url("town"), "BBCTL_INVENTORY": "none"}

    def start(*more: str, stderr: int) -> subprocess.Popen[bytes]:
        words = [str(BBCTL), "wf", "list", "--limit", "1", *more]
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, env=tidy_environment() | environ
        )

    (told, terminal), (silent, other), (piped, pipe) = os.openpty(), os.openpty(), os.pipe()
    with no_primary(town):
        running = [start(stderr=terminal), start("-o", "json", stderr=other), start(stderr=pipe)]
        for end in (terminal, other, pipe):
            os.close(end)
        said = b""
        while waiting not in said:
            said += os.read(told, 4096)
    said += all_of(told)
    assert said.partition(waiting)[2].startswith(b"\r\x1b[K")
    assert waiting not in all_of(silent)
    assert waiting not in all_of(piped)
    assert {one.wait(60) for one in running} <= {0, 4}


# -- the majority --------------------------------------------------------------------------------------------------


def test_what_no_majority_has_yet_is_due_to_nobody(town: Town) -> None:
    """Whoever acted on it would have acted on what a fail-over may take back, and its client asks for again."""
    primary = town.mongo.primary()
    asleep = [node for index, node in enumerate(town.mongo.nodes) if index != primary]
    wish = NewWorkflow(name="town", subject={"place": "unheard"}, decider="D", signal=NewNode(name="go"), key="unheard")

    def start() -> None:
        town.made.extend(root.id for root, _ in workflows.start_many(town.rt, town.api.clients[0][0], [wish]))

    starting = threading.Thread(target=start)
    for node in asleep:
        node.send(signal.SIGSTOP)
    try:
        starting.start()
        with town.mongo.directly(primary) as client:
            nodes, wanted = client.town.nodes, {"subject": {"$regex": "unheard"}}
            root = wait_for("it to be on the primary", lambda: nodes.find_one(wanted))["_id"]
            ours = wait_for("its signal", lambda: nodes.distinct("_id", {"wf": root, "due": {"$gt": 0}}))
        with suppress(StoreDown):  # on a slow machine it has stepped down by now
            assert not set(ours) & set(town.rt.store.due(1000))
    finally:
        for node in asleep:
            node.send(signal.SIGCONT)
        starting.join()
    town.mongo.primary()
    town.settle()


@pytest.mark.parametrize(
    ("which", "refusals"),
    [
        pytest.param("secondaries", 2, id="short"),
        pytest.param("secondaries", 60, id="long", marks=pytest.mark.faults),
        pytest.param("primary", 60, id="long, the primary too", marks=pytest.mark.faults),
    ],
)
def test_without_a_majority_writes_are_refused_in_a_line_and_work_resumes_by_itself(
    town: Town, which: str, refusals: int
) -> None:
    town.refused.clear()
    with Callers(town) as callers:
        callers.more()
        primary = town.mongo.primary()
        others = [index for index in range(3) if index != primary]
        gone = [town.mongo.nodes[index] for index in (others if which == "secondaries" else [primary, others[0]])]
        for node in gone:
            node.kill()
        wait_for("refusals", lambda: town.troubles or len(town.refused) >= refusals, 90)
        health = town.api.call("GET", "/health", client=None)
        assert health.status == 503
        assert health.json["status"] == "DOWN"
        assert "\n" not in health.json["mongo"]
        for node in gone:
            node.start()
        callers.more()
    for answer in town.refused:
        assert answer.json["errorClass"] == "Backbeat::StoreDown"
        assert "MongoDB" in answer.json["message"]
        assert "\n" not in answer.json["message"]
        assert answer.headers["retry-after"] == "1"
    town.settle()
    assert max(town.answers) < DEADLINE


# -- Redis ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [4, pytest.param(60, marks=pytest.mark.faults)])
def test_with_redis_down_the_api_accepts_and_work_is_done_and_so_when_it_is_back(town: Town, more: int) -> None:
    town.refused.clear()
    with Callers(town) as callers:
        callers.more()
        town.redis.process.kill()
        callers.more(more)
    assert town.api.call("GET", "/health", client=None).json["redis"] == "down"
    town.settle()
    town.redis.up()
    with Callers(town) as callers:
        callers.more()
    town.settle()
    assert not town.refused
