"""MongoDB: the only truth, and the only user of pymongo. Every call that the engine makes of it has a name here.

Writes are raw commands: the driver's helpers cost more than the write. So the loop after a lost reply is ours: the same
command is sent again until the deadline, since ids and tokens are ours too and reading `rev` tells whether we won.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any, cast

import pymongo
from bson.codec_options import CodecOptions
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.client_session import ClientSession
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    DocumentTooLarge,
    DuplicateKeyError,
    ExecutionTimeout,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from engine.change import Change, document, statement, weight
from engine.errors import BadRequest, StoreDown, StoreTooOld, TooLarge
from engine.failpoint import failpoint
from engine.model import ClientRecord, Node, WorkerRecord
from engine.settings import Settings
from engine.states import SERVER

Doc = dict[str, Any]
NOW: Doc = {"$toLong": "$$NOW"}
DUE: Doc = {"due": {"$gt": 0}, "$expr": {"$lte": ["$due", NOW]}}
FREE: list[Doc] = [{"by": None}, {"due": {"$gt": 0}, "$expr": {"$lte": ["$due", NOW]}}]
LIVELY: Doc = {"$or": [{"ss": {"$ne": "deactivated"}}, {"gen": {"$gt": ""}}]}
"""Active, or deactivated by `clear`, which leaves descendants alone: what `prune` and `cut` have not been through yet."""
LOOKABLE = ["", "processing_children", "complete", "deactivated"]
UNFINISHED = [status for status in SERVER if status not in ("complete", "deactivated")]
OLDEST = (6, 0)
RETRYABLE = {6, 7, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436}
"""Codes that a primary gives while it goes or comes: the command is sent again."""
TOO_LARGE = (10334, 17280, 17419)
MAX_COMMAND = 8 << 20

INDEXES = [
    IndexModel([("due", ASCENDING)], name="due", partialFilterExpression={"due": {"$gt": 0}}),
    IndexModel([("parent", ASCENDING), ("pgen", ASCENDING), ("open", ASCENDING), ("seq", ASCENDING)], name="children"),
    IndexModel([("wf", ASCENDING), ("seq", ASCENDING)], name="workflow"),
    IndexModel([("client", ASCENDING), ("kind", ASCENDING), ("name", ASCENDING), ("_id", DESCENDING)], name="named"),
    IndexModel([("client", ASCENDING), ("kind", ASCENDING), ("_id", DESCENDING)], name="owned"),
    IndexModel([("tail", ASCENDING)], name="tail"),
    IndexModel([("link", ASCENDING), ("ss", ASCENDING)], name="link", partialFilterExpression={"link": {"$gt": ""}}),
    IndexModel(
        [("ss", ASCENDING), ("_id", ASCENDING)], name="live", partialFilterExpression={"ss": {"$in": UNFINISHED}}
    ),
    IndexModel([("wf", ASCENDING), ("ss", ASCENDING)], name="parked", partialFilterExpression={"ss": "paused"}),
    IndexModel([("cs", ASCENDING), ("wf", ASCENDING)], name="errored", partialFilterExpression={"cs": "errored"}),
    IndexModel([("key", ASCENDING)], name="key", unique=True, partialFilterExpression={"key": {"$gt": ""}}),
    IndexModel(
        [("client", ASCENDING), ("name", ASCENDING), ("shash", ASCENDING)],
        name="subject",
        unique=True,
        partialFilterExpression={"kind": "workflow"},
    ),
]


class Duplicate(Exception):
    """Some documents were there already: the indexes (in the order given) of those that were not inserted."""

    def __init__(self, at: int, field: str) -> None:
        super().__init__(field)
        self.at = at
        self.field = field


@dataclass(frozen=True)
class Kids:
    """Children of one parent that are ready or block, blocking ones first; `more` if the list was cut."""

    nodes: list[Node]
    more: bool


def node_of(doc: Mapping[str, Any]) -> Node:
    node = object.__new__(Node)
    node.__dict__.update(doc)
    node.lines = []
    return node


class Store:
    """Opened lazily; safe for threads. Raises StoreDown for everything that a person or time must mend."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._client: pymongo.MongoClient[Doc] | None = None
        self._database: Any = None
        self._offset = 0.0
        self._measured = self._trusted = -1e9
        self._trip = 0.0

    # -- opening -----------------------------------------------------------------------------------------------

    def open(self, patience: float | None = None) -> None:
        """Connects, checks version and replica set, makes the indexes. StoreDown, StoreTooOld, BadRequest.

        While another thread is at it we wait for that at most `patience` seconds, by default the deadline of one call.
        """
        if not self._lock.acquire(timeout=self._settings.store_timeout if patience is None else patience):
            raise StoreDown("MongoDB cannot be reached yet")
        try:
            self._open()
        finally:
            self._lock.release()

    def _open(self) -> None:
        if self._client is not None:
            return
        timeout = self._settings.store_timeout
        try:
            client: pymongo.MongoClient[Doc] = pymongo.MongoClient(
                self._settings.mongo_url,
                serverSelectionTimeoutMS=int(timeout * 1000),
                connectTimeoutMS=3000,
                timeoutMS=int(timeout * 2000),
                maxPoolSize=64,
                appname="bbctl",
                retryWrites=True,
                retryReads=True,
            )
            name = self._settings.database or client.get_default_database("backbeat").name
        except (InvalidURI, ConfigurationError, ValueError) as error:
            raise BadRequest("mongo_url", f"the MongoDB URL is not valid: {_brief(error)}") from None
        try:
            with pymongo.timeout(timeout):
                self._check(client)
            options: CodecOptions[Doc] = CodecOptions()
            database = client.get_database(
                name,
                codec_options=options,
                read_concern=ReadConcern("majority"),
                write_concern=WriteConcern("majority", j=True, wtimeout=int(timeout * 1000)),
            )
            database["nodes"].create_indexes(INDEXES)
            database["history"].create_index([("node", ASCENDING), ("first", ASCENDING)])
            database["clients"].create_index("name", unique=True)
        except PyMongoError as error:
            client.close()
            raise _down(error) from None
        except BaseException:
            client.close()
            raise
        self._database, self._client = database, client

    @staticmethod
    def _check(client: pymongo.MongoClient[Doc]) -> None:
        hello = client.admin.command("hello")
        version = tuple(client.server_info()["versionArray"][:2])
        if version < OLDEST:
            shown = ".".join(map(str, version))
            raise StoreTooOld(f"MongoDB {shown} is too old for workflows: they need {OLDEST[0]}.{OLDEST[1]} or newer")
        if "setName" not in hello:
            raise StoreTooOld("MongoDB is not a replica set: workflows need one (one node will do: --replSet rs0)")

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
            self._client = self._database = None

    @property
    def db(self) -> Any:
        if self._database is None:
            self.open()
        return self._database

    @property
    def _nodes(self) -> Any:
        return self.db["nodes"]

    @property
    def _local(self) -> Any:
        """Reads that see claims, which are not journalled. Safe for whoever tests `rev` before he changes anything."""
        return self.db.get_collection("nodes", read_concern=ReadConcern("local"))

    def now(self) -> int:
        """The database's clock in ms: our monotonic clock plus an offset measured every second."""
        if time.monotonic() - self._measured > 1.0:
            first = self._measured < 0
            self._measure()
            if first:  # the very first answer is slow: its connection had to be made
                self._measure()
        return int((time.monotonic() + self._offset) * 1000)

    def _measure(self) -> None:
        """An answer that took long tells the time badly, and is believed only where there is no better one of late."""
        database = self.db
        at = time.monotonic()
        with _wire():
            hello = database.command("hello")
        back = time.monotonic()
        self._measured = back
        if back - at <= 2 * self._trip or back - self._trusted > 30.0 or self._trip == 0.0:
            self._offset = hello["localTime"].replace(tzinfo=UTC).timestamp() - (at + back) / 2
            self._trip, self._trusted = max(back - at, 0.0005), back

    def ping(self, within: float = 1.5) -> str | None:
        """None if a majority takes a write, else why not, in one line; known after `within` seconds, whoever asks."""
        try:
            with pymongo.timeout(within), _wire():
                self.open(within)
                self.db["health"].update_one({"_id": "ping"}, {"$set": {"at": time.time()}}, upsert=True)
        except (StoreDown, StoreTooOld, BadRequest) as error:
            return error.message
        return None

    # -- writing -----------------------------------------------------------------------------------------------

    def _command(self, body: Doc, journalled: bool, session: ClientSession | None = None) -> Doc:
        """Runs a write command, again after a lost reply or a fail-over, until the deadline."""
        if session is None:
            wait = int(self._settings.store_timeout * 1000)
            concern: Doc = {"w": "majority", "j": True, "wtimeout": wait} if journalled else {"w": 1, "j": False}
            body = {**body, "writeConcern": concern}
        limit = time.monotonic() + self._settings.store_timeout * 2
        pause = 0.02
        while True:
            try:
                reply = cast(Doc, self.db.command(body, session=session))
                if "writeConcernError" not in reply:
                    return reply
                problem: Exception = StoreDown(f"MongoDB: {reply['writeConcernError'].get('errmsg', 'no majority')}")
            except OperationFailure as error:
                if error.code not in RETRYABLE or session is not None:
                    raise
                problem = error
            except (AutoReconnect, ExecutionTimeout) as error:
                if session is not None:
                    raise
                problem = error
            if time.monotonic() + pause > limit:
                raise problem
            time.sleep(pause)
            pause = min(pause * 2, 0.5)

    def insert(self, nodes: Sequence[Node], *, session: ClientSession | None = None) -> None:
        """Journalled, in order. Duplicate tells where an order was broken by a unique index; what came before is in."""
        failpoint("insert.before")
        first = 0
        docs = [document(node) for node in nodes]
        try:
            with _wire():
                for part in _parts(docs, [len(node.data) + len(node.meta) + 1000 for node in nodes]):
                    body = {"insert": "nodes", "documents": part, "ordered": True}
                    self._inserted(self._command(body, True, session), part, first)
                    first += len(part)
        except DocumentTooLarge:
            raise TooLarge("a node with its data is larger than 16 MB") from None
        failpoint("insert.after")

    def _inserted(self, reply: Doc, docs: list[Doc], first: int) -> None:
        for problem in reply.get("writeErrors", []):
            if problem["code"] != 11000:
                raise TooLarge(problem["errmsg"]) if problem["code"] in TOO_LARGE else StoreDown(problem["errmsg"])
            index = problem["index"]
            field = next(iter(problem.get("keyPattern", {"_id": 1})))
            if field != "_id":
                raise Duplicate(first + index, list(problem["keyPattern"])[-1])
            rest = docs[index + 1 :]  # a repeat after a lost reply: it is ours
            if rest:
                self._inserted(
                    self._command({"insert": "nodes", "documents": rest, "ordered": True}, True),
                    rest,
                    first + index + 1,
                )

    def update(self, changes: Sequence[Change], *, journalled: bool = True) -> set[str]:
        """One bulk of compare-and-sets, in order; children first. Returns the ids of those that lost."""
        children = [child for change in changes for child in change.children]
        if children:
            self.insert(children)
        lost: set[str] = set()
        failpoint("update.before")
        with _wire():
            for part in _parts(list(changes), [weight(change) for change in changes]):
                statements = [statement(change) for change in part]
                lost |= self._updated(part, statements, journalled)
        failpoint("update.after")
        return lost

    def _updated(self, changes: list[Change], statements: list[Doc], journalled: bool) -> set[str]:
        matched, rest = 0, statements
        while rest:
            reply = self._command({"update": "nodes", "updates": rest, "ordered": True}, journalled)
            matched += reply["n"]
            problems = reply.get("writeErrors", [])
            if problems and problems[0]["code"] not in TOO_LARGE:
                raise StoreDown(f"MongoDB: {problems[0]['errmsg']}")
            rest = rest[problems[0]["index"] + 1 :] if problems else []  # one too large has lost; the others go on
        if matched == len(changes):
            return set()
        revs = self.revs([change.id for change in changes])
        return {change.id for change in changes if revs.get(change.id) != change.after.rev}

    def spill(self, change: Change, lines: int) -> None:
        """Copies the oldest lines of `before` to `history`; the change that follows drops them from the node."""
        before = change.before
        body = {"node": before._id, "first": before.hs, "lines": (before.h or [])[:lines]}
        with _wire():
            self.db["history"].replace_one({"_id": f"{before._id}:{before.hs}"}, body, upsert=True)
        failpoint("spill.after")

    def add_with_bump(self, bump: Change, children: Sequence[Node]) -> bool:
        """The bump and its children in one transaction; False if the bump lost."""

        def both(session: ClientSession) -> bool:
            reply = self._command({"update": "nodes", "updates": [statement(bump)]}, True, session)
            if reply["n"] == 0:
                return False
            self.insert(children, session=session)
            return True

        failpoint("transaction.before")
        self.open()
        assert self._client is not None
        with _wire(), self._client.start_session() as session:
            won = session.with_transaction(
                both,
                read_concern=ReadConcern("snapshot"),
                write_concern=WriteConcern("majority", j=True, wtimeout=int(self._settings.store_timeout * 1000)),
            )
        failpoint("transaction.after")
        return bool(won)

    def bump_root(self, id: str, seq: int, count: int) -> Node | None:
        """Takes `count` places among a workflow's signals, not journalled; None if it is complete or gone."""
        failpoint("bump.before")
        places = {"$max": [seq + count - 1, {"$add": [{"$ifNull": ["$last", 0]}, count]}]}
        with _wire():
            doc = self._local.with_options(write_concern=WriteConcern(1, j=False)).find_one_and_update(
                {"_id": id, "complete": {"$ne": True}}, [{"$set": {"last": places}}], return_document=True
            )
        failpoint("bump.after")
        return node_of(doc) if doc else None

    # -- claims ------------------------------------------------------------------------------------------------

    def claim(self, ids: Sequence[str], token: str, worker: str) -> list[Node]:
        """Those of `ids` that are due, held by `worker` for a lease. Not journalled: a lost claim fails later on `rev`."""
        failpoint("claim.before")
        with _wire():
            self._command(
                {"update": "nodes", "updates": [self._claiming({"_id": {"$in": list(ids)}, **DUE}, token, worker)]},
                False,
            )
            failpoint("claim.after")
            return [node_of(doc) for doc in self._local.find({"_id": {"$in": list(ids)}, "rev": token}, {"h": 0})]

    def _claiming(self, query: Doc, token: str, worker: str, **more: Any) -> Doc:
        now = self.now()
        put = {"rev": token, "by": worker, "since": now, "due": now + int(self._settings.lease * 1000), **more}
        return {"q": query, "u": {"$set": put, "$inc": {"tries": 1}}, "multi": True}

    def claim_looking(self, ids: Sequence[str], token: str, worker: str) -> list[Node]:
        """Claims free parents and has them look at their children. Journalled: a `look` must never be lost."""
        failpoint("look.before")
        query = {"_id": {"$in": list(ids)}, "ss": {"$in": LOOKABLE}, "$or": FREE}
        with _wire():
            self._command({"update": "nodes", "updates": [self._claiming(query, token, worker, look=token)]}, True)
            failpoint("look.after")
            return [node_of(doc) for doc in self._local.find({"_id": {"$in": list(ids)}, "rev": token}, {"h": 0})]

    def set_looking(self, ids: Sequence[str], token: str) -> set[str]:
        """Has parents that others hold look again, blindly; the ids that nobody holds any more (claim those)."""
        failpoint("look.before")
        with _wire():
            query = {"_id": {"$in": list(ids)}, "by": {"$gt": ""}, "ss": {"$in": LOOKABLE}}
            self._command(
                {"update": "nodes", "updates": [{"q": query, "u": {"$set": {"look": token}}, "multi": True}]}, True
            )
            failpoint("look.after")
            missed = self._local.find(
                {"_id": {"$in": list(ids)}, "look": {"$ne": token}, "ss": {"$in": LOOKABLE}}, {"_id": 1}
            )
            return {doc["_id"] for doc in missed}

    def renew(self, held: Mapping[str, str]) -> None:
        """Leases of {id: rev} go on. Not journalled."""
        due = self.now() + int(self._settings.lease * 1000)
        updates = [{"q": {"_id": id, "rev": rev}, "u": {"$set": {"due": due}}} for id, rev in held.items()]
        with _wire():
            self._command({"update": "nodes", "updates": updates, "ordered": False}, False)

    def told(self, held: Mapping[str, str]) -> None:
        """Clears the tells of {id: rev} and lets go of them. Not journalled: a tell repeated is a look for nothing.

        One that others have asked to look meanwhile stays held, lest the look be owed without a time: it comes back with
        its lease.
        """
        failpoint("told.before")
        gone = {"do": 1, "due": 1, "by": 1, "since": 1, "tries": 1}
        updates = [{"q": {"_id": id, "rev": rev, "look": None}, "u": {"$unset": gone}} for id, rev in held.items()]
        with _wire():
            self._command({"update": "nodes", "updates": updates, "ordered": False}, False)
        failpoint("told.after")

    def give_back(self, held: Mapping[str, str], due: int, *, uncount: bool = False) -> None:
        """Lets go of {id: rev} untouched, to be looked at again at `due`. Not journalled.

        `uncount`: it was not tried at all, so only this claim is taken off its tries.
        """
        change: Doc = {"$set": {"due": due}, "$unset": {"by": 1, "since": 1}}
        if uncount:
            change["$inc"] = {"tries": -1}
        else:
            change["$unset"]["tries"] = 1
        updates = [{"q": {"_id": id, "rev": rev}, "u": change} for id, rev in held.items()]
        with _wire():
            self._command({"update": "nodes", "updates": updates, "ordered": False}, False)

    def deactivate(self, query: Doc, token: str, now: int, *, keep_gen: bool = False) -> int:
        """All that match become deactivated and owe nothing more, but those that hold another node back tell it so.

        Journalled.
        """
        failpoint("deactivate.before")
        gone = ["due", "do", "look", "by", "since", "tries", "open", "complete_by", "parked"]
        gone += [] if keep_gen else ["gen"]
        after = {"ss": "deactivated", "rev": token, "changed": now}
        update: Any = {
            "$set": after,
            "$unset": dict.fromkeys(gone, 1),
            "$push": {"h": [now, "d."]},
            "$inc": {"hn": 1, "hb": 24},
        }
        line = {
            "h": {"$concatArrays": [{"$ifNull": ["$h", []]}, [[now, "d."]]]},
            "hn": {"$add": ["$hn", 1]},
            "hb": {"$add": ["$hb", 24]},
        }
        owed = {"do": {"tell": ["$link"]}, "due": now}
        linked: Any = [{"$unset": gone}, {"$set": {**after, **line, **owed}}]
        active: Doc = {"ss": {"$ne": "deactivated"}} if keep_gen else LIVELY
        updates = [
            {"q": {**query, **active, "link": {"$gt": ""}}, "u": linked, "multi": True},
            {"q": {**query, **active}, "u": update, "multi": True},
        ]
        with _wire():
            changed: int = self._command({"update": "nodes", "updates": updates}, True).get("nModified", 0)
        failpoint("deactivate.after")
        return changed

    def mark_ready(self, parent: Node, token: str, now: int) -> None:
        """Its pending children become ready. Not journalled: whoever starts one writes it again."""
        failpoint("mark.before")
        query = {"parent": parent._id, "pgen": parent.gen, "open": "r", "ss": "pending"}
        update = {
            "$set": {"ss": "ready", "cs": "ready", "rev": token, "changed": now},
            "$push": {"h": [now, "rr"]},
            "$inc": {"hn": 1, "hb": 24},
        }
        with _wire():
            self._command({"update": "nodes", "updates": [{"q": query, "u": update, "multi": True}]}, False)
        failpoint("mark.after")

    # -- reading for the drivers -------------------------------------------------------------------------------

    def due(self, limit: int) -> list[str]:
        with _wire():
            return [doc["_id"] for doc in self._local.find(DUE, {"_id": 1}).sort("due", ASCENDING).limit(limit)]

    def node(self, id: str) -> Node | None:
        with _wire():
            doc = self._local.find_one({"_id": id})
        return node_of(doc) if doc else None

    def by_ids(self, ids: Iterable[str], *, history: bool = False) -> dict[str, Node]:
        with _wire():
            found = self._local.find({"_id": {"$in": list(ids)}}, None if history else {"h": 0})
            return {doc["_id"]: node_of(doc) for doc in found}

    def revs(self, ids: Iterable[str]) -> dict[str, str]:
        with _wire():
            found = self._local.find({"_id": {"$in": list(ids)}}, {"rev": 1})
            return {doc["_id"]: doc["rev"] for doc in found}

    def standing(self, ids: Iterable[str]) -> dict[str, tuple[str, dict[str, Any] | None]]:
        """{id: (rev, paused)}"""
        with _wire():
            found = self._local.find({"_id": {"$in": list(ids)}}, {"rev": 1, "paused": 1})
            return {doc["_id"]: (doc["rev"], doc.get("paused")) for doc in found}

    def kids(self, parents: Sequence[tuple[Node, int]]) -> dict[str, Kids]:
        """For (parent, wanted): its children that block or are ready. A parent the limit cut off is missing."""
        query = {
            "parent": {"$in": [parent._id for parent, _ in parents]},
            "pgen": {"$in": list({parent.gen for parent, _ in parents})},
            "open": {"$in": ["b", "r"]},
        }
        order = [(field, ASCENDING) for field in ("parent", "pgen", "open", "seq")]
        limit = sum(wanted for _, wanted in parents)
        with _wire():
            docs = list(self._local.find(query, {"h": 0}).sort(order).limit(limit))
        cut_at = docs[-1]["parent"] if len(docs) == limit else None
        found: dict[str, list[Node]] = {}
        for doc in docs:
            found.setdefault(doc["parent"], []).append(node_of(doc))
        whole = [parent for parent, _ in parents if cut_at is None or parent._id <= cut_at]
        return {
            parent._id: Kids([kid for kid in found.get(parent._id, []) if kid.pgen == parent.gen], parent._id == cut_at)
            for parent in whole
        }

    def with_open(self, parents: Sequence[Node]) -> set[str]:
        """Those that still wait for a child that does not block."""
        waiting: set[str] = set()
        with _wire():
            for parent in parents:
                query = {"parent": parent._id, "pgen": parent.gen, "open": "n"}
                if self._local.find_one(query, {"_id": 1}):
                    waiting.add(parent._id)
        return waiting

    def with_ready(self, parents: Sequence[str], gen: str) -> set[str]:
        """Those of these workflows that have a child to start, or one that blocks."""
        query = {"parent": {"$in": list(parents)}, "pgen": gen, "open": {"$in": ["r", "b"]}}
        limit = 64 + len(parents)
        with _wire():
            found = [doc["parent"] for doc in self._local.find(query, {"parent": 1}).limit(limit)]
            if len(found) < limit:
                return set(found)
            return {id for id in parents if self._local.find_one({**query, "parent": id}, {"_id": 1})}

    def with_links(self, targets: Sequence[str]) -> set[str]:
        """Those that an unfinished node of another workflow holds back."""
        with _wire():
            query = {"link": {"$in": list(targets)}, "ss": {"$in": UNFINISHED}}
            return {doc["link"] for doc in self._local.find(query, {"link": 1})}

    def ids_where(self, query: Doc, limit: int = 0) -> list[str]:
        with _wire():
            return [doc["_id"] for doc in self._local.find(query, {"_id": 1}).limit(limit)]

    def lively(self, query: Doc) -> list[str]:
        return self.ids_where({**query, **LIVELY})

    def parked(self, workflow: str, limit: int) -> list[Node]:
        with _wire():
            return [node_of(doc) for doc in self._local.find({"wf": workflow, "ss": "paused"}, {"h": 0}).limit(limit)]

    # -- reading for people ------------------------------------------------------------------------------------

    def find(
        self,
        query: Doc,
        *,
        sort: str = "seq",
        newest: bool = False,
        limit: int = 0,
        skip: int = 0,
        history: bool = False,
    ) -> list[Node]:
        """Acknowledged by a majority."""
        with _wire():
            found = self._nodes.find(query, None if history else {"h": 0})
            found = found.sort(sort, DESCENDING if newest else ASCENDING).skip(skip).limit(limit)
            return [node_of(doc) for doc in found]

    def distinct(self, field: str, query: Doc) -> list[Any]:
        with _wire():
            return list(self._nodes.distinct(field, query))

    def aggregate(self, pipeline: list[Doc]) -> list[Doc]:
        with _wire():
            return list(self._nodes.aggregate(pipeline))

    def count(self, query: Doc, limit: int = 100_000) -> int:
        with _wire():
            return int(self._nodes.count_documents(query, limit=limit))

    def spilled(self, node: Node) -> list[list[Any]]:
        """The history lines that were moved out of the node, oldest first."""
        lines: list[list[Any]] = []
        with _wire():
            for doc in self.db["history"].find({"node": node._id, "first": {"$lt": node.hs}}).sort("first", ASCENDING):
                lines[doc["first"] :] = doc["lines"]
        return lines[: node.hs]

    # -- clients, workers, counters ----------------------------------------------------------------------------

    def add_client(self, record: ClientRecord) -> None:
        """Duplicate if the name is taken."""
        doc = {"_id": record.id, **{key: value for key, value in record.__dict__.items() if key != "id"}}
        with _wire():
            try:
                self.db["clients"].insert_one(doc)
            except DuplicateKeyError:
                raise Duplicate(0, "name") from None

    def set_client(self, id: str, **fields: Any) -> bool:
        with _wire():
            return bool(self.db["clients"].update_one({"_id": id}, {"$set": fields}).matched_count)

    def remove_client(self, id: str) -> bool:
        with _wire():
            return bool(self.db["clients"].delete_one({"_id": id}).deleted_count)

    def clients(self, query: Doc) -> list[ClientRecord]:
        with _wire():
            return [ClientRecord(id=doc.pop("_id"), **doc) for doc in self.db["clients"].find(query)]

    def beat(self, record: WorkerRecord) -> None:
        doc = {key: value for key, value in record.__dict__.items() if key != "id"}
        with _wire():
            self.db["workers"].with_options(write_concern=WriteConcern(1, j=False)).replace_one(
                {"_id": record.id}, doc, upsert=True
            )

    def forget_worker(self, id: str) -> None:
        with _wire():
            self.db["workers"].delete_one({"_id": id})

    def workers(self, since: int) -> list[WorkerRecord]:
        with _wire():
            found = self.db.get_collection("workers", read_concern=ReadConcern("local")).find({"seen": {"$gte": since}})
            return [WorkerRecord(id=doc.pop("_id"), **doc) for doc in found]

    def ticks(self) -> dict[str, Doc]:
        """The periodic jobs' records: due, by, last, took, result, kept."""
        with _wire():
            return {doc["_id"]: doc for doc in self.db["periodic"].find({})}

    def claim_tick(self, name: str, by: str, lease: int) -> Doc | None:
        """The job's record, if its time has come by the database's clock and nobody else was faster; held for `lease` ms."""
        jobs = self.db["periodic"]
        due: Doc = {"_id": name, "$expr": {"$lte": ["$due", NOW]}}
        claim: Doc = {"$set": {"due": {"$add": [NOW, lease]}, "by": by, "began": NOW}}
        with _wire():
            try:
                jobs.update_one({"_id": name}, {"$setOnInsert": {"due": 0}}, upsert=True)
            except DuplicateKeyError:
                pass
            return cast("Doc | None", jobs.find_one_and_update(due, [claim], return_document=True))

    def finish_tick(self, name: str, by: str, due: int, **fields: Any) -> bool:
        """Notes what came of it and when it is due again; False if the lease had run out and another holds it."""
        with _wire():
            done = self.db["periodic"].update_one({"_id": name, "by": by}, {"$set": {"due": due, "by": None, **fields}})
            return bool(done.matched_count)

    def count_up(self, day: str, processed: int, failed: int) -> None:
        collection = self.db["counters"].with_options(write_concern=WriteConcern(1, j=False))
        with _wire():
            for key in (day, "all"):
                collection.update_one({"_id": key}, {"$inc": {"processed": processed, "failed": failed}}, upsert=True)

    def counters(self, day: str) -> dict[str, tuple[int, int]]:
        with _wire():
            found = self.db.get_collection("counters", read_concern=ReadConcern("local")).find(
                {"_id": {"$in": [day, "all"]}}
            )
            return {doc["_id"]: (doc["processed"], doc["failed"]) for doc in found}


