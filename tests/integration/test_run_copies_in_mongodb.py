"""What anybody may write beside the copies of runs: a real mongod holds it, and the runs are told all the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from bbctl import audit
from bbctl.model import HostRecord, RunRecord
from bbctl.stores import copies

RECORD = RunRecord(
    run="r-7e11", kind="drain", outcome="done", reason="deploy 81", operator="ann@ops1", started=1.0, finished=2.0,
    hosts=(HostRecord(host="w1", outcome="drained"),),
)  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [
        {"_id": "r-7e12"},
        {"_id": 7, "machine": "ops1", "home": "/h", "record": "{}"},
        {"_id": "r-7e12", "machine": "ops1", "home": "/h", "record": "{}", "seen": "yesterday"},
        {"_id": "r-7e12", "machine": "ops1", "home": "/h", "record": "{}", "seen": 3, "started": float("inf")},
        {"_id": "r-7e12", "machine": [], "home": {}, "record": None, "heads": "all"},
        {"_id": "r-7e12", "heads": [1, {"line": "one", "hash": 2}, {}]},
    ],
)
def test_a_document_that_is_no_copy_hides_no_run_and_no_head(
    mongo_url: str, tmp_path: Path, other: dict[str, Any]
) -> None:
    audit.append(tmp_path, {"operator": "ann@ops1", "command": "drain"})
    with copies.opened(mongo_url) as runs:
        copies.keep(runs, RECORD, tmp_path)
    with MongoClient[dict[str, Any]](mongo_url) as client:
        runs = client.get_default_database()["host_runs"]
        (kept,) = runs.find()
        runs.insert_one({**other, "chain": kept["chain"]})
    assert [r.run for r in copies.newest(mongo_url)] == ["r-7e11"]
    assert [r.run for r in copies.named(mongo_url, "r-7e")] == ["r-7e11"]
    assert copies.heads(mongo_url, tmp_path) == [audit.head(tmp_path)]


def test_only_so_many_copies_are_kept_and_none_for_ever_and_what_is_no_copy_is_left_alone(
    mongo_url: str, tmp_path: Path
) -> None:
    with MongoClient[dict[str, Any]](mongo_url) as client, copies.opened(mongo_url) as runs:
        for n in range(5):
            copies.keep(runs, replace(RECORD, run=f"r-{n}", started=float(n)), tmp_path)
        kept = client.get_default_database()["host_runs"]
        kept.update_one({"_id": "r-4"}, {"$set": {"seen": datetime(2001, 1, 1)}})  # the newest by its own word
        kept.insert_one({"_id": "theirs", "started": -1, "seen": datetime(2001, 1, 1)})
        assert runs.prune(most=2, days=30) == 3
        assert runs.prune(most=2, days=30) == 0
        assert sorted(str(doc["_id"]) for doc in kept.find()) == ["r-2", "r-3", "theirs"]
