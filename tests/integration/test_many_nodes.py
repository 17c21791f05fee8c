"""Ten thousand signals of one workflow, four thousand steps in a row: the last cost what the first did, and come in order.

Costs are counted by MongoDB: commands, and keys and documents examined. Times are told, not judged.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from engine import workflows
from engine.drain import Drain
from engine.handlers import activity, register
from engine.model import NewNode
from engine.registry import Registry
from engine.runtime import Runtime, open_runtime
from engine.settings import Settings
from tests.integration.servers import wait_for

HANDLERS = Registry()
RAN: list[int] = []
GROWTH = 1.5
Record = Callable[[str, object], None]


@activity(registry=HANDLERS)
def note(number: int) -> None:
    RAN.append(number)


@activity(registry=HANDLERS)
def plan(steps: int) -> None:
    for number in range(steps):
        register(note, number, registry=HANDLERS)


@pytest.fixture
def rt(mongo_url: str) -> Iterator[Runtime]:
    RAN.clear()
    found = open_runtime(Settings(mongo_url=mongo_url), handlers=HANDLERS)
    yield found
    found.close()


@dataclass
class Meter:
    """What MongoDB did and the seconds it took, for each tenth of `total`."""

    rt: Runtime
    total: int
    marks: list[tuple[int, float, dict[str, float]]] = field(default_factory=list)

    def mark(self, done: int) -> None:
        """`done` of the total are behind us."""
        if not self.marks or done >= self.total or done >= self.marks[-1][0] + self.total // 10:
            self.marks.append((done, time.monotonic(), self._read()))

    def _read(self) -> dict[str, float]:
        status = self.rt.store.db.client.admin.command("serverStatus")
        executor, counters = status["metrics"]["queryExecutor"], status["opcounters"]
        commands = sum(counters[kind] for kind in ("insert", "query", "update", "command"))
        return {"keys": executor["scanned"], "documents": executor["scannedObjects"], "commands": commands}

    def each(self) -> list[dict[str, float]]:
        """Per tenth: what one cost."""
        costs = []
        for (done, at, read), (done_then, at_then, read_then) in zip(self.marks, self.marks[1:], strict=False):
            if done_then > done:
                parts = {name: (read_then[name] - read[name]) / (done_then - done) for name in read}
                costs.append({**parts, "ms": 1000 * (at_then - at) / (done_then - done)})
        return costs

    def prove(self, what: str, bounds: dict[str, float], record: Record) -> None:
        """The last tenth costs at most half as much again as the first, and one of the whole no more than `bounds`."""
        costs = self.each()
        first, last = costs[0], costs[-1]
        for name in first:
            record(f"{what}, {name} each, first and last tenth", f"{first[name]:.2f} and {last[name]:.2f}")
        for name, bound in bounds.items():
            assert last[name] <= first[name] * GROWTH + 0.5, (what, name, costs)
            whole = (self.marks[-1][2][name] - self.marks[0][2][name]) / self.total
            record(f"{what}, {name} each, of all", f"{whole:.2f}")
            assert whole <= bound, (what, name, costs)


def run(rt: Runtime, meter: Meter) -> None:
    """One worker until nothing is left to do."""
    drain = Drain(rt, "worker")
    meter.mark(0)

    def over() -> bool:
        drain.round(0.01)
        meter.mark(len(RAN))
        return len(RAN) >= meter.total and not drain.held and not rt.store.due(1)

    wait_for("the work", over, 600, every=0)
    drain.leave(0)


@pytest.mark.parametrize("total", [1_000, pytest.param(10_000, marks=pytest.mark.faults)])
def test_signals_of_one_workflow_cost_the_same_however_many_wait_and_run_in_order(
    rt: Runtime, total: int, record_property: Record
) -> None:
    client = workflows.add_client(rt, "town")[0].id
    root = workflows.create_workflow(rt, client, name="town", subject=1)
    arriving, running = Meter(rt, total), Meter(rt, total)
    arriving.mark(0)
    for number in range(total):
        workflows.signal(rt, client, root.id, NewNode(name="note", data={"name": "note", "params": [number]}))
        arriving.mark(number + 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(rt, running)
    record_property(
        "memory it grew by while they ran, MB", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    )
    assert list(range(total)) == RAN
    arriving.prove("a signal", {"keys": 12, "documents": 12, "commands": 12}, record_property)
    running.prove("its run", {"keys": 24, "documents": 24, "commands": 12}, record_property)


@pytest.mark.parametrize("total", [400, pytest.param(4_000, marks=pytest.mark.faults)])
def test_steps_in_a_row_cost_the_same_however_many_are_behind_and_ahead(
    rt: Runtime, total: int, record_property: Record
) -> None:
    client = workflows.add_client(rt, "town")[0].id
    root = workflows.create_workflow(rt, client, name="town", subject=1)
    workflows.signal(rt, client, root.id, NewNode(name="plan", data={"name": "plan", "params": [total]}))
    meter = Meter(rt, total)
    run(rt, meter)
    assert list(range(total)) == RAN
    meter.prove("a step", {"keys": 24, "documents": 24, "commands": 12}, record_property)