# -- from the driver's errors to ours --------------------------------------------------------------------------


class _wire:
    """Turns whatever the driver raises into StoreDown, in one line and without a secret."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, PyMongoError) and not isinstance(error, DuplicateKeyError | DocumentTooLarge):
            raise _down(error) from None


def _down(error: PyMongoError) -> StoreDown:
    if isinstance(error, OperationFailure) and error.code in (18, 13):
        return StoreDown(f"MongoDB refuses our credentials: {_brief(error)}")
    if isinstance(error, ServerSelectionTimeoutError):
        return StoreDown(f"MongoDB cannot be reached: {_brief(error)}")
    return StoreDown(f"MongoDB: {_brief(error)}")


def _brief(error: Exception) -> str:
    """The first cause in one line; the driver adds its whole view of the servers."""
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    for noise in (", Timeout:", " (configured timeouts", ", full error:", ", topology_version"):
        line = line.split(noise)[0]
    return line[:300]


def _parts(items: list[Any], sizes: list[int]) -> list[list[Any]]:
    """Pieces that one command can hold."""
    if sum(sizes) <= MAX_COMMAND and len(items) <= 1000:
        return [items] if items else []
    parts: list[list[Any]] = [[]]
    room = MAX_COMMAND
    for item, size in zip(items, sizes, strict=True):
        if parts[-1] and (size > room or len(parts[-1]) == 1000):
            parts.append([])
            room = MAX_COMMAND
        parts[-1].append(item)
        room -= size
    return parts
