"""Reading nodes: what the drivers need, which sees claims, and what people ask, which a majority has acknowledged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pymongo import ASCENDING, DESCENDING

from engine.model import Node
from engine.mongo import DUE, UNFINISHED, Connection, Doc

LIVELY: Doc = {"$or": [{"ss": {"$ne": "deactivated"}}, {"gen": {"$gt": ""}}]}
"""Active, or deactivated by `clear`, which leaves descendants alone: what `prune` and `cut` have not been through yet."""


ONE_TRIP = 10_000
"""Documents the first answer may hold; the driver's default is 101."""


def fetched(nodes: Any, query: Doc, fields: Doc | None, **more: Any) -> list[Doc]:
    """What `find` finds, in one trip. `nodes` is a collection of the driver's."""
    found: list[Doc] = nodes.find(query, fields, batch_size=ONE_TRIP, **more).to_list()
    return found


@dataclass(frozen=True)
class Kids:
    """Children of one parent that are ready or block, blocking ones first; `more` if the list was cut."""

    nodes: list[Node]
    more: bool


class Standing(NamedTuple):
    """What a worker must know of a node it has read before. `claim`: who holds it, and since when."""

    rev: str
    paused: dict[str, Any] | None
    claim: tuple[str | None, int | None]


def among(ids: Iterable[str]) -> Doc:
    """A query for these ids; one alone is found without planning."""
    wanted = list(ids)
    return {"_id": wanted[0] if len(wanted) == 1 else {"$in": wanted}}


def node_of(doc: Mapping[str, Any]) -> Node:
    node = object.__new__(Node)
    node.__dict__.update(doc)
    node.lines = []
    return node


