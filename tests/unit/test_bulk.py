"""Updates that are alike but for their `_id` go as one; nothing else does, and each document is tested as it would be alone."""

from __future__ import annotations

from typing import Any

from bson.int64 import Int64
from hypothesis import given
from hypothesis import strategies as st

from engine.bulk import apart, joined

STATEMENTS = st.builds(
    lambda rev, look, now, text: {
        "q": {"rev": rev, **look},
        "u": {"$set": {"changed": now}, "$push": {"h": {"$each": [[now, "ff", text]]}}},
    },
    st.sampled_from(["r1", "r2"]),
    st.sampled_from([{}, {"look": None}, {"look": "t"}]),
    st.sampled_from([1, 1.0, True, 2, Int64(3)]),
    st.sampled_from(["{}", "null", None]),
)


def of_each(bulk: list[dict[str, Any]]) -> dict[str, Any]:
    """{id: what is asked of it and what is done to it}, types told apart."""
    alone = [one for statement in bulk for one in apart(statement) or [statement]]
    found = {one["q"]["_id"]: repr((sorted(one["q"].items()), one["u"])) for one in alone}
    assert len(found) == len(alone)
    return found


@given(st.lists(STATEMENTS, max_size=12))
def test_a_joined_bulk_asks_and_does_of_each_document_what_its_own_statement_did(found: list[dict[str, Any]]) -> None:
    bulk = [{"q": {"_id": f"n{place}", **one["q"]}, "u": one["u"]} for place, one in enumerate(found)]
    fewer = joined(bulk)
    assert of_each(fewer) == of_each(bulk)
    assert len(fewer) == len({repr(one) for one in found})


def test_a_statement_that_is_like_no_other_stays_as_it_is_in_its_place() -> None:
    first, second, third = (
        {"q": {"_id": id, "rev": rev}, "u": {"$set": {"ss": "complete"}}}
        for id, rev in (("a", "r"), ("b", "other"), ("c", "r"))
    )
    together = {"q": {"rev": "r", "_id": {"$in": ["a", "c"]}}, "u": {"$set": {"ss": "complete"}}, "multi": True}
    assert joined([first, second, third]) == [together, second]
    assert apart(second) == []
