"""Two operators at once: one lock, one winner; and two runs never take a pool below its minimum together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from bbctl.capacity import Pool, Refusal
from bbctl.look import look
from bbctl.model import Facts, Host
from bbctl.run import claims
from bbctl.run.halt import Halt
from bbctl.run.holding import Holding, LockLost
from bbctl.ssh.transport import Transport
from tests.integration.jboss import Site, site


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("pool"), 2) as made:
        yield made


@dataclass
class Operator:
    """One operator on a machine of his own: connections and locks that nobody shares."""

    site: Site
    name: str
    transport: Transport
    number: int = 0

    def holding(self) -> Holding:
        self.number += 1
        fields = {"operator": self.name, "machine": "m", "run": f"r-{self.name}{self.number}", "reason": "race"}
        return Holding(self.transport, token=f"{self.name}{self.number}", fields=fields)


@pytest.fixture
def two(pool: Site) -> Iterator[list[Operator]]:
    made = [Operator(pool, name, Transport(pool.fleet)) for name in ("ann", "bob")]
    yield made
    for operator in made:
        operator.transport.close()


def acquire(answers: dict[str, Any], name: str, holding: Holding, host: Host) -> None:
    answers[name] = holding.acquire(host)


def at_once(*acts: Any) -> None:
    gate = threading.Barrier(len(acts))
    threads = [threading.Thread(target=lambda act=act: (gate.wait(), act())) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("races", [15, pytest.param(1000, marks=pytest.mark.faults)])
def test_of_two_who_want_a_host_at_once_one_gets_it_and_the_other_is_told_whose_it_is(
    pool: Site, two: list[Operator], races: int
) -> None:
    host = pool.members[0].host
    for _ in range(races):
        held = {o.name: o.holding() for o in two}
        answers: dict[str, Any] = {}
        at_once(*(partial(acquire, answers, name, holding, host) for name, holding in held.items()))
        won = [name for name, answer in answers.items() if answer.ours]
        assert len(won) == 1, answers
        loser = next(answer for name, answer in answers.items() if name != won[0])
        assert (loser.state, loser.record.operator) == ("held", won[0])
        assert held[won[0]].release(host).state == "released"


@pytest.mark.parametrize("races", [4, pytest.param(100, marks=pytest.mark.faults)])
def test_two_runs_never_take_a_pool_below_its_minimum_and_one_of_them_goes_on(
    pool: Site, two: list[Operator], races: int
) -> None:
    hosts = [m.host for m in pool.members]
    what = Pool(vip="v", least=1, hosts=tuple(h.name for h in hosts))

    def go(operator: Operator, holding: Holding, number: int, said: dict[int, Refusal | None]) -> None:
        def ask(names: Any) -> dict[str, Facts]:
            found = look(
                operator.transport, [pool.fleet.hosts[n] for n in names], known=pool.fleet.hosts, service="jboss"
            )
            return {f.host: f for f in found}

        assert holding.acquire(hosts[number]).ours
        run = f"r-{operator.name}{operator.number}"
        said[number] = claims.claim(
            [hosts[number]], [what], run=run, holding=holding, halt=Halt(), look=ask, force=False
        )
        if said[number] is None:
            holding.advance(hosts[number], "drain")

    for _ in range(races):
        holdings = [o.holding() for o in two]
        said: dict[int, Refusal | None] = {}
        at_once(*(partial(go, two[n], holdings[n], n, said) for n in (0, 1)))
        refused = [r for r in said.values() if r is not None]
        assert len(said) == 2
        assert [r.code for r in refused] == ["capacity"], "both went on, or neither"
        for holding, host in zip(holdings, hosts, strict=True):
            holding.release(host)


def test_a_holder_whose_lock_was_taken_over_changes_nothing_more(pool: Site, two: list[Operator]) -> None:
    host = pool.members[0].host
    ann, bob = (o.holding() for o in two)
    assert ann.acquire(host).ours
    canary = pool.members[0].folder / "canary"
    assert ann.run(host, f"touch {canary}", timeout=10).ok
    canary.unlink()
    assert bob.acquire(host, old_tokens=["ann1"]).state == "held", "taken over by another run's token"
    (pool.members[0].folder / "lock/lock").unlink()
    assert bob.acquire(host).ours
    with pytest.raises(LockLost, match="bob@m"):
        ann.run(host, f"touch {canary}", timeout=10)
    with pytest.raises(LockLost):
        ann.advance(host, "start")
    assert not canary.exists()
    assert bob.release(host).state == "released"


def test_a_step_that_hangs_on_the_host_lets_the_lock_go_after_its_time(pool: Site, two: list[Operator]) -> None:
    """A sudo that waits for a dead directory, say: whoever comes next must not find the lock in use for ever."""
    host, holding = pool.members[0].host, two[0].holding()
    assert holding.acquire(host).ours
    assert holding.run(host, "sleep 600", timeout=0.5).status == "timeout"
    assert holding.release(host).state == "released"
