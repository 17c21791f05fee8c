"""`bbctl workflow …` and `bbctl queues` as installed, on a real MongoDB without workers: what they print, their exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bbctl import audit
from bbctl.cli.app import run
from bbctl.cli.engine import until_interrupted
from bbctl.errors import Interrupted
from engine import overview, workflows
from engine.model import ClientRecord, Node
from engine.runtime import Runtime, open_runtime
from engine.settings import Settings
from tests.integration.servers import tidy_environment
from tests.states import CLIENT, HOUR, MINUTE, Builder

BBCTL = Path(sys.executable).with_name("bbctl")


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Desk:
    """A home, an inventory, a database; and bbctl in front of them."""

    rt: Runtime
    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def bbctl(self, *words: str) -> Said:
        """In this process: a new one for each call would take most of the time."""
        environ = tidy_environment() | {
            "BBCTL_HOME": str(self.home),
            "BBCTL_MONGO_URL": self.rt.settings.mongo_url,
            "BBCTL_OPERATOR": "ann",
            "BBCTL_INVENTORY": str(self.folder / "inventory.yml"),
        }
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        with pytest.MonkeyPatch.context() as patch, Path(os.devnull).open() as nothing:
            for name in set(os.environ) - set(environ):
                patch.delenv(name)
            for name, value in environ.items():
                patch.setenv(name, value)
            for name, stream in (("stdout", out), ("stderr", err), ("stdin", nothing)):
                patch.setattr(sys, name, stream)
            patch.setattr(sys, "argv", ["bbctl", *words])
            handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
            try:
                code = run(words)
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, handler)
        texts = []
        for stream in (out, err):
            stream.flush()
            texts.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]
        return Said(code, *texts)

    def builder(self) -> Builder:
        return Builder(self.rt.store.now())

    def write(self, builder: Builder) -> None:
        self.rt.store.insert(builder.state.nodes)

    def now(self, node: Node) -> Node:
        return self.rt.store.by_ids([node.id], history=True)[node.id]

    def acts(self) -> list[dict[str, Any]]:
        return list(audit.entries(self.home)) if self.home.exists() else []


@pytest.fixture
def desk(mongo_url: str, tmp_path: Path) -> Iterator[Desk]:
    rt = open_runtime(Settings(mongo_url=mongo_url))
    rt.store.add_client(ClientRecord(id=CLIENT, name="accounting"))
    path = tmp_path / "inventory.yml"
    path.write_text("site: test\nexpected: {quick: 1s}\n")
    path.chmod(0o600)
    yield Desk(rt, tmp_path)
    rt.close()


def held_up(b: Builder, *, name: str = "send-to-bank", since: int = 6 * HOUR) -> Node:
    at = b.now - since
    wait = {"sent": [1, at, 200], "complete_by": b.now + HOUR, "due": b.now + HOUR, "do": {"timeout": True}}
    node = b.node("sent_to_client/received", name=name, history=[[at, "rr"], [at, "cc"]], **wait)
    node.retries = [6, 6]
    return node


def failed(b: Builder, name: str = "send-to-bank", error: str = "Bank timeout") -> Node:
    lines = [[b.then, "rr"], [b.then, "xe", json.dumps({"error": {"message": error}})]]
    return b.node("retries_exhausted/errored", name=name, retries=[0, 0], history=lines)


def test_the_same_start_twice_is_one_workflow_and_one_signal(desk: Desk) -> None:
    line = (
        "wf",
        "start",
        "vat",
        "--subject",
        '{"invoice": 4711}',
        "--signal",
        "new",
        "--data",
        '{"a": 1}',
        "-o",
        "json",
    )
    first, second = desk.bbctl(*line), desk.bbctl(*line)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert first.json["id"] == second.json["id"]
    assert [n.name for n in workflows.children(desk.rt, None, first.json["id"])] == ["new"]
    other = desk.bbctl("wf", "signal", "invoice=4711", "paid", "--key", "k1", "-o", "json")
    again = desk.bbctl("wf", "signal", first.json["id"][-8:], "paid", "--key", "k1", "-o", "json")
    assert other.json["id"] == again.json["id"]
    listed = desk.bbctl("wf", "list", "--subject", "invoice=4711", "-o", "name")
    assert listed.out.split() == [first.json["id"]]
    assert desk.bbctl("wf", "list", "--limit", "1").err == "", "there is no second one, and no next page"
    shown = desk.bbctl("wf", "show", "invoice=4711", "-o", "json").json
    assert [child["name"] for child in shown["tree"]["children"]] == ["new", "paid"]


def test_a_list_says_of_each_workflow_what_why_says_of_it(desk: Desk) -> None:
    made = {}
    for subject, pair in (("late", ""), ("waits", ""), ("done", "complete/complete"), ("lost", "started/ready")):
        b = desk.builder()
        b.root.name, b.root.subject = subject, json.dumps(subject)
        b.node("complete/complete")
        if pair:
            b.node(pair)
        else:
            held_up(b, since=6 * HOUR if subject == "late" else MINUTE)
        made[b.root.id] = subject
        desk.write(b)
    b = desk.builder()
    b.root.name = "needs"
    failed(b)
    desk.write(b)
    workflows.pause(desk.rt, None, next(id for id, subject in made.items() if subject == "waits"))
    listed = desk.bbctl("wf", "list", "-o", "json").json
    said = {row["name"]: row["state"] for row in listed}
    assert said == {row["name"]: desk.bbctl("wf", "why", row["id"], "-o", "json").json["verdict"] for row in listed}
    assert said == {"late": "late", "waits": "waiting", "done": "done", "lost": "stuck", "needs": "needs-person"}
    nodes = {row["name"]: (row["nodes"]["done"], row["nodes"]["all"]) for row in listed}
    assert nodes == {"late": (1, 2), "waits": (1, 2), "done": (2, 2), "lost": (1, 2), "needs": (0, 1)}
    (paused,) = [line for line in desk.bbctl("wf", "list").out.splitlines() if "waits" in line]
    assert "waiting, paused" in paused
    assert "1/2" in paused


def test_a_list_goes_on_with_the_command_below_it_until_there_is_no_more(desk: Desk) -> None:
    for place in range(5):
        b = desk.builder()
        b.root.subject = json.dumps(f"it's {place}")
        desk.write(b)
    words, seen = ["wf", "list", "--limit", "2", "--subject", "it's", "--client", "accounting"], []
    for _ in range(3):
        page = desk.bbctl(*words)
        seen += [int(found) for found in re.findall(r"it's (\d)", page.out)]
        *_, then = page.err.rpartition("next  bbctl ")
        words = shlex.split(then) or words
    assert page.err == "", "the last page is the last"
    assert sorted(seen) == [0, 1, 2, 3, 4]
    beyond = desk.bbctl("wf", "list", "--before", "ffffffff")
    assert (beyond.code, beyond.out) == (2, "")


def test_a_workflow_too_large_for_a_list_is_counted_and_left_to_why(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "ROOM", 3)
    monkeypatch.setattr(overview, "MOST", 4)
    big, small, four = desk.builder(), desk.builder(), desk.builder()
    for b, count in ((big, 5), (small, 1), (four, 4)):
        for _ in range(count):
            b.node("complete/complete")
        desk.write(b)
    rows = {row["id"]: (row["state"], row["nodes"]) for row in desk.bbctl("wf", "list", "-o", "json").json}
    assert rows == {
        big.root.id: (None, {"done": None, "all": 4, "more": True}),
        four.root.id: (None, {"done": None, "all": 4, "more": False}),
        small.root.id: ("done", {"done": 1, "all": 1, "more": False}),
    }
    screen = desk.bbctl("wf", "list").out
    assert "?/4+" in screen
    assert "next  bbctl wf why " in screen


def test_a_workflow_held_by_one_too_large_for_a_list_is_left_to_why_and_the_others_are_judged(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "ROOM", 4)
    held, holds, other = desk.builder(), desk.builder(), desk.builder()
    target = held.parent(links=True)
    for _ in range(4):
        holds.node("complete/complete")
    holds.node("sent_to_client/received", link=target.id)
    other.node("complete/complete")
    for b in (held, holds, other):
        desk.write(b)
    found = overview.overview(desk.rt, [held.root, other.root], expected={})
    assert found[held.root.id].verdict is None
    assert found[other.root.id].verdict == "done"


def test_no_workflow_is_judged_for_a_list_once_its_time_is_over(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "TIME", -1.0)
    b = desk.builder()
    held_up(b)
    desk.write(b)
    assert overview.overview(desk.rt, [b.root], expected={}) == {b.root.id: overview.Standing(all=1)}
    judging = overview._HurriedJudge(desk.rt, {}, [])
    assert list(overview._judged(judging, {b.root.id: b.root})) == [], "nor is it asked how long a step usually takes"


def test_why_says_the_verdict_first_and_what_to_type(desk: Desk) -> None:
    b = desk.builder()
    node = held_up(b)
    b.node("ready/ready", name="archive")
    desk.write(b)
    text = desk.bbctl("wf", "why", "invoice=4711")
    assert text.code == 1
    assert text.out.startswith("LATE  vat-invoice")
    assert f"bbctl wf show {node.tail} --request" in text.out
    assert "! done twice unless accounting honours key" in text.out
    found = desk.bbctl("wf", "why", node.tail, "-o", "json").json
    assert found["verdict"] == "late"
    (reason,) = found["reasons"]
    assert {k: reason[k] for k in ("id", "node", "name", "late")} == {
        "id": "W2",
        "node": node.id,
        "name": "send-to-bank",
        "late": True,
    }
    assert set(reason) >= {"statuses", "since", "because", "evidence", "next"}
    groups = desk.bbctl("wf", "stuck", "-o", "json")
    assert groups.code == 1
    assert [g["group"] for g in groups.json] == [reason["group"]]


def test_the_inventory_says_what_is_late(desk: Desk) -> None:
    b = desk.builder()
    held_up(b, name="quick", since=5_000)
    desk.write(b)
    assert desk.bbctl("wf", "why", "invoice=4711", "-o", "json").json["verdict"] == "late"


@pytest.mark.parametrize(
    ("verb", "then", "retries", "line"),
    [
        ("timeout", ("retrying", "errored"), [6, 5], "te"),
        ("retry", ("ready", "ready"), [6, 6], "rr"),
        ("resolve", ("complete", "resolved"), [6, 6], "fv"),
        ("shutdown", ("processing_children", "shutdown"), [6, 6], "kh"),
    ],
)
def test_an_act_on_a_silent_client_is_previewed_confirmed_and_audited_once(
    desk: Desk, verb: str, then: tuple[str, str], retries: list[int], line: str
) -> None:
    b = desk.builder()
    node = held_up(b)
    b.node("ready/ready", name="archive")
    desk.write(b)
    dry = desk.bbctl("wf", verb, node.tail, "--dry-run", "-o", "json")
    assert (dry.code, dry.json["dry_run"], dry.json["refusals"]) == (0, True, [])
    (step,) = dry.json["plan"][0]["steps"]
    assert (dry.json["plan"][0]["host"], step["command"]) == (None, f"bbctl wf {verb} {node.tail}")
    assert [n["name"] for n in dry.json["plan"][0]["deactivated"]] == (["archive"] if verb == "shutdown" else [])
    unsaid = desk.bbctl("wf", verb, node.tail, "-o", "json")
    assert (unsaid.code, unsaid.json["outcome"], unsaid.json["error"]["code"]) == (3, "refused", "not-confirmed")
    assert desk.now(node).rev == node.rev
    assert desk.acts() == []
    done = desk.bbctl("wf", verb, "invoice=4711", "--node", "send-to-bank", "-y", "--reason", "ticket 81", "-o", "json")
    assert (done.code, done.json["outcome"]) == (0, "done"), done.err
    after = desk.now(node)
    assert ((after.ss, after.cs), after.retries) == (then, retries)
    assert after.h is not None
    assert after.h[-1][1] == line
    assert "notify" not in (after.do or {})
    acts = desk.acts()
    assert [a["decision"] for a in acts] == ["intent", "result"]
    assert {a["reason"] for a in acts} == {"ticket 81"}
    assert acts[0]["targets"]["node"] == node.id
    assert acts[0]["operator"].startswith("ann@")


@pytest.mark.parametrize("verb", ["timeout", "resolve", "shutdown"])
def test_a_node_that_waits_for_its_retry_is_refused_and_retry_runs_it_now(desk: Desk, verb: str) -> None:
    b = desk.builder()
    node = b.node("retrying/errored", fires_at=b.now + HOUR, due=b.now + HOUR, do={"retry": True}, retries=[6, 5])
    desk.write(b)
    refused = desk.bbctl("wf", verb, "invoice=4711", "-y")
    assert refused.code == 3
    assert f"bbctl wf retry {node.tail}" in refused.err
    assert desk.now(node).rev == node.rev


def test_cancel_reset_pause_resume_and_complete_do_what_they_say(desk: Desk) -> None:
    b = desk.builder()
    parent = b.parent()
    child = b.node(
        "sent_to_client/processing", under=parent, complete_by=b.now + HOUR, due=b.now + HOUR, do={"timeout": True}
    )
    desk.write(b)
    plan = desk.bbctl("wf", "cancel", parent.tail, "--dry-run", "-o", "json").json["plan"][0]
    assert [n["id"] for n in plan["deactivated"]] == [parent.id, child.id]
    assert desk.bbctl("wf", "reset", parent.tail, "-y").code == 0
    assert desk.now(child).ss == "deactivated"
    for verb, field, value in (("pause", "paused", True), ("resume", "paused", False), ("complete", "complete", True)):
        done = desk.bbctl("wf", verb, "invoice=4711", "-y", "-o", "json")
        assert (done.code, done.json["outcome"]) == (0, "done")
        assert bool(getattr(desk.now(b.root), field)) is value
        assert desk.bbctl("wf", verb, "invoice=4711", "-y", "-o", "json").json["outcome"] == "nothing-to-do"
    assert desk.bbctl("wf", "signal", "invoice=4711", "late").code == 1


def test_a_group_is_retried_as_it_was_confirmed_and_goes_on_where_it_was_cut(desk: Desk) -> None:
    nodes = []
    for _ in range(3):
        b = desk.builder()
        nodes.append(failed(b))
        desk.write(b)
    group = desk.bbctl("wf", "stuck", "-o", "json").json[0]["group"]
    dry = desk.bbctl("wf", "retry", "--group", group, "--dry-run", "-o", "json").json
    assert sorted(dry["plan"][0]["nodes"]) == sorted(n.id for n in nodes)
    cut = desk.home / "regroups" / f"{group}.jsonl"
    cut.parent.mkdir(parents=True, mode=0o700)
    ids = [n.id for n in nodes]
    cut.write_text(
        json.dumps({"group": group, "ids": ids}) + "\n" + json.dumps({"done": ids[0]}) + "\n" + '{"done": "ha'
    )
    done = desk.bbctl("wf", "retry", "--group", group, "--rate", "100", "-y", "-o", "json")
    assert (done.code, done.json["sent"]) == (0, 2), done.err
    assert [desk.now(n).ss for n in nodes] == ["retries_exhausted", "ready", "ready"]
    assert not cut.exists()
    rest = desk.bbctl("wf", "retry", "--group", group, "-y", "-o", "json")
    assert (rest.code, rest.json["nodes"]) == (0, [ids[0]])


def test_heal_changes_nothing_until_it_is_told_to(desk: Desk) -> None:
    b = desk.builder()
    node = b.node("retrying/errored", fires_at=b.now + HOUR, retries=[6, 5])
    desk.write(b)
    dry = desk.bbctl("wf", "heal", "invoice=4711", "-o", "json")
    assert dry.code == 0
    assert desk.bbctl("wf", "heal", "-o", "json").json == dry.json
    assert [{k: f[k] for k in ("id", "node", "mode", "applied")} for f in dry.json["findings"]] == [
        {"id": "I8", "node": node.id, "mode": "A", "applied": False}
    ]
    assert desk.bbctl("wf", "heal", "--all", "--apply").code == 3
    assert desk.now(node).rev == node.rev
    done = desk.bbctl("wf", "heal", "--all", "--apply", "-y", "-o", "json")
    assert [(f["id"], f["applied"]) for f in done.json["findings"]] == [("I8", True)]
    assert desk.bbctl("wf", "heal", "--all", "--apply", "-y", "-o", "json").json["findings"] == []
    assert len(desk.acts()) == 2


def test_a_client_that_began_and_never_came_back_is_named_everywhere_and_asked_before_anything_is_repaired(
    desk: Desk,
) -> None:
    b = desk.builder()
    node = b.node("sent_to_client/processing", complete_by=b.now - HOUR, sent=[1, b.now - 2 * HOUR, None])
    desk.write(b)
    why = desk.bbctl("wf", "why", "invoice=4711", "-o", "json")
    assert (why.code, why.json["verdict"]) == (1, "stuck")
    assert [(r["id"], r["node"], r["next"]) for r in why.json["reasons"]] == [
        ("I5", node.id, f"bbctl wf show {node.tail} --request")
    ]
    stuck = desk.bbctl("wf", "stuck", "-o", "json")
    assert (stuck.code, [(g["id"], g["nodes"]) for g in stuck.json]) == (1, [("I5", [node.id])])
    heal = desk.bbctl("wf", "heal", "invoice=4711")
    assert heal.code == 0
    assert f"next  bbctl wf why {node.tail}, then  bbctl wf heal invoice=4711 --apply" in heal.err
    assert desk.now(node).rev == node.rev


def test_what_cannot_be_meant_is_exit_two_with_something_near(desk: Desk) -> None:
    b = desk.builder()
    held_up(b)
    failed(b, "other")
    desk.write(b)
    twin = desk.builder()
    twin.root.subject = '{"invoice":4711,"part":2}'
    desk.write(twin)
    several = desk.bbctl("wf", "why", "invoice=4711")
    assert several.code == 2
    assert b.root.tail in several.err
    assert twin.root.tail in several.err
    wrong = b.root.tail[:-1] + ("0" if b.root.tail[-1] != "0" else "1")
    unknown = desk.bbctl("wf", "why", wrong, "-o", "json")
    assert unknown.code == 2
    assert b.root.tail in unknown.json["error"]["message"]
    assert desk.bbctl("wf", "show", b.root.id[-12:], "-o", "json").code == 0
    for words in (
        ("wf", "start", "vat", "--subject", "{nonsense"),
        ("wf", "start", "vat", "--subject", "1", "--client", "acounting"),
        ("wf", "start", "caf\udce9", "--subject", "1"),
        ("wf", "start", "vat", "--subject", "1e999"),
        ("wf", "start", "vat", "--subject", "[" * 101 + "]" * 101),
        ("wf", "list", "--name", "caf\udce9"),
        ("wf", "list", "--status", "retired"),
        ("wf", "stuck", "--older", "soon"),
        ("wf", "retry"),
        ("wf", "heal", "--apply"),
        ("wf", "heal", "invoice=4711", "--all"),
        ("wf", "retry", "--group", "F-000000"),
    ):
        said = desk.bbctl(*words)
        assert said.code == 2, words
        assert "Traceback" not in said.err


def test_a_subject_in_camel_case_is_kept_as_the_http_api_keeps_it_and_found_either_way(desk: Desk) -> None:
    made = desk.bbctl(
        "wf", "start", "vat", "--subject", '{"invoiceId": 4711, "lines": [{"vatRate": 19}]}', "-o", "json"
    )
    assert made.json["subject"] == {"invoice_id": 4711, "lines": [{"vat_rate": 19}]}
    for pair in ("invoiceId=4711", "invoice_id=4711", "vatRate=19"):
        assert desk.bbctl("wf", "why", pair, "-o", "json").json["workflow"] == made.json["id"]
        assert desk.bbctl("wf", "list", "--subject", pair, "-o", "name").out.split() == [made.json["id"]]


def test_no_name_that_a_client_chose_reaches_the_terminal_as_a_control_sequence(desk: Desk) -> None:
    evil = "\x1b[31mred\x07\u202e"
    b = desk.builder()
    b.root.name = evil
    node, other = failed(b, evil, evil), failed(b, evil, evil)
    desk.write(b)
    group = desk.bbctl("wf", "stuck", "-o", "json").json[0]["group"]
    for words in (
        ("start", evil, "--subject", "1", "--signal", evil),
        ("signal", b.root.id, evil),
        ("why", b.root.id),
        ("show", b.root.id),
        ("show", node.id, "--request"),
        ("history", b.root.id),
        ("list",),
        ("stuck",),
        ("report",),
        ("retry", "--group", group, "--dry-run"),
        ("retry", "--group", group),
        ("cancel", node.id, "--dry-run"),
        ("cancel", node.id),
        ("cancel", node.id, "-y"),
        ("pause", b.root.id, "-y"),
        ("resolve", b.root.id, "--node", evil, "-y"),
        ("resolve", other.id, "-y"),
        ("complete", b.root.id, "-y"),
        ("signal", b.root.id, "late"),
    ):
        said = desk.bbctl("wf", *words)
        assert said.out + said.err, words
        assert not set(said.out + said.err) & set("\x1b\x07\u202e"), words


def test_a_refusal_names_its_target_and_what_to_type_next(desk: Desk) -> None:
    b = desk.builder()
    failed(b)
    b.root.complete = True
    desk.write(b)
    late = desk.bbctl("wf", "signal", b.root.tail, "paid", "-o", "json")
    assert late.code == 1
    assert late.json["error"]["code"] == "workflow-complete"
    assert b.root.tail in late.json["error"]["message"]
    assert late.json["error"]["next"] == f"bbctl wf show {b.root.tail}"
    for verb in ("rotate", "remove"):
        unknown = desk.bbctl("client", verb, "acounting", "-o", "json")
        assert unknown.code == 2
        assert "accounting" in unknown.json["error"]["message"]
        assert unknown.json["error"]["next"] == "bbctl client list"
    busy = desk.bbctl("client", "remove", "accounting", "-o", "json")
    assert busy.code == 3
    assert busy.json["error"]["next"] == "bbctl wf list --client accounting"


def test_show_history_request_report_and_queues_say_what_is_there(desk: Desk) -> None:
    b = desk.builder()
    node = held_up(b)
    done = b.node("complete/complete", name="before", history=[[b.then, "rr"], [b.then, "cc"], [b.then + MINUTE, "ff"]])
    failed(b)
    desk.write(b)
    shown = desk.bbctl("wf", "show", b.root.tail)
    assert "▶" in shown.out
    assert "sent_to_client/received" in shown.out
    request = desk.bbctl("wf", "show", node.tail, "--request", "-o", "json").json
    assert request["headers"]["Idempotency-Key"] == f"{node.id}:1"
    assert request["body"]["activity"]["id"] == node.id
    assert (request["status"], request["answer"]) == (200, "HTTP 200")
    inside = desk.bbctl("wf", "show", done.tail, "--request", "-o", "json").json
    assert (inside["status"], inside["answer"]) == (None, "its client called back first")
    assert inside["body"]["activity"]["currentServerStatus"] == "sent_to_client"
    bars = desk.bbctl("wf", "history", b.root.tail, "--bars").out
    assert "█" in bars
    changes = desk.bbctl("wf", "history", node.id, "-o", "json").json
    assert {"nodeId", "fromStatus", "toStatus", "statusType"} <= set(changes[0])
    report = desk.bbctl("wf", "report", "--since", "1d", "-o", "json").json
    assert report["completed"] == {"vat-invoice": 1}
    assert report["inconsistent"] == {"vat-invoice": 1}
    queues = desk.bbctl("queues", "-o", "json")
    assert queues.code == 0
    assert set(queues.json) >= {"depth", "latency", "workers", "timers", "periodic"}
    assert [job["name"] for job in queues.json["periodic"]] == ["daily-report", "queue-log", "flush-check"]
    assert "latency" in desk.bbctl("queues").out


def test_a_watch_ends_when_the_workflow_is_done_and_quietly_when_interrupted(desk: Desk) -> None:
    b = desk.builder()
    b.node("complete/complete")
    desk.write(b)
    done = desk.bbctl("wf", "show", b.root.tail, "-w", "-o", "json")
    assert done.code == 0
    assert [json.loads(line)["verdict"] for line in done.out.splitlines()] == ["done"]

    def interrupted() -> None:
        raise Interrupted("by SIGTERM", signal=15)

    assert until_interrupted(interrupted, 0) == 143


def test_a_group_by_itself_shows_all_its_nodes(desk: Desk) -> None:
    nodes = []
    for _ in range(8):
        b = desk.builder()
        nodes.append(failed(b))
        desk.write(b)
    (group,) = desk.bbctl("wf", "stuck", "-o", "name").out.split()
    shown = desk.bbctl("wf", "stuck", "--group", group)
    assert shown.code == 1
    assert all(n.tail in shown.out for n in nodes)
    assert f"bbctl wf retry --group {group}" in shown.out


def test_a_store_that_is_gone_is_exit_four_in_one_line(desk: Desk) -> None:
    environ = tidy_environment() | {"BBCTL_HOME": str(desk.home), "BBCTL_INVENTORY": "none", "PATH": os.environ["PATH"]}
    environ["BBCTL_MONGO_URL"] = "mongodb://ann:secret@127.0.0.1:1/db?replicaSet=rs0"
    done = subprocess.run([BBCTL, "wf", "stuck"], env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 4
    assert "secret" not in done.stdout + done.stderr
    assert "bbctl stores status" in done.stderr
