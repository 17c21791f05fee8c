"""Workers and Redis die at any time: nothing is lost or stuck, every outcome is recorded once, repeats bear the same key."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import redis

from engine import workflows
from engine.model import NewNode, NewWorkflow
from engine.runtime import Runtime, open_runtime
from engine.settings import Settings
from tests.integration.engine_kit import at_rest, shape, unrest
from tests.integration.killed_handlers import STEPS
from tests.integration.servers import Redis, wait_for
from tests.integration.worker_kit import Crew, crew

LEASE = 2.5
WORKERS = 3
EXPECTED = Counter({("step", 1): STEPS - 1, ("fails_once", 2): 1, ("decide", 1): 1})


@dataclass
class Town:
    rt: Runtime
    client: str
    crew: Crew
    redis: Redis
    ran: Path

    def work_through(self, total: int, seconds: float, fault: Callable[[Town], None], every: float) -> list[str]:
        """Submits `total` workflows over `seconds`, with a fault each `every` seconds; the ids when all are complete."""
        began, faults, made = time.monotonic(), 0, []
        while time.monotonic() < began + seconds or len(made) < total:
            passed = time.monotonic() - began
            want = min(total, 1 + int(total * passed / seconds))
            if want > len(made):
                new = [
                    NewWorkflow(name="town", subject=place, signal=NewNode(name="decide"), key="go")
                    for place in range(len(made), want)
                ]
                made += [root.id for root, _ in workflows.start_many(self.rt, self.client, new)]
            if passed > faults * every:
                faults += 1
                fault(self)
            time.sleep(0.02)
        try:
            wait_for("all nodes to be complete", self._all_done, 180, every=0.2)  # the sweep comes once a minute
        except AssertionError:
            raise AssertionError(f"not done:\n{unrest(self.rt)}\n{self.crew.log()[-2000:]}") from None
        return made

    def _all_done(self) -> bool:
        if self.crew.process is None or self.crew.process.poll() is not None:
            self.crew.start()
        return at_rest(self.rt)

    def prove(self, made: list[str]) -> int:
        """Every tree is the planned one and every run was planned; how many were repeats."""
        for root in made:
            found = Counter((path.rpartition("/")[2], attempt) for path, _, _, _, attempt in shape(self.rt, root))
            assert found == EXPECTED, root
            for node in workflows.nodes(self.rt, None, root):
                changes = workflows.status_changes(self.rt, None, node.id)
                assert sum(c.machine == "client" and c.after == "complete" for c in changes) == 1, node
        runs = Counter(self.ran.read_text().splitlines())
        planned = len(made) * (1 + STEPS + 1)
        assert len(runs) == planned, "runs that nobody planned, or plans that never ran"
        return sum(runs.values()) - planned


@pytest.fixture
def town(mongo_url: str, tmp_path: Path) -> Iterator[Town]:
    """Its leases are short: what a dead worker held is soon done by another."""
    with _town(mongo_url, tmp_path, LEASE) as made:
        yield made


@pytest.fixture
def calm(mongo_url: str, tmp_path: Path) -> Iterator[Town]:
    """Nobody dies, so that nothing may run twice; its leases outlast a worker that a loaded machine lets wait."""
    with _town(mongo_url, tmp_path, 60.0) as made:
        yield made


@contextmanager
def _town(mongo_url: str, tmp_path: Path, lease: float) -> Iterator[Town]:
    server = Redis.start()
    settings = Settings(mongo_url=mongo_url, redis_url=server.url(), lease=lease, period=0.5)
    rt = open_runtime(settings)
    client = workflows.add_client(rt, "town")[0].id
    ran = tmp_path / "ran"
    with crew(settings, WORKERS, ["tests.integration.killed_handlers"], tmp_path, BB_TEST_RAN=str(ran)) as running:
        yield Town(rt, client, running, server, ran)
    rt.close()
    server.stop()


def kill_somebody(town: Town) -> None:
    """A worker, the supervisor alone, or all of them; whoever is gone is started again."""
    how = random.choice(("worker", "worker", "parent", "all"))
    if how == "worker":
        for pid in random.sample(town.crew.workers(), 1) if town.crew.workers() else []:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    else:
        town.crew.kill_parent() if how == "parent" else town.crew.kill_all()
        town.crew.start()


def flush(town: Town) -> None:
    with redis.Redis.from_url(town.redis.url()) as client:
        client.flushall()


def nothing(town: Town) -> None:
    pass


@pytest.mark.parametrize(
    ("total", "seconds", "every"),
    [(60, 7, 1.5), pytest.param(200, 60, 2, marks=pytest.mark.faults)],
)
def test_kill_9_of_random_workers_loses_nothing(town: Town, total: int, seconds: float, every: float) -> None:
    made = town.work_through(total, seconds, kill_somebody, every)
    kills = seconds / every + 1
    assert town.prove(made) <= kills * WORKERS * 32


@pytest.mark.parametrize(
    ("total", "seconds", "every"),
    [(60, 3, 0.4), pytest.param(200, 60, 5, marks=pytest.mark.faults)],
)
def test_a_redis_that_is_emptied_again_and_again_loses_and_repeats_nothing(
    calm: Town, total: int, seconds: float, every: float
) -> None:
    assert calm.prove(calm.work_through(total, seconds, flush, every)) == 0


@pytest.mark.parametrize(("total", "seconds"), [(60, 4), pytest.param(200, 20, marks=pytest.mark.faults)])
def test_with_redis_gone_the_work_goes_on_and_comes_back_to_rq_afterwards(
    calm: Town, total: int, seconds: float
) -> None:
    wait_for("a worker inside RQ", lambda: _rq_workers(calm))
    calm.redis.process.kill()
    made = calm.work_through(total, seconds, nothing, 1e9)
    assert calm.prove(made) == 0
    calm.redis.up()
    wait_for("workers inside RQ again", lambda: len(_rq_workers(calm)) == WORKERS, 70)
    assert "Traceback" not in calm.crew.log()
    assert "Redis is lost: " in calm.crew.log()
    with redis.Redis.from_url(calm.redis.url()) as client:
        assert not client.client_list(_type="pubsub"), "nobody listens to commands of RQ's, old workers least of all"


def _rq_workers(town: Town) -> set[bytes]:
    with redis.Redis.from_url(town.redis.url()) as client:
        return {key for key in client.scan_iter("rq:worker:*") if not key.endswith(b":executions")}


def test_sigterm_ends_all_workers_and_repeats_nothing(calm: Town) -> None:
    def redeploy(town: Town) -> None:
        wait_for("the workers", lambda: len(town.crew.workers()) == WORKERS)
        assert town.crew.stop() == signal.SIGTERM
        town.crew.start()

    made = calm.work_through(60, 4, redeploy, 2)
    assert calm.prove(made) == 0


def freeze_a_worker(town: Town) -> None:
    """Longer than its lease: what it writes when it wakes must be refused."""
    for pid in town.crew.workers()[:1]:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(2 * LEASE)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_a_worker_that_sleeps_past_its_lease_records_nothing_twice(town: Town) -> None:
    made = town.work_through(60, 6, freeze_a_worker, 1e9)
    assert town.prove(made) <= 3 * 64


def spread_hints(town: Town) -> None:
    """Every node three times, in any order, those that are not due included."""
    ids = town.rt.store.ids_where({}, 2000) * 3
    random.shuffle(ids)
    for first in range(0, len(ids), 500):
        with redis.Redis.from_url(town.redis.url()) as client:
            client.rpush("bbctl:hints", *ids[first : first + 500])


def test_hints_three_times_in_any_order_deliver_nothing_twice(calm: Town) -> None:
    assert calm.prove(calm.work_through(60, 3, spread_hints, 0.5)) == 0


def test_a_frozen_redis_slows_nobody_who_asks(town: Town) -> None:
    wait_for("workers inside RQ", lambda: len(_rq_workers(town)) == WORKERS)
    before = _rq_workers(town)
    rt = open_runtime(replace(town.rt.settings, hint_timeout=1.5))  # longer than a loaded machine takes for a write
    town.redis.process.send(signal.SIGSTOP)
    try:
        waits = []
        for place in range(20):
            began = time.monotonic()
            workflows.create_workflow(rt, town.client, name="frozen", subject=place)
            workflows.start_many(
                rt, town.client, [NewWorkflow(name="town", subject=place, signal=NewNode(name="decide"), key="go")]
            )
            waits.append(time.monotonic() - began)
        usual = sorted(waits)[len(waits) // 2]
        assert usual < rt.settings.hint_timeout, "the breaker lets one call a second try, and no more"
        wait_for("the work", town._all_done, 60)
    finally:
        town.redis.process.send(signal.SIGCONT)
        rt.close()
    wait_for("workers inside RQ again", lambda: len(_rq_workers(town) - before) == WORKERS, 70)
    assert "Traceback" not in town.crew.log()
