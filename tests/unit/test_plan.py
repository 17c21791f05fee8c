"""What a run is going to do: order, batches, capacity, and what is refused before anything is touched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bbctl.capacity import Pool
from bbctl.cli.running import or_resume
from bbctl.model import Drain, Facts, Host, Lease, LockRecord, Proc, Process, Service, Ssh, Vip
from bbctl.run import plan as planning
from bbctl.run.journal import Journal
from bbctl.run.plan import Job, Plan, Target
from bbctl.run.playbook import Procedure, Step, Strategy, goal

PROC = Proc(pid=7, ticks=1, started=0.0, user="jboss", command="java")
GOOD = Facts(host="", service="jboss", status="ok", process="running", proc=PROC, health="ok", vip="in")
ENDLESS = Lease(operator="ann@ops1", run="r-1", reason="", since=1.0, until=None)
NAMES = ("w1", "w2", "w3")
RESTART = ("drain", "settle", "stop", "start", "started", "health", "undrain")


def service(least: int = 2) -> Service:
    vip = Vip(name="v", drain=Drain(kind="file", path="/h"), min_in_service=least)
    return Service(name="jboss", start=("a",), stop=("b",), process=Process(match="x", user="jboss"), vip=vip)


def job(*kinds: str, **more: Any) -> Job:
    strategy = Strategy(**{k: more.pop(k) for k in ("batch", "canary") if k in more})
    steps = tuple(Step(kind=k) for k in kinds or RESTART)
    made = Procedure(name="x", steps=steps, strategy=strategy, goal=goal(kinds or RESTART))
    return Job(kind="x", procedure=made, service="jboss", **more)


def plan(what: Job, targets: tuple[str, ...] = NAMES, least: int = 2, **facts: dict[str, Any]) -> Plan:
    """A plan over a pool of three; `facts`: how a host differs from one that serves."""
    looked = {name: replace(GOOD, host=name, **facts.get(name, {})) for name in NAMES}
    host = {n: Host(name=n, address=n, ssh=Ssh(user="jboss"), services=(service(least),)) for n in NAMES}
    made = [Target(host=host[n], service=service(least), facts=looked[n]) for n in targets]
    return planning.make(what, made, pools=[Pool(vip="v", least=least, hosts=NAMES)], looked=looked)


def codes(made: Plan) -> list[str]:
    return [r.code for r in made.refusals]


def lock(run: str = "r-other", *, out: bool = False, left: float = 60.0) -> LockRecord:
    return LockRecord(
        operator="ann", machine="ops1", run=run, reason="deploy 81", since=1.0, step="stop", renewed=2.0, expires=9.0,
        token_hash="x", out=out, age=4.0, left=left,
    )  # fmt: skip


def test_one_at_a_time_in_the_inventorys_order() -> None:
    made = plan(job())
    assert (made.batches, codes(made)) == ((("w1",), ("w2",), ("w3",)), [])


@pytest.mark.parametrize(
    "sick", [{"vip": "out"}, {"process": "stopped", "health": "failing"}, {"process": "hung"}, {"health": "failing"}]
)
def test_a_host_that_is_out_or_down_goes_first_and_is_never_refused(sick: dict[str, Any]) -> None:
    made = plan(job(), w3=sick)
    assert (made.order, codes(made)) == (("w3", "w1", "w2"), [])


def test_a_host_that_cannot_be_reached_stands_before_all_others() -> None:
    made = plan(job(), least=0, w3={"status": "unreachable", "error": "connect: refused"}, w2={"vip": "out"})
    assert made.order == ("w3", "w2", "w1")


def test_a_canary_is_alone_whatever_the_batch() -> None:
    assert plan(job(batch=5, canary=True), least=0).batches == (("w1",), ("w2", "w3"))


@pytest.mark.parametrize(
    "neighbour",
    [
        {"vip": "out"}, {"process": "stopped"}, {"health": "failing"}, {"lock": lock(out=True)}, {"serving": False},
        {"status": "unreachable", "error": "x"},
    ],
)  # fmt: skip
def test_a_neighbour_that_does_not_serve_leaves_no_room(neighbour: dict[str, Any]) -> None:
    made = plan(job(), ("w1",), w2=neighbour)
    assert codes(made) == ["capacity"]
    assert "2 of 3" in made.refusals[0].message
    assert "min_in_service is 2" in made.refusals[0].message


def test_a_batch_larger_than_the_room_is_refused() -> None:
    assert codes(plan(job(batch=2))) == ["capacity"]
    assert codes(plan(job(batch=2), least=1)) == []


def test_stop_takes_its_targets_out_for_good() -> None:
    assert codes(plan(job("drain", "stop"), ("w1",))) == []
    assert codes(plan(job("drain", "stop"), ("w1", "w2"))) == ["capacity"]
    assert codes(plan(job("drain"), ("w1", "w2"))) == ["capacity"]


def test_force_overrides_the_guard_and_nothing_else() -> None:
    assert plan(job(force=True), ("w1",), w2={"vip": "out"}).refused is None
    held = plan(job(force=True), ("w1",), w1={"lock": lock()})
    assert held.refused is not None
    assert held.refused.code == "locked"


def test_a_lock_of_a_run_cut_short_on_this_machine_is_answered_by_going_on_with_it(tmp_path: Path) -> None:
    begin = {"kind": "restart", "reason": "", "operator": "ann@ops1", "hosts": ["w1"]}
    book = Journal.create(tmp_path, begin, now=lambda: 1.0)
    made = plan(job(), ("w1",), w1={"lock": lock(book.run)})
    assert made.refused is not None
    at_work = or_resume(tmp_path, made, made.refused)  # a living process holds the journal: nothing to resume
    book.close()
    cut_short, elsewhere = or_resume(tmp_path, made, made.refused), or_resume(tmp_path / "other", made, made.refused)
    assert at_work.next == elsewhere.next == f"bbctl runs show {book.run} · ask ann"
    assert cut_short.next == f"bbctl runs resume {book.run} · bbctl runs show {book.run} · ask ann"


def test_one_cause_on_all_hosts_is_not_restarted_away() -> None:
    sick = {"health": "failing", "health_answer": "503 store down"}
    assert codes(plan(job(), w1=sick, w2=sick, w3=sick)) == ["shared-cause"]
    assert codes(plan(job(), w1=sick, w2=sick, w3=sick | {"health_answer": "500 other"})) == []
    down = {"process": "stopped", "proc": None, "health": "failing", "health_answer": "refused"}
    assert codes(plan(job(), w1=down, w2=down, w3=down)) == []


def test_a_lock_of_another_is_named_with_all_that_is_known_of_it() -> None:
    made = plan(job(), ("w1",), w1={"lock": lock()})
    assert [r.code for r in made.refusals] == ["locked"]
    assert all(word in made.refusals[0].message for word in ("ann@ops1", "r-other", "stop", "4 s ago", "deploy 81"))


def test_a_lock_that_expired_holds_nobody_up() -> None:
    assert codes(plan(job(), ("w1",), w1={"lock": lock(left=-1.0)})) == []


def test_candidates_are_all_named_and_nothing_is_guessed() -> None:
    twins = (PROC, replace(PROC, pid=9))
    made = plan(job(), ("w1",), w1={"ambiguous": "2 processes match", "candidates": twins, "process": "unknown"})
    assert [r.code for r in made.refusals] == ["ambiguous"]
    assert all(f"{pid} jboss" in made.refusals[0].message for pid in (7, 9))


def test_what_is_already_so_is_left_alone() -> None:
    assert plan(job("start", "health", "undrain"), ("w1",)).skipped == ("w1",)
    assert plan(job("drain", "stop"), ("w1",), w1={"process": "stopped", "vip": "out"}).skipped == ("w1",)
    assert plan(job("undrain"), ("w1",)).skipped == ("w1",)
    assert plan(job(), ("w1",)).skipped == ()


@pytest.mark.parametrize(
    ("steps", "seen"),
    [
        (("drain", "settle"), {"vip": "out", "lease": ENDLESS}),
        (("drain", "settle", "stop"), {"vip": "out", "process": "stopped"}),
        (("start", "started", "health", "undrain"), {}),
    ],
    ids=["drained", "stopped", "started"],
)
def test_a_host_that_another_run_works_on_is_refused_though_it_looks_done_at_this_moment(
    steps: tuple[str, ...], seen: dict[str, Any]
) -> None:
    """Out of the VIP in the middle of a restart is not drained: it will be back in a minute."""
    made = plan(job(*steps), targets=("w1",), least=0, w1={**seen, "lock": lock(out=True)})
    assert (codes(made), made.skipped) == (["locked"], ())
    over = plan(job(*steps), targets=("w1",), least=0, w1={**seen, "lock": lock(left=-1.0)})
    assert (codes(over), over.skipped) == ([], ("w1",))


def test_a_procedure_that_takes_a_host_out_to_put_it_back_is_not_done_before_it_began() -> None:
    assert plan(job("drain", "settle", "undrain"), ("w1",)).order == ("w1",)
    assert plan(job("drain", "start", "undrain"), ("w1",)).order == ("w1",)


def test_a_hung_service_is_not_started() -> None:
    assert codes(plan(job("start", "undrain"), ("w1",), w1={"process": "hung"})) == ["hung"]


def test_failed_hosts_of_an_earlier_life_stand_first() -> None:
    targets = [
        Target(host=Host(name=n, address=n, ssh=Ssh(user="j")), service=service(), facts=replace(GOOD, host=n))
        for n in NAMES
    ]
    assert [t.name for t in planning.order(targets, first=("w3",))] == ["w3", "w1", "w2"]
