"""What host operations leave in MongoDB for other machines: a copy of each run's record, and heads of the audit's chain.

The truth of a run is its journal, where it was made; this is what can be told of it elsewhere. One document a run. Nothing
here makes an index of the engine's or asks for its version: whoever keeps a copy needs no engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from pymongo import DESCENDING, MongoClient
from pymongo.errors import PyMongoError

from engine import driver
from engine.errors import StoreDown

Doc = dict[str, Any]
_AGE: Doc = {"$cond": [{"$eq": [{"$type": "$seen"}, "date"]}, {"$subtract": ["$$NOW", "$seen"]}, None]}
_OURS: Doc = {"seen": {"$type": "date"}, "record": {"$type": "string"}, "started": {"$type": "number"}}
PRUNED = 1000  # copies that one pruning deletes for their number: the rest is the next one's
_SHOWN: Doc = {"run": "$_id", "machine": 1, "home": 1, "record": 1, "age": _AGE}


@dataclass(frozen=True, kw_only=True)
class Copy:
    """`record`: JSON text, as it was given. `home`: the state folder of its machine where the journal lies. `age`: seconds
    since it was written, by the database's clock."""

    run: str
    machine: str
    home: str
    record: str
    age: float


class HostRuns:
    """The copies. Every call raises StoreDown (one line, no secret) where the database does not answer within `within` seconds."""

    def __init__(self, url: str, *, within: float) -> None:
        wait = max(1, int(within * 1000))
        self._url = url
        with self._told():
            self._client = MongoClient[Doc](
                url, serverSelectionTimeoutMS=wait, connectTimeoutMS=wait, socketTimeoutMS=wait, timeoutMS=wait,
                appname="bbctl",
            )  # fmt: skip
            self._runs = self._client.get_default_database("backbeat")["host_runs"]

    def __enter__(self) -> HostRuns:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def put(self, copy: Copy, *, started: float, chain: str, head: tuple[int, str] | None) -> None:
        """Write or replace the copy of a run. `head`: number and hash of the last line of the audit `chain`; those given
        before are kept."""
        fields = {"machine": copy.machine, "home": copy.home, "record": copy.record, "started": started, "chain": chain}
        change: Doc = {"$set": fields, "$currentDate": {"seen": True}}
        if head is not None:
            change["$addToSet"] = {"heads": {"line": head[0], "hash": head[1]}}
        with self._told():
            self._runs.update_one({"_id": copy.run}, change, upsert=True)

    def prune(self, *, most: int, days: float) -> int:
        """Delete the copies that nobody has written for `days`, and all but the `most` newest; how many those were. What is
        no copy is nobody's to delete. The audit's newest heads answer for every line before them."""
        with self._told():
            old = {**_OURS, "$expr": {"$lt": ["$seen", {"$subtract": ["$$NOW", int(days * 86_400_000)]}]}}
            gone = self._runs.delete_many(old).deleted_count
            many = self._runs.find(_OURS, {"_id": 1}).sort([("started", DESCENDING), ("_id", DESCENDING)]).skip(most)
            ids = [doc["_id"] for doc in many.limit(PRUNED)]
            return gone + (self._runs.delete_many({"_id": {"$in": ids}}).deleted_count if ids else 0)

    def newest(self, limit: int) -> list[Copy]:
        """The copies of the last runs, newest first."""
        return self._found({}, limit)

    def named(self, beginning: str) -> list[Copy]:
        """The copies of runs whose id begins so, newest first."""
        return self._found({"_id": {"$gte": beginning, "$lt": beginning + "\uffff"}}, 10)

    def heads(self, chain: str) -> list[tuple[int, str]]:
        """Number and hash of all lines of an audit chain that were ever the last one when a run was copied."""
        with self._told():
            found = list(self._runs.find({"chain": chain}, {"heads": 1}))
        lists = (heads for doc in found if isinstance(heads := doc.get("heads"), list))
        return [said for heads in lists for head in heads if (said := _head(head)) is not None]

    def _found(self, query: Doc, limit: int) -> list[Copy]:
        with self._told():
            docs = list(self._runs.find(query, _SHOWN).sort("started", DESCENDING).limit(limit))
        return [copy for doc in docs if (copy := _copy(doc)) is not None]

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except PyMongoError as error:
            raise StoreDown(driver.sentence(error, self._url)) from None
        except ValueError as error:
            raise StoreDown(f"MongoDB: {driver.brief(error)}") from None


# Anybody may have written there: what is no copy, and no head, is passed over.


def _copy(doc: Doc) -> Copy | None:
    texts: Doc = {key: doc.get(key) for key in ("run", "machine", "home", "record")}
    age = doc.get("age")
    if not all(isinstance(text, str) for text in texts.values()) or not isinstance(age, int | float):
        return None
    return Copy(**texts, age=max(0, age) / 1000)


def _head(said: Any) -> tuple[int, str] | None:
    if not isinstance(said, dict) or not isinstance(said.get("line"), int) or not isinstance(said.get("hash"), str):
        return None
    return said["line"], said["hash"]
