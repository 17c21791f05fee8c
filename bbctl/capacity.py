"""How many hosts of a VIP must stay in service, and whether there is room for those that are about to leave. Pure.

In service is: in the VIP and healthy. What is unknown, or about to leave by another run's lock, does not count.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bbctl.errors import Refused
from bbctl.model import Facts, Host


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a run must not begin. `host` None: it concerns the run. `forced`: `--force` goes on all the same."""

    code: str
    message: str
    host: str | None = None
    next: str | None = None
    forced: bool = False

    def as_json(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "next": self.next, "host": self.host}

    def error(self) -> Refused:
        return Refused(self.message, code=self.code, next=self.next)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The hosts of one VIP for one service, and how many of them must stay in service."""

    vip: str
    least: int
    hosts: tuple[str, ...]


def pools_of(hosts: Mapping[str, Host], targets: Sequence[Host], service: str) -> tuple[Pool, ...]:
    """The pools that the targets belong to, each with all hosts of the inventory that stand in the same VIP."""
    found: dict[str, Pool] = {}
    for target in targets:
        own = target.service(service)
        if own is None or own.vip is None or own.vip.drain is None or own.vip.name in found:
            continue
        vip = own.vip
        members = tuple(
            name for name, host in hosts.items() if (s := host.service(service)) and s.vip and s.vip.name == vip.name
        )
        found[vip.name] = Pool(vip=vip.name, least=vip.min_in_service, hosts=members)
    return tuple(found.values())


def serves(facts: Facts, *, own: str = "") -> bool:
    """In service, and no other run's lock (than `own`) says that it is about to leave."""
    lock = facts.lock
    leaving = lock is not None and lock.out and lock.left > 0 and lock.run != own
    return facts.in_service and not leaving


def below(pool: Pool, serving: set[str], taken: set[str]) -> Refusal:
    """The refusal of a batch that would take its pool below the minimum."""
    left = len(serving) - len(taken)
    return Refusal(
        code="capacity",
        forced=True,
        message=(
            f"{', '.join(sorted(taken))}: {len(serving)} of {len(pool.hosts)} hosts of VIP {pool.vip} are in service; "
            f"{left} would be left, min_in_service is {pool.least}"
        ),
        next=f"bbctl status {','.join(pool.hosts)}",
    )


def shared_cause(facts: Collection[Facts]) -> Refusal | None:
    """One cause on all hosts is no fault of theirs: a restart would heal nothing and hide it. Three that are down or hung,
    or that fail each in its own way, have no shared cause."""
    sick = [f for f in facts if f.process == "running" and f.health == "failing"]
    answers = {f.health_answer for f in sick}
    if len(facts) < 2 or len(sick) < len(facts) or len(answers) != 1:
        return None
    said = next(iter(answers)) or "no answer"
    return Refusal(
        code="shared-cause",
        forced=True,
        message=(
            f"all {len(facts)} hosts run and fail their health check alike ({said[:120]}): "
            "the cause is shared, a restart heals nothing"
        ),
        next="bbctl diagnose",
    )