class Searches(Connection):
    """The part of the store that only reads nodes."""

    # -- for the drivers ---------------------------------------------------------------------------------------

    def due(self, limit: int) -> list[str]:
        """What is due, the longest first, as far as a majority has it as it is: nobody acts on what was acknowledged to
        nobody, and what a fail-over may take back."""
        with self._wire():
            found = fetched(self._local, DUE, {"_id": 1, "rev": 1}, sort=[("due", ASCENDING)], limit=limit)
            ids = [doc["_id"] for doc in found]
            safe = fetched(self._nodes, among(ids), {"rev": 1}) if ids else []
        agreed = {(doc["_id"], doc.get("rev")) for doc in safe}
        return [doc["_id"] for doc in found if (doc["_id"], doc.get("rev")) in agreed]

    def node(self, id: str) -> Node | None:
        with self._wire():
            doc = self._local.find_one({"_id": id})
        return node_of(doc) if doc else None

    def by_ids(self, ids: Iterable[str], *, history: bool = False) -> dict[str, Node]:
        with self._wire():
            found = fetched(self._local, among(ids), None if history else {"h": 0})
        return {doc["_id"]: node_of(doc) for doc in found}

    def revs(self, ids: Iterable[str]) -> dict[str, str]:
        with self._wire():
            found = fetched(self._local, among(ids), {"rev": 1})
        return {doc["_id"]: doc["rev"] for doc in found}

    def standing(self, ids: Iterable[str]) -> dict[str, Standing]:
        with self._wire():
            found = fetched(self._local, among(ids), {"rev": 1, "paused": 1, "by": 1, "since": 1})
        return {doc["_id"]: Standing(doc["rev"], doc.get("paused"), (doc.get("by"), doc.get("since"))) for doc in found}

    def kids(self, parents: Sequence[tuple[Node, int]]) -> dict[str, Kids]:
        """For (parent, wanted): its children that block or are ready. A parent the limit cut off is missing.

        Generations are shared by what one round has changed. So children of an old one may come that another parent has
        asked for, and take the place of its own: such a parent is asked for again, alone.
        """
        query = {
            "parent": {"$in": [parent._id for parent, _ in parents]},
            "pgen": {"$in": list({parent.gen for parent, _ in parents})},
            "open": {"$in": ["b", "r"]},
        }
        order = [(field, ASCENDING) for field in ("parent", "pgen", "open", "seq")]
        limit = sum(wanted for _, wanted in parents)
        with self._wire():
            docs = fetched(self._local, query, {"h": 0}, sort=order, limit=limit)
        cut_at = docs[-1]["parent"] if len(docs) == limit else None
        found: dict[str, list[Node]] = {}
        for doc in docs:
            found.setdefault(doc["parent"], []).append(node_of(doc))
        kids: dict[str, Kids] = {}
        for parent, wanted in parents:
            own = found.get(parent._id, [])
            if any(kid.pgen != parent.gen for kid in own):
                kids.update(self.kids([(parent, wanted)]))
            elif cut_at is None or parent._id <= cut_at:
                kids[parent._id] = Kids(own, parent._id == cut_at)
        return kids

    def with_open(self, parents: Sequence[Node]) -> set[str]:
        """Those that still wait for a child that does not block."""
        gens = {parent._id: parent.gen for parent in parents}
        query = {"parent": {"$in": list(gens)}, "pgen": {"$in": list(set(gens.values()))}, "open": "n"}
        limit = 64 + len(gens)
        with self._wire():
            found = fetched(self._local, query, {"_id": 0, "parent": 1, "pgen": 1}, limit=limit)
            waiting = {doc["parent"] for doc in found if gens[doc["parent"]] == doc["pgen"]}
            if len(found) == limit:
                for id in gens.keys() - waiting:
                    if self._local.find_one({"parent": id, "pgen": gens[id], "open": "n"}, {"_id": 1}):
                        waiting.add(id)
        return waiting

    def with_ready(self, parents: Sequence[str], gen: str) -> set[str]:
        """Those of these workflows that have a child to start, or one that blocks."""
        query = {"parent": {"$in": list(parents)}, "pgen": gen, "open": {"$in": ["r", "b"]}}
        limit = 64 + len(parents)
        with self._wire():
            found = [doc["parent"] for doc in fetched(self._local, query, {"parent": 1}, limit=limit)]
            if len(found) < limit:
                return set(found)
            return {id for id in parents if self._local.find_one({**query, "parent": id}, {"_id": 1})}

    def with_links(self, targets: Sequence[str]) -> set[str]:
        """Those that an unfinished node of another workflow holds back."""
        with self._wire():
            query = {"link": {"$in": list(targets)}, "ss": {"$in": UNFINISHED}}
            return {doc["link"] for doc in fetched(self._local, query, {"link": 1})}

    def ids_where(self, query: Doc, limit: int = 0) -> list[str]:
        with self._wire():
            return [doc["_id"] for doc in fetched(self._local, query, {"_id": 1}, limit=limit)]

    def lively(self, query: Doc) -> list[str]:
        return self.ids_where({**query, "$and": [LIVELY]})

    def parked(self, workflow: str, limit: int) -> list[Node]:
        with self._wire():
            return [
                node_of(doc) for doc in fetched(self._local, {"wf": workflow, "ss": "paused"}, {"h": 0}, limit=limit)
            ]

    # -- for people --------------------------------------------------------------------------------------------

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
        with self._wire():
            found = self._nodes.find(query, None if history else {"h": 0})
            found = found.sort(sort, DESCENDING if newest else ASCENDING).skip(skip).limit(limit)
            return [node_of(doc) for doc in found]

    def distinct(self, field: str, query: Doc) -> list[Any]:
        with self._wire():
            return list(self._nodes.distinct(field, query))

    def aggregate(self, pipeline: list[Doc]) -> list[Doc]:
        with self._wire():
            return list(self._nodes.aggregate(pipeline))

    def count(self, query: Doc, limit: int = 100_000) -> int:
        with self._wire():
            return int(self._nodes.count_documents(query, limit=limit))

    def spilled(self, node: Node) -> list[list[Any]]:
        """The history lines that were moved out of the node, oldest first."""
        lines: list[list[Any]] = []
        with self._wire():
            for doc in self.db["history"].find({"node": node._id, "first": {"$lt": node.hs}}).sort("first", ASCENDING):
                lines[doc["first"] :] = doc["lines"]
        return lines[: node.hs]
