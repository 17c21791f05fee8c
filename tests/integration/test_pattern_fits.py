"""The patterns of an inventory against the real logs: counted by a rehearsal, and a run says before it acts what never fits."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator

import pytest

from tests.integration.shop import Said, Shop, shop


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop(tmp_path_factory.mktemp("fits")) as made:
        yield made


def detail(said: Said, step: str) -> str:
    return str(next(s["detail"] for s in said.record["hosts"][0]["steps"] if s["step"] == step))


def test_a_rehearsal_counts_the_lines_that_each_pattern_fits_rotated_logs_included(one: Shop) -> None:
    member = one.members[0]
    with gzip.open(member.folder / "server.log.1.gz", "wt") as old:
        old.write("JBoss [x] stopped in 1s\n" * 3 + "Stopping HornetQ\n")
    (member.folder / "server.log.2").write_text("JBOSS is STOPPED\n")
    said = one.change("restart", "h1", "--rehearse")
    assert said.code == 0, said
    assert "`stopped` fits 4 lines" in detail(said, "stop")
    assert "`hang.after` fits 1 line of" in detail(said, "stop")
    assert f"`started` fits {member.starts} line" in detail(said, "started")
    assert "fits no line" not in detail(said, "preflight")


def test_what_fits_no_line_is_said_before_anything_is_touched(one: Shop) -> None:
    member = one.members[0]
    for old in member.folder.glob("server.log.*"):
        old.unlink()
    one.changes = {"stopped": "never said", "started": "Started in|nor this"}
    one.write()
    rehearsed = one.change("restart", "h1", "--rehearse")
    assert "`stopped` 'never said' fits no line of" in detail(rehearsed, "preflight")
    assert "`hang.after`" in detail(rehearsed, "preflight")
    doctor = {c["detail"].partition(":")[0]: c for c in json.loads(one.bbctl("doctor", "-o", "json").out)}
    assert [doctor[f"jboss {name}"]["state"] for name in ("stopped", "hang.after", "started")] == [
        "warning",
        "warning",
        "ok",
    ]
    assert "0 hits" in doctor["jboss stopped"]["detail"]
    done = one.change("restart", "h1")
    assert done.outcomes == {"h1": "restarted"}, done
    assert "a slow clean stop may be taken for a hang" in detail(done, "preflight")
    assert all(word not in detail(done, "preflight") for word in ("`started`", "`hang.after`"))
