"""What is kept beside the nodes: clients, workers that live, ticks of periodic jobs, counters."""

from __future__ import annotations

from typing import Any, cast

from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from engine.model import ClientRecord, WorkerRecord
from engine.mongo import NOW, Connection, Doc, Duplicate


class Records(Connection):
    """The part of the store that has no nodes in it."""

    def add_client(self, record: ClientRecord) -> None:
        """Duplicate if the name is taken."""
        doc = {"_id": record.id, **{key: value for key, value in record.__dict__.items() if key != "id"}}
        with self._wire():
            try:
                self.db["clients"].insert_one(doc)
            except DuplicateKeyError:
                raise Duplicate(0, "name") from None

    def set_client(self, id: str, **fields: Any) -> bool:
        with self._wire():
            return bool(self.db["clients"].update_one({"_id": id}, {"$set": fields}).matched_count)

    def remove_client(self, id: str) -> bool:
        with self._wire():
            return bool(self.db["clients"].delete_one({"_id": id}).deleted_count)

    def clients(self, query: Doc) -> list[ClientRecord]:
        with self._wire():
            return [ClientRecord(id=doc.pop("_id"), **doc) for doc in self.db["clients"].find(query)]

    def beat(self, record: WorkerRecord) -> None:
        doc = {key: value for key, value in record.__dict__.items() if key != "id"}
        with self._wire():
            self.db["workers"].with_options(write_concern=WriteConcern(1, j=False)).replace_one(
                {"_id": record.id}, doc, upsert=True
            )

    def forget_worker(self, id: str) -> None:
        with self._wire():
            self.db["workers"].delete_one({"_id": id})

    def workers(self, since: int) -> list[WorkerRecord]:
        with self._wire():
            found = self.db.get_collection("workers", read_concern=ReadConcern("local")).find({"seen": {"$gte": since}})
            return [WorkerRecord(id=doc.pop("_id"), **_known(doc)) for doc in found]

    def ticks(self) -> dict[str, Doc]:
        """The periodic jobs' records: due, by, last, took, result, kept."""
        with self._wire():
            return {doc["_id"]: doc for doc in self.db["periodic"].find({})}

    def claim_tick(self, name: str, by: str, lease: int) -> Doc | None:
        """The job's record, if its time has come by the database's clock and nobody else was faster; held for `lease` ms."""
        jobs = self.db["periodic"]
        due: Doc = {"_id": name, "$expr": {"$lte": ["$due", NOW]}}
        claim: Doc = {"$set": {"due": {"$add": [NOW, lease]}, "by": by, "began": NOW}}
        with self._wire():
            try:
                jobs.update_one({"_id": name}, {"$setOnInsert": {"due": 0}}, upsert=True)
            except DuplicateKeyError:
                pass
            return cast("Doc | None", jobs.find_one_and_update(due, [claim], return_document=True))

    def finish_tick(self, name: str, by: str, due: int, **fields: Any) -> bool:
        """Notes what came of it and when it is due again; False if the lease had run out and another holds it."""
        with self._wire():
            done = self.db["periodic"].update_one({"_id": name, "by": by}, {"$set": {"due": due, "by": None, **fields}})
            return bool(done.matched_count)

    def count_up(self, day: str, processed: int, failed: int) -> None:
        collection = self.db["counters"].with_options(write_concern=WriteConcern(1, j=False))
        with self._wire():
            for key in (day, "all"):
                collection.update_one({"_id": key}, {"$inc": {"processed": processed, "failed": failed}}, upsert=True)

    def counters(self, day: str) -> dict[str, tuple[int, int]]:
        with self._wire():
            found = self.db.get_collection("counters", read_concern=ReadConcern("local")).find(
                {"_id": {"$in": [day, "all"]}}
            )
            return {doc["_id"]: (doc["processed"], doc["failed"]) for doc in found}


def _known(doc: Doc) -> Doc:
    """Without what a newer version's worker adds to its heartbeat."""
    return {key: value for key, value in doc.items() if key in WorkerRecord.__dataclass_fields__}
