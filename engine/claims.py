"""Who works on what: claims with a lease, asking parents to look at their children, letting go.

Claims and renewals are not journalled: whoever loses one fails later on `rev`. Every write that sets `look` is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.bulk import joined
from engine.failpoint import failpoint
from engine.model import Node
from engine.mongo import DUE, NOW, Connection, Doc
from engine.searches import fetched, node_of

FREE: list[Doc] = [{"by": None}, {"due": {"$gt": 0}, "$expr": {"$lte": ["$due", NOW]}}]
NO_LINES = {"h": 0}
LOOKABLE = ["", "processing_children", "complete", "deactivated"]


class Claims(Connection):
    """The part of the store that takes nodes and gives them back."""

    def claim(self, ids: Sequence[str], token: str, worker: str) -> list[Node]:
        """Those of `ids` that are due, held by `worker` for a lease. Not journalled: a lost claim fails later on `rev`."""
        failpoint("claim.before")
        with self._wire():
            if len(ids) == 1:
                found = self._claim_one(ids[0], token, worker)
            else:
                claiming = self._claiming({"_id": {"$in": list(ids)}, **DUE}, token, worker)
                self._command({"update": "nodes", "updates": [claiming]}, False)
                failpoint("claim.after")
                found = self._claimed(ids, token)
        return found

    def _claim_one(self, id: str, token: str, worker: str) -> list[Node]:
        """In one trip: what comes alone is what somebody waits for."""
        claiming = self._claiming({"_id": id, **DUE}, token, worker)
        body = {
            "findAndModify": "nodes",
            "query": claiming["q"],
            "update": claiming["u"],
            "new": True,
            "fields": NO_LINES,
        }
        reply = self._command(body, False)
        failpoint("claim.after")
        doc = reply.doc["value"]
        if doc is None and reply.repeated:
            return self._claimed([id], token)
        return [node_of(doc)] if doc is not None else []

    def _claimed(self, ids: Sequence[str], token: str) -> list[Node]:
        return [node_of(doc) for doc in fetched(self._local, {"_id": {"$in": list(ids)}, "rev": token}, NO_LINES)]

    def _claiming(self, query: Doc, token: str, worker: str, **more: Any) -> Doc:
        now = self.now()
        put = {"rev": token, "by": worker, "since": now, "due": now + int(self._settings.lease * 1000), **more}
        return {"q": query, "u": {"$set": put, "$inc": {"tries": 1}}, "multi": True}

    def claim_looking(self, ids: Sequence[str], token: str, worker: str) -> list[Node]:
        """Claims free parents and has them look at their children. Journalled: a `look` must never be lost."""
        failpoint("look.before")
        query = {"_id": {"$in": list(ids)}, "ss": {"$in": LOOKABLE}, "$or": FREE}
        with self._wire():
            reply = self._command(
                {"update": "nodes", "updates": [self._claiming(query, token, worker, look=token)]}, True
            )
            failpoint("look.after")
            return self._claimed(ids, token) if reply.doc["n"] or reply.repeated else []

    def set_looking(self, ids: Sequence[str], token: str) -> set[str]:
        """Has parents that others hold look again, blindly; the ids that nobody holds any more (claim those)."""
        failpoint("look.before")
        with self._wire():
            query = {"_id": {"$in": list(ids)}, "by": {"$gt": ""}, "ss": {"$in": LOOKABLE}}
            reply = self._command(
                {"update": "nodes", "updates": [{"q": query, "u": {"$set": {"look": token}}, "multi": True}]}, True
            )
            failpoint("look.after")
            if reply.doc["n"] == len(ids):
                return set()
            missed = self._local.find(
                {"_id": {"$in": list(ids)}, "look": {"$ne": token}, "ss": {"$in": LOOKABLE}}, {"_id": 1}
            )
            return {doc["_id"] for doc in missed}

    def renew(self, held: Mapping[str, str]) -> None:
        """Leases of {id: rev} go on. Not journalled."""
        due = self.now() + int(self._settings.lease * 1000)
        updates = [{"q": {"_id": id, "rev": rev}, "u": {"$set": {"due": due}}} for id, rev in held.items()]
        with self._wire():
            self._command({"update": "nodes", "updates": joined(updates), "ordered": False}, False)

    def told(self, held: Mapping[str, str]) -> None:
        """Clears the tells of {id: rev} and lets go of them. Not journalled: a tell repeated is a look for nothing.

        One that others have asked to look meanwhile is due at once, lest the look be owed without a time.
        """
        failpoint("told.before")
        gone = {"do": 1, "by": 1, "since": 1, "tries": 1}
        quiet: Doc = {"$unset": {**gone, "due": 1}}
        asked: Doc = {"$unset": gone, "$set": {"due": self.now()}}
        with self._wire():
            for look, change in ((None, quiet), ({"$gt": ""}, asked)):
                updates = [{"q": {"_id": id, "rev": rev, "look": look}, "u": change} for id, rev in held.items()]
                reply = self._command({"update": "nodes", "updates": joined(updates), "ordered": False}, False)
                if reply.doc["n"] == len(held):
                    break
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
        updates = [{"q": {"_id": id, "rev": rev, "by": {"$gt": ""}}, "u": change} for id, rev in held.items()]
        with self._wire():
            self._command({"update": "nodes", "updates": joined(updates), "ordered": False}, False)
