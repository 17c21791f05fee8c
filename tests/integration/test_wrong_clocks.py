"""Workers whose clocks are ten minutes fast, ten minutes slow, and set while they work: timers follow the database's clock."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from engine import workflows
from engine.model import NewNode
from engine.runtime import Runtime, open_runtime
from engine.settings import Settings
from tests.integration.engine_kit import at_rest, outcomes, unrest
from tests.integration.servers import Redis, wait_for
from tests.integration.worker_kit import crew

SKEWED = Path(__file__).with_name("skewed")
OFF = 600.0
EARLY = 0.25
"""Seconds by which two readings of the database's clock may differ on a busy machine."""
SLACK = 2.0
"""Seconds after its time by which a timer has started, where nothing else is under way."""


@pytest.fixture
def rt(mongo_url: str, redis_server: Redis) -> Iterator[Runtime]:
    found = open_runtime(Settings(mongo_url=mongo_url, redis_url=redis_server.url(), prefix=mongo_url[-20:-10]))
    yield found
    found.close()


@pytest.mark.parametrize(
    ("total", "late"),
    [pytest.param(30, None, id="short"), pytest.param(400, SLACK, id="long", marks=pytest.mark.faults)],
)
def test_timers_of_workers_with_wrong_clocks_fire_once_and_not_before_their_time(
    rt: Runtime, total: int, late: float | None, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    client = workflows.add_client(rt, "town")[0].id
    skews = {name: tmp_path / f"skew-{name}" for name in ("fast", "slow")}
    ran = tmp_path / "ran"
    with ExitStack() as running:
        for sign, (name, skew) in zip((1, -1), skews.items(), strict=True):
            skew.write_text(str(sign * OFF))
            folder = tmp_path / name
            folder.mkdir()
            told = {"PYTHONPATH": str(SKEWED), "BB_TEST_SKEW": str(skew), "BB_TEST_RAN": str(ran)}
            running.enter_context(crew(rt.settings, 1, ["tests.integration.skewed_handlers"], folder, **told))
        wait_for("both workers", lambda: len(workflows.stats(rt).workers) == 2, 60)
        due = _timers(rt, client, total)
        swapped = itertools.cycle([OFF, 0.0, -OFF])

        def over() -> bool:
            for name, skew in skews.items():  # somebody sets the clocks all the time
                new = tmp_path / f"new-{name}"
                new.write_text(str(next(swapped)))
                new.replace(skew)
            return at_rest(rt)

        try:
            wait_for("all timers", over, 120, every=0.5)
        except AssertionError:
            raise AssertionError(unrest(rt)) from None
    runs = [line.split() for line in ran.read_text().splitlines()]
    assert sorted(node for node, _, _ in runs) == sorted(due), "each once"
    errors = sorted(float(monotonic) - due[node] for node, _, monotonic in runs)
    wrong = {
        round((float(wall) - time.time() - float(monotonic) + time.monotonic()) / OFF) for _, wall, monotonic in runs
    }
    assert wrong & {1, -1}, "the clocks were wrong"
    for workflow in {n.wf for n in rt.store.by_ids(due).values()}:
        assert set(outcomes(rt, workflow).values()) == {1}
    record_property("timers", total)
    record_property(
        "started after its time by, earliest, median, latest, s",
        f"{errors[0]:.3f}, {errors[total // 2]:.3f}, {errors[-1]:.3f}",
    )
    assert errors[0] > -EARLY
    assert late is None or errors[-1] < late


def _timers(rt: Runtime, client: str, total: int) -> dict[str, float]:
    """Signals of as many workflows, due over some seconds; {node: when, by this machine's monotonic clock}."""
    began, now = time.monotonic(), rt.store.now()
    due = {}
    for place in range(total):
        after = 3_000 + (20_000 if total > 100 else 5_000) * place // total
        root = workflows.create_workflow(rt, client, name="town", subject=place)
        data = {"name": "tick", "params": []}
        node = workflows.signal(rt, client, root.id, NewNode(name="tick", data=data, fires_at=now + after))
        due[node.id] = began + after / 1000
    return due
