"""The hang rule, from lines and times alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC

from bbctl import hang
from bbctl.model import Hang, Service
from bbctl.remote.logs import Line, Tail, Zone, lines

SERVICE = Service(
    name="jboss", started="Started in", stopped="JBoss .*stopped", hang=Hang(after="stopp?ing hornetq", within=60.0),
    stop_timeout=120.0,
)  # fmt: skip
T0 = 1_795_489_378.0  # 2026-11-24 03:02:58 UTC
STOPPING = "INFO Stopping HornetQ"


def said(*texts: tuple[float, str], undated: bool = False) -> list[Line]:
    return [
        Line(text=text, offset=at)
        if undated
        else Line(text=text, earliest=T0 + when, latest=T0 + when + 0.001, offset=at)
        for at, (when, text) in enumerate(texts)
    ]


def judge(found: list[Line], *, now: float, started: float = -1000.0, **more: float) -> hang.Verdict:
    return hang.judge(found, service=SERVICE, started=T0 + started, now=T0 + now, **more)  # type: ignore[arg-type]


def test_a_stop_that_is_the_last_word_is_a_hang_after_within_and_not_before() -> None:
    log = said((-900, "Started in 29s"), (0, STOPPING))
    assert not judge(log, now=59).hung
    verdict = judge(log, now=61)
    assert verdict.hung
    assert (verdict.word, verdict.line) == ("stopping", STOPPING)


def test_patterns_ignore_case_and_are_searched() -> None:
    assert judge(said((0, "x STOPING HORNETQ y")), now=61).hung


def test_a_log_that_goes_on_is_no_hang_until_the_stop_timeout_has_passed() -> None:
    busy = [(0.0, STOPPING), *((float(n), "INFO still undeploying") for n in range(1, 119))]
    assert not judge(said(*busy), now=119).hung
    assert judge(said(*busy), now=121).hung


def test_a_stop_that_was_finished_or_followed_by_a_start_is_no_hang() -> None:
    assert not judge(said((0, STOPPING), (2, "JBoss (Microcontainer) stopped in 2s")), now=500).hung
    assert not judge(said((0, STOPPING), (2, "Started in 29s")), now=500).hung


def test_lines_of_the_process_before_prove_nothing() -> None:
    assert judge(said((-2000, STOPPING)), now=500).word is None


def test_a_log_without_dates_that_is_still_written_to_is_no_hang() -> None:
    log = said((0, STOPPING), (0, "INFO still undeploying"), undated=True)
    seen = {"seen_from": 0, "seen_at": T0}
    assert not judge(log, now=90, touched=T0 + 80, **seen).hung
    assert judge(log, now=90, touched=T0 + 5, **seen).hung


def test_a_line_is_its_own_though_the_clocks_of_log_and_kernel_differ_by_a_moment() -> None:
    assert judge(said((-0.03, "Started in 29s")), now=10, started=0.0).word == "started"


def test_old_lines_copied_behind_the_last_word_do_not_hide_it() -> None:
    log = [*said((0, STOPPING)), Line(text="Started in 5s", earliest=T0 - 90_000, latest=T0 - 90_000, offset=9)]
    assert judge(log, now=61).hung


def test_a_stop_that_may_have_been_said_before_the_start_is_not_held_against_the_new_process() -> None:
    coarse = [Line(text=STOPPING, earliest=T0, latest=T0 + 0.999)]  # a date without fractions of a second
    assert not hang.judge(coarse, service=SERVICE, started=T0 + 0.5, now=T0 + 500).hung


def test_lines_without_a_date_count_only_where_this_command_saw_them_written() -> None:
    log = said((0, "Started in 3s"), (0, STOPPING), undated=True)
    assert judge(log, now=500).word is None
    verdict = hang.judge(log, service=SERVICE, started=T0 - 50, now=T0 + 61, seen_from=1, seen_at=T0, touched=T0)
    assert verdict.hung


def test_a_thread_dump_behind_the_last_word_does_not_count_as_life() -> None:
    data = f"2026-11-24 03:02:58,000 {STOPPING}\nFull thread dump\n\tat a.B.c\nJNI global refs\n".encode()
    found = lines(Tail(state="ok", data=data, size=len(data)), Zone(zone=UTC, now=T0 + 61))
    assert hang.judge(found, service=SERVICE, started=T0 - 9, now=T0 + 61, touched=T0 + 60).hung


def test_a_service_without_a_hang_rule_never_hangs_by_its_log() -> None:
    bare = replace(SERVICE, hang=None)
    assert not hang.judge(said((0, STOPPING)), service=bare, started=T0 - 9, now=T0 + 1e6).hung


def test_how_long_is_left_is_told_while_it_may_still_end_by_itself() -> None:
    assert round(judge(said((0, STOPPING)), now=20).left or 0) == 40
