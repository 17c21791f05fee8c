"""A run made on another machine (here: below another home) is found, told and left to its owner; the audit is remembered there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bbctl import audit
from tests.integration.servers import Mongo, free_port
from tests.integration.shop import Said, Shop, finish, kill_at, shop
from tests.integration.sshd import wait_for


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop(tmp_path_factory.mktemp("far")) as made:
        made.changes = {"hang": {"after": "stopp?ing hornetq", "within": "60s"}, "stop_timeout": "60s"}
        yield made


@pytest.fixture
def far(one: Shop, mongo: Mongo, mongo_url: str) -> Shop:
    """The shop with a MongoDB named in its inventory, and every host as it should be."""
    member = one.members[0]
    member.flag("hang", on=False)
    member.heartbeat.touch()
    member.break_lock()
    if member.pid is None:
        member.up()
    name_store(one, mongo_url)
    return one


def name_store(made: Shop, url: str) -> None:
    made.write()
    path = made.folder / "inventory.yml"
    path.write_text(json.dumps({**json.loads(path.read_text()), "stores": {"mongo": url}}))


def known_there(made: Shop, run: str, home: str, outcome: str, step: str | None = None) -> Said:
    """What another home tells of a run, once it tells this outcome, and this step of its host."""

    def look() -> Said | None:
        said = made.bbctl("runs", "show", run, "-o", "json", home=home)
        if said.code or said.record["outcome"] != outcome:
            return None
        return said if step in (None, said.record["hosts"][0]["step"]) else None

    return wait_for(look, f"{run} to be known elsewhere as {outcome}", 60)


def test_a_run_made_elsewhere_is_told_with_its_steps_and_belongs_to_its_machine(far: Shop, tmp_path: Path) -> None:
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    made = far.change("drain", "h1", home=there)
    assert made.code == 0, made
    run = made.record["run"]
    told = known_there(far, run, here, outcome="done")
    assert {**told.record, "elsewhere": None, "next": None} == {**made.record, "next": None}
    assert told.record["elsewhere"]["home"] == there
    assert [r["run"] for r in json.loads(far.bbctl("runs", "list", "-o", "json", home=here).out)] == [run]
    assert [r["run"] for r in json.loads(far.bbctl("timeline", "-o", "json", home=here).out)] == [run]
    (found,) = json.loads(far.bbctl("diagnose", "h1", "-o", "json", home=here).out)["findings"]
    assert f"drain ({run}, drained)" in str(found["evidence"])
    for verb in ("resume", "abort"):
        refused = far.change("runs", verb, run, home=here)
        assert (refused.code, refused.record["error"]["code"]) == (2, "run-elsewhere"), refused
    assert far.change("undrain", "h1", home=here).code == 0


def test_a_run_that_is_killed_elsewhere_is_told_as_under_way_and_then_as_cut_off(far: Shop, tmp_path: Path) -> None:
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    far.members[0].flag("hang")
    proc = far.popen("restart", "h1", "--yes", home=there)
    assert kill_at(proc, far, "stop", 0, home=there)
    run = far.runs(there)[-1].name
    assert known_there(far, run[:5], here, outcome="running", step="stop").outcomes == {"h1": "interrupted"}
    watch = far.popen("runs", "show", run, "-w", "-o", "json", home=here)
    assert watch.stdout is not None
    assert json.loads(watch.stdout.readline())["outcome"] == "running"
    proc.kill()
    finish(proc)
    *_, last = finish(watch).out.splitlines()
    assert json.loads(last)["outcome"] == "interrupted"
    cut = known_there(far, run, here, outcome="interrupted")
    assert (cut.outcomes, cut.record["hosts"][0]["vip"]) == ({"h1": "interrupted"}, "out")
    text = far.bbctl("runs", "show", run, home=here).out
    way = f"on {cut.record['elsewhere']['machine']}: BBCTL_HOME={there} bbctl runs resume {run} · bbctl unlock h1"
    assert (cut.record["next"], way in text) == (way, True), text
    far.members[0].flag("hang", on=False)
    assert far.change("runs", "resume", run, home=there).outcomes == {"h1": "restarted"}
    assert known_there(far, run, here, outcome="done").outcomes == {"h1": "restarted"}


def test_without_mongodb_a_run_is_as_good_and_is_told_once_it_answers(
    far: Shop, mongo_url: str, tmp_path: Path
) -> None:
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    name_store(far, f"mongodb://127.0.0.1:{free_port()}/x?directConnection=true")
    first = far.change("drain", "h1", home=there)
    assert (first.code, first.outcomes) == (0, {"h1": "drained"}), first
    listed = far.bbctl("runs", "list", "-o", "json", home=here)
    assert (listed.code, json.loads(listed.out)) == (0, [])
    assert "the runs of other machines are not known: MongoDB" in listed.err
    name_store(far, mongo_url)
    assert far.change("undrain", "h1", home=there).code == 0
    assert known_there(far, first.record["run"], here, outcome="done").outcomes == {"h1": "drained"}


def test_a_tail_cut_off_the_audit_together_with_its_mark_is_missed_in_mongodb(far: Shop, tmp_path: Path) -> None:
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    known_there(far, far.change("drain", "h1", home=there).record["run"], here, outcome="done")
    lines = json.loads(far.bbctl("audit", "verify", "-o", "json", home=there).out)
    assert lines["remembered"] == lines["lines"], lines
    home = tmp_path / "there"
    kept = (home / "audit.jsonl").read_bytes().splitlines(keepends=True)[:-1]
    (home / "audit.jsonl").write_bytes(b"".join(kept))
    last = json.loads(kept[-1])
    (home / "audit.head").write_text(json.dumps({"seq": last["seq"], "hash": last["hash"]}))
    assert audit.verify(home) == len(kept), "the file alone does not show it"
    said = far.bbctl("audit", "verify", home=there)
    assert (said.code, "MongoDB remembers" in said.err) == (1, True), said
    assert far.change("undrain", "h1", home=there).code == 0
    grown = far.bbctl("audit", "verify", home=there)
    assert (grown.code, f"audit.jsonl:{len(kept) + 1}:" in grown.err) == (1, True), grown
