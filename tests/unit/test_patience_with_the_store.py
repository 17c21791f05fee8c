"""How long a call waits for MongoDB: through a fail-over, and hardly at all once it is known to be gone."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from pymongo.errors import AutoReconnect, ServerSelectionTimeoutError

from engine.mongo import GONE, HUNG, RIDE, Connection
from engine.settings import Settings

FULL = 10.0


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Connection:
    """Never connects; its clock stands at 1000 until a test moves it."""
    clock(monkeypatch, 1000.0)
    return Connection(Settings(mongo_url="mongodb://127.0.0.1:1/x", store_timeout=FULL / 2))


def clock(monkeypatch: pytest.MonkeyPatch, at: float) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: at)


def known(primary: object) -> Any:
    return SimpleNamespace(primary=primary)


def test_a_fail_over_is_waited_for_and_a_store_long_gone_is_not(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection._client = known(None)
    assert connection._patience() == FULL
    connection._seen(False)
    assert connection._patience() == FULL
    clock(monkeypatch, 1000.0 + RIDE - 4)
    connection._seen(False)  # seen again: it is lost since the first time
    assert connection._patience() == 4
    clock(monkeypatch, 1000.0 + 3600)
    assert connection._patience() == GONE
    connection._seen(True)
    assert connection._patience() == FULL


def test_a_primary_that_answers_nobody_costs_one_call_its_deadline(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection._client = known(("127.0.0.1", 1))
    clock(monkeypatch, 1000.0 + FULL)
    connection._in_vain(ServerSelectionTimeoutError("no answer"), 1000.0)
    assert connection._patience() == HUNG
    with connection._wire():
        pass  # an answer
    assert connection._patience() == FULL


def test_a_connection_that_broke_is_no_sign_that_the_store_is_gone(connection: Connection) -> None:
    connection._in_vain(AutoReconnect("connection closed"), 999.0)
    assert connection._patience() == FULL
