"""One function on many hosts, and the one exit code over them."""

from __future__ import annotations

import os
import signal
import threading
from itertools import product
from typing import get_args

import pytest

from bbctl.model import Host, Ssh, Status
from bbctl.ssh.fanout import exit_over, fanout

HOSTS = [Host(name=f"h{n}", address=f"10.0.0.{n}", ssh=Ssh(user="u")) for n in range(12)]


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        (["ok", "ok"], 0),
        ([], 0),
        (["ok", "failed"], 1),
        (["ok", "timeout"], 1),
        (["ok", "unreachable"], 1),
        (["failed", "unreachable"], 1),
        (["unreachable", "auth-failed"], 4),
        (["unreachable"], 4),
        (["ok", "host-key"], 3),
        (["unreachable", "host-key"], 3),
        (["ok", "skipped"], 1),
        (["interrupted"], 1),
    ],
)
def test_the_exit_code_over_several_hosts(statuses: list[str], code: int) -> None:
    assert exit_over(statuses) == code


def test_only_all_ok_is_zero_and_a_refused_key_outranks_everything() -> None:
    words = get_args(Status)
    for pair in product(words, words):
        assert (exit_over(pair) == 0) == (set(pair) == {"ok"}), pair
        assert (exit_over(pair) == 3) == ("host-key" in pair), pair


def test_results_come_by_name_in_the_order_of_the_hosts() -> None:
    assert list(fanout(HOSTS, lambda h: h.address)) == [h.name for h in HOSTS]


def test_never_more_than_width_at_once() -> None:
    lock, gate = threading.Lock(), threading.Barrier(3)
    now, most = 0, 0

    def fn(_: Host) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        gate.wait(5)  # passes only when three are here at once
        with lock:
            now -= 1

    fanout(HOSTS, fn, width=3)
    assert most == 3


def test_each_result_is_reported_as_it_comes_in_the_caller_s_thread() -> None:
    first_reported = threading.Event()

    def fn(host: Host) -> str:
        if host.name == "h1":
            assert first_reported.wait(5)  # h0 was reported while h1 still ran
        return host.name

    seen: list[tuple[str, bool]] = []

    def report(name: str, _: str) -> None:
        seen.append((name, threading.current_thread() is threading.main_thread()))
        first_reported.set()

    fanout(HOSTS[:2], fn, report=report)
    assert seen == [("h0", True), ("h1", True)]


def test_a_hung_host_holds_nobody_and_is_missing_after_the_deadline() -> None:
    hung = threading.Event()
    found = fanout(HOSTS[:3], lambda h: hung.wait(30) if h.name == "h1" else True, deadline=0.5)
    hung.set()
    assert found == {"h0": True, "h2": True}


def test_what_the_function_did_not_expect_is_raised_to_the_caller() -> None:
    def fn(host: Host) -> None:
        raise KeyError(host.name)

    with pytest.raises(KeyError):
        fanout(HOSTS, fn)


def test_ctrl_c_cancels_what_runs_begins_nothing_more_and_reports_how_it_ended() -> None:
    cancel, begun, reported = threading.Event(), [], []  # type: ignore[var-annotated]

    def fn(host: Host) -> str:
        begun.append(host.name)
        if len(begun) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return "interrupted" if cancel.wait(10) else "never"

    with pytest.raises(KeyboardInterrupt):
        fanout(HOSTS, fn, width=2, cancel=cancel, report=lambda name, word: reported.append((name, word)))
    assert sorted(reported) == [("h0", "interrupted"), ("h1", "interrupted")]
    assert sorted(begun) == ["h0", "h1"]
