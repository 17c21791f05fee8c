"""Findings from facts: what is wrong, how much it costs, what to type; and what is news since the last sweep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bbctl import checks, runbook, sweep
from bbctl.checks import CHECKS, Case
from bbctl.diagnose import known_signatures
from bbctl.look import Seen
from bbctl.model import Drain, Facts, Finding, Hang, Health, Host, Lease, Proc, Process, Service, Ssh, Vip
from bbctl.remote.logs import Line
from bbctl.remote.machine import Disk, Machine
from bbctl.settings import shipped
from bbctl.sweep import Row

NOW = 1_795_489_632.0
SERVICE = Service(
    name="jboss", process=Process(match="x", user="jboss"), log="/l", started="Started in", stopped="JBoss .*stopped",
    hang=Hang(after="stopp?ing hornetq", within=60), health=Health(url="http://h/"),
    vip=Vip(name="v", drain=Drain(kind="file", path="/h"), min_in_service=2),
)  # fmt: skip
HOST = Host(name="w2.snc1", address="10.0.0.2", ssh=Ssh(user="jboss"), services=(SERVICE,))
PROC = Proc(pid=18244, ticks=1, started=NOW - 1000, user="jboss", command="java", age=1000)
WELL = Facts(
    host="w2.snc1",
    service="jboss",
    status="ok",
    process="running",
    proc=PROC,
    candidates=(PROC,),
    health="ok",
    vip="in",
)
SIGNATURES = known_signatures(Path("/none"), shipped("playbooks"))


def seen(*log: str, **facts: Any) -> Seen:
    lines = tuple(Line(text=t, earliest=NOW - 100 + n, latest=NOW - 100 + n, dated=True) for n, t in enumerate(log))
    return Seen(host=HOST, service=SERVICE, facts=replace(WELL, **facts), machine=Machine(now=NOW), lines=lines)


def found(one: Seen) -> list[Finding]:
    return [t.finding for t in checks.judge(Case(seen=one, signatures=SIGNATURES))]


def test_a_well_host_has_no_finding() -> None:
    assert found(seen("Started in 29s", "INFO all is well")) == []


def test_a_host_that_cannot_be_reached_is_that_and_nothing_is_guessed_about_the_rest() -> None:
    (only,) = found(seen(status="unreachable", error="connect: refused", process="unknown", proc=None, vip="unknown"))
    assert (only.id, only.next) == ("host-down", "bbctl ping w2")


def test_a_host_for_which_the_time_ran_out_is_unknown_and_wakes_nobody() -> None:
    late = replace(seen(status="timeout", error="no answer within the 1s for all hosts", proc=None), late=True)
    (only,) = checks.judge(Case(seen=late, signatures=SIGNATURES))
    assert (only.finding.id, only.state) == ("host-down", "unknown")
    assert only.finding.title == "it was not looked at to the end"


def test_a_host_that_nobody_took_out_and_that_serves_nothing_is_not_told_as_in() -> None:
    pool = checks.Pool(vip="v", serving=2, members=3, least=2)
    for facts, told in (
        ({"health": "failing"}, "in, and not one of them"),
        ({"health": "failing", "vip": "out"}, "out"),
    ):
        trouble = checks.judge(Case(seen=seen(**facts), signatures=SIGNATURES, pool=pool))[0]
        assert dict(trouble.finding.evidence)["vip"] == f"2 of 3 in service, minimum 2; this host is {told}"


def test_a_refused_host_key_names_the_way_out_that_its_login_named() -> None:
    (only,) = found(seen(status="host-key", error="changed", next="bbctl hosts trust w2 --replace"))
    assert only.next == "bbctl hosts trust w2 --replace"


@pytest.mark.parametrize(
    ("facts", "ids"),
    [
        ({"process": "stopped", "proc": None, "health": "failing"}, ["process-missing"]),
        (
            {"process": "hung", "hung_line": "Stopping HornetQ", "hung_since": NOW - 254, "health": "failing"},
            ["hung-stop"],
        ),
        ({"health": "failing"}, ["health-failing"]),
        ({"vip": "out"}, ["drained"]),
        ({"vip": "unknown", "vip_error": "no answer"}, ["drained"]),
        ({"process": "unknown", "proc": None, "ambiguous": "2 match", "error": "2 match: 1, 2"}, ["process-missing"]),
        ({"clock_offset": 7.0}, ["clock-skew"]),
    ],
)
def test_each_state_is_one_finding_under_its_own_name(facts: dict[str, Any], ids: list[str]) -> None:
    got = found(seen(**facts))
    assert [f.id for f in got] == ids
    assert all(f.next.startswith("bbctl ") and f.target == "w2.snc1" and f.evidence for f in got)


def test_where_all_hosts_fail_alike_no_one_s_log_is_to_be_read_but_what_they_share_is_looked_at() -> None:
    sick = seen(health="failing")
    for alike, next in ((0, "bbctl logs w2"), (3, "bbctl stores status")):
        (trouble,) = checks.judge(Case(seen=sick, alike=alike))
        assert trouble.finding.next == next
        assert ("cause" in dict(trouble.finding.evidence)) is bool(alike)


def test_a_process_is_missing_since_its_log_said_that_it_stopped_and_not_since_it_said_anything_else() -> None:
    gone: dict[str, Any] = {"process": "stopped", "proc": None, "candidates": ()}
    stopped, crashed = found(seen("JBoss AS stopped in 9ms", **gone)), found(seen("Started in 29s", **gone))
    assert [(f.id, f.since) for f in stopped if f.id == "process-missing"] == [("process-missing", NOW - 100)]
    assert [(f.id, f.since) for f in crashed if f.id == "process-missing"] == [("process-missing", None)]


def test_a_hang_says_since_when_with_the_log_s_last_word() -> None:
    (only,) = found(seen(process="hung", hung_line="03:02:58 INFO  Stopping HornetQ", hung_since=NOW - 254))
    assert (only.since, only.severity, only.next) == (NOW - 254, 3, "bbctl restart w2")
    assert "Stopping HornetQ" in dict(only.evidence)["log"]


@pytest.mark.parametrize("rule", SIGNATURES, ids=lambda s: s.name)
def test_every_shipped_signature_finds_its_own_samples(rule: Any) -> None:
    assert rule.samples
    for sample in rule.samples:
        assert rule.match.search(sample)


@pytest.mark.parametrize(
    ("line", "check"),
    [
        ("java.lang.OutOfMemoryError: Java heap space", "log-signature"),
        ("java.net.SocketException: Too many open files", "log-signature"),
        ("Found one Java-level deadlock:", "deadlock"),
    ],
)
def test_a_known_trouble_in_the_log_is_a_finding_with_the_line(line: str, check: str) -> None:
    (only,) = found(seen("Started in 29s", line))
    assert only.id == check
    assert line in dict(only.evidence)["log"]


def test_a_trouble_of_the_process_before_is_no_finding() -> None:
    young = replace(PROC, started=NOW - 10)
    assert found(seen("java.lang.OutOfMemoryError: x", proc=young)) == []


def test_a_stop_that_ended_is_no_signature_of_a_hang() -> None:
    assert found(seen("Stopping HornetQ", "JBoss (Microcontainer) stopped in 2s")) == []


def test_a_full_disk_is_one_finding_a_file_system() -> None:
    disk = Disk(mount="/var", free=1 << 20, inodes=5, used=0.99)
    one = replace(seen(), machine=Machine(now=NOW, disks={"/var/log": disk, "/var/tmp": disk}))
    (only,) = found(one)
    assert only.id == "disk-full"
    assert "/var" in only.title


def test_a_drain_with_a_lease_wakes_nobody_until_the_lease_is_over() -> None:
    lease = Lease(operator="ann@ops1", run="r-1", reason="disk", since=NOW - 60, until=NOW + 600, left=600.0)
    (held,) = checks.judge(Case(seen=seen(vip="out", lease=lease)))
    (over,) = checks.judge(Case(seen=seen(vip="out", lease=replace(lease, until=NOW - 1, left=-1.0))))
    assert (held.state, held.finding.since, over.state, over.finding.since) == ("ok", NOW - 60, "warning", NOW - 1)
    assert "ann@ops1" in dict(held.finding.evidence)["lease"]
    assert "over since" in dict(over.finding.evidence)["lease"]


def test_what_concerns_the_host_is_said_once_however_many_services_it_has() -> None:
    down = Case(seen=seen(status="unreachable", error="x"))
    assert len(checks.judge(down, first=True)) == 1
    assert checks.judge(down, first=False) == []


def test_every_check_has_its_entry_in_the_runbook_with_the_same_severity() -> None:
    page = runbook.load(shipped("RUNBOOK.md"))
    entries = {entry.check: entry for entry in page.entries if entry.check}
    for name, check in CHECKS.items():
        assert entries[name].severity == check.severity, name
        assert check.runbook in page.sections, name


# -- news ------------------------------------------------------------------------------------------------------


def row(state: str, **more: Any) -> Row:
    words: dict[str, Any] = {
        "id": "hung-stop",
        "target": "w2",
        "severity": 3,
        "title": None if state == "ok" else "it hangs",
    }
    return Row(**{**words, **more}, state=state)  # type: ignore[arg-type]


def after(*states: str) -> list[Row]:
    """The rows of sweeps that found these states, one after the other."""
    memory: dict[str, Any] = {}
    made = []
    for at, state in enumerate(states):
        (now,) = sweep.news([row(state)], memory, NOW + at)
        memory = sweep.remember([now], memory, {})
        made.append(now)
    return made


def test_a_trouble_is_new_once_then_still_then_recovered_then_nothing() -> None:
    assert [r.change for r in after("ok", "critical", "critical", "ok", "ok")] == [
        None,
        "new",
        "still",
        "recovered",
        None,
    ]


def test_a_warning_that_becomes_critical_is_worse_and_keeps_its_beginning() -> None:
    _, worse = after("warning", "critical")
    assert (worse.change, worse.since, worse.sweeps) == ("worse", NOW, 2)


def test_a_check_that_could_not_be_asked_changes_nothing_of_what_was_known() -> None:
    memory = sweep.remember(sweep.news([row("critical")], {}, NOW), {}, {})
    (blind,) = sweep.news([row("unknown", title=None)], memory, NOW + 1)
    assert blind.change is None
    assert sweep.remember([blind], memory, {}) == memory


def pages(found: Row, before: dict[str, Any], *, quiet: bool = False) -> list[str]:
    made = sweep.pages([found], before, quiet=lambda _: quiet, links={}, text=lambda r: r.id)
    return [p.action for p in made]


def test_a_page_is_sent_once_and_ended_once_and_a_silence_only_puts_it_off() -> None:
    bad = row("critical", change="new")
    assert pages(bad, {}) == ["trigger"]
    assert pages(bad, {bad.key: {"state": "critical", "paged": True}}) == []
    assert pages(bad, {}, quiet=True) == []
    assert pages(bad, {bad.key: {"state": "critical", "paged": False}}) == ["trigger"]
    assert pages(row("ok"), {bad.key: {"state": "critical", "paged": True, "title": "it hangs"}}) == ["resolve"]
    assert pages(row("ok"), {bad.key: {"state": "critical", "paged": False}}) == []


def test_a_host_that_left_the_inventory_ends_its_page_and_is_forgotten_and_another_inventory_s_stays() -> None:
    found = sweep.news([row("critical"), row("critical", target="w3")], {}, NOW)
    ours = sweep.remember(found, {}, {r.key: True for r in found}, inventory="/a.yml")
    theirs = sweep.remember(sweep.news([row("critical", target="x1")], {}, NOW), {}, {}, inventory="/b.yml")
    store = sweep.remember(sweep.news([row("critical", id="workflow-stuck")], {}, NOW), {}, {}, inventory="/a.yml")
    before = {**ours, **theirs, **store}
    now = sweep.news([row("critical")], before, NOW + 1)
    (gone,) = sweep.left(now, before, inventory="/a.yml", now=NOW + 1)
    assert sweep.left([], before, inventory="/a.yml", now=NOW + 1, unasked={"w2"}) == [gone]
    assert (gone.target, gone.state, gone.change) == ("w3", "ok", "recovered")
    assert pages(gone, before) == ["resolve"]
    after = sweep.remember([*now, gone], before, {gone.key: False}, inventory="/a.yml")
    assert {key.partition("|")[2] for key in after} == {"w2", "x1"}
    assert len(after) == 3  # what the engine was not asked about stays


def test_a_memory_that_somebody_spoiled_spoils_no_sweep(tmp_path: Path) -> None:
    for said in ('{"hung-stop|w2": 7}', '{"hung-stop|w2": {"state": "critical"}}', "[]", "{"):
        (tmp_path / "sweep").mkdir(exist_ok=True)
        (tmp_path / "sweep/last.json").write_text(said)
        with sweep.memory(tmp_path) as memory:
            assert memory == {}


def test_the_worst_row_is_the_sweep_s_state() -> None:
    assert sweep.overall([row("ok"), row("warning"), row("unknown")]) == "unknown"
    assert sweep.overall([row("unknown"), row("critical")]) == "critical"
    assert sweep.overall([]) == "ok"
