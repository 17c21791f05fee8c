"""Administration of a mongod: make it a one-node replica set with a user, and say how a set does.

`python -m engine.storeadmin` reads one JSON object on stdin (so that no secret is in a command line), prepares a
mongod on this machine and exits 0, or exits 1 with the reason on stderr. Every step may be repeated.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from engine import driver

NOT_YET_INITIALIZED = 94
NO_SUCH_USER = 11
Client = MongoClient[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Job:
    """Prepare `address` (host:port): replica set `replica_set`, `user` with `password` who may use `database`.

    `key` is the content of its key file: whoever knows it is the cluster itself, so no localhost exception is needed.
    `move`: it runs alone, and is only to be told that its set lives at `address` from its next start on. Told as a member it
    would first ask its old address whether that is itself, for half a minute where a stranger listens there and is silent.
    """

    address: str
    key: str
    replica_set: str
    user: str
    password: str
    database: str
    move: bool = False
    within: float = 60.0


def prepare(job: Job) -> None:
    """Wait until it answers, make it primary under its address of today, and its user right. Raises PyMongoError, TimeoutError."""
    until = time.monotonic() + job.within
    with _inside(job) as client:
        while True:
            try:
                if job.move:
                    _move(client, job)
                    return
                _join(client, job)
                while not client.admin.command("hello").get("isWritablePrimary"):
                    _still(until, "it does not become primary")
                _user(client, job)
                return
            except OperationFailure:
                raise
            except PyMongoError as error:
                _still(until, str(error))


def _inside(job: Job) -> Client:
    host, _, port = job.address.rpartition(":")
    return MongoClient(
        host, int(port), username="__system", password=job.key, authSource="local", authMechanism="SCRAM-SHA-256",
        directConnection=True, serverSelectionTimeoutMS=200, connectTimeoutMS=2000, socketTimeoutMS=10000,
    )  # fmt: skip


def _still(until: float, why: str) -> None:
    if time.monotonic() > until:
        raise TimeoutError(why)
    time.sleep(0.03)


def _join(client: Client, job: Job) -> None:
    """The set has one member: this one, under the address it has now (its port may have been taken meanwhile)."""
    try:
        config = client.admin.command("replSetGetConfig")["config"]
    except OperationFailure as error:
        if error.code != NOT_YET_INITIALIZED:
            raise
        member = {"_id": 0, "host": job.address}
        client.admin.command("replSetInitiate", {"_id": job.replica_set, "members": [member]})
        return
    if [member["host"] for member in config["members"]] != [job.address]:
        config["members"] = [{**config["members"][0], "host": job.address}]
        config["version"] += 1
        client.admin.command("replSetReconfig", config, force=True)


def _move(client: Client, job: Job) -> None:
    """Write the new address where the set's configuration is kept; its one member is the first."""
    client["local"]["system.replset"].update_one({"_id": job.replica_set}, {"$set": {"members.0.host": job.address}})


def _user(client: Client, job: Job) -> None:
    roles = [{"role": "readWrite", "db": job.database}, {"role": "clusterMonitor", "db": "admin"}]
    try:
        client.admin.command("updateUser", job.user, pwd=job.password, roles=roles)
    except OperationFailure as error:
        if error.code != NO_SUCH_USER:
            raise
        client.admin.command("createUser", job.user, pwd=job.password, roles=roles)


@dataclass(frozen=True, kw_only=True)
class MongoAnswer:
    """`error` is None where majority writes work; `refused`: it is the server's own word, or ours about the server.

    `members` is (host, state, error) of each; empty where it may not be asked.
    """

    error: str | None
    seconds: float
    refused: bool = False
    replica_set: str | None = None
    primary: str | None = None
    version: str | None = None
    members: tuple[tuple[str, str, str], ...] = ()


def ask(url: str, *, within: float) -> MongoAnswer:
    """How the database named by `url` does. Never raises; no password is in `error`."""
    started = time.monotonic()
    wait = max(1, int(within * 1000))
    try:
        with MongoClient[dict[str, Any]](
            url, serverSelectionTimeoutMS=wait, connectTimeoutMS=wait, socketTimeoutMS=wait, timeoutMS=wait
        ) as client:
            hello = client.admin.command("hello")
            version = str(client.admin.command("buildInfo").get("version", ""))
            members = _members(client)
    except (PyMongoError, ValueError) as error:
        reached = isinstance(error, OperationFailure) or driver.speaks_too_old(error)
        return MongoAnswer(error=driver.cause(error), refused=reached, seconds=time.monotonic() - started)
    unfit = driver.unfit(hello, version)
    waits = None if hello.get("isWritablePrimary") else "no primary: writes wait for an election"
    return MongoAnswer(
        error=unfit or waits,
        refused=unfit is not None,
        seconds=time.monotonic() - started,
        replica_set=hello.get("setName"),
        primary=hello.get("primary"),
        version=version,
        members=members,
    )


def _members(client: Client) -> tuple[tuple[str, str, str], ...]:
    try:
        status: Mapping[str, Any] = client.admin.command("replSetGetStatus")
    except OperationFailure:
        return ()
    return tuple(
        (m["name"], str(m["stateStr"]).lower(), str(m.get("lastHeartbeatMessage", "")))
        for m in status.get("members", ())
    )


def main() -> int:
    logging.disable(logging.CRITICAL)
    try:
        prepare(Job(**json.load(sys.stdin)))
    except (PyMongoError, TimeoutError) as error:
        sys.stderr.write(driver.brief(error) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
