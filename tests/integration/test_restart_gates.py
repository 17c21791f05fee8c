"""A service that looks well and is not, or does not go: what a rolling restart does not take for a success, and how far it goes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.shop import Shop, shop


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop(tmp_path_factory.mktemp("gates"), 2) as two:
        yield two


@pytest.fixture
def two(made: Shop) -> Shop:
    """Both hosts run, are well and in the VIP; nothing called yet."""
    made.changes = {}
    made.write()
    for member in made.members:
        for path in (member.folder / "flags").iterdir():
            path.unlink()
        if member.pid is None:
            member.up()
        member.heartbeat.touch()
        (member.folder / "events").write_text("")
    return made


@pytest.mark.parametrize(("flag", "cause"), [("flaps", "not healthy 3 times in a row"), ("dies", "ended by itself")])
def test_a_host_that_is_well_only_now_and_then_stays_out_and_the_next_is_not_touched(
    two: Shop, flag: str, cause: str
) -> None:
    """Bad is the new process only: its start script makes it so."""
    first, second = two.members
    for member in two.members:
        script = member.folder / "worse.sh"
        script.write_text(f"touch {member.folder}/flags/$1\nexec {member.script} start\n")
    url = "http://{address}:{web}/health"
    two.changes = {
        "start": ["sh", "{dir}/worse.sh", flag],
        "health": {"url": url, "expect": "OK", "times": 3, "interval": "100ms", "timeout": "2s"},
    }
    two.write()
    before = second.pid
    done = two.change("restart", "all")
    assert (done.code, done.outcomes) == (1, {"h1": "failed", "h2": "untouched"}), done
    row = done.record["hosts"][0]
    assert cause in next(s["detail"] for s in row["steps"] if s["outcome"] == "failed")
    assert (row["vip"], first.heartbeat.exists(), first.calls) == ("out", False, ["stop", "start"])
    assert (second.calls, second.pid, second.heartbeat.exists()) == ([], before, True)


def test_a_process_deaf_to_its_stop_is_asked_then_documented_then_killed_and_all_of_it_is_audited(two: Shop) -> None:
    """No word of a hang in its log: only `stop_timeout` tells. Its dumps are asked for before the KILL, never after."""
    first = two.members[0]
    two.changes = {"stop_timeout": "1s"}
    two.write()
    before = first.pid
    first.flag("deaf")
    done = two.change("restart", "h1")
    assert (done.code, done.outcomes) == (0, {"h1": "restarted"}), done
    row = done.record["hosts"][0]
    assert (row["hung"], row["killed_pid"]) == (True, before)
    order = [s["step"] for s in row["steps"] if s["outcome"] != "skipped"]
    assert order.index("drain") < order.index("stop") < order.index("evidence") < order.index("kill")
    assert "still there after 1" in next(s["detail"] for s in row["steps"] if s["step"] == "stop")
    kept = "".join(Path(p).read_text(errors="replace") for p in row["evidence"])
    assert kept.count("Full thread dump") >= 3
    assert first.pid not in (None, before)
    lines = [json.loads(line) for line in (two.home() / "audit.jsonl").read_text().splitlines()]
    mine = [(line["kind"], line["targets"]) for line in lines if line["run"] == done.record["run"]]
    assert mine == [("intent", ["h1.snc1"]), ("result", ["h1.snc1"])]
