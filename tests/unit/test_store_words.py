"""What is said of a store: where it is and what is wrong, never who we are there."""

from __future__ import annotations

import pytest
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    ExecutionTimeout,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from engine.driver import outage, sentence, unfit
from engine.settings import place


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("mongodb://h1:1,h2:2/db?replicaSet=rs0", "h1:1,h2:2"),
        ("mongodb://ann:s%40cret@h1:1/db", "h1:1"),
        ("mongodb://ann:se@cr?et/x@h1:1/db", "?"),
        ("redis://h1:6379/0?password=se@cret", "?"),
        ("mongodb+srv://ann:secret@cluster.example", "cluster.example"),
        ("redis://:secret@h1:6379/0", "h1:6379"),
        ("rediss://[::1]:6379", "[::1]:6379"),
        ("unix://:secret@/run/redis.sock?db=1", "/run/redis.sock"),
    ],
)
def test_the_place_of_a_store_holds_no_user_password_or_option(url: str, where: str) -> None:
    assert place(url) == where


URL = "mongodb://ann:secret@h1:1/db"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OperationFailure("denied., full error: {…}", 18), "MongoDB h1:1 refuses our credentials (denied)"),
        (ServerSelectionTimeoutError("h1:1: refused, Timeout: 5s"), "MongoDB cannot be reached: h1:1: refused"),
        (
            ServerSelectionTimeoutError("No replica set members found yet, Timeout: 2s"),
            "MongoDB h1:1 cannot be reached: none of its members has answered",
        ),
        (
            ServerSelectionTimeoutError('No replica set members match selector "Primary()", Timeout: 5s'),
            "MongoDB h1:1 has no primary: its members are electing one, or too few of them are up",
        ),
        (ConfigurationError("Server at h1:1 reports wire version 2, but"), "MongoDB h1:1 is too old: workflows need 6.0 or newer"),
        (AutoReconnect("h1:1: connection closed"), "MongoDB: h1:1: connection closed"),
        (OperationFailure("no space\nat all", 1), "MongoDB h1:1: no space"),
    ],
)  # fmt: skip
def test_an_error_of_the_driver_is_one_sentence_that_names_the_place(error: PyMongoError, told: str) -> None:
    assert sentence(error, URL) == told


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        (
            [
                ServerSelectionTimeoutError(
                    "h2:2: refused,h1:1: timed out (configured timeouts: 2000ms), Timeout: 1.4s"
                ),
                ServerSelectionTimeoutError("No replica set members found yet, Timeout: 2s"),
                AutoReconnect("h1:1: connection closed"),
                NetworkTimeout("h2:2: timed out"),
            ],
            "MongoDB h1:1,h2:2 cannot be reached",
        ),
        (
            [
                ServerSelectionTimeoutError("No primary available for writes, Timeout: 1.2s"),
                NotPrimaryError("not primary"),
                OperationFailure("shutting down", 91),
            ],
            "MongoDB h1:1,h2:2 has no primary",
        ),
        ([ExecutionTimeout("exceeded", 50)], "MongoDB h1:1,h2:2 does not answer in time"),
    ],
)
def test_one_outage_has_one_wording_whichever_call_meets_it_and_whatever_the_order_of_servers(
    errors: list[PyMongoError], told: str
) -> None:
    urls = ("mongodb://ann:secret@h1:1,h2:2/db", "mongodb://bob:secret@h2:2,h1:1/db?replicaSet=rs0")
    assert {outage(error, url) for error in errors for url in urls} == {told}


@pytest.mark.parametrize(
    ("hello", "version", "why"),
    [
        ({"setName": "rs0"}, "6.0.5", None),
        ({"setName": "rs0"}, "8.2.1-rc0", None),
        ({"setName": "rs0"}, "5.0.30", "5.0.30 is too old"),
        ({}, "7.0.1", "is not a replica set"),
    ],
)
def test_a_server_fits_from_6_0_on_and_as_a_replica_set(hello: dict[str, str], version: str, why: str | None) -> None:
    found = unfit(hello, version)
    assert found is None if why is None else found is not None and found.startswith(why)
