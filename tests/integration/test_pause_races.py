"""A pause that was answered holds, however fast its client goes on and whichever worker hears of what first."""

from __future__ import annotations

import time

from engine import workflows
from engine.drain import Drain
from engine.runtime import open_runtime
from engine.settings import Settings
from tests.integration.engine_kit import act, stub_client
from tests.integration.servers import wait_for


def test_a_worker_that_is_asked_to_look_again_does_not_rely_on_what_it_knew_of_the_workflow(mongo_url: str) -> None:
    rt = open_runtime(Settings(mongo_url=mongo_url, period=0.05))
    with stub_client() as stub:
        me = workflows.add_client(rt, "me", activity_endpoint=stub.url, notification_endpoint=stub.url)[0].id
        root = workflows.create_workflow(rt, me, name="w", subject=1).id
        parent = workflows.signal(rt, me, root, act("parent")).id
        one, other = Drain(rt, "one"), Drain(rt, "other")

        def posted(id: str) -> bool:
            one.round(0.01)
            return f"{id}:1" in stub.sent_keys

        wait_for("the signal to be posted", lambda: posted(parent), every=0.001)
        first, second = workflows.add_children(rt, me, parent, [act("first"), act("second")])
        workflows.change_status(rt, me, parent, "completed")
        wait_for("its first child to be posted", lambda: posted(first), every=0.001)
        assert parent in one.held

        workflows.pause(rt, me, root)
        workflows.change_status(rt, me, first, "completed")

        def asked() -> bool:
            other.round(0.01)
            return workflows.get_node(rt, None, first).node.do is None

        wait_for("another worker to tell the parent", asked, every=0.001)

        def decided() -> bool:
            one.hand.checked = time.monotonic()  # a moment ago: no other look at what has changed is due yet
            one.round(0.0)
            return workflows.get_node(rt, None, second).node.ss not in ("pending", "ready")

        wait_for("the second child's turn", decided, every=0.001)
        assert workflows.get_node(rt, None, second).node.ss == "paused"
        assert f"{second}:1" not in stub.sent_keys
        for drain in (one, other):
            drain.leave(0)
    rt.close()
