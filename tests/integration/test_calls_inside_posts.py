"""What is done to an activity while its POST is under way leaves the POST with the worker that sends it: nobody sends it
again meanwhile, and its answer counts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from engine import workflows
from engine.errors import Conflict
from engine.handlers import activity, task
from engine.model import Node
from engine.registry import Registry
from tests.integration.engine_kit import Post, act
from tests.integration.house import Build, House, houses
from tests.integration.servers import wait_for

HANDLERS = Registry()
LEASE = 5.0  # a machine that stands still for so long loses the claim, and rightly posts again
RAN: list[int] = []
ENTERED, LEAVE = threading.Event(), threading.Event()


@activity(slow=True, retries=1, retry_interval=0, registry=HANDLERS)
def takes_its_time() -> str:
    RAN.append(task().node.attempt)
    ENTERED.set()
    LEAVE.wait(30)
    return "done"


@pytest.fixture
def build(mongo_url: str) -> Iterator[Build]:
    with houses(mongo_url, HANDLERS) as made:
        yield made


def links(house: House, node: str) -> None:
    workflows.signal(house.rt, house.me, house.workflow(), act("holds back", link=node, fires_at=10**13))


def completes_an_old_attempt(house: House, node: str) -> None:
    with suppress(Conflict):
        house.says(node, "completed", response={"result": "late"}, attempt=7)


ACTS: dict[str, Callable[[House, str], object]] = {
    "a link to it": links,
    "a late word of another attempt": completes_an_old_attempt,
    "reset": lambda house, node: workflows.reset(house.rt, house.me, node),
    "schedule": lambda house, node: workflows.schedule(house.rt, house.me, node),
    "deactivated": lambda house, node: house.says(node, "deactivated"),
}


def stored(house: House, id: str) -> Node:
    node = house.rt.store.node(id)
    assert node is not None
    return node


def goes_on(house: House, claimed: Node) -> None:
    """Waits until the claim was renewed, which only its holder does, and only of the node as it is now."""
    wait_for("the claim to go on", lambda: (stored(house, claimed.id).due or 0) > (claimed.due or 0), every=0.02)
    after = stored(house, claimed.id)
    assert (after.by, after.since, after.rev) == (claimed.by, claimed.since, claimed.rev)


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("what", ACTS)
def test_an_activity_is_not_posted_again_while_its_client_works_inside_the_post(
    build: Build, what: str, status: int
) -> None:
    def answer(post: Post) -> int:
        id = post.node["id"]
        if len(house.stub.posts) == 1:
            ACTS[what](house, id)
            if "post" in (stored(house, id).do or {}):  # nothing has proven yet that it arrived
                goes_on(house, stored(house, id))
        return status

    house = build(answer, lease=LEASE)
    node = house.signal(house.workflow(), retry=0)
    if status == 200:
        wait_for("the answer to be noted", lambda: (stored(house, node).sent or [0, 0, 0])[2] == 200, every=0.01)
        assert "timeout" in (stored(house, node).do or {})
        house.reaches(node, "sent_to_client", "received")
    else:
        house.reaches(node, "retries_exhausted", "errored")
    assert [post.key for post in house.stub.posts if post.path != "/notification"] == [f"{node}:1"]


def test_a_slow_handler_runs_once_though_its_activity_is_reset_meanwhile(build: Build, mongo_url: str) -> None:
    RAN.clear()
    ENTERED.clear()
    LEAVE.clear()
    house = build(lease=LEASE)
    local = workflows.add_client(house.rt, "local")[0].id
    root = workflows.create_workflow(house.rt, local, name="house", subject="slow").id
    node = workflows.signal(house.rt, local, root, act("takes_its_time", retry=1, retry_interval=0)).id
    assert ENTERED.wait(30)
    workflows.reset(house.rt, None, node)
    goes_on(house, stored(house, node))
    LEAVE.set()
    house.reaches(node, "complete", "complete")
    assert RAN == [1]
