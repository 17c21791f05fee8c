"""Updates of one document each, made fewer: those alike but for the `_id` go as one, which the database plans once.

Planning a statement costs MongoDB more than carrying it out. Pure.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterable
from typing import Any

Doc = dict[str, Any]


def joined(statements: Iterable[Doc]) -> list[Doc]:
    """In the order of their firsts. Each document is still tested and changed by itself, and counted in `n`."""
    alike: dict[bytes | str, list[Doc]] = {}
    for one in statements:
        alike.setdefault(_likeness(one), []).append(one)
    return [same[0] if len(same) == 1 else _for_all(same) for same in alike.values()]


def _likeness(statement: Doc) -> bytes | str:
    """The same for statements that differ in their `_id` only."""
    others = {key: value for key, value in statement["q"].items() if key != "_id"}
    try:
        return marshal.dumps((others, statement["u"]), 2)  # 2: without references, so that equal things are equal bytes
    except ValueError:  # a number as the driver reads it is of a class of its own
        return repr((others, statement["u"]))


def _for_all(same: list[Doc]) -> Doc:
    ids = {"$in": [one["q"]["_id"] for one in same]}
    return {"q": {**same[0]["q"], "_id": ids}, "u": same[0]["u"], "multi": True}


def apart(statement: Doc) -> list[Doc]:
    """The updates that `joined` has made one; [] for one that has stood for itself."""
    if not statement.get("multi"):
        return []
    return [{"q": {**statement["q"], "_id": id}, "u": statement["u"]} for id in statement["q"]["_id"]["$in"]]
