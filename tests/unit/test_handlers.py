"""What a Python handler returns, raises or registers: kept as it is, or its own failure with a reason; never the worker's."""

from __future__ import annotations

import json
import sys
import threading
from asyncio import CancelledError
from collections.abc import Callable
from datetime import datetime

import pytest

from engine import build
from engine.events import Context
from engine.handlers import activity, register, task
from engine.registry import Registry
from engine.rehearsal import rehearse
from engine.task import MOST, call, kept

APP = Registry()


@activity(registry=APP)
def takes(value: object) -> object:
    return value


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


def fails_with(error: BaseException) -> Callable[[], None]:
    def run() -> None:
        raise error

    return run


def failure(run: Callable[[], object]) -> dict[str, object]:
    """Runs it as an activity that fails; the error as it is stored, which anybody can be sent."""
    registry = Registry()
    activity("one", registry=registry)(run)
    ctx = Context(1, "token")
    root = build.root("me", "w", None, None, ctx)
    node = build.first_signal(build.NewNode(name="one"), root, ctx)
    outcome = call(registry.of("one"), node, root)
    assert outcome.error is not None
    error = json.loads(outcome.error)["error"]
    json.dumps(error, ensure_ascii=False).encode()
    assert len(outcome.error) < 300_000
    assert isinstance(error, dict)
    return error


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (lambda: {1, 2}, "its result is not JSON: Object of type set is not JSON serializable"),
        (lambda: [float("nan")], "its result is not JSON: Out of range float values are not JSON compliant"),
        (lambda: "\ud800", "its result holds half of a surrogate pair"),
        (lambda: "x" * MOST, f"its result has {MOST + 13} bytes as JSON, more than the {MOST} that are kept"),
        (lambda: register(takes, datetime(2030, 1, 1), registry=APP), "what takes is given is not JSON"),
        (lambda: register(takes, "x" * MOST, registry=APP), f"more than the {MOST} that are kept"),
        (lambda: register(takes, 1, mode="sideways", registry=APP), "mode is one of blocking"),  # type: ignore[arg-type]
        (lambda: register(" ", 1, registry=APP), "Name can't be blank"),
        (lambda: sys.exit(3), "SystemExit: 3"),
        (fails_with(CancelledError()), "CancelledError"),
        (fails_with(Unspeakable()), "Unspeakable"),
        (fails_with(FileNotFoundError("\udcff.csv")), r"\udcff.csv"),
        (fails_with(ValueError("y" * 20_000_000)), "yyy"),
    ],
)
def test_what_cannot_be_kept_is_the_failure_of_its_handler(run: Callable[[], object], reason: str) -> None:
    assert reason in str(failure(run)["message"])


def test_an_async_function_is_refused_where_it_is_decorated() -> None:
    async def mail() -> None: ...

    with pytest.raises(TypeError, match="mail is async: an activity is a plain function"):
        activity(registry=Registry())(mail)


def test_a_method_of_an_object_may_be_an_activity() -> None:
    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name

        def sell(self, number: int) -> str:
            return f"{number} by {self.name}"

    registry, shop = Registry(), Shop("corner")
    for _ in range(2):  # a module that is loaded twice
        activity(registry=registry)(shop.sell)

    @activity(registry=registry)
    def day() -> None:
        register(shop.sell, 7, registry=registry)

    assert rehearse(day, registry=registry).ran == ["day", "sell"]
    with pytest.raises(ValueError, match="two handlers are named sell"):
        activity(registry=registry)(Shop("other").sell)


def test_a_thread_of_a_handler_is_told_that_no_activity_runs_in_it() -> None:
    said: list[str] = []

    def ask() -> None:
        try:
            task()
        except LookupError as error:
            said.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert said == ["no activity runs here: task() and register() are for the thread that it is called in"]


def test_what_is_kept_is_read_back_equal() -> None:
    value = {"a": [1, 2.5, None, True, "\u0000 æ 😀"], "b": {"$set": 2**70}}
    assert json.loads(kept(value, "it")) == value
