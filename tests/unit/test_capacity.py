"""Who counts as in service, which hosts share a minimum, and when all are ill of one cause."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bbctl.capacity import pools_of, serves, shared_cause
from bbctl.model import Drain, Facts, Host, LockRecord, Service, Ssh, Vip

GOOD = Facts(host="w1", service="jboss", status="ok", process="running", health="ok", vip="in")
LEAVING = LockRecord(
    operator="ann", machine="ops1", run="r-other", reason="", since=1.0, step="drain", renewed=2.0, expires=9.0,
    token_hash="x", out=True, age=4.0, left=60.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        pytest.param({}, False, id="about to leave"),
        pytest.param({"out": False}, True, id="locked, and not about to leave"),
        pytest.param({"left": -1.0}, True, id="the lock has run out"),
        pytest.param({"run": "r-own"}, True, id="our own run"),
    ],
)
def test_a_host_that_another_run_is_about_to_take_out_serves_no_longer(
    changes: dict[str, object], counts: bool
) -> None:
    facts = replace(GOOD, lock=replace(LEAVING, **changes))  # type: ignore[arg-type]
    assert serves(facts, own="r-own") == counts
    assert not serves(replace(facts, health="failing"), own="r-own")


def host(name: str, vip: str | None, *, drains: bool = True) -> Host:
    drain = Drain(kind="file", path="/h") if drains else None
    own = None if vip is None else Vip(name=vip, drain=drain, min_in_service=1)
    return Host(name=name, address=name, ssh=Ssh(user="jboss"), services=(Service(name="jboss", vip=own),))


def test_a_pool_is_the_hosts_of_one_vip_and_no_others() -> None:
    hosts = {h.name: h for h in (host("a1", "a"), host("b1", "b"), host("a2", "a"), host("c1", None))}
    found = pools_of(hosts, [hosts["a1"], hosts["a2"], hosts["c1"]], "jboss")
    assert [(pool.vip, pool.least, pool.hosts) for pool in found] == [("a", 1, ("a1", "a2"))]
    alone = host("d1", "d", drains=False)
    assert pools_of({"d1": alone}, [alone], "jboss") == (), "a host that nothing takes out of its VIP"


def test_one_host_that_is_ill_has_no_cause_to_share() -> None:
    ill = replace(GOOD, health="failing", health_answer="503 no store")
    assert shared_cause([ill]) is None
    both = shared_cause([ill, replace(ill, host="w2")])
    assert both is not None
    assert "503 no store" in both.message
