"""Applications test their workflows in memory: the real events and the real order, without a store."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from engine.errors import BadRequest
from engine.handlers import activity, register, task
from engine.registry import Registry
from engine.rehearsal import rehearse
from engine.task import Outcome

APP = Registry()
seen: list[object] = []


@activity(registry=APP)
def order(number: int) -> None:
    register(charge, number, registry=APP)
    register(mail, number, mode="fire_and_forget", registry=APP)
    register(ship, number, at=datetime(2030, 1, 1, tzinfo=UTC), registry=APP)


@activity(retries=1, registry=APP)
def charge(number: int) -> str:
    seen.append(task().key)
    if task().node.attempt == 1:
        raise ValueError("declined")
    return "paid"


@activity(registry=APP)
def mail(number: int) -> None:
    register("print", number, registry=APP)


@activity(registry=APP)
def ship(number: int) -> None:
    seen.append(number)


@activity(retries=0, rescue=lambda error: seen.append(error), registry=APP)
def doomed() -> None:
    raise ValueError("for good")


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


def test_a_story_is_played_in_order_with_retries_timers_and_children_of_children() -> None:
    played = rehearse(order, 7, registry=APP)
    assert played.ran[:3] == ["order", "charge", "charge"]
    assert sorted(played.ran[3:]) == ["mail", "print", "ship"]
    assert played.complete
    assert seen[-1] == 7
    assert (played.results["charge"], played.errors) == ("paid", {"charge": "declined"})


def test_each_attempt_has_its_own_key() -> None:
    rehearse(order, 7, registry=APP)
    first, second = seen[:2]
    assert str(first).endswith(":1")
    assert str(second) == str(first)[:-1] + "2"


def test_without_retries_left_the_rescue_hears_of_it() -> None:
    played = rehearse(doomed, registry=APP)
    assert played.statuses == {"doomed": "retries_exhausted"}
    assert [(error["code"], error["message"]) for error in seen if isinstance(error, dict)] == [
        ("ValueError", "for good")
    ]
    assert played.errors == {"doomed": "for good"}


def test_another_clients_answer_is_handed_in() -> None:
    played = rehearse("elsewhere", 1, registry=APP, answers=[Outcome(response='{"result":5}')])
    assert played.statuses == {"elsewhere": "complete"}


def test_a_time_without_a_zone_and_mixed_arguments_are_refused() -> None:
    app = Registry()

    @activity(registry=app)
    def wrong(how: str) -> None:
        if how == "zone":
            register(wrong, "x", at=datetime(2030, 1, 1), registry=app)
        register(wrong, "x", how="y", registry=app)

    for how in ("zone", "mixed"):
        played = rehearse(wrong, how, registry=app)
        assert played.statuses == {"wrong": "retries_exhausted"}
    with pytest.raises(BadRequest):
        rehearse(wrong, "x", how="y", registry=app)


def test_an_undecorated_function_is_refused_by_name() -> None:
    with pytest.raises(LookupError, match="is no activity"):
        rehearse(lambda: None, registry=Registry())


def test_two_functions_of_one_name_are_refused() -> None:
    app = Registry()
    activity("same", registry=app)(len)
    with pytest.raises(ValueError, match="two handlers are named same"):
        activity("same", registry=app)(max)
