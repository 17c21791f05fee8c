"""The connection to MongoDB: opening it, the database's clock, write commands that outlive a fail-over, errors in our words.

Writes are raw commands: the driver's helpers cost more than the write. So the loop after a lost reply is ours: the same
command is sent again until the deadline, since ids and tokens are ours too and reading `rev` tells whether we won.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC
from types import TracebackType
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
)
from pymongo.monitoring import (
    TopologyClosedEvent,
    TopologyDescriptionChangedEvent,
    TopologyListener,
    TopologyOpenedEvent,
)
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from engine import driver
from engine.errors import BadRequest, EngineError, StoreDown, StoreTooOld
from engine.settings import Settings, place
from engine.states import SERVER

Doc = dict[str, Any]
NOW: Doc = {"$toLong": "$$NOW"}
DUE: Doc = {"due": {"$gt": 0}, "$expr": {"$lte": ["$due", NOW]}}
UNFINISHED = [status for status in SERVER if status not in ("complete", "deactivated")]
RIDE = 12.0
"""Seconds after the loss of the primary in which calls wait for the next one: an election takes up to so long."""
GONE = 1.0
"""Seconds that a call waits for a primary that has been lost for longer than that."""
HUNG = 3.0
"""Seconds that a call waits for a primary that is there and has let the last call run into its deadline."""
LEAST = 0.01
"""Seconds that a call has where its caller's time is over: a deadline, while 0 would be none."""

_until: ContextVar[float] = ContextVar("until", default=float("inf"))

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
class Reply:
    """What a write command was answered; `repeated`: an earlier reply was lost, so part may be our own doing before."""

    doc: Doc
    repeated: bool

    @property
    def errors(self) -> list[Doc]:
        return cast("list[Doc]", self.doc.get("writeErrors", []))


