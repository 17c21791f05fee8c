"""What people type for hosts."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bbctl.errors import UsageError
from bbctl.inventory.fleet import NO_FLEET, parse
from bbctl.ranges import expand, fold, split_commas
from bbctl.targets import select, single

FLEET = parse(
    """
groups:
  workers: {hosts: "accounting-worker{1-3}.snc1"}
  tokumx: {hosts: "accounting-tokumx{1-3}.snc1"}
hosts:
  accounting-worker1.snc1: {aliases: [w1], labels: {rack: a}}
  accounting-worker2.snc1: {labels: {rack: b, role: x}}
  accounting-worker3.snc1: {labels: {rack: b}}
  node.snc1:
  node.sac1:
  padded01.snc1:
""",
    "inventory.yml",
    {"USER": "ann"},
)


def names(*targets: str, **options: list[str]) -> str:
    return fold(host.name for host in select(FLEET, list(targets), **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("workers", "accounting-worker[1-3].snc1"),
        ("@workers", "accounting-worker[1-3].snc1"),
        ("@w*", "accounting-worker[1-3].snc1"),
        ("accounting-worker2.snc1", "accounting-worker2.snc1"),
        ("accounting-worker2", "accounting-worker2.snc1"),
        ("w1", "accounting-worker1.snc1"),
        ("accounting-worker{1-3}.snc1", "accounting-worker[1-3].snc1"),
        ("accounting-worker[1-2]", "accounting-worker[1-2].snc1"),
        ("accounting-worker{1,3}.snc1", "accounting-worker[1,3].snc1"),
        ("accounting-worker[1,3].snc1", "accounting-worker[1,3].snc1"),
        ("accounting-{worker,tokumx}1", "accounting-tokumx1.snc1,accounting-worker1.snc1"),
        ("padded[01-01]", "padded01.snc1"),
        ("*tokumx?.snc1", "accounting-tokumx[1-3].snc1"),
        ("accounting-worker[1-2]*", "accounting-worker[1-2].snc1"),
        ("w1,accounting-worker3", "accounting-worker[1,3].snc1"),
        ("workers,w1", "accounting-worker[1-3].snc1"),
        ("node.*", "node.sac1,node.snc1"),
    ],
)
def test_a_target_means_these_hosts(typed: str, meant: str) -> None:
    assert names(typed) == meant


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("workerz", "did you mean workers"),
        ("@workerz", "did you mean workers"),
        ("accounting-worker4", "did you mean accounting-worker"),
        ("accounting-worker[3-4]", '"accounting-worker4" (of "accounting-worker[3-4]")'),
        ("accounting-worker{3-1}", "runs backwards"),
        ("accounting-worker[1-", "not closed"),
        ("accounting-worker1]", "without its opening"),
        ("padded[1-010]", "pads its ends differently"),
        ("w[1-999999999]", "more than"),
        ("a{1-99}{1-99}{1-99}", "more than"),
        ("node", "first label of several"),
        ("*nothing*", "matches no host"),
        ("", "names no host"),
        (",", "names no host"),
        ("!w1", "unknown host"),
        ("w1&w1", "unknown host"),
        ("^w1", "unknown host"),
        ("$(touch x)", "unknown host"),
        ("ACCOUNTING-WORKER1", "unknown host"),
    ],
)
def test_a_target_that_fits_nothing_is_refused_and_the_nearest_named(typed: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        names(typed)
    assert said in caught.value.message
    assert caught.value.exit == 2


def test_several_targets_are_a_union_in_the_inventorys_order() -> None:
    chosen = select(FLEET, ["accounting-tokumx1", "accounting-worker2", "w1"])
    assert [host.short for host in chosen] == ["accounting-worker1", "accounting-worker2", "accounting-tokumx1"]


def test_exclude_takes_hosts_out_and_refuses_what_it_does_not_know() -> None:
    assert names("workers", exclude=["w1,accounting-worker3"]) == "accounting-worker2.snc1"
    with pytest.raises(UsageError, match="unknown host"):
        names("workers", exclude=["accounting-worker9"])


def test_every_label_must_fit() -> None:
    assert names("workers", labels=["rack=b"]) == "accounting-worker[2-3].snc1"
    assert names("workers", labels=["rack=b", "role=x"]) == "accounting-worker2.snc1"
    with pytest.raises(UsageError, match="expected key=value"):
        names("workers", labels=["rack"])


def test_a_selection_that_leaves_no_host_is_refused() -> None:
    with pytest.raises(UsageError, match="no host is left") as caught:
        names("workers", exclude=["*"])
    assert caught.value.exit == 2


def test_without_target_reads_take_all_and_changes_take_none_and_name_the_groups() -> None:
    assert len(select(FLEET, None)) == 9
    with pytest.raises(UsageError, match="groups: workers, tokumx"):
        select(FLEET, None, needed=True)


def test_without_an_inventory_the_way_to_one_is_named() -> None:
    with pytest.raises(UsageError, match="no inventory") as caught:
        select(NO_FLEET, ["w1"])
    assert "bbctl init" in str(caught.value.next)


def test_one_host_is_not_several() -> None:
    assert single(FLEET, "w1").name == "accounting-worker1.snc1"
    with pytest.raises(UsageError, match="means 3 hosts"):
        single(FLEET, "workers")


def test_a_pattern_of_stars_takes_no_time_to_say_no() -> None:
    with pytest.raises(UsageError):
        names("*a" * 12 + "Z")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet="acw1-3[]{},*?@!&^/ ", max_size=30))
def test_whatever_is_typed_selects_hosts_or_is_refused(typed: str) -> None:
    with suppress(UsageError):
        assert {host.name for host in select(FLEET, [typed])} <= set(FLEET.hosts)


@given(st.sets(st.integers(0, 300), min_size=1), st.sampled_from(["w{}", "w{}.snc1", "a-{}-b.x"]))
def test_what_is_folded_unfolds_to_the_same_hosts(numbers: set[int], shape: str) -> None:
    hosts = {shape.format(number) for number in numbers}
    assert {name for word in split_commas(fold(hosts)) for name in expand(word)} == hosts
