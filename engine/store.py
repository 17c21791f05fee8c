"""The store: every write of nodes by name, and with its parts (claims, searches, records) all that the engine asks of MongoDB.

MongoDB is the only truth. docs/write-protocol.md says of each write what a crash after it leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymongo.client_session import ClientSession
from pymongo.errors import DocumentTooLarge
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from engine.bulk import apart, joined
from engine.change import Change, document, left_its_lines, statement, weight
from engine.claims import NO_LINES, Claims
from engine.errors import StoreDown, TooLarge
from engine.failpoint import failpoint
from engine.model import Node
from engine.mongo import Doc, Duplicate, Reply
from engine.records import Records
from engine.searches import LIVELY, Searches, node_of

TOO_LARGE = (10334, 17280, 17419)
MAX_COMMAND = 8 << 20


class Store(Claims, Searches, Records):
    """Opened lazily; safe for threads. Raises StoreDown for everything that a person or time must mend."""

    def insert(self, nodes: Sequence[Node], *, session: ClientSession | None = None) -> None:
        """Journalled, in order. Duplicate tells where an order was broken by a unique index; what came before is in."""
        failpoint("insert.before")
        first = 0
        docs = [document(node) for node in nodes]
        try:
            with self._wire():
                for part in _parts(docs, [len(node.data) + len(node.meta) + 1000 for node in nodes]):
                    body = {"insert": "nodes", "documents": part, "ordered": True}
                    self._inserted(self._command(body, True, session), part, first)
                    first += len(part)
        except DocumentTooLarge:
            raise TooLarge("a node with its data is larger than 16 MB") from None
        failpoint("insert.after")

    def _inserted(self, reply: Reply, docs: list[Doc], first: int) -> None:
        for problem in reply.errors:
            if problem["code"] != 11000:
                raise TooLarge(problem["errmsg"]) if problem["code"] in TOO_LARGE else StoreDown(problem["errmsg"])
            index = problem["index"]
            field = next(iter(problem.get("keyPattern", {"_id": 1})))
            if field != "_id":
                raise Duplicate(first + index, list(problem["keyPattern"])[-1])
            after = docs[index + 1 :]  # a repeat after a lost reply: it is ours, and others may be
            there = self.revs([doc["_id"] for doc in after])
            rest = [doc for doc in after if doc["_id"] not in there]  # inserted in order: these are the last ones
            if rest:
                again = self._command({"insert": "nodes", "documents": rest, "ordered": True}, True)
                self._inserted(again, rest, first + len(docs) - len(rest))

    def update(self, changes: Sequence[Change], *, journalled: bool = True) -> set[str]:
        """One bulk of compare-and-sets, in order; children first. Returns the ids of those that lost."""
        children = [child for change in changes for child in change.children]
        if children:
            self.insert(children)
        lost: set[str] = set()
        failpoint("update.before")
        with self._wire():
            for part in _parts(list(changes), [weight(change) for change in changes]):
                statements = [statement(change) for change in part]
                lost |= self._updated(part, statements, journalled)
        failpoint("update.after")
        return lost

    def _updated(self, changes: list[Change], statements: list[Doc], journalled: bool) -> set[str]:
        matched, rest, repeated = 0, joined(statements), False
        while rest:
            reply = self._command({"update": "nodes", "updates": rest, "ordered": True}, journalled)
            matched += reply.doc["n"]
            repeated |= reply.repeated
            problems = reply.errors
            if problems and problems[0]["code"] not in TOO_LARGE:
                raise StoreDown(f"MongoDB: {problems[0]['errmsg']}")
            at = problems[0]["index"] if problems else len(rest)
            alike = apart(rest[at]) if problems else []  # some of them have won, unseen
            repeated |= bool(alike)
            rest = [*alike, *rest[at + 1 :]]  # one too large has lost; the others go on
        if matched == len(changes):
            return set()
        revs = self.revs([change.id for change in changes])
        lost = [change for change in changes if revs.get(change.id) != change.after.rev]
        won = self._overtaken(lost) if repeated and lost else set()
        return {change.id for change in lost} - won

    def _overtaken(self, changes: list[Change]) -> set[str]:
        """After a lost reply `rev` tells that we won only until somebody else goes on from there; the history tells it
        for good: our lines stand where we put them."""
        found = self.by_ids([change.id for change in changes], history=True)
        return {change.id for change in changes if change.id in found and left_its_lines(change, found[change.id])}

    def spill(self, change: Change, lines: int) -> None:
        """Copies the oldest lines of `before` to `history`; the change that follows drops them from the node."""
        before = change.before
        body = {"node": before._id, "first": before.hs, "lines": (before.h or [])[:lines]}
        with self._wire():
            self.db["history"].replace_one({"_id": f"{before._id}:{before.hs}"}, body, upsert=True)
        failpoint("spill.after")

    def add_with_bump(self, bump: Change, children: Sequence[Node]) -> bool:
        """The bump and its children in one transaction; False if the bump lost."""

        def both(session: ClientSession) -> bool:
            reply = self._command({"update": "nodes", "updates": [statement(bump)]}, True, session)
            if reply.doc["n"] == 0:
                return False
            self.insert(children, session=session)
            return True

        failpoint("transaction.before")
        self.open()
        assert self._client is not None
        with self._wire(), self._client.start_session() as session:
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
        query = {"_id": id, "complete": {"$ne": True}}
        body = {"findAndModify": "nodes", "query": query, "update": [{"$set": {"last": places}}], "new": True}
        with self._wire():
            doc = self._command({**body, "fields": NO_LINES}, False).doc["value"]
        failpoint("bump.after")
        return node_of(doc) if doc else None

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
        with self._wire():
            changed: int = self._command({"update": "nodes", "updates": updates}, True).doc.get("nModified", 0)
        failpoint("deactivate.after")
        return changed

    def forget_unborn(self, query: Doc) -> None:
        """Deletes those that never became more than they were born as: pending, with one line of history, nothing below
        them, nobody linked, and their ids known to nobody. Journalled."""
        failpoint("forget.before")
        alone = {"ss": "pending", "hn": 1, "gen": None, "links": None, "link": None, "known": None}
        with self._wire():
            self._command({"delete": "nodes", "deletes": [{"q": {**query, **alone}, "limit": 0}]}, True)
        failpoint("forget.after")

    def mark_ready(self, parent: Node, token: str, now: int) -> None:
        """Its pending children become ready. Not journalled: whoever starts one writes it again."""
        failpoint("mark.before")
        query = {"parent": parent._id, "pgen": parent.gen, "open": "r", "ss": "pending"}
        update = {
            "$set": {"ss": "ready", "cs": "ready", "rev": token, "changed": now},
            "$push": {"h": [now, "rr"]},
            "$inc": {"hn": 1, "hb": 24},
        }
        with self._wire():
            self._command({"update": "nodes", "updates": [{"q": query, "u": update, "multi": True}]}, False)
        failpoint("mark.after")


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