class Connection:
    """Opened lazily; safe for threads. Raises StoreDown for everything that a person or time must mend.

    During a fail-over a call waits for the new primary, `2 * store_timeout` at most, and not beyond `RIDE` after the loss.
    Where MongoDB is known to be gone a call waits `GONE` only, until an answer comes.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._client: pymongo.MongoClient[Doc] | None = None
        self._database: Any = None
        self._offset = 0.0
        self._measured = self._trusted = -1e9
        self._trip = 0.0
        self._calls = 0  # that wait for an answer now
        self._lost: float | None = None  # since when (monotonic) there is no primary, or none that answers

    # -- opening -----------------------------------------------------------------------------------------------

    def open(self, patience: float | None = None) -> None:
        """Connects, checks version and replica set, makes the indexes. StoreDown, StoreTooOld, BadRequest.

        Where members answer and are electing a primary that is waited for, `RIDE` at most; else not as long.
        While another thread is at it we wait for that at most `patience` seconds, by default the deadline of one call.
        """
        began = time.monotonic()
        limit = (self._lost or began) + RIDE if patience is None else began + patience
        patience = min(self._settings.store_timeout, self._patience()) if patience is None else patience
        if not self._lock.acquire(timeout=patience):
            raise StoreDown("MongoDB cannot be reached yet")
        self._calls += 1
        try:
            self._open(limit)
        finally:
            self._calls -= 1
            self._lock.release()

    def _open(self, limit: float) -> None:
        if self._database is not None:
            return
        client = self._client = self._client or self._connecting()
        began = time.monotonic()
        while self._database is None:
            try:
                with pymongo.timeout(min(self._settings.store_timeout, self._patience())):
                    self._check(client)
                self._database = self._prepared(client)
            except PyMongoError as error:
                if not driver.electing(error) or time.monotonic() >= limit:
                    self._in_vain(error, began)
                    raise self._trouble(error) from None
                time.sleep(0.1)

    def _connecting(self) -> pymongo.MongoClient[Doc]:
        """The driver's own threads look for the servers from now on, also between two tries of ours. BadRequest."""
        timeout = self._settings.store_timeout
        try:
            return pymongo.MongoClient(
                self._settings.mongo_url,
                serverSelectionTimeoutMS=int(timeout * 1000),
                connectTimeoutMS=3000,
                timeoutMS=int(timeout * 2000),
                maxPoolSize=64,
                appname="bbctl",
                retryWrites=True,
                retryReads=True,
                event_listeners=[_Lookout(self)],
            )
        except (InvalidURI, ConfigurationError, ValueError) as error:
            raise BadRequest("mongo_url", f"the MongoDB URL is not valid: {driver.brief(error)}") from None

    def _prepared(self, client: pymongo.MongoClient[Doc]) -> Any:
        """The database, with its indexes."""
        concern = WriteConcern("majority", j=True, wtimeout=int(self._settings.store_timeout * 1000))
        options: CodecOptions[Doc] = CodecOptions()
        database = client.get_database(
            self._settings.database or client.get_default_database("backbeat").name,
            codec_options=options,
            read_concern=ReadConcern("majority"),
            write_concern=concern,
        )
        database["nodes"].create_indexes(INDEXES)
        database["history"].create_index([("node", ASCENDING), ("first", ASCENDING)])
        database["clients"].create_index("name", unique=True)
        return database

    def _check(self, client: pymongo.MongoClient[Doc]) -> None:
        unfit = driver.unfit(client.admin.command("hello"), client.server_info()["version"])
        if unfit is not None:
            raise StoreTooOld(f"MongoDB {place(self._settings.mongo_url)} {unfit}")

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
        with self._wire():
            hello = database.command("hello")
        back = time.monotonic()
        self._measured = back
        if back - at <= 2 * self._trip or back - self._trusted > 30.0 or self._trip == 0.0:
            self._offset = hello["localTime"].replace(tzinfo=UTC).timestamp() - (at + back) / 2
            self._trip, self._trusted = max(back - at, 0.0005), back

    def ping(self, within: float = 1.5, *, alike: bool = False) -> str | None:
        """None if a majority takes a write, else why not, in one line; known after `within` seconds, whoever asks. `alike`: in
        words that all who meet the same outage say."""
        try:
            with pymongo.timeout(within), self._wire():
                self.open(within)
                self.db["health"].update_one({"_id": "ping"}, {"$set": {"at": time.time()}}, upsert=True)
        except StoreDown as error:
            return (alike and error.outage) or error.message
        except (StoreTooOld, BadRequest) as error:
            return error.message
        return None

    def election(self) -> str | None:
        """The replica set that has members up and no primary, while a call waits for one; else None. Asks nobody."""
        client = self._client
        if client is None or self._calls <= 0:
            return None
        seen = client.topology_description
        up = any(one.is_server_type_known for one in seen.server_descriptions().values())
        return (seen.replica_set_name or "the replica set") if up and not seen.has_writable_server() else None

    def _patience(self) -> float:
        """Seconds a call may take."""
        now = time.monotonic()
        full = min(self._settings.store_timeout * 2, max(LEAST, _until.get() - now))
        lost = self._lost
        if lost is None:
            return full
        there = self._client is not None and self._client.primary is not None
        return min(full, max(HUNG if there else GONE, lost + RIDE - now))

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """All calls that this thread makes in here have so long together."""
        token = _until.set(time.monotonic() + seconds)
        try:
            with pymongo.timeout(seconds):
                yield
        finally:
            _until.reset(token)

    def _seen(self, primary: bool) -> None:
        """What the driver's own look at the servers has found."""
        if primary:
            self._lost = None
        elif self._lost is None:
            self._lost = time.monotonic()

    def _in_vain(self, error: PyMongoError, since: float) -> None:
        """A call that began at `since` (monotonic) ran into its deadline: the next need not wait as long."""
        if error.timeout and self._lost is None:
            self._lost = since

    def _trouble(self, error: PyMongoError) -> EngineError:
        url = self._settings.mongo_url
        if driver.speaks_too_old(error):
            return StoreTooOld(driver.sentence(error, url))
        down = StoreDown(driver.sentence(error, url))
        down.outage = driver.outage(error, url)
        return down

    def _wire(self) -> _Wire:
        return _Wire(self)

    def _command(self, body: Doc, journalled: bool, session: ClientSession | None = None) -> Reply:
        """Runs a write command, again after a lost reply or a fail-over, until the deadline."""
        if session is None:
            wait = int(self._settings.store_timeout * 1000)
            concern: Doc = {"w": "majority", "j": True, "wtimeout": wait} if journalled else {"w": 1, "j": False}
            body = {**body, "writeConcern": concern}
        limit = time.monotonic() + self._patience()
        pause = 0.02
        repeated = False
        while True:
            try:
                # The first try has the driver's own deadline, the others what is left of ours.
                with pymongo.timeout(limit - time.monotonic()) if repeated else nullcontext():
                    doc = cast(Doc, self.db.command(body, session=session))
                if "writeConcernError" not in doc:
                    return Reply(doc, repeated)
                problem: Exception = StoreDown(f"MongoDB: {doc['writeConcernError'].get('errmsg', 'no majority')}")
            except OperationFailure as error:
                if error.code not in driver.RETRYABLE or session is not None:
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
            repeated = True


# -- from the driver's errors to ours --------------------------------------------------------------------------


class _Wire:
    """Turns whatever the driver raises into StoreDown, in one line and without a secret; notes whether there is a primary."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._hurry: AbstractContextManager[object] | None = None
        self._began = time.monotonic()

    def __enter__(self) -> None:
        self._connection._calls += 1
        if self._connection._lost is not None:
            self._hurry = pymongo.timeout(self._connection._patience())
            self._hurry.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection._calls -= 1
        if self._hurry is not None:
            self._hurry.__exit__(kind, error, trace)
        if error is None:
            self._connection._lost = None
        elif isinstance(error, PyMongoError) and not isinstance(error, DuplicateKeyError | DocumentTooLarge):
            self._connection._in_vain(error, self._began)
            raise self._connection._trouble(error) from None


class _Lookout(TopologyListener):
    """Told by the driver whenever it sees a server come or go."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def opened(self, event: TopologyOpenedEvent) -> None:
        """Nothing is known yet."""

    def description_changed(self, event: TopologyDescriptionChangedEvent) -> None:
        before, now = (d.has_writable_server() for d in (event.previous_description, event.new_description))
        if before != now:
            self._connection._seen(now)

    def closed(self, event: TopologyClosedEvent) -> None:
        """Nobody asks any more."""
