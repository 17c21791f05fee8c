"""What MongoDB's driver and servers say, in our words: who is meant, what is wrong, in one line and without a secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from engine.settings import place

OLDEST = (6, 0)
NEED = f"workflows need {OLDEST[0]}.{OLDEST[1]} or newer"
REFUSALS = (13, 18)
"""Codes of a server that does not let us in, or not do what we asked."""
RETRYABLE = {6, 7, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436}
"""Codes that a primary gives while it goes or comes: the command is sent again."""
UNFOUND = "No replica set members found"
LEADERLESS = ("No primary available", 'match selector "Primary')
NOBODY = "none of its members has answered"
NOISE = (", Timeout:", " (configured timeouts", ", full error:", ", topology_version")


def brief(error: Exception) -> str:
    """The first cause in one line; the driver adds its whole view of the servers."""
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    for noise in NOISE:
        line = line.split(noise)[0]
    return line[:300].removesuffix(".")


def speaks_too_old(error: Exception) -> bool:
    """A server whose protocol the driver does not speak any more; TokuMX is one."""
    return isinstance(error, ConfigurationError) and "wire version" in str(error)


def leaderless(error: Exception) -> bool:
    """Members answer, and none of them leads."""
    return isinstance(error, ServerSelectionTimeoutError) and any(words in str(error) for words in LEADERLESS)


def electing(error: Exception) -> bool:
    """Members answer, and another primary may come."""
    return leaderless(error) or isinstance(error, NotPrimaryError) or getattr(error, "code", None) in RETRYABLE


def cause(error: Exception) -> str:
    """What is wrong, as the rest of a sentence about MongoDB."""
    if speaks_too_old(error):
        return f"is too old: {NEED}"
    if isinstance(error, OperationFailure) and error.code in REFUSALS:
        return f"refuses our credentials ({brief(error)})"
    if leaderless(error):
        return "has no primary: its members are electing one, or too few of them are up"
    if isinstance(error, ServerSelectionTimeoutError):
        return f"cannot be reached: {NOBODY if UNFOUND in str(error) else brief(error)}"
    return brief(error)


def sentence(error: PyMongoError, url: str) -> str:
    """The whole of it: which MongoDB, and what is wrong. Where the driver itself names the server that is enough."""
    told, where = cause(error), place(url)
    if isinstance(error, ServerSelectionTimeoutError) and not leaderless(error) and UNFOUND not in str(error):
        return f"MongoDB {told}"
    if told != brief(error):
        return f"MongoDB {where} {told}"
    return f"MongoDB: {told}" if where in told else f"MongoDB {where}: {told}"


def outage(error: PyMongoError, url: str) -> str:
    """The same in words that do not vary while it lasts: not by the call that met it, nor by the server that was asked first."""
    where = ",".join(sorted(place(url).split(",")))
    if electing(error):
        return f"MongoDB {where} has no primary"
    if isinstance(error, ConnectionFailure):
        return f"MongoDB {where} cannot be reached"
    return f"MongoDB {where} does not answer in time" if error.timeout else sentence(error, url)


def unfit(hello: Mapping[str, Any], version: str) -> str | None:
    """Why the engine cannot work on a server that says this of itself, as the rest of a sentence; None where it can."""
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST:
        return f"{version} is too old: {NEED}"
    if "setName" not in hello:
        return "is not a replica set: workflows need one (one node will do: --replSet rs0)"
    return None
