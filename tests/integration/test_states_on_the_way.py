"""At every point where a worker or a caller could die, what lies in the database is a healthy wait: nobody need repair it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest

from engine import failpoint, workflows
from engine.rows import matches
from engine.runtime import Runtime, open_runtime
from engine.scene import Scene, active
from engine.settings import Settings
from engine.store import Store
from tests.integration.engine_kit import stub_client
from tests.integration.test_crash_anywhere import HANDLERS, LEASE, STORIES, Stage

LONG = 3_600_000
INERT = {
    "I9"
}  # children that were inserted before their parent could count them: invisible, and pruned once they are old


@dataclass
class Watcher:
    """Looks, at each point, at all there is, as if it had stood like that for an hour."""

    store: Store
    looks: int = 0
    seen: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, point: str) -> None:
        with self.lock:
            nodes = {n.id: n for n in self.store.find({}, history=True)}
            if self.store.revs(nodes) != {id: n.rev for id, n in nodes.items()}:
                return  # somebody wrote between: this was never so
            self.looks += 1
            aged = {id: replace(n, changed=n.changed - LONG, created=n.created - LONG) for id, n in nodes.items()}
            scene = Scene(now=self.store.now(), nodes=aged, grace=5_000)
            for node in aged.values():
                rows = [row for row in matches(scene, node) if not row.remark]
                self.seen |= {row.id for row in rows}
                bad = [row.id for row in rows if row.mode != "W" and row.id not in INERT]
                if bad or (active(node) and not rows):
                    self.wrong.append(
                        f"{point}: {node.name} {node.ss}/{node.cs} do={node.do} due={node.due}: {bad or 'no row'}"
                    )


@pytest.fixture
def runtime(mongo_url: str) -> Iterator[Runtime]:
    rt = open_runtime(Settings(mongo_url=mongo_url, lease=LEASE * 4, period=0.02, post_threads=4), handlers=HANDLERS)
    yield rt
    rt.close()


@pytest.mark.parametrize("story", STORIES, ids=lambda it: getattr(it, "__name__", str(it)))
def test_a_crash_at_any_point_leaves_only_healthy_waits(
    story: Callable[[Stage], str], runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = workflows.add_client(runtime, "local")[0].id
    with stub_client() as stub:
        remote = workflows.add_client(runtime, "remote", activity_endpoint=stub.url, notification_endpoint=stub.url)[
            0
        ].id
        watcher = Watcher(runtime.store)
        stage = Stage(runtime, local, remote)
        monkeypatch.setattr(failpoint, "hook", watcher.look)
        try:
            story(stage)
        finally:
            stage.close()
            monkeypatch.setattr(failpoint, "hook", None)
    assert watcher.wrong == []
    assert watcher.looks > 10
    assert "W9" in watcher.seen
