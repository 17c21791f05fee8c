"""What a run looks like: the verdict, where a failed host stands, what to type; nothing obeyed that a host printed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bbctl import diagnose
from bbctl.model import Elsewhere, HostRecord, RunRecord, StepRecord
from bbctl.render import run as render
from bbctl.render import screen
from bbctl.render.hostrows import HostRows

FAILED = HostRecord(
    host="w2.snc1", outcome="failed", hung=True, killed_pid=42, evidence=("/home/runs/r-1/w2.snc1/threads-1.txt",), vip="out",
    steps=(
        StepRecord(step="health", outcome="failed", seconds=8.0, detail="503 \x1b[2J"),
        StepRecord(step="unlock", outcome="ok", seconds=0.0, detail=""),
    ),
)  # fmt: skip
RECORD = RunRecord(
    run="r-1", kind="restart", outcome="failed", reason="", operator="ann@ops1", started=0.0, finished=58.0,
    hosts=(HostRecord(host="w1.snc1", outcome="restarted", vip="in"), FAILED, HostRecord(host="w3.snc1", outcome="untouched")),
)  # fmt: skip


def test_a_failure_says_where_the_host_stands_and_what_to_type() -> None:
    text = render.result(RECORD, drawn=False, next="bbctl runs resume r-1")
    for part in (
        "w2.snc1 failed at health", "OUT of its VIP", "process 42 was killed", "untouched  w3", "1 restarted",
        "evidence   /home/runs/r-1/w2.snc1/", "next       bbctl runs resume r-1", "failed in 58s",
    ):  # fmt: skip
        assert part in text, part


def test_what_went_before_names_the_step_that_failed_and_not_the_unlocking_after_it() -> None:
    said = diagnose.before([RECORD], None, now=120.0)
    assert said["w2.snc1"] == "00:00 UTC ann@ops1 restart (r-1, failed at health)"
    assert said["w1.snc1"].endswith("(r-1, restarted)")
    assert "w3.snc1" not in said


def test_text_from_a_host_is_shown_and_not_obeyed() -> None:
    assert "\x1b" not in render.result(RECORD, drawn=False, next=None)
    assert "\x1b" not in render.show(RECORD, next=None)
    foreign = replace(
        RECORD, hosts=(replace(FAILED, host="w2\x1b[2J", steps=(), step="\x1b[2J"),),
        elsewhere=Elsewhere(machine="ops\x1b[2J", home="/\x1b[2J", age=1.0),
    )  # fmt: skip
    assert "\x1b" not in render.show(foreign, next="\x1b[2J")


def test_a_refusal_says_why() -> None:
    refused = replace(
        RECORD, outcome="refused", hosts=(), error={"code": "capacity", "message": "too few", "next": None}
    )
    assert "because    too few" in render.result(refused, drawn=False, next=None)


def test_a_dry_run_shows_every_command_and_what_would_be_refused() -> None:
    plan = {
        "plan": [{"host": "w1", "steps": [{"step": "stop", "command": "/init.sh stop"}]}, {"host": "w2", "steps": []}],
        "batches": [["w1"], ["w3"]],
        "refusals": [{"code": "capacity", "message": "too few", "next": None, "host": None}],
    }
    text = render.plan_text(plan)
    assert all(part in text for part in ("/init.sh stop", "w2  already so", "w1 → w3", "refused    too few"))
    assert "dry run" not in text, "who asks for the commands before he says yes has made none"
    assert render.dry_run(plan) == f"{text}\ndry run: nothing was changed"


def rows(*events: dict[str, Any]) -> list[str]:
    """The table of hosts after these events of w1, at second 12 of a run that began at 10; a line a host."""
    made = HostRows(["w1.snc1", "w2.snc1"])
    for event in events:
        made.event({"host": "w1.snc1", "detail": "", "outcome": "ok", **event}, now=10.0)
    console = screen.console()
    with console.capture() as got:
        console.print(made.table(now=12.0))
    return [line.rstrip() for line in got.get().splitlines()[1:]]


STOPPING = ({"event": "intent", "step": "stop"}, {"event": "note", "says": "Stopping HornetQ"})
HANGS = ({"event": "note", "hung": True}, {"event": "step", "step": "stop", "outcome": "failed", "detail": "hangs: …"})
KILLED = ({"event": "note", "killed_pid": 42}, {"event": "step", "step": "kill", "detail": "KILL 42, gone"})


def test_a_host_that_stops_says_for_how_long_and_what_its_log_says() -> None:
    first, second = rows(*STOPPING)
    assert first.split() == ["▶", "w1.snc1", "stop", "2.0s", "log", "says", '"Stopping', 'HornetQ"']
    assert second.split() == ["◦", "w2.snc1", "waits"]


def test_a_kill_stays_on_the_screen_until_the_host_is_done_and_after() -> None:
    start = {"event": "intent", "step": "start"}
    assert "hangs: last word" in rows(*STOPPING, *HANGS)[0]
    assert rows(*STOPPING, *HANGS, *KILLED, start)[0].endswith("KILL 42, gone")
    done = rows(*STOPPING, *HANGS, *KILLED, {"event": "host", "outcome": "restarted"})[0]
    assert done.startswith("✓")
    assert done.endswith("hung, killed 42")


def test_a_long_word_is_cut_in_its_middle_and_control_characters_are_shown() -> None:
    word = rows({"event": "step", "step": "health", "outcome": "failed", "detail": "begin" + "x" * 200 + "\x1b[2Jend"})[
        0
    ]
    assert "begin" in word
    assert word.endswith("\\x1b[2Jend")
    assert "…" in word
    assert len(word) < 90
