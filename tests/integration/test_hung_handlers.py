"""A Python handler that never comes back costs its worker, never the work: another run of the same attempt completes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import workflows
from engine.handlers import open_program
from engine.settings import Settings
from tests.integration.engine_kit import outcomes
from tests.integration.servers import wait_for
from tests.integration.worker_kit import crew

ENDED = "the handler hangs runs longer than its timeout: this worker ends, another runs what it held"


@pytest.mark.parametrize(("name", "ends"), [("hangs", True), ("hangs_in_a_thread", False)])
def test_a_handler_that_hangs_is_run_again_by_the_only_worker_there_is(
    mongo_url: str, tmp_path: Path, name: str, ends: bool
) -> None:
    ran = tmp_path / "ran"
    settings = Settings(mongo_url=mongo_url, lease=1.0, period=0.1)
    with (
        open_program(mongo_url, client="town") as program,
        crew(settings, 1, ["tests.integration.hung_handlers"], tmp_path, BB_TEST_RAN=str(ran)) as running,
    ):
        root, signal = program.signal("w", name, name)

        def complete() -> bool:
            return workflows.get_node(program.rt, None, signal.id).node.ss == "complete"

        wait_for("another run to complete it", complete, 60)
        first, *more = ran.read_text().splitlines()
        assert first == f"{name} {signal.id}:1"
        assert set(more) == {first}, "the same attempt, with the same key"
        assert outcomes(program.rt, root.id) == {signal.id: 1}
        assert (ENDED in running.log()) == ends, running.log()
